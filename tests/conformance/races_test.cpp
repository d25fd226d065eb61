// SPDX-License-Identifier: Apache-2.0
// What went wrong in other implementations (REQUIREMENTS.md, last list), each under its name.
#include <algorithm>
#include <array>
#include <barrier>
#include <thread>

#include "service_fixture.h"

namespace handshake::testing {
namespace {

class Race : public ServiceTest {
 protected:
  static constexpr int kRounds = 300;

  /// Runs the functions at the same time, as far as two cores allow.
  template <class... Functions>
  static void together(Functions... functions) {
    std::barrier<> start(sizeof...(functions));
    std::vector<std::thread> threads;
    (threads.emplace_back([&start, function = std::move(functions)] {
      start.arrive_and_wait();
      function();
    }), ...);
    for (std::thread& thread : threads) thread.join();
  }
};

TEST_F(Race, ASecondCompletion) {
  const TestAgent agent = listen();
  for (int i = 0; i < kRounds; ++i) {
    const Submitted one = submit_one();
    const Taken taken = take(agent);
    std::array<int, 2> results{};
    together([&] { results[0] = done_errno(agent, taken.token, 0); },
             [&] { results[1] = done_errno(agent, taken.token, EACCES); });
    std::sort(results.begin(), results.end());
    EXPECT_EQ(results, (std::array<int, 2>{0, EBUSY}));
    EXPECT_EQ(one.seen->completions, 1);
  }
}

TEST_F(Race, CancelTwice) {
  const TestAgent agent = listen();
  for (int i = 0; i < kRounds; ++i) {
    const Submitted one = submit_one();
    std::array<bool, 2> won{};
    together([&] { won[0] = service().cancel(one.id); },
             [&] { won[1] = service().cancel(one.id); });
    EXPECT_EQ(won[0] + won[1], 1);
    EXPECT_EQ(one.seen->releases, 1);
    EXPECT_EQ(one.seen->completions, 0);
  }
}

TEST_F(Race, CancelBetweenDequeueAndFdHandOver) {
  const TestAgent agent = listen();
  const Submitted cancelled = submit_one();
  const Submitted next = submit_one();
  {
    auto accepted = agent->accept(kTlshd);
    ASSERT_TRUE(accepted);
    EXPECT_TRUE(service().cancel(cancelled.id));
    EXPECT_FALSE(accepted->hand_over()) << "there is nothing left to hand over";
    EXPECT_EQ(done_errno(agent, accepted->token()), EBUSY);
  }
  EXPECT_EQ(cancelled.seen->completions, 0);
  EXPECT_EQ(take(agent).id, next.id);
  EXPECT_EQ(accept_errno(agent), EAGAIN) << "the cancelled one did not come back";
}

TEST_F(Race, CancelBetweenDequeueAndGiveBack) {
  const TestAgent agent = listen();
  for (int i = 0; i < kRounds; ++i) {
    const Submitted one = submit_one();
    auto accepted = agent->accept(kTlshd);
    ASSERT_TRUE(accepted);
    bool won = false;
    together([&] { won = service().cancel(one.id); },
             [&] { const Accepted dropped = *std::move(accepted); });
    EXPECT_TRUE(won);
    EXPECT_EQ(accept_errno(agent), EAGAIN);
  }
}

TEST_F(Race, TheConsumerClosesItsSocketBetweenDequeueAndHandOver) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  const ino_t inode = inode_of(last_pair().server.get());
  auto accepted = agent->accept(kTlshd);
  ASSERT_TRUE(accepted);
  last_pair() = TcpPair();
  ASSERT_TRUE(accepted->hand_over());
  const UniqueFd socket = accepted->take_socket();
  EXPECT_EQ(inode_of(socket.get()), inode);
  EXPECT_EQ(done_errno(agent, accepted->token(), EIO), 0);
  EXPECT_EQ(one.seen->completions, 1);
}

TEST_F(Race, TheConsumerClosesItsSocketWhileItsRequestWaits) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  last_pair() = TcpPair();
  EXPECT_EQ(done_errno(agent, take(agent).token, EIO), 0);
  EXPECT_EQ(one.seen->completions, 1);
}

TEST_F(Race, SubmitsErrorPathRacingCancel) {
  // A submit that fails must not have been there for anybody to cancel.
  const TestAgent agent = listen();
  const int fd = socket();
  const Submitted live = submit_one(fd);
  std::atomic<bool> over{false};
  std::atomic<int> cancelled{0};
  std::thread canceller([&] {
    while (!over) {
      for (std::uint64_t id = live.id + 1; id < live.id + 50; ++id) {
        cancelled += service().cancel(id) ? 1 : 0;
      }
    }
  });
  for (int i = 0; i < kRounds; ++i) EXPECT_EQ(submit_errno(fd), EBUSY);
  over = true;
  canceller.join();
  EXPECT_EQ(cancelled, 0);
  EXPECT_EQ(service().live(), 1u);
}

TEST_F(Race, CancelBeforeSubmitHasReturned) {
  const TestAgent agent = listen();
  const int fd = socket();
  std::uint64_t expected = submit_one(fd).id;
  EXPECT_TRUE(service().cancel(expected));
  for (int i = 0; i < kRounds; ++i) {
    ++expected;
    std::atomic<int> cancelled{0};
    auto seen = new_seen();
    together([&] { EXPECT_TRUE(submit(submission(fd, seen), seen)); },
             [&] {
               while (!service().cancel(expected)) std::this_thread::yield();
               ++cancelled;
             });
    EXPECT_EQ(cancelled, 1);
    EXPECT_EQ(seen->releases, 1);
    EXPECT_EQ(seen->completions, 0);
  }
}

TEST_F(Race, CompletionOfNothingWhenTheQueueWasEmpty) {
  const TestAgent agent = listen();
  EXPECT_EQ(accept_errno(agent), EAGAIN);
  EXPECT_EQ(done_errno(agent, 1), EBADF);
  EXPECT_EQ(service().expire(now() + std::chrono::hours(1)), std::nullopt);
  service().drain();
  EXPECT_TRUE(records().empty());
}

TEST_F(Race, AReferenceTakenAfterPublishing) {
  // An agent finishes a request while submit() is still at work on it; under the sanitizers
  // whatever submit() touches then is found.
  const TestAgent agent = listen();
  const int fd = socket();
  std::atomic<bool> over{false};
  std::thread server([&] {
    while (!over) {
      auto accepted = agent->accept(kTlshd);
      if (accepted && accepted->hand_over()) {
        EXPECT_TRUE(agent->done(accepted->token(), report()));
      }
    }
  });
  for (int i = 0; i < 2000; ++i) {
    auto seen = new_seen();
    ASSERT_TRUE(submit(submission(fd, seen), seen));
    while (seen->releases == 0) std::this_thread::yield();
  }
  over = true;
  server.join();
}

TEST_F(Race, ALeakedFdWhenTheReplyCouldNotBeBuiltOrSent) {
  // The fixture counts descriptors at the end.
  const TestAgent agent = listen();
  const TestAgent other = listen();
  const Submitted first = submit_one();
  const Submitted second = submit_one();
  {
    const auto dropped = agent->accept(kTlshd);
    ASSERT_TRUE(dropped);
    EXPECT_EQ(dropped->parameters().request_id, first.id);
  }
  EXPECT_EQ(service().counters().given_back, 1u);
  EXPECT_EQ(take(other).id, first.id) << "back to the head of its queue";
  EXPECT_EQ(take(other).id, second.id);
}

TEST_F(Race, WhatIsGivenBackIsAnnouncedAgain) {
  const TestAgent failing = listen();
  const TestAgent idle = listen();
  submit_one();
  auto accepted = failing->accept(kTlshd);
  ASSERT_TRUE(accepted);
  EXPECT_EQ(accept_errno(idle), EAGAIN);
  const int before = *idle.readies;
  { const Accepted dropped = *std::move(accepted); }
  EXPECT_EQ(*idle.readies, before + 1);
  EXPECT_EQ(accept_errno(idle), 0);
}

TEST_F(Race, TheAgentDiesBetweenDequeueAndHandOver) {
  TestAgent agent = listen();
  const Submitted one = submit_one();
  auto accepted = agent->accept(kTlshd);
  ASSERT_TRUE(accepted);
  agent.connection.reset();
  EXPECT_EQ(one.seen->status(), -EIO);
  EXPECT_FALSE(accepted->hand_over());
}

TEST_F(Race, DrainRacingCancel) {
  for (int i = 0; i < kRounds; ++i) {
    Service mine(options_, Log(), reaper_);
    const auto agent = mine.connect_agent({.own_worker = true}, [](std::uint32_t) {});
    ASSERT_TRUE(agent->subscribe({.handler_classes = {kTlshd}, .every_netns = true}));
    auto seen = new_seen();
    const auto id = mine.submit(submission(socket(), seen), now());
    ASSERT_TRUE(id);
    bool cancelled = false;
    together([&] { mine.drain(); }, [&] { cancelled = mine.cancel(*id); });
    EXPECT_EQ(seen->completions + (cancelled ? 1 : 0), 1);
    EXPECT_EQ(seen->releases, 1);
  }
}

TEST_F(Race, DrainRacingSubmit) {
  // Whatever was let in is drained; nothing slips in behind.
  const int fd = socket();
  for (int i = 0; i < kRounds; ++i) {
    Service mine(options_, Log(), reaper_);
    const auto agent = mine.connect_agent({.own_worker = true}, [](std::uint32_t) {});
    ASSERT_TRUE(agent->subscribe({.handler_classes = {kTlshd}, .every_netns = true}));
    auto seen = new_seen();
    bool submitted = false;
    together([&] { mine.drain(); },
             [&] { submitted = mine.submit(submission(fd, seen), now()).has_value(); });
    EXPECT_EQ(seen->completions, submitted ? 1 : 0);
    EXPECT_EQ(mine.live(), 0u);
  }
}

TEST_F(Race, DrainWithItsListSwappedSoThatNothingWasDrained) {
  const TestAgent agent = listen();
  std::vector<Submitted> all;
  for (int i = 0; i < 25; ++i) all.push_back(submit_one());
  service().drain();
  for (const Submitted& one : all) EXPECT_EQ(one.seen->status(), -ETIMEDOUT);
  EXPECT_EQ(accept_errno(agent), EAGAIN);
}

TEST_F(Race, ErrnoSignFlippedOnTheWay) {
  const TestAgent agent = listen();
  for (const int number : {EACCES, ETIMEDOUT, ENOKEY, EKEYREJECTED, EOPNOTSUPP, EIO}) {
    const Submitted one = submit_one();
    EXPECT_EQ(done_errno(agent, take(agent).token, static_cast<std::uint32_t>(number)), 0);
    EXPECT_EQ(one.seen->status(), -number);
  }
}

TEST_F(Race, AnUnboundedStatus) {
  const TestAgent agent = listen();
  for (const std::uint32_t number : {4096u, 0x7fffffffu, 0x80000000u, 0xfffffff3u, 0xffffffffu}) {
    const Submitted one = submit_one();
    EXPECT_EQ(done_errno(agent, take(agent).token, number), EINVAL);
    EXPECT_EQ(one.seen->status(), -EIO);
  }
}

TEST_F(Race, AForgedDoneFromAnotherConnection) {
  const TestAgent agent = listen();
  const TestAgent forger = listen();
  const Submitted one = submit_one();
  const Taken taken = take(agent);
  for (std::int32_t token = -3; token < 50; ++token) {
    EXPECT_EQ(done_errno(forger, token), EBADF);
  }
  EXPECT_EQ(one.seen->completions, 0);
  EXPECT_EQ(done_errno(agent, taken.token, EACCES), 0);
  EXPECT_EQ(one.seen->status(), -EACCES);
}

TEST_F(Race, ParseFailureReportedAsSuccess) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  agent->done_refused(take(agent).token, "malformed");
  EXPECT_EQ(one.seen->status(), -EIO);
}

TEST_F(Race, AMissingPeernameDereferenced) {
  const TestAgent agent = listen();
  submit_one(-1, [](Submission& s) {
    s.peername.reset();
    s.credential.reset();
    s.timeout.reset();
    s.keyring.reset();
  });
  const Taken taken = take(agent);
  EXPECT_FALSE(taken.parameters.peername);
  EXPECT_EQ(done_errno(agent, taken.token), 0);
  ASSERT_EQ(records().size(), 1u);
  EXPECT_EQ(records()[0].peername, "");
}

TEST_F(Race, TimeoutReportedAsEacces) {
  const TestAgent agent = listen();
  const Submitted pending = submit_one();
  const Submitted accepted = submit_one();
  take(agent);
  pass(std::chrono::seconds(31));
  service().expire(now());
  EXPECT_EQ(pending.seen->status(), -ETIMEDOUT);
  EXPECT_EQ(accepted.seen->status(), -ETIMEDOUT);
}

TEST_F(Race, TimeoutRacingAccept) {
  const TestAgent agent = listen();
  const int fd = socket();
  for (int i = 0; i < kRounds; ++i) {
    const Submitted one = submit_one(fd, [](Submission& s) { s.timeout = milliseconds(1); });
    pass(milliseconds(1));
    together([&] { service().expire(now()); },
             [&] {
               auto accepted = agent->accept(kTlshd);
               if (accepted && accepted->hand_over()) {
                 static_cast<void>(agent->done(accepted->token(), report()));
               }
             });
    EXPECT_EQ(one.seen->completions, 1);
  }
}

}  // namespace
}  // namespace handshake::testing
