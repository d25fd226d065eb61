// SPDX-License-Identifier: Apache-2.0
// The consumer's side of the service in bytes: R1.1, R1.8, R1.14, R1.15, R2.6.
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <functional>
#include <thread>

#include "wire_fixture.h"

namespace handshake::testing {
namespace {

namespace consumer = protocol::consumer;
namespace worker = protocol::worker;
using protocol::kConsumerId;
using protocol::kWorkerId;

class ConsumerWire : public WireTest {
 protected:
  consumer::CompleteEvent completion_of(WiredConsumer& side) {
    return side.next().as<consumer::CompleteEvent>();
  }
  /// CANCEL, and what its reply says.
  std::uint32_t cancelled(WiredConsumer& side, std::uint64_t id) {
    consumer::CancelRequest cancel;
    cancel.id = id;
    tell(side, kConsumerId, cancel, 0);
    const auto reply = side.next().as<consumer::CancelReply>();
    EXPECT_EQ(reply.id, id);
    return reply.cancelled.value_or(99);
  }
};

TEST_F(ConsumerWire, TheControllerResolvesTheFamily) {
  WiredConsumer side = wired_consumer();
  protocol::nlctrl::GetfamilyRequest request;
  request.family_name = std::string(consumer::kFamily.name);
  tell(side, protocol::kControllerId, request, 0);
  EXPECT_EQ(side.next().as<protocol::nlctrl::GetfamilyReply>().family_id, kConsumerId);
}

TEST_F(ConsumerWire, SubmitIsAcknowledgedAndCompletedOnce) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer({}, {.pid = 5, .uid = 0});
  auto submit = submit_of(42);
  submit.peername = "server.test";
  submit.credential = "web";
  submit.relay = protocol::RelayMode::kAllowed;
  submit.client_auth = protocol::ClientAuth::kRequest;
  submit.timeout = 7000;
  EXPECT_EQ(ask(side, kConsumerId, submit, with(socket())).error, 0);
  EXPECT_TRUE(side.silent());
  const Taken taken = take(agent);
  EXPECT_EQ(taken.parameters.peername, "server.test");
  EXPECT_EQ(taken.parameters.credential, "web");
  EXPECT_EQ(taken.parameters.relay, protocol::RelayMode::kAllowed);
  EXPECT_EQ(taken.parameters.client_auth, protocol::ClientAuth::kRequest);
  EXPECT_EQ(taken.parameters.timeout, milliseconds(7000));
  EXPECT_EQ(taken.parameters.handler_class, kTlshd);
  EXPECT_EQ(inode_of(taken.socket.get()), inode_of(last_pair().server.get()));
  DoneReport sent = report();
  sent.mode = protocol::SessionMode::kKtls;
  sent.tags = {"b", "a", "b"};
  sent.remote_auth = {3};
  sent.cipher = "TLS_AES_128_GCM_SHA256";
  ASSERT_TRUE(agent->done(taken.token, std::move(sent)));
  const auto datagram = side.next();
  EXPECT_TRUE(datagram.fds.empty());
  EXPECT_EQ(datagram.view().type, kConsumerId);
  const auto event = datagram.as<consumer::CompleteEvent>();
  EXPECT_EQ(event.id, 42u);
  EXPECT_EQ(event.status, 0u);
  EXPECT_EQ(event.session_mode, protocol::SessionMode::kKtls);
  EXPECT_EQ(event.tag, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(event.remote_auth, (std::vector<std::uint32_t>{3}));
  EXPECT_EQ(event.cipher, "TLS_AES_128_GCM_SHA256");
  EXPECT_FALSE(event.reason);
  EXPECT_EQ(event.request_id, taken.id);
  EXPECT_TRUE(side.silent());
  EXPECT_EQ(cancelled(side, 42), 0u);
}

TEST_F(ConsumerWire, TheStatusOnTheWireIsPositive) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  EXPECT_EQ(ask(side, kConsumerId, submit_of(1), with(socket())).error, 0);
  DoneReport sent = report(EACCES);
  sent.reason = "unknown CA";
  sent.alert = 48;
  sent.alert_sent = true;
  ASSERT_TRUE(agent->done(take(agent).token, std::move(sent)));
  const auto event = completion_of(side);
  EXPECT_EQ(event.status, static_cast<std::uint32_t>(EACCES));
  EXPECT_EQ(event.reason, "unknown CA");
  EXPECT_EQ(event.alert, 48u);
  EXPECT_TRUE(event.alert_sent);
}

TEST_F(ConsumerWire, TheAckComesBeforeTheCompletionWhateverTheAgentsSpeed) {
  // An agent that finishes inside READY: the request has ended before submit() returns.
  std::unique_ptr<AgentConnection> agent;
  agent = service().connect_agent({.own_worker = true}, [&](std::uint32_t handler_class) {
    for (;;) {
      auto accepted = agent->accept(handler_class);
      if (!accepted) return;
      if (accepted->hand_over()) static_cast<void>(agent->done(accepted->token(), report()));
    }
  });
  ASSERT_TRUE(agent->subscribe({.handler_classes = {kTlshd}, .every_netns = true}));
  WiredConsumer side = wired_consumer();
  for (std::uint64_t id = 1; id <= 20; ++id) {
    EXPECT_EQ(ask(side, kConsumerId, submit_of(id), with(socket())).error, 0);
    EXPECT_EQ(completion_of(side).id, id);
  }
  EXPECT_TRUE(side.silent());
}

TEST_F(ConsumerWire, TheAckComesBeforeTheCompletionOfAnotherThread) {
  const TestAgent agent = listen();
  std::atomic<bool> over{false};
  std::thread server([&] {
    while (!over) {
      auto accepted = agent->accept(kTlshd);
      if (accepted && accepted->hand_over()) {
        static_cast<void>(agent->done(accepted->token(), report()));
      }
    }
  });
  WiredConsumer side = wired_consumer();
  const int fd = socket();
  for (std::uint64_t id = 1; id <= 500; ++id) {
    EXPECT_EQ(ask(side, kConsumerId, submit_of(id), with(fd)).error, 0);
    EXPECT_EQ(completion_of(side).id, id);
  }
  over = true;
  server.join();
}

TEST_F(ConsumerWire, WithoutExactlyOneDescriptorIsEinval) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  EXPECT_EQ(ask(side, kConsumerId, submit_of(1)).error, EINVAL);
  const auto two = ask(side, kConsumerId, submit_of(1), with(socket(), socket()));
  EXPECT_EQ(two.error, EINVAL);
  EXPECT_NE(two.ext.message.find("descriptor"), std::string::npos);
  EXPECT_EQ(service().live(), 0u);
}

TEST_F(ConsumerWire, OneDescriptorIsForOneSubmit) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  Bytes both = message(kConsumerId, submit_of(1));
  const Bytes second = message(kConsumerId, submit_of(2));
  both.insert(both.end(), second.begin(), second.end());
  EXPECT_TRUE(side.endpoint->receive(packet(std::move(both), with(socket()))));
  EXPECT_EQ(side.next().ack().error, 0);
  EXPECT_EQ(side.next().ack().error, EINVAL);
  EXPECT_EQ(service().live(), 1u);
}

TEST_F(ConsumerWire, WhatIsMissingIsNamed) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  const auto missing = [&](const std::function<void(consumer::SubmitRequest&)>& change) {
    auto submit = submit_of(1);
    change(submit);
    const auto ack = ask(side, kConsumerId, submit, with(socket()));
    EXPECT_EQ(ack.error, EINVAL);
    return ack.ext.missing_type.value_or(0);
  };
  EXPECT_EQ(missing([](auto& s) { s.id.reset(); }), 1u);
  EXPECT_EQ(missing([](auto& s) { s.message_type.reset(); }), 3u);
  EXPECT_EQ(missing([](auto& s) { s.auth_mode.reset(); }), 4u);
  EXPECT_EQ(ask(side, kConsumerId, consumer::CancelRequest{}).ext.missing_type, 1u);
}

TEST_F(ConsumerWire, TheAckOfARefusedSubmitSaysWhy) {
  WiredConsumer side = wired_consumer();
  const auto ack = ask(side, kConsumerId, submit_of(1), with(socket()));
  EXPECT_EQ(ack.error, ESRCH);
  EXPECT_NE(ack.ext.message.find("no agent listens"), std::string::npos);
  const TestAgent agent = listen();
  EXPECT_EQ(ask(side, kConsumerId, submit_of(1), with(0)).error, EINVAL) << "no TCP socket";
  EXPECT_EQ(ask(side, kConsumerId, submit_of(1), with(socket())).error, 0)
      << "an id is free again after a refusal";
}

TEST_F(ConsumerWire, AnIdNamesOneLiveRequest) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  WiredConsumer other = wired_consumer();
  EXPECT_EQ(ask(side, kConsumerId, submit_of(1), with(socket())).error, 0);
  EXPECT_EQ(ask(side, kConsumerId, submit_of(1), with(socket())).error, EINVAL);
  EXPECT_EQ(ask(other, kConsumerId, submit_of(1), with(socket())).error, 0)
      << "ids are the connection's own";
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(completion_of(side).id, 1u);
  EXPECT_EQ(ask(side, kConsumerId, submit_of(1), with(socket())).error, 0);
}

TEST_F(ConsumerWire, TheAuthorizerMayRefuse) {
  const TestAgent agent = listen();
  std::uint16_t port = 0;
  WiredConsumer side = wired_consumer(
      [&](const Submission& what, const SocketFacts& facts) -> Result<void> {
        port = facts.local_port;
        if (what.credential == "allowed") return {};
        return fail(ErrorKind::kNotPermitted, "credential " + what.credential.value_or("") +
                                                  ": user 0 is not listed");
      });
  auto submit = submit_of(1);
  submit.credential = "web";
  const auto ack = ask(side, kConsumerId, submit, with(socket()));
  EXPECT_EQ(ack.error, EPERM);
  EXPECT_EQ(ack.ext.message, "credential web: user 0 is not listed");
  EXPECT_EQ(port, service::read_socket_facts(last_pair().server.get())->local_port);
  submit.credential = "allowed";
  EXPECT_EQ(ask(side, kConsumerId, submit, with(socket())).error, 0);
}

TEST_F(ConsumerWire, CancelSaysWhetherItWon) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  EXPECT_EQ(ask(side, kConsumerId, submit_of(1), with(socket())).error, 0);
  EXPECT_EQ(ask(side, kConsumerId, submit_of(2), with(socket())).error, 0);
  EXPECT_EQ(cancelled(side, 1), 1u);
  EXPECT_EQ(cancelled(side, 1), 0u);
  EXPECT_EQ(cancelled(side, 77), 0u);
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(completion_of(side).id, 2u);
  EXPECT_EQ(cancelled(side, 2), 0u);
  EXPECT_TRUE(side.silent());
}

TEST_F(ConsumerWire, NobodyCancelsAnothersRequest) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  WiredConsumer other = wired_consumer();
  EXPECT_EQ(ask(side, kConsumerId, submit_of(1), with(socket())).error, 0);
  EXPECT_EQ(cancelled(other, 1), 0u);
  EXPECT_EQ(service().live(), 1u);
}

TEST_F(ConsumerWire, ASubmitWhoseDescriptorWasLostIsEmfile) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  protocol::Packet lost = packet(message(kConsumerId, submit_of(1)), with(socket()));
  lost.fds_lost = true;
  EXPECT_TRUE(side.endpoint->receive(std::move(lost)));
  const auto ack = side.next().ack();
  EXPECT_EQ(ack.error, EMFILE);
  EXPECT_FALSE(ack.ext.message.empty());
  EXPECT_EQ(service().live(), 0u);
}

TEST_F(ConsumerWire, DisconnectingCancelsItsRequests) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  for (std::uint64_t id = 1; id <= 3; ++id) {
    EXPECT_EQ(ask(side, kConsumerId, submit_of(id), with(socket())).error, 0);
  }
  const Taken taken = take(agent);
  side.endpoint.reset();
  EXPECT_EQ(service().live(), 0u);
  EXPECT_EQ(service().counters().cancelled, 3u);
  EXPECT_EQ(done_errno(agent, taken.token), EBUSY);
  EXPECT_TRUE(side.silent());
}

TEST_F(ConsumerWire, DisconnectingRacesCompletion) {
  const TestAgent agent = listen();
  const int fd = socket();
  for (int i = 0; i < 200; ++i) {
    WiredConsumer side = wired_consumer();
    auto submit = submit_of(1);
    submit.relay = protocol::RelayMode::kAllowed;
    EXPECT_EQ(ask(side, kConsumerId, submit, with(fd)).error, 0);
    const Taken taken = take(agent);
    std::thread server([&] {
      DoneReport sent = report();
      sent.mode = protocol::SessionMode::kRelay;
      sent.plain_end = duplicate(fd);
      if (agent->done(taken.token, std::move(sent))) {
        EXPECT_TRUE(agent->relay_end(taken.id, {}));
      }
    });
    side.endpoint.reset();
    server.join();
  }
  EXPECT_EQ(service().live(), 0u);
}

TEST_F(ConsumerWire, ARelaysPlainEndRidesBesideTheCompletion) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  auto submit = submit_of(1);
  submit.relay = protocol::RelayMode::kAlways;
  EXPECT_EQ(ask(side, kConsumerId, submit, with(socket())).error, 0);
  const TcpPair plain = tcp_pair();
  DoneReport sent = report();
  sent.mode = protocol::SessionMode::kRelay;
  sent.plain_end = duplicate(plain.client.get());
  const Taken taken = take(agent);
  ASSERT_TRUE(agent->done(taken.token, std::move(sent)));
  const auto datagram = side.next();
  EXPECT_EQ(datagram.as<consumer::CompleteEvent>().session_mode, protocol::SessionMode::kRelay);
  ASSERT_EQ(datagram.fds.size(), 1u);
  EXPECT_EQ(inode_of(datagram.fds[0].get()), inode_of(plain.client.get()));
  ASSERT_TRUE(agent->relay_end(taken.id, {}));
}

TEST_F(ConsumerWire, ACompletionTooLongForAMessageIsEio) {
  const TestAgent agent = listen();
  WiredConsumer side = wired_consumer();
  auto submit = submit_of(1);
  submit.relay = protocol::RelayMode::kAllowed;
  EXPECT_EQ(ask(side, kConsumerId, submit, with(socket())).error, 0);
  DoneReport sent = report();
  sent.mode = protocol::SessionMode::kRelay;
  sent.plain_end = duplicate(last_pair().client.get());
  sent.remote_auth.assign(20'000, 1);
  const Taken taken = take(agent);
  ASSERT_TRUE(agent->done(taken.token, std::move(sent)));
  const auto datagram = side.next();
  EXPECT_TRUE(datagram.fds.empty());
  const auto event = datagram.as<consumer::CompleteEvent>();
  EXPECT_EQ(event.status, static_cast<std::uint32_t>(EIO));
  EXPECT_TRUE(event.remote_auth.empty());
  ASSERT_TRUE(agent->relay_end(taken.id, {}));
}

TEST_F(ConsumerWire, ACompletionThatCannotBeSentBreaksTheConnection) {
  const TestAgent agent = listen();
  bool out_of_memory = false;
  int broken = 0;
  service::ConsumerEndpoint side(
      service(), reaper_, {.pid = 1, .uid = 0}, {},
      [&](Bytes, std::vector<UniqueFd>) {
        if (out_of_memory) throw std::bad_alloc();
      },
      {}, [&](const Error& error) { broken += error.kind == ErrorKind::kNoMemory ? 1 : 0; });
  EXPECT_TRUE(side.receive(packet(message(kConsumerId, submit_of(1)), with(socket()))));
  out_of_memory = true;
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(broken, 1);
}

TEST_F(ConsumerWire, WhatIsNoNetlinkEndsTheConnection) {
  WiredConsumer side = wired_consumer();
  EXPECT_FALSE(side.endpoint->receive(packet(Bytes(7, std::byte{7}), with(0))));
}

TEST_F(ConsumerWire, AnUnknownAttributeIsRefused) {
  WiredConsumer side = wired_consumer();
  consumer::CancelReply with_more;  // has an attribute that a CANCEL may not carry
  with_more.id = 1;
  with_more.cancelled = 1;
  const auto ack = ask(side, kConsumerId, with_more);
  EXPECT_EQ(ack.error, EINVAL);
  EXPECT_TRUE(ack.ext.offset);
}

/// Where a stranger's socket is looked at, and a loop that the test turns by hand.
class Stranger : public ConsumerWire {
 protected:
  void TearDown() override {
    run_posted();
    ConsumerWire::TearDown();
  }
  WiredConsumer stranger() {
    return wired_consumer({}, {.pid = 7, .uid = ::geteuid() + 1000, .gid = 7},
                          {.reader = &reader_, .post = [this](std::function<void()> work) {
                             const std::lock_guard lock(mutex_);
                             posted_.push_back(std::move(work));
                             changed_.notify_all();
                           }});
  }
  void wait_for_posted() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_until(lock, soon(), [this] { return !posted_.empty(); }));
  }
  void run_posted() {
    std::deque<std::function<void()>> work;
    {
      const std::lock_guard lock(mutex_);
      work.swap(posted_);
    }
    for (const auto& one : work) one();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> posted_;
  service::FactsReader reader_;
};

TEST_F(Stranger, IsServedLikeAnybody) {
  const TestAgent agent = listen();
  WiredConsumer side = stranger();
  tell(side, kConsumerId, submit_of(1), NLM_F_ACK, with(socket()));
  wait_for_posted();
  EXPECT_TRUE(side.silent());
  run_posted();
  EXPECT_EQ(side.next().ack().error, 0);
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(completion_of(side).id, 1u);
}

TEST_F(Stranger, IsRefusedLikeAnybody) {
  const TestAgent agent = listen();
  WiredConsumer side = stranger();
  tell(side, kConsumerId, submit_of(1), NLM_F_ACK, with(0));
  wait_for_posted();
  run_posted();
  EXPECT_EQ(side.next().ack().error, EINVAL);
  tell(side, kConsumerId, submit_of(1), NLM_F_ACK, with(socket()));
  wait_for_posted();
  run_posted();
  EXPECT_EQ(side.next().ack().error, 0);
}

TEST_F(Stranger, ACancelWaitsForTheSubmitsAnswer) {
  const TestAgent agent = listen();
  WiredConsumer side = stranger();
  tell(side, kConsumerId, submit_of(1), NLM_F_ACK, with(socket()));
  consumer::CancelRequest cancel;
  cancel.id = 1;
  tell(side, kConsumerId, cancel, 0);
  wait_for_posted();
  run_posted();
  EXPECT_EQ(side.next().ack().error, 0);
  EXPECT_EQ(side.next().as<consumer::CancelReply>().cancelled, 1u);
  EXPECT_EQ(service().live(), 0u);

  tell(side, kConsumerId, submit_of(2), NLM_F_ACK, with(0));
  cancel.id = 2;
  tell(side, kConsumerId, cancel, 0);
  wait_for_posted();
  run_posted();
  EXPECT_EQ(side.next().ack().error, EINVAL);
  EXPECT_EQ(side.next().as<consumer::CancelReply>().cancelled, 0u);
}

TEST_F(Stranger, MayDisconnectWhileItsSocketIsLookedAt) {
  const TestAgent agent = listen();
  WiredConsumer side = stranger();
  tell(side, kConsumerId, submit_of(1), NLM_F_ACK, with(socket()));
  wait_for_posted();
  side.endpoint.reset();
  run_posted();
  EXPECT_EQ(service().counters().submitted, 0u);
  EXPECT_TRUE(side.silent());
}

/// Holds a socket's lock: a send() whose buffer is not there until let_go().
class HeldSocket {
 public:
  /// False when this machine does not let us.
  bool hold(int socket) {
    fault_.reset(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)));
    if (!fault_) return false;
    uffdio_api api{};
    api.api = UFFD_API;
    must(::ioctl(fault_.get(), UFFDIO_API, &api), "UFFDIO_API");
    page_ = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uffdio_register range{};
    range.range = {reinterpret_cast<std::uintptr_t>(page_), kPage};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    must(::ioctl(fault_.get(), UFFDIO_REGISTER, &range), "UFFDIO_REGISTER");
    sender_ = std::thread([this, socket] { ::send(socket, page_, kPage, MSG_DONTWAIT); });
    uffd_msg fault{};
    must(static_cast<int>(::read(fault_.get(), &fault, sizeof fault)), "the fault");
    return true;
  }
  void let_go() {
    if (!sender_.joinable()) return;
    uffdio_zeropage zero{};
    zero.range = {reinterpret_cast<std::uintptr_t>(page_), kPage};
    must(::ioctl(fault_.get(), UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE");
    sender_.join();
    ::munmap(page_, kPage);
    fault_.reset();
  }
  ~HeldSocket() { let_go(); }

 private:
  static constexpr std::size_t kPage = 4096;
  UniqueFd fault_;
  void* page_ = nullptr;
  std::thread sender_;
};

TEST_F(Stranger, WhoHoldsItsSocketsLockStopsNobodyElse) {
  const TestAgent agent = listen();
  const int locked = socket();
  HeldSocket held;
  if (!held.hold(locked)) GTEST_SKIP() << "userfaultfd needs root here";
  WiredConsumer side = stranger();
  WiredConsumer other = stranger();
  tell(side, kConsumerId, submit_of(1), NLM_F_ACK, with(locked));
  tell(other, kConsumerId, submit_of(1), NLM_F_ACK, with(socket()));
  wait_for_posted();
  run_posted();
  EXPECT_EQ(other.next().ack().error, 0);
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(completion_of(other).status, 0u);
  EXPECT_TRUE(side.silent()) << "its own has to wait";
  held.let_go();
  wait_for_posted();
  run_posted();
  EXPECT_EQ(side.next().ack().error, 0);
}

}  // namespace
}  // namespace handshake::testing
