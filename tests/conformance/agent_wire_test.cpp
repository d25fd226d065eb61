// SPDX-License-Identifier: Apache-2.0
// The agent's side of the service in bytes: R1.4-R1.7, R2.1-R2.4, R4.2.
#include "wire_fixture.h"

namespace handshake::testing {
namespace {

namespace kernel = protocol::kernel;
namespace worker = protocol::worker;
using protocol::kHandshakeId;
using protocol::kWorkerId;

class AgentWire : public WireTest {
 protected:
  static Bytes with_attribute(Bytes message, std::uint16_t number,
                              const std::vector<std::byte>& payload) {
    // Appended by hand: what the builders would not build.
    const auto put16 = [&message](std::uint16_t value) {
      message.push_back(std::byte(value & 0xff));
      message.push_back(std::byte(value >> 8));
    };
    put16(static_cast<std::uint16_t>(4 + payload.size()));
    put16(number);
    message.insert(message.end(), payload.begin(), payload.end());
    const auto length = static_cast<std::uint32_t>(message.size());
    std::memcpy(message.data(), &length, sizeof length);
    while (message.size() % 4 != 0) message.push_back(std::byte{0});
    return message;
  }
  static std::vector<std::byte> text(std::string_view characters) {
    const auto* first = reinterpret_cast<const std::byte*>(characters.data());
    return {first, first + characters.size()};
  }
};

TEST_F(AgentWire, TheControllerResolvesBothFamilies) {
  WiredAgent agent = wired_agent();
  for (const auto& [name, id] : {std::pair{kernel::kFamily.name, kHandshakeId},
                                 std::pair{worker::kFamily.name, kWorkerId}}) {
    protocol::nlctrl::GetfamilyRequest request;
    request.family_name = std::string(name);
    tell(agent, protocol::kControllerId, request, 0);
    EXPECT_EQ(agent.next().as<protocol::nlctrl::GetfamilyReply>().family_id, id);
  }
}

TEST_F(AgentWire, SubscribeIsAnsweredBeforeTheReadyThatFollowsAtOnce) {
  service().keep_listening(kTlshd);
  submit_one();
  WiredAgent agent = wired_agent();
  worker::SubscribeRequest subscribe;
  subscribe.handler_class = {kTlshd};
  subscribe.every_netns = true;
  EXPECT_EQ(ask(agent, kWorkerId, subscribe).error, 0);
  EXPECT_EQ(agent.next().as<kernel::ReadyEvent>().handler_class, protocol::HandlerClass::kTlshd);
  EXPECT_TRUE(agent.silent());
}

TEST_F(AgentWire, SubscribeNeedsAClassAndPermission) {
  WiredAgent agent = wired_agent({.pid = 1, .uid = 0, .own_worker = false});
  const auto missing = ask(agent, kWorkerId, worker::SubscribeRequest{});
  EXPECT_EQ(missing.error, EINVAL);
  EXPECT_EQ(missing.ext.missing_type, 1u);
  worker::SubscribeRequest everywhere;
  everywhere.handler_class = {kTlshd};
  everywhere.every_netns = true;
  EXPECT_EQ(ask(agent, kWorkerId, everywhere).error, EPERM);
  EXPECT_EQ(ask(agent, kHandshakeId, everywhere).error, EOPNOTSUPP)
      << "the kernel's family has no such command";
}

TEST_F(AgentWire, ReadyIsTheKernelsMessageForTheKernelsClasses) {
  WiredAgent agent = listening_agent();
  submit_one();
  const auto ready = agent.next();
  EXPECT_EQ(protocol::test::to_hex(ready.bytes),
            "1c000000200000000000000000000000010100000800020001000000");
  EXPECT_TRUE(ready.fds.empty());
}

TEST_F(AgentWire, ReadyOfOtherClassesComesUnderOurFamily) {
  WiredAgent agent = listening_agent(kDummyClass);
  submit_one(-1, [](Submission& s) { s.handler_class = kDummyClass; });
  const auto ready = agent.next();
  EXPECT_EQ(ready.view().type, kWorkerId);
  EXPECT_EQ(ready.as<worker::ReadyEvent>().handler_class, kDummyClass);
}

TEST_F(AgentWire, AcceptInTheKernelsVocabulary) {
  WiredAgent agent = listening_agent();
  const int fd = socket();
  submit_one(fd, [](Submission& s) {
    s.peername = "nfs.test";
    s.timeout = milliseconds(10'000);
    s.keyring = 77;
    s.auth_mode = protocol::Auth::kPsk;
    s.peer_identities = {5, 6};
    s.credential = "client";
  });
  agent.next();
  kernel::AcceptRequest request;
  request.handler_class = protocol::HandlerClass::kTlshd;
  tell(agent, kHandshakeId, request, NLM_F_ACK);
  const auto datagram = agent.next();
  EXPECT_EQ(datagram.view().type, kHandshakeId);
  EXPECT_EQ(datagram.view().flags, 0);
  EXPECT_EQ(datagram.view().sequence, sequence_);
  ASSERT_EQ(datagram.fds.size(), 1u);
  EXPECT_EQ(inode_of(datagram.fds[0].get()), inode_of(fd));
  const auto reply = datagram.as<kernel::AcceptReply>();
  EXPECT_EQ(reply.sockfd, 1);
  EXPECT_EQ(reply.message_type, protocol::MessageType::kClienthello);
  EXPECT_EQ(reply.peername, "nfs.test");
  EXPECT_EQ(reply.timeout, 10'000u);
  EXPECT_EQ(reply.keyring, 77u);
  EXPECT_EQ(reply.auth_mode, protocol::Auth::kPsk);
  EXPECT_EQ(reply.peer_identity, (std::vector<std::uint32_t>{5, 6}));
  EXPECT_EQ(reply.max_tags, 64u);
  EXPECT_EQ(agent.next().ack().error, 0) << "the ack that was asked for comes after the reply";
}

TEST_F(AgentWire, AcceptSaysNothingThatWasNotGiven) {
  WiredAgent agent = listening_agent();
  submit_one();
  agent.next();
  kernel::AcceptRequest request;
  request.handler_class = protocol::HandlerClass::kTlshd;
  tell(agent, kHandshakeId, request, 0);
  const auto reply = agent.next().as<kernel::AcceptReply>();
  EXPECT_FALSE(reply.peername);
  EXPECT_FALSE(reply.timeout);
  EXPECT_FALSE(reply.keyring);
  EXPECT_TRUE(reply.peer_identity.empty());
  EXPECT_TRUE(agent.silent());
}

TEST_F(AgentWire, AcceptInOurVocabularyTellsMore) {
  WiredAgent agent = listening_agent();
  const Submitted one = submit_one(-1, [](Submission& s) {
    s.credential = "web";
    s.relay = protocol::RelayMode::kAlways;
    s.client_auth = protocol::ClientAuth::kRequire;
    s.timeout = milliseconds(5000);
  });
  pass(milliseconds(1000));
  agent.next();
  const auto reply = accept_reply(agent);
  EXPECT_EQ(reply.request_id, one.id);
  EXPECT_EQ(reply.credential, "web");
  EXPECT_EQ(reply.relay, protocol::RelayMode::kAlways);
  EXPECT_EQ(reply.client_auth, protocol::ClientAuth::kRequire);
  EXPECT_EQ(reply.remaining, 4000u);
}

TEST_F(AgentWire, AcceptWithoutAClassIsEinval) {
  WiredAgent agent = listening_agent();
  const auto ack = ask(agent, kHandshakeId, kernel::AcceptRequest{});
  EXPECT_EQ(ack.error, EINVAL);
  EXPECT_EQ(ack.ext.missing_type, 2u);
}

TEST_F(AgentWire, AcceptOfNothingIsEagain) {
  WiredAgent agent = listening_agent();
  worker::AcceptRequest request;
  request.handler_class = kTlshd;
  EXPECT_EQ(ask(agent, kWorkerId, request).error, EAGAIN);
}

TEST_F(AgentWire, DoneInTheKernelsVocabularyMeansKtls) {
  WiredAgent agent = listening_agent();
  const Submitted one = submit_one();
  agent.next();
  const auto accepted = accept_reply(agent);
  kernel::DoneRequest done;
  done.status = 0;
  done.sockfd = accepted.sockfd;
  done.remote_auth = {4294967295u};
  done.tag = {"b", "a"};
  EXPECT_EQ(ask(agent, kHandshakeId, done).error, 0);
  const Completion got = one.seen->last();
  EXPECT_EQ(got.status, 0);
  EXPECT_EQ(got.mode, protocol::SessionMode::kKtls);
  EXPECT_EQ(got.remote_auth, (std::vector<std::uint32_t>{4294967295u}));
  EXPECT_TRUE(got.tags.contains("a"));
  EXPECT_EQ(ask(agent, kHandshakeId, done).error, EBUSY);
  done.sockfd = 999;
  EXPECT_EQ(ask(agent, kHandshakeId, done).error, EBADF);
}

TEST_F(AgentWire, DoneIsNotAnsweredUnlessAskedFor) {
  WiredAgent agent = listening_agent();
  const Submitted one = submit_one();
  agent.next();
  tell(agent, kWorkerId, done_of(*accept_reply(agent).sockfd), 0);
  EXPECT_EQ(one.seen->completions, 1);
  EXPECT_TRUE(agent.silent());
}

TEST_F(AgentWire, DoneInOurVocabularyTellsMore) {
  WiredAgent agent = listening_agent();
  const Submitted one =
      submit_one(-1, [](Submission& s) { s.relay = protocol::RelayMode::kAllowed; });
  agent.next();
  auto done = done_of(*accept_reply(agent).sockfd);
  done.plain_end = true;
  done.session_mode = protocol::SessionMode::kRelay;
  done.cipher = "TLS_CHACHA20_POLY1305_SHA256";
  done.group = "x25519";
  done.peer_subject = "CN=a";
  done.certificate_algorithm = "RSA 2048";
  const TcpPair plain = tcp_pair();
  EXPECT_EQ(ask(agent, kWorkerId, done, with(plain.client.get())).error, 0);
  {
    const Completion got = one.seen->last();
    EXPECT_EQ(got.mode, protocol::SessionMode::kRelay);
    EXPECT_EQ(inode_of(got.plain_end.get()), inode_of(plain.client.get()));
    EXPECT_EQ(got.cipher, "TLS_CHACHA20_POLY1305_SHA256");
    EXPECT_EQ(got.certificate_algorithm, "RSA 2048");
  }
  worker::RelayEndRequest end;
  EXPECT_EQ(ask(agent, kWorkerId, end).ext.missing_type, 1u);
  end.request_id = one.id;
  end.bytes_to_peer = 3;
  end.status = 0;
  EXPECT_EQ(ask(agent, kWorkerId, end).error, 0);
  EXPECT_EQ(ask(agent, kWorkerId, end).error, EBADF);
  EXPECT_EQ(records().back().bytes_to_peer, 3u);
}

TEST_F(AgentWire, APlainEndThatDidNotComeAloneIsEinvalAndEio) {
  WiredAgent agent = listening_agent();
  const auto forbidden = [&](std::vector<UniqueFd> fds) {
    const Submitted one =
        submit_one(-1, [](Submission& s) { s.relay = protocol::RelayMode::kAllowed; });
    auto done = done_of(*accept_reply(agent).sockfd);
    done.plain_end = true;
    done.session_mode = protocol::SessionMode::kRelay;
    EXPECT_EQ(ask(agent, kWorkerId, done, std::move(fds)).error, EINVAL);
    EXPECT_EQ(one.seen->status(), -EIO);
  };
  submit_one();
  agent.next();
  accept_reply(agent);
  forbidden({});
  forbidden(with(0, 0));
}

TEST_F(AgentWire, AMalformedDoneThatNamesALiveRequestFinishesItWithEio) {
  WiredAgent agent = listening_agent();
  submit_one();
  agent.next();
  const std::int32_t other = *accept_reply(agent).sockfd;
  struct Case {
    const char* what;
    std::uint16_t number;
    std::vector<std::byte> payload;
    int error;
  };
  const Case cases[] = {
      {"an attribute that nobody knows", 99, text("abcd"), EINVAL},
      {"a status that is too short", 1, text("ab"), EINVAL},
      {"a status above 4095", 1, {std::byte{0}, std::byte{0x10}, std::byte{0}, std::byte{0}},
       ERANGE},
      {"a tag of 256 bytes", 4, text(std::string(256, 'x')), EINVAL},
  };
  for (const Case& one : cases) {
    const Submitted submitted = submit_one();
    const std::int32_t token = *accept_reply(agent).sockfd;
    auto done = done_of(token, std::nullopt);
    EXPECT_TRUE(agent.endpoint->receive(
        packet(with_attribute(message(kWorkerId, done), one.number, one.payload))));
    const auto ack = agent.next().ack();
    EXPECT_EQ(ack.error, one.error) << one.what;
    EXPECT_TRUE(ack.ext.offset) << one.what;
    EXPECT_FALSE(ack.ext.message.empty()) << one.what;
    EXPECT_EQ(submitted.seen->status(), -EIO) << one.what;
  }
  EXPECT_EQ(ask(agent, kWorkerId, done_of(other)).error, 0) << "the other one lives";
}

TEST_F(AgentWire, TheKernelsFamilyTakesTheKernelsAttributesOnly) {
  WiredAgent agent = listening_agent();
  const Submitted one = submit_one();
  agent.next();
  auto done = done_of(*accept_reply(agent).sockfd);
  done.reason = "ours";
  const auto ack = ask(agent, kHandshakeId, done);
  EXPECT_EQ(ack.error, EINVAL);
  EXPECT_EQ(ack.ext.message, "Unknown attribute type");
  EXPECT_EQ(one.seen->status(), -EIO);
}

TEST_F(AgentWire, AMalformedTagIsEinvalAndEio) {
  WiredAgent agent = listening_agent();
  const std::vector<std::byte> bad[] = {
      {}, text(std::string(1, '\0')), text(std::string("a\0b", 3)), text(std::string("a\0\0", 3))};
  bool first = true;
  for (const auto& tag : bad) {
    const Submitted one = submit_one();
    if (std::exchange(first, false)) agent.next();
    auto done = done_of(*accept_reply(agent).sockfd);
    done.tag = {"good"};
    EXPECT_TRUE(
        agent.endpoint->receive(packet(with_attribute(message(kWorkerId, done), 4, tag))));
    EXPECT_EQ(agent.next().ack().error, EINVAL);
    const Completion got = one.seen->last();
    EXPECT_EQ(got.status, -EIO);
    EXPECT_TRUE(got.tags.empty());
  }
}

TEST_F(AgentWire, ATagWithOrWithoutItsTrailingNulIsTheSame) {
  WiredAgent agent = listening_agent();
  const Submitted one = submit_one();
  agent.next();
  Bytes bytes = message(kWorkerId, done_of(*accept_reply(agent).sockfd));
  bytes = with_attribute(std::move(bytes), 4, text("plain"));
  bytes = with_attribute(std::move(bytes), 4, text(std::string("terminated\0", 11)));
  bytes = with_attribute(std::move(bytes), 4, text(std::string(255, 'x') + '\0'));
  EXPECT_TRUE(agent.endpoint->receive(packet(std::move(bytes))));
  EXPECT_EQ(agent.next().ack().error, 0);
  const TagSet tags = one.seen->last().tags;
  EXPECT_EQ(tags.size(), 3u);
  EXPECT_TRUE(tags.contains("plain"));
  EXPECT_TRUE(tags.contains("terminated"));
}

TEST_F(AgentWire, DoneWithoutAStatusMeansEio) {
  WiredAgent agent = listening_agent();
  const Submitted one = submit_one();
  agent.next();
  EXPECT_EQ(ask(agent, kWorkerId, done_of(*accept_reply(agent).sockfd, std::nullopt)).error, 0);
  EXPECT_EQ(one.seen->status(), -EIO);
}

TEST_F(AgentWire, DoneWithoutATokenIsEinval) {
  WiredAgent agent = listening_agent();
  worker::DoneRequest done;
  done.status = 0;
  const auto ack = ask(agent, kWorkerId, done);
  EXPECT_EQ(ack.error, EINVAL);
  EXPECT_EQ(ack.ext.missing_type, 2u);
}

TEST_F(AgentWire, AForgedDoneFromAnUnprivilegedProcessIsEperm) {
  WiredAgent agent = listening_agent();
  const Submitted one = submit_one();
  agent.next();
  const std::int32_t token = *accept_reply(agent).sockfd;
  WiredAgent forger = wired_agent({.pid = 9, .uid = ::geteuid() + 12345});
  EXPECT_EQ(ask(forger, kWorkerId, done_of(token)).error, EPERM);
  EXPECT_EQ(ask(forger, kHandshakeId, kernel::AcceptRequest{}).error, EPERM);
  worker::SubscribeRequest subscribe;
  subscribe.handler_class = {kTlshd};
  EXPECT_EQ(ask(forger, kWorkerId, subscribe).error, EPERM);
  // Nor over the consumers' socket, where the agents' families do not exist.
  WiredConsumer consumer = wired_consumer();
  EXPECT_EQ(ask(consumer, kWorkerId, done_of(token)).error, ENOENT);
  EXPECT_EQ(ask(consumer, kHandshakeId, done_of(token)).error, ENOENT);
  EXPECT_EQ(one.seen->completions, 0);
  EXPECT_EQ(ask(agent, kWorkerId, done_of(token)).error, 0);
}

TEST_F(AgentWire, TheServicesOwnUserMayBeAnAgent) {
  WiredAgent agent = wired_agent({.pid = 9, .uid = ::geteuid()});
  worker::SubscribeRequest subscribe;
  subscribe.handler_class = {kTlshd};
  EXPECT_EQ(ask(agent, kWorkerId, subscribe).error, 0);
}

TEST_F(AgentWire, ADoneWhoseDescriptorsWereLostFinishesItsRequestWithEio) {
  WiredAgent agent = listening_agent();
  const Submitted one =
      submit_one(-1, [](Submission& s) { s.relay = protocol::RelayMode::kAllowed; });
  agent.next();
  auto done = done_of(*accept_reply(agent).sockfd);
  done.plain_end = true;
  done.session_mode = protocol::SessionMode::kRelay;
  protocol::Packet lost = packet(message(kWorkerId, done), with(0));
  lost.fds_lost = true;
  EXPECT_TRUE(agent.endpoint->receive(std::move(lost)));
  const auto ack = agent.next().ack();
  EXPECT_EQ(ack.error, EMFILE);
  EXPECT_NE(ack.ext.message.find("descriptors"), std::string::npos);
  EXPECT_EQ(one.seen->status(), -EIO);
}

TEST_F(AgentWire, DescriptorsThatNobodyAskedForAreClosed) {
  WiredAgent agent = listening_agent();
  tell(agent, kWorkerId, done_of(5), NLM_F_ACK, with(0, 0, 0));
  EXPECT_EQ(agent.next().ack().error, EBADF);
}

TEST_F(AgentWire, MessagesOfOneDatagramAreHandledInOrder) {
  WiredAgent agent = listening_agent();
  const Submitted a = submit_one();
  const Submitted b = submit_one();
  agent.next();
  worker::AcceptRequest accept;
  accept.handler_class = kTlshd;
  Bytes both = message(kWorkerId, accept, 0);
  const Bytes second = message(kWorkerId, accept, 0);
  const Bytes third = message(kWorkerId, accept, NLM_F_ACK);
  both.insert(both.end(), second.begin(), second.end());
  both.insert(both.end(), third.begin(), third.end());
  EXPECT_TRUE(agent.endpoint->receive(packet(std::move(both))));
  EXPECT_EQ(agent.next().as<worker::AcceptReply>().request_id, a.id);
  EXPECT_EQ(agent.next().as<worker::AcceptReply>().request_id, b.id);
  EXPECT_EQ(agent.next().ack().error, EAGAIN);
}

TEST_F(AgentWire, WhatIsNoNetlinkEndsTheConnection) {
  WiredAgent agent = listening_agent();
  EXPECT_FALSE(agent.endpoint->receive(packet(Bytes(3, std::byte{1}), with(0))));
  EXPECT_FALSE(agent.endpoint->receive(packet(Bytes(40, std::byte{0xff}))));
  EXPECT_TRUE(agent.silent());
}

TEST_F(AgentWire, AFamilyThatIsNotThereIsEnoent) {
  WiredAgent agent = wired_agent();
  EXPECT_EQ(ask(agent, 99, kernel::AcceptRequest{}).error, ENOENT);
  EXPECT_EQ(ask(agent, protocol::kConsumerId, submit_of(1)).error, ENOENT);
}

TEST_F(AgentWire, WhatIsNoRequestIsNotHandled) {
  WiredAgent agent = listening_agent();
  const Submitted one = submit_one();
  agent.next();
  const std::int32_t token = *accept_reply(agent).sockfd;
  Bytes reply = message(kWorkerId, done_of(token), 0);
  reply[6] = std::byte{0};  // nlmsg_flags without NLM_F_REQUEST
  EXPECT_TRUE(agent.endpoint->receive(packet(std::move(reply))));
  EXPECT_EQ(one.seen->completions, 0);
  EXPECT_TRUE(agent.silent());
}

TEST_F(AgentWire, ARequestTooLargeForAReplyEndsWithEioAndTheNextIsHandedOver) {
  WiredAgent agent = listening_agent();
  const Submitted huge =
      submit_one(-1, [](Submission& s) { s.peer_identities.assign(20'000, 1); });
  const Submitted next = submit_one();
  agent.next();
  EXPECT_EQ(accept_reply(agent).request_id, next.id);
  EXPECT_EQ(huge.seen->status(), -EIO);
}

TEST_F(AgentWire, AReplyThatCouldNotBeSentEndsItsRequestWithEio) {
  // The sink is out of memory when the reply comes.
  bool broken = false;
  std::unique_ptr<service::AgentEndpoint> endpoint = std::make_unique<service::AgentEndpoint>(
      service(), reaper_, AgentInfo{.pid = 1, .uid = 0, .own_worker = true},
      [&broken](Bytes, std::vector<UniqueFd>) {
        if (broken) throw std::bad_alloc();
      });
  worker::SubscribeRequest subscribe;
  subscribe.handler_class = {kTlshd};
  subscribe.every_netns = true;
  EXPECT_TRUE(endpoint->receive(packet(message(kWorkerId, subscribe))));
  const Submitted one = submit_one();
  broken = true;
  worker::AcceptRequest accept;
  accept.handler_class = kTlshd;
  EXPECT_FALSE(endpoint->receive(packet(message(kWorkerId, accept))));
  EXPECT_EQ(one.seen->status(), -EIO);
}

TEST_F(AgentWire, DestructionIsTheAgentsDeath) {
  WiredAgent agent = listening_agent();
  const Submitted accepted = submit_one();
  const Submitted pending = submit_one();
  agent.next();
  accept_reply(agent);
  agent.endpoint.reset();
  EXPECT_EQ(accepted.seen->status(), -EIO);
  EXPECT_EQ(pending.seen->completions, 0);
  submit_errno(socket());
  EXPECT_TRUE(agent.silent()) << "nothing is sent to it any more";
}

TEST_F(AgentWire, ARetiredAgentFinishesWhatItHas) {
  WiredAgent agent = listening_agent();
  const Submitted one = submit_one();
  agent.next();
  const std::int32_t token = *accept_reply(agent).sockfd;
  agent.endpoint->retire();
  EXPECT_EQ(submit_errno(socket()), ESRCH);
  EXPECT_EQ(ask(agent, kWorkerId, done_of(token)).error, 0);
  EXPECT_EQ(one.seen->status(), 0);
}

}  // namespace
}  // namespace handshake::testing
