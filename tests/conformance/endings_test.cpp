// SPDX-License-Identifier: Apache-2.0
// R1.8-R1.12: cancel, agent death, timeouts, drain, limits.
#include <thread>

#include "service_fixture.h"

namespace handshake::testing {
namespace {

class Cancel : public ServiceTest {};

TEST_F(Cancel, BeforeAcceptIsTrueAndNothingFollows) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  EXPECT_TRUE(service().cancel(one.id));
  EXPECT_EQ(accept_errno(agent), EAGAIN);
  EXPECT_EQ(one.seen->completions, 0);
  ASSERT_EQ(records().size(), 1u);
  EXPECT_EQ(records()[0].ending, Ending::kCancelled);
}

TEST_F(Cancel, AfterAcceptIsTrueAndNothingFollows) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  const Taken taken = take(agent);
  EXPECT_TRUE(service().cancel(one.id));
  EXPECT_EQ(done_errno(agent, taken.token), EBUSY);
  EXPECT_EQ(one.seen->completions, 0);
}

TEST_F(Cancel, AfterDoneIsFalse) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_FALSE(service().cancel(one.id));
  EXPECT_EQ(one.seen->completions, 1);
}

TEST_F(Cancel, OfNothingIsFalse) {
  EXPECT_FALSE(service().cancel(0));
  EXPECT_FALSE(service().cancel(12345));
}

TEST_F(Cancel, FromInsideTheCompletionIsFalse) {
  const TestAgent agent = listen();
  auto seen = new_seen();
  bool cancelled = true;
  Submission one = submission(socket(), seen);
  one.complete = [&](Completion completion) {
    cancelled = service().cancel(completion.request_id);
  };
  ASSERT_TRUE(submit(std::move(one), seen));
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_FALSE(cancelled);
}

TEST_F(Cancel, OfARelayThatIsCarriedIsFalse) {
  const TestAgent agent = listen();
  const Submitted one =
      submit_one(-1, [](Submission& s) { s.relay = protocol::RelayMode::kAllowed; });
  DoneReport sent = report();
  sent.mode = protocol::SessionMode::kRelay;
  sent.plain_end = duplicate(last_pair().client.get());
  ASSERT_TRUE(agent->done(take(agent).token, std::move(sent)));
  EXPECT_FALSE(service().cancel(one.id));
  ASSERT_TRUE(agent->relay_end(one.id, {}));
  one.seen->last();
}

class Gate : public ServiceTest {};

TEST_F(Gate, WhateverComesSecondIsTooLate) {
  enum Event { kDone, kCancel, kTimeout, kDeath, kDrain };
  for (const Event first : {kDone, kCancel, kTimeout, kDeath}) {
    for (const Event second : {kDone, kCancel, kTimeout, kDeath, kDrain}) {
      Options options = options_;
      Service mine(options, Log(), reaper_);
      auto agent = mine.connect_agent({.own_worker = true}, [](std::uint32_t) {});
      ASSERT_TRUE(agent->subscribe({.handler_classes = {kTlshd}, .every_netns = true}));
      auto seen = new_seen();
      const auto id = mine.submit(submission(socket(), seen), now());
      ASSERT_TRUE(id);
      std::int32_t token = 0;
      {
        auto accepted = agent->accept(kTlshd);
        ASSERT_TRUE(accepted);
        token = accepted->token();
        ASSERT_TRUE(accepted->hand_over());
      }
      int cancelled = 0;
      const auto happen = [&](Event event) {
        switch (event) {
          case kDone:
            if (agent) static_cast<void>(agent->done(token, report()));
            return;
          case kCancel: cancelled += mine.cancel(*id) ? 1 : 0; return;
          case kTimeout: mine.expire(now() + std::chrono::hours(1)); return;
          case kDeath: agent.reset(); return;
          case kDrain: mine.drain(); return;
        }
      };
      happen(first);
      const int completions = seen->completions;
      EXPECT_EQ(completions + cancelled, 1) << first;
      EXPECT_EQ(seen->releases, 1);
      happen(second);
      EXPECT_EQ(seen->completions, completions) << first << " then " << second;
      EXPECT_EQ(cancelled, first == kCancel ? 1 : 0) << first << " then " << second;
      EXPECT_EQ(seen->releases, 1);
    }
  }
}

TEST_F(Gate, CallbacksRunWithoutTheServicesLock) {
  // Each callback uses the service from another thread and waits for the answer.
  const TestAgent agent = listen();
  auto seen = new_seen();
  const auto use_service = [this] {
    std::thread([this] { static_cast<void>(service().snapshot()); }).join();
  };
  Submission one = submission(socket(), seen);
  one.complete = [&](Completion) { use_service(); };
  one.release = [&] {
    use_service();
    ++seen->releases;
  };
  one.authorize = [&](const Submission&, const SocketFacts&) -> Result<void> {
    use_service();
    return {};
  };
  ASSERT_TRUE(submit(std::move(one), seen));
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(seen->releases, 1);
}

TEST_F(Gate, TheServicesCopyOfTheSocketIsGivenAwayBeforeTheCompletion) {
  const TestAgent agent = listen();
  auto seen = new_seen();
  std::uint64_t given = 0;
  Submission one = submission(socket(), seen);
  one.complete = [&](Completion) {
    const auto counts = reaper_.counts();
    given = counts.closed + counts.waiting + counts.closing;
  };
  ASSERT_TRUE(submit(std::move(one), seen));
  Taken taken = take(agent);
  EXPECT_TRUE(reaper_.wait_idle(soon()));
  const std::uint64_t before = reaper_.counts().closed;
  EXPECT_EQ(done_errno(agent, taken.token), 0);
  EXPECT_EQ(given, before + 1);
}

class AgentDeath : public ServiceTest {};

TEST_F(AgentDeath, FinishesWhatItHadAcceptedWithEioAtOnce) {
  TestAgent agent = listen();
  const Submitted a = submit_one();
  const Submitted b = submit_one();
  take(agent);
  take(agent);
  agent.connection.reset();
  for (const Submitted* one : {&a, &b}) {
    EXPECT_EQ(one->seen->completions, 1);
    EXPECT_EQ(one->seen->status(), -EIO);
  }
  EXPECT_EQ(service().counters().agent_died, 2u);
}

TEST_F(AgentDeath, LeavesWhatItHadNotAcceptedToTheNext) {
  TestAgent agent = listen();
  submit_one();
  const Submitted pending = submit_one();
  take(agent);
  agent.connection.reset();
  EXPECT_EQ(pending.seen->completions, 0);
  const TestAgent next = listen();
  EXPECT_EQ(*next.readies, 1);
  EXPECT_EQ(take(next).id, pending.id);
}

TEST_F(AgentDeath, OfAnotherChangesNothing) {
  const TestAgent agent = listen();
  TestAgent other = listen();
  const Submitted one = submit_one();
  const Taken taken = take(agent);
  other.connection.reset();
  EXPECT_EQ(one.seen->completions, 0);
  EXPECT_EQ(done_errno(agent, taken.token), 0);
}

class Timeout : public ServiceTest {};

TEST_F(Timeout, EndsAPendingRequestWithEtimedout) {
  const TestAgent agent = listen();
  const Submitted one = submit_one(-1, [](Submission& s) { s.timeout = milliseconds(100); });
  EXPECT_EQ(service().expire(now()), now() + milliseconds(100));
  pass(milliseconds(99));
  EXPECT_NE(service().expire(now()), std::nullopt);
  EXPECT_EQ(one.seen->completions, 0);
  pass(milliseconds(1));
  EXPECT_EQ(service().expire(now()), std::nullopt);
  EXPECT_EQ(one.seen->status(), -ETIMEDOUT);
  EXPECT_EQ(accept_errno(agent), EAGAIN);
}

TEST_F(Timeout, EndsARequestWhoseAgentHangs) {
  const TestAgent agent = listen();
  const Submitted one = submit_one(-1, [](Submission& s) { s.timeout = milliseconds(100); });
  const Taken taken = take(agent);
  pass(milliseconds(100));
  service().expire(now());
  EXPECT_EQ(one.seen->status(), -ETIMEDOUT);
  EXPECT_EQ(done_errno(agent, taken.token), EBUSY);
}

TEST_F(Timeout, RunsFromSubmitNotFromAccept) {
  const TestAgent agent = listen();
  const Submitted one = submit_one(-1, [](Submission& s) { s.timeout = milliseconds(100); });
  pass(milliseconds(90));
  EXPECT_EQ(take(agent).parameters.remaining, milliseconds(10));
  pass(milliseconds(10));
  service().expire(now());
  EXPECT_EQ(one.seen->completions, 1);
}

TEST_F(Timeout, IsThirtySecondsWhenNoneIsGiven) {
  const TestAgent agent = listen();
  submit_one();
  EXPECT_EQ(service().next_deadline(), now() + std::chrono::seconds(30));
  submit_one(-1, [](Submission& s) { s.timeout = milliseconds(0); });
  pass(std::chrono::seconds(30));
  EXPECT_EQ(service().expire(now()), std::nullopt);
}

TEST_F(Timeout, IsConfigurable) {
  options_.default_timeout = milliseconds(5);
  const TestAgent agent = listen();
  submit_one();
  EXPECT_EQ(service().next_deadline(), now() + milliseconds(5));
}

TEST_F(Timeout, EndsOnlyWhatIsDueAndSaysWhatIsNext) {
  const TestAgent agent = listen();
  const auto with = [&](int ms) {
    return submit_one(-1, [ms](Submission& s) { s.timeout = milliseconds(ms); });
  };
  const Submitted late = with(300);
  const Submitted early = with(100);
  const Submitted middle = with(200);
  const TimePoint start = now();
  EXPECT_EQ(service().next_deadline(), start + milliseconds(100));
  EXPECT_EQ(service().expire(start + milliseconds(200)), start + milliseconds(300));
  EXPECT_EQ(early.seen->completions, 1);
  EXPECT_EQ(middle.seen->completions, 1);
  EXPECT_EQ(late.seen->completions, 0);
}

class Drain : public ServiceTest {};

TEST_F(Drain, EndsEveryPendingRequestWithEtimedout) {
  const TestAgent agent = listen();
  const TestAgent dummy = listen(kDummyClass);
  std::vector<Submitted> all;
  for (int i = 0; i < 10; ++i) {
    all.push_back(submit_one(-1, [i](Submission& s) {
      s.handler_class = i % 2 == 0 ? kTlshd : kDummyClass;
    }));
  }
  service().drain();
  for (const Submitted& one : all) {
    EXPECT_EQ(one.seen->completions, 1);
    EXPECT_EQ(one.seen->status(), -ETIMEDOUT);
  }
  EXPECT_EQ(service().counters().drained, 10u);
  EXPECT_EQ(service().live(), 0u);
}

TEST_F(Drain, LetsAcceptedRequestsFinish) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  const Taken taken = take(agent);
  service().drain();
  EXPECT_EQ(one.seen->completions, 0);
  EXPECT_EQ(service().live(), 1u);
  EXPECT_EQ(done_errno(agent, taken.token), 0);
  EXPECT_EQ(one.seen->status(), 0);
}

TEST_F(Drain, OfANamespaceLeavesTheOthersAlone) {
  std::uint64_t netns = 1;
  options_.read_socket = [&netns](int fd) {
    auto facts = service::read_socket_facts(fd);
    facts->netns_cookie = netns;
    return facts;
  };
  const TestAgent agent = listen();
  const Submitted here = submit_one();
  netns = 2;
  const Submitted there = submit_one();
  service().drain_namespace(1);
  EXPECT_EQ(here.seen->status(), -ETIMEDOUT);
  EXPECT_EQ(there.seen->completions, 0);
  EXPECT_EQ(submit_errno(socket()), 0);
  netns = 1;
  EXPECT_EQ(submit_errno(socket()), EOPNOTSUPP);
}

TEST_F(Drain, WhatIsGivenBackMeanwhileIsDrainedToo) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  {
    const auto accepted = agent->accept(kTlshd);
    ASSERT_TRUE(accepted);
    service().drain();
    EXPECT_EQ(one.seen->completions, 0);
  }
  EXPECT_EQ(one.seen->completions, 1);
  EXPECT_EQ(one.seen->status(), -ETIMEDOUT);
}

class Limit : public ServiceTest {
 protected:
  Limit() { options_.limits = {.pending_per_uid = 0, .pending_per_address = 0,
                               .in_flight_per_address = 0, .closing_per_uid = 0}; }
};

TEST_F(Limit, OfMemoryIsForEverythingThatHasNotEnded) {
  options_.limits.memory_bytes = 64 * 1024;
  const TestAgent agent = listen();
  std::size_t taken = 0;
  while (submit_errno(socket()) == 0) ++taken;
  EXPECT_GT(taken, 2u);
  EXPECT_LT(taken, 64u);
  EXPECT_EQ(submit_errno(socket()), EAGAIN);
  EXPECT_EQ(service().counters().limited_memory, 2u);
  EXPECT_LE(service().counters().memory_now, 64u * 1024);
  const Taken first = take(agent);
  EXPECT_EQ(submit_errno(socket()), EAGAIN) << "accepted is not ended";
  EXPECT_EQ(done_errno(agent, first.token), 0);
  EXPECT_EQ(submit_errno(socket()), 0);
}

TEST_F(Limit, OfMemoryHasADefault) {
  EXPECT_GE(service::default_memory_budget(), std::size_t{16} << 20);
  EXPECT_LE(service::default_memory_budget(), std::size_t{1} << 30);
}

TEST_F(Limit, OfPendingPerNamespace) {
  options_.limits.pending_per_netns = 2;
  std::uint64_t netns = 1;
  options_.read_socket = [&netns](int fd) {
    auto facts = service::read_socket_facts(fd);
    facts->netns_cookie = netns;
    return facts;
  };
  const TestAgent agent = listen();
  submit_one();
  submit_one();
  EXPECT_EQ(submit_errno(socket()), EAGAIN);
  EXPECT_EQ(service().counters().limited_netns, 1u);
  netns = 2;
  EXPECT_EQ(submit_errno(socket()), 0) << "another namespace has its own";
  netns = 1;
  take(agent);
  EXPECT_EQ(submit_errno(socket()), 0) << "accepted is not pending";
}

TEST_F(Limit, OfPendingPerUid) {
  options_.limits.pending_per_uid = 2;
  const TestAgent agent = listen();
  const auto as = [](std::uint32_t uid) { return [uid](Submission& s) { s.uid = uid; }; };
  submit_one(-1, as(1000));
  submit_one(-1, as(1000));
  EXPECT_EQ(submit_errno(socket(), as(1000)), EAGAIN);
  EXPECT_EQ(service().counters().limited_uid, 1u);
  EXPECT_EQ(submit_errno(socket(), as(1001)), 0);
  take(agent);
  EXPECT_EQ(submit_errno(socket(), as(1000)), 0);
}

TEST_F(Limit, OfPendingPerPeerAddress) {
  options_.limits.pending_per_address = 2;
  const TestAgent agent = listen();
  submit_one(socket("127.0.0.2"));
  submit_one(socket("127.0.0.2"));
  EXPECT_EQ(submit_errno(socket("127.0.0.2")), EAGAIN);
  EXPECT_EQ(service().counters().limited_address_pending, 1u);
  EXPECT_EQ(submit_errno(socket("127.0.0.3")), 0) << "one address keeps no other out";
  take(agent);
  EXPECT_EQ(submit_errno(socket("127.0.0.2")), 0);
}

TEST_F(Limit, OfInFlightPerPeerAddress) {
  options_.limits.in_flight_per_address = 2;
  const TestAgent agent = listen();
  submit_one(socket("127.0.0.2"));
  submit_one(socket("127.0.0.2"));
  const Taken first = take(agent);
  take(agent);
  EXPECT_EQ(submit_errno(socket("127.0.0.2")), EAGAIN);
  EXPECT_EQ(service().counters().limited_address_in_flight, 1u);
  EXPECT_EQ(submit_errno(socket("127.0.0.3")), 0);
  EXPECT_EQ(done_errno(agent, first.token), 0);
  EXPECT_EQ(submit_errno(socket("127.0.0.2")), 0);
}

TEST_F(Limit, PerAddressIsPerNamespace) {
  options_.limits.pending_per_address = 1;
  std::uint64_t netns = 1;
  options_.read_socket = [&netns](int fd) {
    auto facts = service::read_socket_facts(fd);
    facts->netns_cookie = netns;
    return facts;
  };
  const TestAgent agent = listen();
  submit_one();
  EXPECT_EQ(submit_errno(socket()), EAGAIN);
  netns = 2;
  EXPECT_EQ(submit_errno(socket()), 0);
}

TEST_F(Limit, TheDefaultsHaveRoomForNconnect) {
  const service::Limits defaults;
  EXPECT_GE(defaults.pending_per_address, 16u * 4);
  EXPECT_GE(defaults.in_flight_per_address, 16u * 4);
  EXPECT_GT(defaults.pending_per_uid, 0u);
  EXPECT_EQ(defaults.pending_per_netns, 0u);
}

TEST_F(Limit, WhatItRefusesLeavesNothingBehind) {
  options_.limits.pending_per_uid = 1;
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(submit_errno(socket()), EAGAIN);
  EXPECT_EQ(service().live(), 1u);
  EXPECT_TRUE(service().cancel(one.id));
  EXPECT_EQ(service().counters().memory_now, 0u);
}

}  // namespace
}  // namespace handshake::testing
