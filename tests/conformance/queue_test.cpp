// SPDX-License-Identifier: Apache-2.0
// R1.3, R1.4, R1.5: queues, READY, ACCEPT.
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <thread>

#include "service_fixture.h"

namespace handshake::testing {
namespace {

class Queue : public ServiceTest {
 protected:
  /// From here on a socket belongs to the namespace that was set last.
  void make_up_namespaces() {
    options_.read_socket = [this](int fd) {
      auto facts = service::read_socket_facts(fd);
      facts->netns_cookie = netns_;
      return facts;
    };
  }
  Submitted submit_in(std::uint64_t netns, std::uint32_t handler_class = kTlshd) {
    netns_ = netns;
    return submit_one(-1, [&](Submission& s) { s.handler_class = handler_class; });
  }
  TestAgent listen_in(std::vector<std::uint64_t> netns,
                      std::vector<std::uint32_t> classes = {kTlshd}) {
    TestAgent agent = connect({.pid = 2, .netns_cookie = 7});
    EXPECT_TRUE(agent->subscribe({.handler_classes = classes, .netns_cookies = netns}));
    return agent;
  }

  std::uint64_t netns_ = 0;
};

TEST_F(Queue, IsFirstInFirstOut) {
  const TestAgent agent = listen();
  std::vector<std::uint64_t> submitted;
  for (int i = 0; i < 20; ++i) submitted.push_back(submit_one().id);
  std::vector<std::uint64_t> taken;
  for (int i = 0; i < 20; ++i) taken.push_back(take(agent).id);
  EXPECT_EQ(taken, submitted);
}

TEST_F(Queue, ARequestLeavesFromTheMiddle) {
  const TestAgent agent = listen();
  const Submitted a = submit_one();
  const Submitted b = submit_one();
  const Submitted c = submit_one();
  EXPECT_TRUE(service().cancel(b.id));
  EXPECT_EQ(take(agent).id, a.id);
  EXPECT_EQ(take(agent).id, c.id);
  EXPECT_EQ(accept_errno(agent), EAGAIN);
}

TEST_F(Queue, ClassesAreKeptApart) {
  const TestAgent tlshd = listen(kTlshd);
  const TestAgent dummy = listen(kDummyClass);
  const Submitted a = submit_one(-1, [](Submission& s) { s.handler_class = kDummyClass; });
  EXPECT_EQ(accept_errno(tlshd), EAGAIN);
  EXPECT_EQ(accept_errno(tlshd, kDummyClass), EAGAIN) << "not subscribed to it";
  EXPECT_EQ(*tlshd.readies, 0);
  EXPECT_EQ(*dummy.readies, 1);
  EXPECT_EQ(take(dummy, kDummyClass).id, a.id);
}

TEST_F(Queue, NamespacesAreKeptApart) {
  make_up_namespaces();
  const TestAgent one = listen_in({1});
  const TestAgent two = listen_in({2});
  const Submitted a = submit_in(1);
  const Submitted b = submit_in(2);
  EXPECT_EQ(take(two).id, b.id);
  EXPECT_EQ(accept_errno(two), EAGAIN);
  EXPECT_EQ(take(one).id, a.id);
  EXPECT_EQ(accept_errno(one), EAGAIN);
  netns_ = 3;
  EXPECT_EQ(submit_errno(socket()), ESRCH) << "nobody listens in namespace 3";
}

TEST_F(Queue, ARequestBelongsToItsSocketsNamespace) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  const Taken taken = take(agent);
  EXPECT_EQ(taken.parameters.netns_cookie, service::netns_cookie_of(last_pair().server.get()));
}

/// A connection inside a network namespace of its own; none when the machine does not let us.
std::optional<TcpPair> pair_in_new_namespace() {
  std::optional<TcpPair> pair;
  std::thread([&pair] {
    if (::unshare(CLONE_NEWNET) != 0) return;
    const UniqueFd control(must(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
    ifreq loopback{};
    std::strcpy(loopback.ifr_name, "lo");
    loopback.ifr_flags = IFF_UP;
    must(::ioctl(control.get(), SIOCSIFFLAGS, &loopback), "SIOCSIFFLAGS");
    pair = tcp_pair();
  }).join();
  return pair;
}

TEST_F(Queue, ASocketOfAnotherNamespaceIsQueuedThere) {
  const std::optional<TcpPair> elsewhere = pair_in_new_namespace();
  if (!elsewhere) GTEST_SKIP() << "this user may not make network namespaces";
  const std::uint64_t here = *service::netns_cookie_of(socket());
  const std::uint64_t there = *service::netns_cookie_of(elsewhere->server.get());
  ASSERT_NE(here, there);
  const TestAgent agent_here = listen_in({here});
  EXPECT_EQ(submit_errno(elsewhere->server.get()), ESRCH);
  const TestAgent agent_there = listen_in({there});
  const Submitted one = submit_one(elsewhere->server.get());
  EXPECT_EQ(accept_errno(agent_here), EAGAIN);
  EXPECT_EQ(take(agent_there).id, one.id);
}

TEST_F(Queue, AnAgentMayServeSeveralNamespacesByName) {
  make_up_namespaces();
  const TestAgent agent = listen_in({1, 2});
  const Submitted a = submit_in(1);
  const Submitted b = submit_in(2);
  std::vector<std::uint64_t> taken = {take(agent).id, take(agent).id};
  std::sort(taken.begin(), taken.end());
  EXPECT_EQ(taken, (std::vector<std::uint64_t>{a.id, b.id}));
}

TEST_F(Queue, WithoutANameItIsTheConnectionsOwnNamespace) {
  make_up_namespaces();
  TestAgent agent = connect({.pid = 2, .netns_cookie = 7});
  ASSERT_TRUE(agent->subscribe({.handler_classes = {kTlshd}}));
  const Submitted a = submit_in(7);
  EXPECT_EQ(take(agent).id, a.id);
  netns_ = 8;
  EXPECT_EQ(submit_errno(socket()), ESRCH);
}

TEST_F(Queue, EveryNamespaceIsForOwnWorkersOnly) {
  TestAgent stranger = connect({.pid = 2, .uid = 0, .own_worker = false});
  const auto refused = stranger->subscribe({.handler_classes = {kTlshd}, .every_netns = true});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().number(), EPERM);
}

TEST_F(Queue, SubscribingToNothingIsEinval) {
  TestAgent agent = connect();
  EXPECT_EQ(agent->subscribe({}).error().number(), EINVAL);
  EXPECT_EQ(agent->subscribe({.handler_classes = {0}}).error().number(), EINVAL);
}

TEST_F(Queue, AFloodInOneNamespaceDoesNotHoldUpAnother) {
  make_up_namespaces();
  const TestAgent everywhere = listen();
  for (int i = 0; i < 50; ++i) submit_in(1);
  const Submitted other = submit_in(2);
  const std::uint64_t first = take(everywhere).id;
  const std::uint64_t second = take(everywhere).id;
  EXPECT_TRUE(first == other.id || second == other.id);
}

TEST_F(Queue, AFloodInOneNamedNamespaceDoesNotHoldUpAnother) {
  make_up_namespaces();
  const TestAgent agent = listen_in({1, 2});
  for (int i = 0; i < 50; ++i) submit_in(1);
  const Submitted other = submit_in(2);
  const std::uint64_t first = take(agent).id;
  const std::uint64_t second = take(agent).id;
  EXPECT_TRUE(first == other.id || second == other.id);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(thread_sanitizer) || __has_feature(address_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

/// Facts without a system call, so that many requests need few sockets.
Result<SocketFacts> made_up_facts(int fd) {
  static std::atomic<std::uint64_t> cookie{1};
  SocketFacts facts;
  facts.stream_tcp = facts.connected = true;
  facts.cookie = cookie++;
  facts.netns_cookie = 1;
  facts.peer_address[15] = static_cast<std::uint8_t>(fd);
  return facts;
}

TEST_F(Queue, TakingTheNextCostsTheSameAtAnyDepth) {
  // A linear search would make a factor of thousands; the bound leaves room for caches.
  rlimit limit{};
  must(::getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
  const rlimit raised{210'000, std::max<rlim_t>(limit.rlim_max, 210'000)};
  const bool may_raise = ::setrlimit(RLIMIT_NOFILE, &raised) == 0;
  const std::size_t deep = !may_raise ? limit.rlim_cur / 4 : kSanitized ? 20'000 : 100'000;
  options_.read_socket = made_up_facts;
  options_.limits = {.memory_bytes = std::size_t{8} << 30,
                     .pending_per_uid = 0,
                     .pending_per_address = 0,
                     .in_flight_per_address = 0};
  const TestAgent agent = listen();
  const int fd = socket();
  const auto submit_next = [&] {
    auto seen = new_seen();
    ASSERT_TRUE(service().submit(submission(fd, seen), now()));
  };
  const auto cheapest = [&](std::size_t depth) {
    while (service().counters().pending_now < depth) submit_next();
    Clock::duration best = Clock::duration::max();
    for (int i = 0; i < 300; ++i) {
      submit_next();
      const TimePoint before = Clock::now();
      Taken taken = take(agent);
      best = std::min(best, Clock::now() - before);
      EXPECT_EQ(done_errno(agent, taken.token), 0);
    }
    return best;
  };
  const auto shallow_cost = cheapest(10);
  const auto deep_cost = cheapest(deep);
  EXPECT_LT(deep_cost, 30 * shallow_cost) << "at " << deep;
  service().drain();
  EXPECT_EQ(service().live(), 0u);
  EXPECT_TRUE(reaper_.wait_idle(soon()));
  must(::setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

TEST_F(Queue, IsSafeToUseFromManyThreads) {
  // Consumers submit and cancel, agents take and finish, all at once.
  options_.read_socket = made_up_facts;
  options_.limits.pending_per_address = options_.limits.in_flight_per_address = 0;
  const int fd = socket();
  const TestAgent first = listen();
  const TestAgent second = listen();
  std::atomic<int> completed{0};
  std::atomic<int> cancelled{0};
  std::atomic<int> released{0};
  std::atomic<bool> over{false};
  constexpr int kConsumers = 3;
  constexpr int kEach = 1500;
  std::vector<std::thread> threads;
  for (int c = 0; c < kConsumers; ++c) {
    threads.emplace_back([&, c] {
      for (int i = 0; i < kEach; ++i) {
        Submission one = submission(fd, new_seen());
        one.complete = [&](Completion) { ++completed; };
        one.release = [&] { ++released; };
        const auto id = service().submit(std::move(one), now());
        ASSERT_TRUE(id) << id.error().detail;
        if ((i + c) % 3 == 0 && service().cancel(*id)) ++cancelled;
      }
    });
  }
  std::vector<std::thread> agents;
  for (const TestAgent* agent : {&first, &second}) {
    agents.emplace_back([&, agent] {
      while (!over || service().live() > 0) {
        auto accepted = (*agent)->accept(kTlshd);
        if (!accepted) {
          std::this_thread::yield();
          continue;
        }
        if (accepted->hand_over()) static_cast<void>((*agent)->done(accepted->token(), report()));
        static_cast<void>(service().snapshot());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  over = true;
  for (std::thread& thread : agents) thread.join();
  EXPECT_EQ(completed + cancelled, kConsumers * kEach);
  EXPECT_EQ(released, kConsumers * kEach);
}

class Ready : public ServiceTest {};

TEST_F(Ready, GoesToEverySubscriber) {
  const TestAgent a = listen();
  const TestAgent b = listen();
  const TestAgent other_class = listen(kDummyClass);
  submit_one();
  EXPECT_EQ(*a.readies, 1);
  EXPECT_EQ(*b.readies, 1);
  EXPECT_EQ(*other_class.readies, 0);
}

TEST_F(Ready, IsCoalescedPerConnectionUntilAnAcceptFindsNothing) {
  const TestAgent agent = listen();
  submit_one();
  submit_one();
  submit_one();
  EXPECT_EQ(*agent.readies, 1);
  take(agent);
  submit_one();
  EXPECT_EQ(*agent.readies, 1) << "it has not drained yet";
  for (int i = 0; i < 3; ++i) take(agent);
  EXPECT_EQ(accept_errno(agent), EAGAIN);
  submit_one();
  EXPECT_EQ(*agent.readies, 2);
}

TEST_F(Ready, ARequestSubmittedWhileAgentsAreBusyIsNotLost) {
  const TestAgent agent = listen();
  const Submitted a = submit_one();
  const Taken busy = take(agent);
  const Submitted b = submit_one();
  EXPECT_EQ(done_errno(agent, busy.token), 0);
  EXPECT_EQ(take(agent).id, b.id);
}

TEST_F(Ready, FollowsASubscriptionAtOnceWhenRequestsWait) {
  service().keep_listening(kTlshd);
  submit_one();
  const TestAgent agent = listen();
  EXPECT_EQ(*agent.readies, 1);
  EXPECT_EQ(accept_errno(agent), 0);
}

TEST_F(Ready, DoesNotFollowASubscriptionWhenNothingWaits) {
  const TestAgent agent = listen();
  EXPECT_EQ(*agent.readies, 0);
}

TEST_F(Ready, BeingSubscribedIsWhatMakesAListener) {
  TestAgent agent = connect();
  EXPECT_EQ(submit_errno(socket()), ESRCH) << "connected is not subscribed";
  ASSERT_TRUE(agent->subscribe({.handler_classes = {kTlshd}, .every_netns = true}));
  EXPECT_EQ(submit_errno(socket()), 0);
}

TEST_F(Ready, DoesNotReachAnAgentThatIsGone) {
  const TestAgent staying = listen();
  TestAgent leaving = listen();
  const auto readies = leaving.readies;
  leaving.connection.reset();
  submit_one();
  EXPECT_EQ(*readies, 0);
  EXPECT_EQ(*staying.readies, 1);
}

TEST_F(Ready, ARetiredAgentGetsNothingNewAndMayFinish) {
  const TestAgent other = listen();
  const TestAgent retiring = listen();
  const Submitted a = submit_one();
  const Taken taken = take(retiring);
  EXPECT_EQ(accept_errno(retiring), EAGAIN);
  retiring->retire();
  const Submitted b = submit_one();
  EXPECT_EQ(*retiring.readies, 1);
  EXPECT_EQ(accept_errno(retiring), EAGAIN);
  EXPECT_EQ(done_errno(retiring, taken.token), 0);
  EXPECT_EQ(a.seen->completions, 1);
  EXPECT_EQ(take(other).id, b.id);
  EXPECT_FALSE(retiring->subscribe({.handler_classes = {kTlshd}}));
}

TEST_F(Ready, TheCallbackMayAcceptAndFinishByItself) {
  std::unique_ptr<AgentConnection> agent;
  int served = 0;
  agent = service().connect_agent({.own_worker = true}, [&](std::uint32_t handler_class) {
    for (;;) {
      auto accepted = agent->accept(handler_class);
      if (!accepted) return;
      ASSERT_TRUE(accepted->hand_over());
      ASSERT_TRUE(agent->done(accepted->token(), report()));
      ++served;
    }
  });
  ASSERT_TRUE(agent->subscribe({.handler_classes = {kTlshd}, .every_netns = true}));
  for (int i = 0; i < 5; ++i) {
    const Submitted one = submit_one();
    EXPECT_EQ(one.seen->completions, 1) << "completed before submit returned";
  }
  EXPECT_EQ(served, 5);
}

class Accept : public ServiceTest {};

TEST_F(Accept, HandsOverACloseOnExecDescriptorOfTheSameSocket) {
  const TestAgent agent = listen();
  const int fd = socket();
  submit_one(fd);
  const Taken taken = take(agent);
  EXPECT_EQ(inode_of(taken.socket.get()), inode_of(fd));
  EXPECT_TRUE(::fcntl(taken.socket.get(), F_GETFD) & FD_CLOEXEC);
}

TEST_F(Accept, HandsOverTheParameters) {
  const TestAgent agent = listen();
  const Submitted one = submit_one(-1, [](Submission& s) {
    s.message_type = protocol::MessageType::kServerhello;
    s.auth_mode = protocol::Auth::kX509;
    s.peername = "client.test";
    s.credential = "nfsd";
    s.relay = protocol::RelayMode::kAllowed;
    s.client_auth = protocol::ClientAuth::kRequire;
    s.timeout = milliseconds(5000);
    s.peer_identities = {1, 2};
    s.certificates = {{3, 4}};
    s.keyring = 5;
  });
  pass(milliseconds(1200));
  const auto parameters = take(agent).parameters;
  EXPECT_EQ(parameters.request_id, one.id);
  EXPECT_EQ(parameters.handler_class, kTlshd);
  EXPECT_EQ(parameters.message_type, protocol::MessageType::kServerhello);
  EXPECT_EQ(parameters.auth_mode, protocol::Auth::kX509);
  EXPECT_EQ(parameters.peername, "client.test");
  EXPECT_EQ(parameters.credential, "nfsd");
  EXPECT_EQ(parameters.relay, protocol::RelayMode::kAllowed);
  EXPECT_EQ(parameters.client_auth, protocol::ClientAuth::kRequire);
  EXPECT_EQ(parameters.timeout, milliseconds(5000));
  EXPECT_EQ(parameters.remaining, milliseconds(3800));
  EXPECT_EQ(parameters.peer_identities, (std::vector<std::uint32_t>{1, 2}));
  ASSERT_EQ(parameters.certificates.size(), 1u);
  EXPECT_EQ(parameters.certificates[0].privkey, 4);
  EXPECT_EQ(parameters.keyring, 5u);
}

TEST_F(Accept, IsEagainWhenNoneWaits) {
  const TestAgent agent = listen();
  EXPECT_EQ(accept_errno(agent), EAGAIN);
  submit_one();
  take(agent);
  EXPECT_EQ(accept_errno(agent), EAGAIN);
}

TEST_F(Accept, IsEagainForAnAgentThatIsNotSubscribed) {
  const TestAgent listener = listen();
  const TestAgent other = connect();
  submit_one();
  EXPECT_EQ(accept_errno(other), EAGAIN);
}

TEST_F(Accept, EveryRequestGoesToOneAgentOnly) {
  const TestAgent a = listen();
  const TestAgent b = listen();
  submit_one();
  take(a);
  EXPECT_EQ(accept_errno(b), EAGAIN);
}

TEST_F(Accept, WithoutAFreeDescriptorTheRequestStaysAndReadyFollows) {
  const TestAgent agent = listen();
  const Submitted a = submit_one();
  const Submitted b = submit_one();
  const Taken first = take(agent);
  const int readies = *agent.readies;
  rlimit limit{};
  must(::getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
  const rlimit none{static_cast<rlim_t>(UniqueFd(duplicate(0)).get()), limit.rlim_max};
  must(::setrlimit(RLIMIT_NOFILE, &none), "setrlimit");
  const int refused = accept_errno(agent);
  must(::setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
  EXPECT_EQ(refused, ENOMEM);
  EXPECT_EQ(done_errno(agent, first.token), 0);
  EXPECT_EQ(*agent.readies, readies + 1);
  EXPECT_EQ(take(agent).id, b.id);
}

}  // namespace
}  // namespace handshake::testing
