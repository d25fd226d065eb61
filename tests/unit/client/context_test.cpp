// SPDX-License-Identifier: Apache-2.0
// The C functions of libhandshake.so against a service that says what the test wants.
#include <fcntl.h>
#include <linux/netlink.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fake_service.h"
#include "handshake/handshake.h"
#include "protocol/message.h"
#include "transport/seqpacket.h"

namespace handshake {
namespace {

using protocol::SessionMode;
using protocol::consumer::CompleteEvent;
using test::FakeService;
using test::Submitted;
using test::TcpPair;
using test::open_descriptors;
using test::tcp_pair;

/// What a callback and its release have seen; the cookie of a request.
struct Witness {
  int completions = 0;
  int releases = 0;
  std::vector<int> statuses;
  hs_result* result = nullptr;
  bool released_after_completion = false;

  ~Witness() { hs_result_unref(result); }

  static void done(void* cookie, const hs_result* result) {
    auto* self = static_cast<Witness*>(cookie);
    ++self->completions;
    self->statuses.push_back(hs_result_status(result));
    hs_result_unref(self->result);
    self->result = hs_result_ref(result);
  }
  static void release(void* cookie) {
    auto* self = static_cast<Witness*>(cookie);
    ++self->releases;
    self->released_after_completion = self->completions > 0;
  }
};

CompleteEvent failed(int number) {
  CompleteEvent event;
  event.status = static_cast<std::uint32_t>(number);
  return event;
}

CompleteEvent relayed() {
  CompleteEvent event;
  event.status = 0;
  event.session_mode = SessionMode::kRelay;
  return event;
}

class Client : public ::testing::Test {
 protected:
  explicit Client(FakeService::Behaviour behaviour = {}) : service_(std::move(behaviour)) {
    EXPECT_EQ(hs_context_create(service_.path().c_str(), &context_), 0) << hs_last_error();
  }
  ~Client() override { hs_context_destroy(context_); }

  int submit(int fd, Witness& witness, std::uint64_t* request = nullptr,
             const hs_options* options = nullptr) {
    return hs_client_hello_x509(context_, fd, options, Witness::done, &witness, Witness::release,
                                request);
  }
  /// A cookie that lives as long as the context: what a test leaves outstanding ends with it.
  Witness& new_witness() { return witnesses_.emplace_back(); }
  /// Waits for something to dispatch; how many callbacks ran.
  int dispatch() {
    EXPECT_TRUE(test::readable(hs_fd(context_)));
    return hs_dispatch(context_);
  }
  /// Until a callback has run.
  void dispatch_one() {
    while (!HasFailure() && dispatch() == 0) {}
  }

  FakeService service_;
  std::deque<Witness> witnesses_;
  hs_context* context_ = nullptr;
};

/// The tests about one handshake: submitted without a callback.
class OneHandshake : public Client {
 protected:
  /// Submits, lets the service complete, collects.
  int run(const CompleteEvent& event, UniqueFd plain_end = UniqueFd(),
          const hs_options* options = nullptr) {
    std::uint64_t request = 0;
    EXPECT_EQ(hs_client_hello_anon(context_, socket_.mine.get(), options, nullptr, nullptr, nullptr,
                                   &request),
              0)
        << hs_last_error();
    service_.complete(service_.next(), event, std::move(plain_end));
    hs_result_unref(result_);
    return hs_wait(context_, request, 20'000, &result_);
  }
  ~OneHandshake() override { hs_result_unref(result_); }

  TcpPair socket_ = tcp_pair();
  hs_result* result_ = nullptr;
};

// --- Connecting --------------------------------------------------------------------------------

TEST(Context, SaysThatNobodyListensAndWhere) {
  hs_context* context = nullptr;
  EXPECT_EQ(hs_context_create("/nonexistent/consumer.sock", &context), -ENOENT);
  EXPECT_EQ(context, nullptr);
  EXPECT_NE(std::string(hs_last_error()).find("/nonexistent/consumer.sock"), std::string::npos);
}

TEST(Context, RefusesAServiceWithoutTheFamily) {
  FakeService::Behaviour behaviour;
  behaviour.know_family = false;
  FakeService service(behaviour);
  hs_context* context = nullptr;
  EXPECT_EQ(hs_context_create(service.path().c_str(), &context), -EIO);
  EXPECT_NE(std::string(hs_last_error()).find(protocol::consumer::kFamily.name), std::string::npos)
      << hs_last_error();
}

TEST(Context, ToleratesNothingAtAll) {
  hs_context_destroy(nullptr);
  hs_result_unref(nullptr);
  hs_tagset_free(nullptr);
  EXPECT_EQ(hs_close(nullptr), 0);
  EXPECT_EQ(hs_dispatch(nullptr), -EINVAL);
  EXPECT_EQ(hs_context_create("/tmp/x", nullptr), -EINVAL);
  EXPECT_EQ(hs_client_hello_x509(nullptr, 0, nullptr, nullptr, nullptr, nullptr, nullptr), -EINVAL);
}

// --- Submitting --------------------------------------------------------------------------------

TEST_F(Client, SubmitsWhatItWasGivenAndTheSocketItself) {
  const TcpPair pair = tcp_pair();
  hs_options options = HS_OPTIONS_INIT;
  options.credential = "web";
  options.peername = "server.example";
  options.timeout_ms = 1234;
  options.relay = HS_RELAY_ALWAYS;
  options.client_auth = HS_CLIENT_AUTH_REQUIRE;
  options.handler_class = 100;
  Witness& witness = new_witness();
  std::uint64_t request = 0;
  ASSERT_EQ(submit(pair.mine.get(), witness, &request, &options), 0) << hs_last_error();
  const Submitted submitted = service_.next();
  EXPECT_NE(request, 0U);
  EXPECT_EQ(submitted.request.id, request);
  EXPECT_EQ(submitted.request.credential, "web");
  EXPECT_EQ(submitted.request.peername, "server.example");
  EXPECT_EQ(submitted.request.timeout, 1234U);
  EXPECT_EQ(submitted.request.relay, protocol::RelayMode::kAlways);
  EXPECT_EQ(submitted.request.client_auth, protocol::ClientAuth::kRequire);
  EXPECT_EQ(submitted.request.handler_class, 100U);
  EXPECT_EQ(test::cookie_of(submitted.socket.get()), test::cookie_of(pair.mine.get()));
}

TEST_F(Client, LeavesOutWhatWasNotGivenAndAllowsARelay) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  ASSERT_EQ(submit(pair.mine.get(), witness), 0);
  const Submitted submitted = service_.next();
  EXPECT_FALSE(submitted.request.credential);
  EXPECT_FALSE(submitted.request.peername);
  EXPECT_FALSE(submitted.request.timeout);
  EXPECT_FALSE(submitted.request.handler_class);
  EXPECT_EQ(submitted.request.relay, protocol::RelayMode::kAllowed);
}

TEST_F(Client, EachCallAsksForItsOwnKindOfHandshake) {
  using protocol::Auth;
  using protocol::MessageType;
  struct Case { decltype(&hs_client_hello_anon) call; MessageType type; Auth auth; };
  const std::array cases{
      Case{hs_client_hello_anon, MessageType::kClienthello, Auth::kUnauth},
      Case{hs_client_hello_x509, MessageType::kClienthello, Auth::kX509},
      Case{hs_client_hello_psk, MessageType::kClienthello, Auth::kPsk},
      Case{hs_server_hello_x509, MessageType::kServerhello, Auth::kX509},
      Case{hs_server_hello_psk, MessageType::kServerhello, Auth::kPsk}};
  for (const Case& one : cases) {
    const TcpPair pair = tcp_pair();
    ASSERT_EQ(one.call(context_, pair.mine.get(), nullptr, nullptr, nullptr, nullptr, nullptr), 0);
    const Submitted submitted = service_.next();
    EXPECT_EQ(submitted.request.message_type, one.type);
    EXPECT_EQ(submitted.request.auth_mode, one.auth);
  }
}

class Refusing : public Client {
 protected:
  Refusing() : Client(refusing()) {}
  static FakeService::Behaviour refusing() {
    FakeService::Behaviour behaviour;
    behaviour.submit = [](const auto&) { return EPERM; };
    behaviour.refusal = "credential web: uid 1000 is not on its list";
    return behaviour;
  }
};

TEST_F(Refusing, ARefusedSubmissionSaysWhyAndIsFollowedByNothing) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  EXPECT_EQ(submit(pair.mine.get(), witness), -EPERM);
  EXPECT_STREQ(hs_last_error(), "credential web: uid 1000 is not on its list");
  EXPECT_EQ(hs_dispatch(context_), 0);
  EXPECT_EQ(witness.completions, 0);
  EXPECT_EQ(witness.releases, 0);
}

TEST_F(Refusing, TheLastErrorIsEachThreadsOwn) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  EXPECT_EQ(submit(pair.mine.get(), witness), -EPERM);
  std::thread([] { EXPECT_STREQ(hs_last_error(), ""); }).join();
}

TEST_F(Client, RefusesWhatIsNoSocket) {
  Witness& witness = new_witness();
  EXPECT_EQ(submit(-1, witness), -EINVAL);
  EXPECT_EQ(submit(987'654, witness), -EINVAL);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  EXPECT_EQ(submit(ends[0], witness), -EINVAL);
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_EQ(witness.releases, 0);
}

TEST_F(Client, OptionsMayBeOfAnotherVersion) {
  struct Newer {
    hs_options options;
    std::uint64_t later;
  };
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  Newer newer{HS_OPTIONS_INIT, 0};
  newer.options.size = sizeof newer;
  EXPECT_EQ(submit(pair.mine.get(), witness, nullptr, &newer.options), 0);
  newer.later = 1;
  EXPECT_EQ(submit(pair.mine.get(), witness, nullptr, &newer.options), -E2BIG);
  hs_options older = HS_OPTIONS_INIT;
  older.size = offsetof(hs_options, handler_class);
  EXPECT_EQ(submit(pair.mine.get(), witness, nullptr, &older), -EINVAL);
  older.size = 0;
  EXPECT_EQ(submit(pair.mine.get(), witness, nullptr, &older), -EINVAL);
}

TEST_F(Client, RefusesUnknownNumbersInOptions) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  hs_options options = HS_OPTIONS_INIT;
  options.relay = 3;
  EXPECT_EQ(submit(pair.mine.get(), witness, nullptr, &options), -EINVAL);
  options = HS_OPTIONS_INIT;
  options.client_auth = 3;
  EXPECT_EQ(submit(pair.mine.get(), witness, nullptr, &options), -EINVAL);
}

TEST_F(Client, TextThatFitsInNoMessageIsRefused) {
  const TcpPair pair = tcp_pair();
  const std::string long_name(70'000, 'n');
  hs_options options = HS_OPTIONS_INIT;
  options.peername = long_name.c_str();
  Witness& witness = new_witness();
  EXPECT_EQ(submit(pair.mine.get(), witness, nullptr, &options), -EINVAL);
  options.peername = "fits";
  EXPECT_EQ(submit(pair.mine.get(), witness, nullptr, &options), 0);
}

// --- Completion --------------------------------------------------------------------------------

TEST_F(Client, CallsBackOnceAndThenReleases) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  ASSERT_EQ(submit(pair.mine.get(), witness), 0);
  EXPECT_EQ(hs_dispatch(context_), 0);
  CompleteEvent event = failed(EACCES);
  event.reason = "certificate has expired";
  event.alert = 45;
  event.alert_sent = true;
  event.request_id = 4711;
  event.peer_subject = "CN=server";
  service_.complete(service_.next(), event);
  dispatch_one();
  EXPECT_EQ(witness.completions, 1);
  EXPECT_EQ(witness.releases, 1);
  EXPECT_TRUE(witness.released_after_completion);
  ASSERT_NE(witness.result, nullptr);
  EXPECT_EQ(hs_result_status(witness.result), -EACCES);
  EXPECT_EQ(hs_result_mode(witness.result), HS_MODE_NONE);
  EXPECT_EQ(hs_result_fd(witness.result), pair.mine.get());
  EXPECT_STREQ(hs_result_reason(witness.result), "certificate has expired");
  EXPECT_STREQ(hs_result_peer_subject(witness.result), "CN=server");
  EXPECT_STREQ(hs_result_cipher(witness.result), "");
  EXPECT_EQ(hs_result_alert(witness.result), 45);
  EXPECT_EQ(hs_result_alert_sent(witness.result), 1);
  EXPECT_EQ(hs_result_log_id(witness.result), 4711U);
  EXPECT_EQ(hs_tagset_count(hs_result_tags(witness.result)), 0U);
  EXPECT_EQ(hs_dispatch(context_), 0);
  EXPECT_FALSE(test::readable(hs_fd(context_), 0));
}

TEST_F(Client, CompletionsAreDeliveredInTheOrderTheyCame) {
  std::vector<TcpPair> pairs;
  std::vector<Submitted> submitted;
  std::vector<std::uint64_t> order;
  struct Cookie { std::vector<std::uint64_t>* order; std::uint64_t request; };
  std::array<Cookie, 5> cookies{};
  for (Cookie& cookie : cookies) {
    cookie.order = &order;
    pairs.push_back(tcp_pair());
    ASSERT_EQ(hs_server_hello_x509(
                  context_, pairs.back().mine.get(), nullptr,
                  [](void* given, const hs_result*) {
                    auto* own = static_cast<Cookie*>(given);
                    own->order->push_back(own->request);
                  },
                  &cookie, nullptr, &cookie.request),
              0);
    submitted.push_back(service_.next());
  }
  for (auto one = submitted.rbegin(); one != submitted.rend(); ++one) {
    service_.complete(*one, failed(EIO));
  }
  while (order.size() < 5 && !HasFailure()) dispatch();
  EXPECT_EQ(order, (std::vector<std::uint64_t>{cookies[4].request, cookies[3].request,
                                               cookies[2].request, cookies[1].request,
                                               cookies[0].request}));
}

TEST_F(Client, ACallbackMaySubmitAndCancel) {
  struct Cookie {
    hs_context* context;
    int fd;
    int again = 0;
    std::uint64_t request = 0;
  };
  const TcpPair pair = tcp_pair();
  Cookie cookie{context_, pair.mine.get()};
  const auto done = [](void* given, const hs_result*) {
    auto* own = static_cast<Cookie*>(given);
    const std::uint64_t ended = own->request;
    EXPECT_EQ(hs_cancel(own->context, ended), 0);
    EXPECT_EQ(hs_client_hello_x509(own->context, own->fd, nullptr, nullptr, nullptr, nullptr,
                                   &own->request),
              0);
    EXPECT_EQ(hs_cancel(own->context, own->request), 1);
    ++own->again;
  };
  ASSERT_EQ(hs_client_hello_x509(context_, cookie.fd, nullptr, done, &cookie, nullptr,
                                 &cookie.request),
            0);
  service_.complete(service_.next(), failed(EIO));
  dispatch_one();
  EXPECT_EQ(cookie.again, 1);
}

TEST_F(OneHandshake, ARelayTakesThePlaceOfTheSocketUnderTheSameNumber) {
  TcpPair plain = tcp_pair();
  const int fd = socket_.mine.get();
  ASSERT_EQ(::fcntl(fd, F_SETFL, O_NONBLOCK), 0);
  timeval timeout{};
  timeout.tv_sec = 7;
  ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
  const std::uint64_t before = test::cookie_of(fd);
  const std::uint64_t relay = test::cookie_of(plain.mine.get());
  CompleteEvent event = relayed();
  event.cipher = "TLS_AES_128_GCM_SHA256";
  event.group = "X25519";
  event.remote_auth = {7, 4294967295U};
  event.tag = {"staff", "admins", "staff"};
  ASSERT_EQ(run(event, std::move(plain.mine)), 0) << hs_last_error();

  EXPECT_NE(test::cookie_of(fd), before);
  EXPECT_EQ(test::cookie_of(fd), relay);
  EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  socklen_t length = sizeof timeout;
  timeout = {};
  ASSERT_EQ(::getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &length), 0);
  EXPECT_EQ(timeout.tv_sec, 7);
  ASSERT_EQ(::send(plain.peer.get(), "plain", 5, 0), 5);
  std::array<char, 8> got{};
  ASSERT_TRUE(test::readable(fd));
  EXPECT_EQ(::recv(fd, got.data(), got.size(), 0), 5);

  EXPECT_EQ(hs_result_mode(result_), HS_MODE_RELAY);
  EXPECT_EQ(hs_result_fd(result_), fd);
  EXPECT_STREQ(hs_result_cipher(result_), "TLS_AES_128_GCM_SHA256");
  EXPECT_STREQ(hs_result_group(result_), "X25519");
  ASSERT_EQ(hs_result_peer_identity_count(result_), 2U);
  EXPECT_EQ(hs_result_peer_identity(result_, 0), 7U);
  EXPECT_EQ(hs_result_peer_identity(result_, 1), 4294967295U);
  EXPECT_EQ(hs_result_peer_identity(result_, 2), 0U);
  const hs_tagset* tags = hs_result_tags(result_);
  ASSERT_EQ(hs_tagset_count(tags), 2U);
  EXPECT_STREQ(hs_tagset_at(tags, 0), "admins");
  EXPECT_STREQ(hs_tagset_at(tags, 1), "staff");
  EXPECT_EQ(hs_tagset_at(tags, 2), nullptr);
  EXPECT_EQ(hs_tagset_contains(tags, "staff"), 1);
  EXPECT_EQ(hs_tagset_contains(tags, "staf"), 0);
  EXPECT_EQ(hs_tagset_contains(tags, ""), 0);
}

TEST_F(OneHandshake, WhatWasNotCloseOnExecStaysSo) {
  TcpPair plain = tcp_pair();
  ASSERT_EQ(::fcntl(socket_.mine.get(), F_SETFD, 0), 0);
  ASSERT_EQ(run(relayed(), std::move(plain.mine)), 0);
  EXPECT_EQ(::fcntl(socket_.mine.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(::fcntl(socket_.mine.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_F(OneHandshake, KtlsThatTheKernelDoesNotConfirmIsRefused) {
  CompleteEvent event;
  event.status = 0;
  event.session_mode = SessionMode::kKtls;
  event.tag = {"admins"};
  event.remote_auth = {5};
  EXPECT_EQ(run(event), -EIO);
  EXPECT_NE(std::string(hs_last_error()).find("the kernel does not"), std::string::npos);
  EXPECT_EQ(hs_result_mode(result_), HS_MODE_NONE);
  EXPECT_EQ(hs_tagset_count(hs_result_tags(result_)), 0U);
  EXPECT_EQ(hs_result_peer_identity_count(result_), 0U);
}

TEST_F(OneHandshake, SuccessWithoutASessionIsRefused) {
  CompleteEvent event;
  event.status = 0;
  EXPECT_EQ(run(event), -EIO);
  event.session_mode = SessionMode::kNone;
  EXPECT_EQ(run(event), -EIO);
}

TEST_F(OneHandshake, ARelayMustComeWithASocketThatCanBeOne) {
  const std::uint64_t before = test::cookie_of(socket_.mine.get());
  EXPECT_EQ(run(relayed()), -EIO);
  EXPECT_EQ(run(relayed(), UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC))), -EIO);
  EXPECT_EQ(run(relayed(), std::move(transport::seqpacket_pair().value().first)), -EIO);
  EXPECT_EQ(run(relayed(), UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0))), -EIO);
  EXPECT_EQ(run(relayed(), UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))), -EIO);
  EXPECT_EQ(test::cookie_of(socket_.mine.get()), before);
}

TEST_F(OneHandshake, TheUnencryptedSocketIsNoRelay) {
  EXPECT_EQ(run(relayed(), UniqueFd(::fcntl(socket_.mine.get(), F_DUPFD_CLOEXEC, 0))), -EIO);
  EXPECT_NE(std::string(hs_last_error()).find("unencrypted"), std::string::npos);
}

TEST_F(OneHandshake, TheCallerDecidesAboutRelays) {
  hs_options options = HS_OPTIONS_INIT;
  options.relay = HS_RELAY_NEVER;
  EXPECT_EQ(run(relayed(), std::move(tcp_pair().mine), &options), -EIO);
  options.relay = HS_RELAY_ALWAYS;
  CompleteEvent event;
  event.status = 0;
  event.session_mode = SessionMode::kKtls;
  EXPECT_EQ(run(event, UniqueFd(), &options), -EIO);
  EXPECT_NE(std::string(hs_last_error()).find("where a relay was asked for"), std::string::npos);
}

TEST_F(OneHandshake, ARelayNeverReplacesAnotherFile) {
  std::uint64_t request = 0;
  const int fd = socket_.mine.get();
  ASSERT_EQ(hs_client_hello_x509(context_, fd, nullptr, nullptr, nullptr, nullptr, &request), 0);
  const TcpPair other = tcp_pair();
  ASSERT_EQ(::dup3(other.mine.get(), fd, O_CLOEXEC), fd);
  service_.complete(service_.next(), relayed(), std::move(tcp_pair().mine));
  EXPECT_EQ(hs_wait(context_, request, -1, nullptr), -EIO);
  EXPECT_EQ(test::cookie_of(fd), test::cookie_of(other.mine.get()));
}

TEST_F(OneHandshake, AnImpossibleTagIsAnErrorAndNoTagsCount) {
  for (const std::string& tag : {std::string(256, 't'), std::string("a\0b", 3)}) {
    CompleteEvent event = relayed();
    event.tag = {"good", tag};
    const int status = run(event, std::move(tcp_pair().mine));
    EXPECT_EQ(status, -EIO);
    ASSERT_NE(result_, nullptr);
    EXPECT_EQ(hs_tagset_count(hs_result_tags(result_)), 0U);
  }
}

TEST_F(OneHandshake, ATagsetOutlivesItsResult) {
  CompleteEvent event = relayed();
  event.tag = {"b", "a"};
  ASSERT_EQ(run(event, std::move(tcp_pair().mine)), 0);
  hs_tagset* copy = hs_tagset_copy(hs_result_tags(result_));
  hs_result_unref(result_);
  result_ = nullptr;
  ASSERT_EQ(hs_tagset_count(copy), 2U);
  EXPECT_STREQ(hs_tagset_at(copy, 0), "a");
  const std::array<const char*, 2> names{"z", "b"};
  hs_tagset* wanted = nullptr;
  ASSERT_EQ(hs_tagset_create(names.data(), names.size(), &wanted), 0);
  EXPECT_EQ(hs_tagset_intersects(copy, wanted), 1);
  hs_tagset* none = nullptr;
  ASSERT_EQ(hs_tagset_create(nullptr, 0, &none), 0);
  EXPECT_EQ(hs_tagset_intersects(copy, none), 0);
  hs_tagset* bad = nullptr;
  const std::array<const char*, 1> empty{""};
  EXPECT_EQ(hs_tagset_create(empty.data(), 1, &bad), -EINVAL);
  EXPECT_EQ(bad, nullptr);
  hs_tagset_free(copy);
  hs_tagset_free(wanted);
  hs_tagset_free(none);
}

TEST_F(OneHandshake, ARelaysSocketThatNoDescriptorWasFreeForIsEmfile) {
  std::uint64_t request = 0;
  ASSERT_EQ(hs_client_hello_x509(context_, socket_.mine.get(), nullptr, nullptr, nullptr, nullptr,
                                 &request),
            0);
  const Submitted submitted = service_.next();
  TcpPair plain = tcp_pair();
  // Sent first, so that the fake service in this process needs none either; then nothing is free.
  service_.complete(submitted, relayed(), std::move(plain.mine));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 3;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const int status = hs_wait(context_, request, 20'000, &result_);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(status, -EMFILE);
}

// --- Waiting -----------------------------------------------------------------------------------

TEST_F(Client, WaitReturnsTheStatusAndTheResultOnce) {
  const TcpPair pair = tcp_pair();
  std::uint64_t request = 0;
  Witness& witness = new_witness();
  ASSERT_EQ(hs_client_hello_x509(context_, pair.mine.get(), nullptr, nullptr, &witness,
                                 Witness::release, &request),
            0);
  hs_result* result = nullptr;
  EXPECT_EQ(hs_wait(context_, request, 0, &result), -EAGAIN);
  EXPECT_EQ(result, nullptr);
  EXPECT_EQ(witness.releases, 0);
  CompleteEvent event = failed(ETIMEDOUT);
  event.reason = "the peer said nothing";
  service_.complete(service_.next(), event);
  EXPECT_EQ(hs_wait(context_, request, -1, &result), -ETIMEDOUT);
  EXPECT_STREQ(hs_last_error(), "the peer said nothing");
  ASSERT_NE(result, nullptr);
  EXPECT_EQ(hs_result_status(result), -ETIMEDOUT);
  hs_result_unref(result);
  EXPECT_EQ(witness.releases, 1);
  EXPECT_EQ(hs_wait(context_, request, -1, &result), -ENOENT);
  EXPECT_EQ(result, nullptr);
}

TEST_F(Client, WaitIsForRequestsWithoutACallback) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  std::uint64_t request = 0;
  ASSERT_EQ(submit(pair.mine.get(), witness, &request), 0);
  EXPECT_EQ(hs_wait(context_, request, 0, nullptr), -EINVAL);
  EXPECT_EQ(hs_wait(context_, 999, 0, nullptr), -ENOENT);
}

TEST_F(Client, AWaitingThreadLeavesOthersCallbacksToDispatch) {
  const TcpPair one = tcp_pair();
  const TcpPair two = tcp_pair();
  Witness& witness = new_witness();
  ASSERT_EQ(submit(one.mine.get(), witness), 0);
  std::uint64_t request = 0;
  ASSERT_EQ(hs_client_hello_x509(context_, two.mine.get(), nullptr, nullptr, nullptr, nullptr,
                                 &request),
            0);
  service_.complete(service_.next(), failed(EIO));
  service_.complete(service_.next(), failed(EACCES));
  EXPECT_EQ(hs_wait(context_, request, -1, nullptr), -EACCES);
  EXPECT_EQ(witness.completions, 0);
  ASSERT_TRUE(test::readable(hs_fd(context_)));
  EXPECT_EQ(hs_dispatch(context_), 1);
  EXPECT_EQ(witness.completions, 1);
}

// --- Cancelling --------------------------------------------------------------------------------

TEST_F(Client, CancelOfAPendingRequestReleasesAndNoCallbackComes) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  std::uint64_t request = 0;
  ASSERT_EQ(submit(pair.mine.get(), witness, &request), 0);
  EXPECT_EQ(hs_cancel(context_, request), 1);
  EXPECT_EQ(witness.releases, 1);
  EXPECT_EQ(hs_cancel(context_, request), 0);
  EXPECT_EQ(hs_dispatch(context_), 0);
  EXPECT_EQ(witness.completions, 0);
  EXPECT_EQ(witness.releases, 1);
}

TEST_F(Client, CancelOfWhatHasCompletedIsTooLate) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  std::uint64_t request = 0;
  ASSERT_EQ(submit(pair.mine.get(), witness, &request), 0);
  service_.complete(service_.next(), failed(EIO));
  dispatch_one();
  EXPECT_EQ(hs_cancel(context_, request), 0);
  EXPECT_EQ(witness.releases, 1);
}

TEST_F(Client, CancelOfWhatWasNeverSubmittedIsAnError) {
  EXPECT_EQ(hs_cancel(context_, 0), -EINVAL);
  EXPECT_EQ(hs_cancel(context_, 1), -EINVAL);
}

class TooLate : public Client {
 protected:
  TooLate() : Client(too_late()) {}
  static FakeService::Behaviour too_late() {
    FakeService::Behaviour behaviour;
    behaviour.cancel = [](std::uint64_t) { return std::optional<bool>(false); };
    return behaviour;
  }
};

TEST_F(TooLate, ACancelThatTheServiceLostIsFollowedByTheCompletion) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  std::uint64_t request = 0;
  ASSERT_EQ(submit(pair.mine.get(), witness, &request), 0);
  EXPECT_EQ(hs_cancel(context_, request), 0);
  EXPECT_EQ(witness.releases, 0);
  service_.complete(service_.next(), failed(EIO));
  dispatch_one();
  EXPECT_EQ(witness.completions, 1);
  EXPECT_EQ(witness.releases, 1);
}

TEST_F(Client, CancelEndsTheWaitOfAnotherThread) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  std::uint64_t request = 0;
  ASSERT_EQ(hs_client_hello_x509(context_, pair.mine.get(), nullptr, nullptr, &witness,
                                 Witness::release, &request),
            0);
  int waited = 0;
  hs_result* result = nullptr;
  std::thread waiting([&] { waited = hs_wait(context_, request, 20'000, &result); });
  // Until the other thread waits.
  while (hs_wait(context_, request, 0, nullptr) != -EBUSY) std::this_thread::yield();
  EXPECT_EQ(hs_cancel(context_, request), 1);
  waiting.join();
  EXPECT_EQ(waited, -ECANCELED);
  EXPECT_EQ(result, nullptr);
  EXPECT_EQ(witness.releases, 1);
}

// --- The service goes, or misbehaves -----------------------------------------------------------

TEST_F(Client, WhenTheServiceDiesEveryRequestEndsOnceWithEio) {
  std::vector<TcpPair> pairs;
  for (int i = 0; i < 5; ++i) {
    pairs.push_back(tcp_pair());
    ASSERT_EQ(submit(pairs.back().mine.get(), new_witness()), 0);
  }
  const TcpPair waited = tcp_pair();
  std::uint64_t request = 0;
  ASSERT_EQ(hs_client_hello_x509(context_, waited.mine.get(), nullptr, nullptr, nullptr, nullptr,
                                 &request),
            0);
  service_.hang_up(true);
  EXPECT_EQ(hs_wait(context_, request, 20'000, nullptr), -EIO);
  EXPECT_EQ(dispatch(), 5);
  for (const Witness& witness : witnesses_) {
    EXPECT_EQ(witness.statuses, std::vector<int>{-EIO});
    EXPECT_EQ(witness.releases, 1);
  }
  // A dead connection must not keep an event loop busy.
  EXPECT_FALSE(test::readable(hs_fd(context_), 0));
  EXPECT_EQ(hs_dispatch(context_), 0);
  Witness& late = new_witness();
  EXPECT_EQ(submit(pairs[0].mine.get(), late), -ENOENT);
  EXPECT_EQ(late.releases, 0);
}

TEST_F(Client, TheNextSubmissionFindsTheServiceThatCameBack) {
  const TcpPair pair = tcp_pair();
  Witness& first = new_witness();
  ASSERT_EQ(submit(pair.mine.get(), first), 0);
  static_cast<void>(service_.next());
  service_.hang_up();
  const int fd = hs_fd(context_);
  ASSERT_TRUE(test::readable(fd));
  Witness& second = new_witness();
  EXPECT_EQ(submit(pair.mine.get(), second), 0) << hs_last_error();
  EXPECT_EQ(hs_fd(context_), fd);
  EXPECT_EQ(service_.connections_seen(), 2);
  EXPECT_EQ(dispatch(), 1);
  EXPECT_EQ(first.statuses, std::vector<int>{-EIO});
  service_.complete(service_.next(), failed(EACCES));
  dispatch_one();
  EXPECT_EQ(second.statuses, std::vector<int>{-EACCES});
}

TEST_F(Client, WhatTheServiceSaidBeforeItDiedStillCounts) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  ASSERT_EQ(submit(pair.mine.get(), witness), 0);
  service_.complete(service_.next(), failed(EKEYREJECTED));
  service_.hang_up();
  dispatch_one();
  EXPECT_EQ(witness.statuses, std::vector<int>{-EKEYREJECTED});
}

/// Messages that no service may send, each on a connection with one outstanding request.
class Malformed : public Client {
 protected:
  void refuses(const std::vector<std::byte>& bytes, UniqueFd fd = UniqueFd()) {
    const TcpPair pair = tcp_pair();
    Witness& witness = new_witness();
    ASSERT_EQ(submit(pair.mine.get(), witness), 0) << hs_last_error();
    const Submitted submitted = service_.next();
    service_.send(submitted.connection, bytes, std::move(fd));
    dispatch_one();
    EXPECT_EQ(witness.statuses, std::vector<int>{-EIO});
    ASSERT_NE(witness.result, nullptr);
    EXPECT_NE(std::string(hs_result_reason(witness.result)).find("broke the protocol"),
              std::string::npos)
        << hs_result_reason(witness.result);
    EXPECT_EQ(witness.releases, 1);
  }
  static protocol::MessageHeader header() {
    protocol::MessageHeader header;
    header.type = 77;
    return header;
  }
  template <class M>
  static std::vector<std::byte> message(const M& content, std::uint32_t sequence = 0) {
    protocol::MessageHeader own = header();
    own.sequence = sequence;
    return protocol::build(own, content).value();
  }
};

TEST_F(Malformed, BytesThatAreNoMessage) {
  refuses(std::vector<std::byte>(7, std::byte{0xFF}));
  refuses(std::vector<std::byte>(64, std::byte{0xFF}));
}

TEST_F(Malformed, ACompletionOfNothing) {
  CompleteEvent event = failed(EIO);
  event.id = 424242;
  refuses(message(event));
}

TEST_F(Malformed, ACompletionWithoutIdOrStatus) {
  refuses(message(failed(EIO)));
  CompleteEvent event;
  event.id = 2;  // the second request of this context, which is the one that refuses() submits
  refuses(message(event));
}

TEST_F(Malformed, AStatusThatNoErrnoHas) {
  CompleteEvent event = failed(4096);
  event.id = 1;
  refuses(message(event));
}

TEST_F(Malformed, AnAckForNothing) {
  protocol::MessageHeader request = header();
  request.sequence = 31337;
  const auto bytes = protocol::build(request, protocol::consumer::CancelRequest{}).value();
  refuses(protocol::build_ack(protocol::MessageReader(bytes).next().value().value(), 0, {}));
}

TEST_F(Malformed, AReplyForNothing) {
  protocol::consumer::CancelReply reply;
  reply.id = 1;
  reply.cancelled = 1;
  refuses(message(reply, 31337));
}

TEST_F(Malformed, ADescriptorThatNobodyAskedFor) {
  CompleteEvent event = failed(EIO);
  event.id = 1;
  // The completion itself is good: the request ends as it says; what is left over ends the rest.
  const TcpPair pair = tcp_pair();
  const TcpPair other = tcp_pair();
  Witness& witness = new_witness();
  Witness& bystander = new_witness();
  ASSERT_EQ(submit(pair.mine.get(), witness), 0);
  ASSERT_EQ(submit(other.mine.get(), bystander), 0);
  const std::size_t before = open_descriptors();
  service_.complete(service_.next(), event, std::move(tcp_pair().mine));
  while (!HasFailure() && bystander.completions == 0) dispatch();
  EXPECT_EQ(witness.statuses, std::vector<int>{-EIO});
  EXPECT_EQ(bystander.statuses, std::vector<int>{-EIO});
  EXPECT_LE(open_descriptors(), before);
}

TEST_F(Malformed, ASecondCompletion) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  ASSERT_EQ(submit(pair.mine.get(), witness), 0);
  const Submitted submitted = service_.next();
  service_.complete(submitted, failed(EACCES));
  service_.complete(submitted, failed(EIO));
  dispatch_one();
  while (!HasFailure() && test::readable(hs_fd(context_), 0)) hs_dispatch(context_);
  EXPECT_EQ(witness.statuses, std::vector<int>{-EACCES});
  EXPECT_EQ(witness.releases, 1);
}

TEST_F(Malformed, AMessageOfAnotherFamily) {
  protocol::MessageHeader other;
  other.type = 99;
  refuses(protocol::build(other, failed(EIO)).value());
}

TEST_F(Client, WhatALaterServiceAddsIsSkipped) {
  const TcpPair pair = tcp_pair();
  Witness& witness = new_witness();
  ASSERT_EQ(submit(pair.mine.get(), witness), 0);
  const Submitted submitted = service_.next();
  protocol::MessageHeader header;
  header.type = 77;
  header.command = 200;
  service_.send(submitted.connection, protocol::MessageBuilder(header).finish().value());
  header.command = CompleteEvent::kCommand;
  protocol::MessageBuilder builder(header);
  CompleteEvent event = failed(EACCES);
  event.id = submitted.request.id;
  event.put(builder);
  builder.put_u32(1000, 1);
  service_.send(submitted.connection, std::move(builder).finish().value());
  dispatch_one();
  EXPECT_EQ(witness.statuses, std::vector<int>{-EACCES});
}

// --- The end -----------------------------------------------------------------------------------

TEST_F(Client, DestroyingReleasesEverythingOnceWithoutCallbacks) {
  const TcpPair pair = tcp_pair();
  const TcpPair ready = tcp_pair();
  const TcpPair waitable = tcp_pair();
  Witness& outstanding = new_witness();
  Witness& undelivered = new_witness();
  Witness& uncollected = new_witness();
  ASSERT_EQ(submit(pair.mine.get(), outstanding), 0);
  const Submitted first = service_.next();
  ASSERT_EQ(submit(ready.mine.get(), undelivered), 0);
  const Submitted second = service_.next();
  ASSERT_EQ(hs_client_hello_x509(context_, waitable.mine.get(), nullptr, nullptr, &uncollected,
                                 Witness::release, nullptr),
            0);
  const std::uint64_t before = test::cookie_of(ready.mine.get());
  service_.complete(second, relayed(), std::move(tcp_pair().mine));
  // Another submission reads the completion on its way.
  Witness& refused = new_witness();
  EXPECT_EQ(submit(pair.peer.get(), refused), 0);
  hs_context_destroy(context_);
  context_ = nullptr;
  for (const Witness* witness : {&outstanding, &undelivered, &uncollected, &refused}) {
    EXPECT_EQ(witness->completions, 0);
    EXPECT_EQ(witness->releases, 1);
  }
  EXPECT_EQ(test::cookie_of(ready.mine.get()), before);
}

TEST_F(Client, NoDescriptorIsLeftBehind) {
  // The fake's own buffers and the library's first use are not what is counted.
  const std::size_t before = open_descriptors();
  {
    const TcpPair pair = tcp_pair();
    for (int round = 0; round < 50; ++round) {
      std::uint64_t request = 0;
      ASSERT_EQ(hs_client_hello_x509(context_, pair.mine.get(), nullptr, nullptr, nullptr, nullptr,
                                     &request),
                0);
      const Submitted submitted = service_.next();
      switch (round % 4) {
        case 0: service_.complete(submitted, failed(EIO)); break;
        case 1: service_.complete(submitted, relayed(), std::move(tcp_pair().mine)); break;
        case 2: service_.complete(submitted, relayed(), UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC))); break;
        default: ASSERT_EQ(hs_cancel(context_, request), 1); continue;
      }
      hs_result* result = nullptr;
      static_cast<void>(hs_wait(context_, request, 20'000, &result));
      ASSERT_NE(result, nullptr);
      hs_result_unref(result);
    }
  }
  EXPECT_EQ(open_descriptors(), before);
}

// --- Sessions ----------------------------------------------------------------------------------

TEST_F(OneHandshake, ASessionOwnsTheSocketAndSpeaksOverTheRelay) {
  TcpPair plain = tcp_pair();
  ASSERT_EQ(run(relayed(), std::move(plain.mine)), 0);
  hs_session* session = nullptr;
  ASSERT_EQ(hs_session_open(socket_.mine.get(), result_, &session), 0) << hs_last_error();
  const int fd = socket_.mine.release();
  EXPECT_EQ(hs_session_fd(session), fd);
  EXPECT_EQ(hs_session_alert(session), -1);
  EXPECT_EQ(hs_send(session, "abc", 3, 0), 3);
  std::array<char, 8> got{};
  EXPECT_EQ(::recv(plain.peer.get(), got.data(), got.size(), 0), 3);
  EXPECT_EQ(hs_recv(session, got.data(), got.size(), MSG_DONTWAIT), -EAGAIN);
  EXPECT_EQ(hs_recv(session, got.data(), 0, 0), -EINVAL);
  EXPECT_EQ(hs_recv(session, got.data(), 1, MSG_PEEK), -EINVAL);
  EXPECT_EQ(hs_send(session, got.data(), 1, MSG_OOB), -EINVAL);
  EXPECT_EQ(hs_send(session, nullptr, 0, 0), 0);
  EXPECT_EQ(hs_shutdown(session), 0);
  EXPECT_EQ(::recv(plain.peer.get(), got.data(), got.size(), 0), 0);
  EXPECT_EQ(hs_close(session), 0);
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1);
}

TEST_F(OneHandshake, ASessionNeedsTheSocketOfItsResult) {
  hs_session* session = nullptr;
  EXPECT_EQ(run(failed(EIO)), -EIO);
  EXPECT_EQ(hs_session_open(socket_.mine.get(), result_, &session), -EINVAL);
  ASSERT_EQ(run(relayed(), std::move(tcp_pair().mine)), 0);
  const TcpPair other = tcp_pair();
  EXPECT_EQ(hs_session_open(other.mine.get(), result_, &session), -EINVAL);
  EXPECT_EQ(hs_session_open(-1, result_, &session), -EINVAL);
  EXPECT_EQ(session, nullptr);
  EXPECT_NE(::fcntl(other.mine.get(), F_GETFD), -1);
}

}  // namespace
}  // namespace handshake
