// SPDX-License-Identifier: Apache-2.0
// The C++ wrapper: it owns what it should and passes on what it was told.
#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "fake_service.h"
#include "handshake/handshake.hpp"

namespace {

using handshake::UniqueFd;
using handshake::protocol::SessionMode;
using handshake::protocol::consumer::CompleteEvent;
using handshake::test::FakeService;
using handshake::test::Submitted;
using handshake::test::TcpPair;
using handshake::test::open_descriptors;
using handshake::test::tcp_pair;

/// Completes every submission at once: with a relay whose other end is kept, or with a failure.
struct Relays {
  std::vector<UniqueFd> inner;
  int failure = 0;

  FakeService::Behaviour behaviour() {
    FakeService::Behaviour result;
    result.submitted = [this](FakeService& service, Submitted submitted) {
      CompleteEvent event;
      event.status = static_cast<std::uint32_t>(failure);
      event.tag = {"b", "a"};
      event.cipher = "TLS_AES_128_GCM_SHA256";
      event.reason = "as the test said";
      if (failure != 0) {
        service.complete(submitted, event);
        return;
      }
      event.session_mode = SessionMode::kRelay;
      TcpPair plain = tcp_pair();
      inner.push_back(std::move(plain.peer));
      service.complete(submitted, event, std::move(plain.mine));
    };
    return result;
  }
};

TEST(Wrapper, AContextThatCouldNotConnectSaysSo) {
  hs::Context context = hs::Context::connect("/nonexistent/consumer.sock");
  EXPECT_FALSE(context);
  EXPECT_EQ(context.error(), -ENOENT);
  EXPECT_EQ(context.client_hello_anon(0, hs_options HS_OPTIONS_INIT).status(), -EINVAL);
}

TEST(Wrapper, ABlockingHandshakeGivesASession) {
  Relays relays;
  FakeService service(relays.behaviour());
  hs::Context context = hs::Context::connect(service.path().c_str());
  ASSERT_TRUE(context);
  TcpPair pair = tcp_pair();
  const hs::Outcome outcome =
      context.client_hello_x509(pair.mine.get(), hs_options HS_OPTIONS_INIT);
  ASSERT_TRUE(outcome) << outcome.reason();
  EXPECT_TRUE(outcome.ended());
  EXPECT_EQ(outcome.mode(), HS_MODE_RELAY);
  EXPECT_STREQ(outcome.cipher(), "TLS_AES_128_GCM_SHA256");
  EXPECT_TRUE(outcome.has_tag("a"));
  EXPECT_FALSE(outcome.has_tag("c"));
  const handshake::TagSet tags = outcome.tags();
  EXPECT_EQ(tags.size(), 2U);
  EXPECT_TRUE(tags.contains("b"));

  hs::Session session = hs::Session::open(outcome);
  ASSERT_TRUE(session) << session.error();
  EXPECT_EQ(session.fd(), pair.mine.release());
  hs::Session moved = std::move(session);
  EXPECT_FALSE(session);
  EXPECT_EQ(moved.send("hello", 5), 5);
  std::array<char, 8> got{};
  EXPECT_EQ(::recv(relays.inner[0].get(), got.data(), got.size(), 0), 5);
  EXPECT_EQ(moved.shutdown(), 0);
  EXPECT_EQ(::recv(relays.inner[0].get(), got.data(), got.size(), 0), 0);
  relays.inner[0].reset();
  EXPECT_EQ(moved.receive(got.data(), got.size()), 0);
  EXPECT_EQ(moved.close(), 0);
}

TEST(Wrapper, AFailedHandshakeGivesNoSession) {
  Relays relays;
  relays.failure = EACCES;
  FakeService service(relays.behaviour());
  hs::Context context = hs::Context::connect(service.path().c_str());
  const TcpPair pair = tcp_pair();
  const hs::Outcome outcome =
      context.server_hello_x509(pair.mine.get(), hs_options HS_OPTIONS_INIT);
  EXPECT_FALSE(outcome);
  EXPECT_TRUE(outcome.ended());
  EXPECT_EQ(outcome.status(), -EACCES);
  EXPECT_STREQ(outcome.reason(), "as the test said");
  EXPECT_EQ(outcome.tags().size(), 0U);
  const hs::Session session = hs::Session::open(outcome);
  EXPECT_FALSE(session);
  EXPECT_EQ(session.error(), -EACCES);
  EXPECT_NE(::fcntl(pair.mine.get(), F_GETFD), -1);
}

TEST(Wrapper, ACallbackIsRunOnceAndDestroyedOnce) {
  Relays relays;
  relays.failure = EIO;
  FakeService service(relays.behaviour());
  hs::Context context = hs::Context::connect(service.path().c_str());
  const TcpPair pair = tcp_pair();
  auto alive = std::make_shared<int>(0);
  hs::Outcome kept;
  ASSERT_EQ(context.client_hello_anon(pair.mine.get(), hs_options HS_OPTIONS_INIT,
                                      [alive, &kept](const hs::Outcome& outcome) {
                                        ++*alive;
                                        kept = outcome;
                                      }),
            0);
  while (*alive == 0 && handshake::test::readable(context.fd())) context.dispatch();
  EXPECT_EQ(*alive, 1);
  EXPECT_EQ(alive.use_count(), 1);
  EXPECT_EQ(kept.status(), -EIO);
  EXPECT_STREQ(kept.reason(), "as the test said");
  EXPECT_EQ(context.client_hello_anon(pair.mine.get(), hs_options HS_OPTIONS_INIT,
                                      hs::Context::Done()),
            -EINVAL);
}

TEST(Wrapper, ARefusedSubmissionDestroysTheCallbackUnused) {
  FakeService::Behaviour behaviour;
  behaviour.submit = [](const auto&) { return EAGAIN; };
  FakeService service(behaviour);
  hs::Context context = hs::Context::connect(service.path().c_str());
  const TcpPair pair = tcp_pair();
  auto alive = std::make_shared<int>(0);
  EXPECT_EQ(context.client_hello_psk(pair.mine.get(), hs_options HS_OPTIONS_INIT,
                                     [alive](const hs::Outcome&) { ++*alive; }),
            -EAGAIN);
  EXPECT_EQ(*alive, 0);
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(Wrapper, CancelAndDestructionDestroyTheCallbackUnused) {
  FakeService service;
  auto alive = std::make_shared<int>(0);
  const TcpPair pair = tcp_pair();
  {
    hs::Context context = hs::Context::connect(service.path().c_str());
    std::uint64_t request = 0;
    const auto done = [alive](const hs::Outcome&) { ++*alive; };
    ASSERT_EQ(context.server_hello_psk(pair.mine.get(), hs_options HS_OPTIONS_INIT, done, &request),
              0);
    EXPECT_EQ(context.cancel(request), 1);
    EXPECT_EQ(alive.use_count(), 2);  // `done` itself
    ASSERT_EQ(context.server_hello_psk(pair.mine.get(), hs_options HS_OPTIONS_INIT, done), 0);
  }
  EXPECT_EQ(*alive, 0);
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(Wrapper, ASessionThatIsForgottenIsClosed) {
  const std::size_t before = open_descriptors();
  {
    Relays relays;
    FakeService service(relays.behaviour());
    hs::Context context = hs::Context::connect(service.path().c_str());
    TcpPair pair = tcp_pair();
    const hs::Session session = hs::Session::open(
        context.client_hello_anon(pair.mine.get(), hs_options HS_OPTIONS_INIT));
    ASSERT_TRUE(session);
    static_cast<void>(pair.mine.release());
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
