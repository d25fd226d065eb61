// SPDX-License-Identifier: Apache-2.0
// Keys that go with one request (spec/worker.yaml): from whoever submits it to its agent.
#include <linux/netlink.h>

#include <gtest/gtest.h>

#include "protocol/families.h"
#include "protocol/messages.h"
#include "service/agent_endpoint.h"
#include "service/reaper.h"
#include "service/service.h"
#include "support/sockets.h"

namespace handshake::service {
namespace {

namespace kernel = protocol::kernel;
namespace worker = protocol::worker;
using Bytes = std::vector<std::byte>;

Bytes bytes_of(std::string_view text) {
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

class RequestKeysTest : public ::testing::Test {
 protected:
  RequestKeysTest() : service_(Options{}, Log(), reaper_) { service_.keep_listening(1); }

  /// A request with these keys; the service decides where it goes.
  void submit(std::shared_ptr<const RequestKeys> keys,
              std::function<Result<PresharedKey>(const std::vector<std::string>&)> find_key = {}) {
    pairs_.push_back(test::tcp_pair());
    Submission submission;
    submission.socket.reset(::dup(pairs_.back().first.get()));
    submission.message_type = protocol::MessageType::kServerhello;
    submission.auth_mode = protocol::Auth::kPsk;
    submission.keys = std::move(keys);
    submission.find_key = std::move(find_key);
    submission.complete = [](Completion) {};
    ASSERT_TRUE(service_.submit(std::move(submission), Clock::now()));
  }
  void SetUp() override {
    AgentInfo info;
    info.own_worker = true;
    agent_ = std::make_unique<AgentEndpoint>(service_, reaper_, info,
                                             [this](Bytes bytes, std::vector<UniqueFd>) {
                                               answers_.push_back(std::move(bytes));
                                             });
    worker::SubscribeRequest subscribe;
    subscribe.handler_class = {1};
    subscribe.every_netns = true;
    ask(subscribe, protocol::kWorkerId, NLM_F_ACK);
    answers_.clear();
  }
  template <class Request>
  void ask(const Request& request, std::uint16_t family, std::uint16_t flags = 0) {
    protocol::MessageHeader header;
    header.type = family;
    header.flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    protocol::Packet packet;
    packet.bytes = protocol::build(header, request).value();
    ASSERT_TRUE(agent_->receive(std::move(packet)));
  }
  /// The last answer, whole.
  template <class Reply>
  Reply reply() {
    const auto view = protocol::MessageReader(answers_.back()).next().value().value();
    protocol::ExtAck ack;
    return Reply::parse(view.attributes, protocol::Unknown::kRefuse, ack).value();
  }
  protocol::Ack refusal() {
    return protocol::parse_ack(protocol::MessageReader(answers_.back()).next().value().value()).value();
  }
  Reaper reaper_;
  Service service_;
  std::vector<std::pair<UniqueFd, UniqueFd>> pairs_;
  std::vector<Bytes> answers_;
  std::unique_ptr<AgentEndpoint> agent_;
};

std::shared_ptr<const RequestKeys> some_keys() {
  auto keys = std::make_shared<RequestKeys>();
  keys->psk = PresharedKey{7, std::string("id\0x", 4), Secret(bytes_of("secret"))};
  keys->key_pairs.push_back(RequestKeyPair{"key 0x1", bytes_of("certificate"), Secret(bytes_of("private"))});
  return keys;
}

worker::AcceptRequest worker_accept() {
  worker::AcceptRequest request;
  request.handler_class = 1;
  return request;
}

TEST_F(RequestKeysTest, ReachTheWorkerThatAcceptsTheRequest) {
  submit(some_keys());
  ask(worker_accept(), protocol::kWorkerId);
  const auto accepted = reply<worker::AcceptReply>();
  ASSERT_TRUE(accepted.psk);
  EXPECT_EQ(accepted.psk->serial, 7U);
  EXPECT_EQ(accepted.psk->identity, bytes_of(std::string_view("id\0x", 4)));
  EXPECT_EQ(accepted.psk->secret, bytes_of("secret"));
  ASSERT_EQ(accepted.key_pair.size(), 1U);
  EXPECT_EQ(accepted.key_pair[0].name, "key 0x1");
  EXPECT_EQ(accepted.key_pair[0].certificate, bytes_of("certificate"));
  EXPECT_EQ(accepted.key_pair[0].private_key, bytes_of("private"));
}

TEST_F(RequestKeysTest, AnAgentOfTheKernelsVocabularyGetsNone) {
  submit(some_keys());
  kernel::AcceptRequest request;
  request.handler_class = protocol::HandlerClass::kTlshd;
  ask(request, protocol::kHandshakeId);
  static_cast<void>(reply<kernel::AcceptReply>());  // strict: nothing else is in it
}

TEST_F(RequestKeysTest, AServersAgentFindsTheKeyOfAnIdentity) {
  std::vector<std::string> asked;
  submit(nullptr, [&](const std::vector<std::string>& identities) -> Result<PresharedKey> {
    asked = identities;
    return PresharedKey{9, identities.back(), Secret(bytes_of("found"))};
  });
  ask(worker_accept(), protocol::kWorkerId);
  worker::FindKeyRequest search;
  search.sockfd = reply<worker::AcceptReply>().sockfd;
  search.identity = {bytes_of("first"), bytes_of("second")};
  ask(search, protocol::kWorkerId);
  const auto found = reply<worker::FindKeyReply>();
  EXPECT_EQ(asked, (std::vector<std::string>{"first", "second"}));
  ASSERT_TRUE(found.psk);
  EXPECT_EQ(found.psk->serial, 9U);
  EXPECT_EQ(found.psk->identity, bytes_of("second"));
  EXPECT_EQ(found.psk->secret, bytes_of("found"));
}

TEST_F(RequestKeysTest, AnUnknownIdentityIsENOKEYWithWords) {
  submit(nullptr, [](const std::vector<std::string>&) -> Result<PresharedKey> {
    return fail(ErrorKind::kNoCredential, "in no keyring");
  });
  ask(worker_accept(), protocol::kWorkerId);
  worker::FindKeyRequest search;
  search.sockfd = reply<worker::AcceptReply>().sockfd;
  search.identity = {bytes_of("unknown")};
  ask(search, protocol::kWorkerId);
  EXPECT_EQ(refusal().error, ENOKEY);
  EXPECT_EQ(refusal().ext.message, "in no keyring");
}

TEST_F(RequestKeysTest, ARequestWithoutKeyringHasNoKeys) {
  submit(nullptr);
  ask(worker_accept(), protocol::kWorkerId);
  worker::FindKeyRequest search;
  search.sockfd = reply<worker::AcceptReply>().sockfd;
  ask(search, protocol::kWorkerId);
  EXPECT_EQ(refusal().error, ENOKEY);
}

TEST_F(RequestKeysTest, OnlyWhoHoldsTheRequestMayAsk) {
  submit(nullptr, [](const std::vector<std::string>&) -> Result<PresharedKey> {
    ADD_FAILURE() << "asked for a request that nobody has accepted";
    return fail(ErrorKind::kNoCredential, "");
  });
  worker::FindKeyRequest search;
  search.sockfd = 1;
  ask(search, protocol::kWorkerId);
  EXPECT_EQ(refusal().error, EBADF);
  ask(worker_accept(), protocol::kWorkerId);
  const auto token = reply<worker::AcceptReply>().sockfd;
  worker::DoneRequest done;
  done.sockfd = token;
  done.status = EIO;
  ask(done, protocol::kWorkerId);
  search.sockfd = token;
  ask(search, protocol::kWorkerId);
  EXPECT_EQ(refusal().error, EBUSY);
}

}  // namespace
}  // namespace handshake::service
