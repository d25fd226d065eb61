// SPDX-License-Identifier: Apache-2.0
#include "service/completion_gate.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <map>
#include <thread>
#include <utility>
#include <vector>

namespace handshake::service {
namespace {

using S = RequestState;
using E = RequestEvent;
using V = Verdict;

constexpr std::array kStates = {S::kPending, S::kAccepted, S::kCompleted, S::kCancelled};
constexpr std::array kEvents = {E::kAccept,  E::kGiveBack,   E::kDone, E::kCancel,
                                E::kTimeout, E::kAgentDeath, E::kDrain};

TEST(CompletionGate, EveryStateAndEventHasTheOutcomeOfTheTable) {
  const std::map<std::pair<S, E>, Step> table = {
      {{S::kPending, E::kAccept}, {S::kAccepted, V::kMoved}},
      {{S::kPending, E::kGiveBack}, {S::kPending, V::kIllegal}},
      {{S::kPending, E::kDone}, {S::kPending, V::kIllegal}},
      {{S::kPending, E::kCancel}, {S::kCancelled, V::kEnded}},
      {{S::kPending, E::kTimeout}, {S::kCompleted, V::kEnded}},
      {{S::kPending, E::kAgentDeath}, {S::kPending, V::kIgnored}},
      {{S::kPending, E::kDrain}, {S::kCompleted, V::kEnded}},

      {{S::kAccepted, E::kAccept}, {S::kAccepted, V::kIllegal}},
      {{S::kAccepted, E::kGiveBack}, {S::kPending, V::kMoved}},
      {{S::kAccepted, E::kDone}, {S::kCompleted, V::kEnded}},
      {{S::kAccepted, E::kCancel}, {S::kCancelled, V::kEnded}},
      {{S::kAccepted, E::kTimeout}, {S::kCompleted, V::kEnded}},
      {{S::kAccepted, E::kAgentDeath}, {S::kCompleted, V::kEnded}},
      {{S::kAccepted, E::kDrain}, {S::kAccepted, V::kIgnored}},

      {{S::kCompleted, E::kAccept}, {S::kCompleted, V::kTooLate}},
      {{S::kCompleted, E::kGiveBack}, {S::kCompleted, V::kTooLate}},
      {{S::kCompleted, E::kDone}, {S::kCompleted, V::kTooLate}},
      {{S::kCompleted, E::kCancel}, {S::kCompleted, V::kTooLate}},
      {{S::kCompleted, E::kTimeout}, {S::kCompleted, V::kTooLate}},
      {{S::kCompleted, E::kAgentDeath}, {S::kCompleted, V::kTooLate}},
      {{S::kCompleted, E::kDrain}, {S::kCompleted, V::kTooLate}},

      {{S::kCancelled, E::kAccept}, {S::kCancelled, V::kTooLate}},
      {{S::kCancelled, E::kGiveBack}, {S::kCancelled, V::kTooLate}},
      {{S::kCancelled, E::kDone}, {S::kCancelled, V::kTooLate}},
      {{S::kCancelled, E::kCancel}, {S::kCancelled, V::kTooLate}},
      {{S::kCancelled, E::kTimeout}, {S::kCancelled, V::kTooLate}},
      {{S::kCancelled, E::kAgentDeath}, {S::kCancelled, V::kTooLate}},
      {{S::kCancelled, E::kDrain}, {S::kCancelled, V::kTooLate}},
  };
  ASSERT_EQ(table.size(), kStates.size() * kEvents.size());
  for (const auto& [pair, expected] : table) {
    EXPECT_EQ(advance(pair.first, pair.second), expected)
        << "state " << int(pair.first) << ", event " << int(pair.second);
  }
}

TEST(CompletionGate, OnlyAMoveOrAnEndChangesTheState) {
  for (const S state : kStates) {
    for (const E event : kEvents) {
      const Step step = advance(state, event);
      const bool changes = step.verdict == V::kMoved || step.verdict == V::kEnded;
      EXPECT_EQ(step.next != state, changes) << int(state) << ", " << int(event);
    }
  }
}

TEST(CompletionGate, NothingLeavesAFinalState) {
  for (const S state : {S::kCompleted, S::kCancelled}) {
    for (const E event : kEvents) EXPECT_EQ(advance(state, event).next, state);
  }
}

TEST(CompletionGate, PassFollowsTheTable) {
  CompletionGate gate;
  EXPECT_EQ(gate.state(), S::kPending);
  EXPECT_EQ(gate.pass(E::kDone).verdict, V::kIllegal);
  EXPECT_EQ(gate.pass(E::kAccept).verdict, V::kMoved);
  EXPECT_EQ(gate.pass(E::kGiveBack).verdict, V::kMoved);
  EXPECT_EQ(gate.state(), S::kPending);
  EXPECT_EQ(gate.pass(E::kAccept).verdict, V::kMoved);
  EXPECT_EQ(gate.pass(E::kDone).verdict, V::kEnded);
  EXPECT_EQ(gate.state(), S::kCompleted);
}

TEST(CompletionGate, CancelAfterDoneReportsTooLate) {
  CompletionGate gate;
  static_cast<void>(gate.pass(E::kAccept));
  static_cast<void>(gate.pass(E::kDone));
  EXPECT_EQ(gate.pass(E::kCancel).verdict, V::kTooLate);
}

TEST(CompletionGate, OfManyThreadsExactlyOneEndsTheRequest) {
  constexpr int kRounds = 2000;
  std::vector<CompletionGate> gates(kRounds);
  for (CompletionGate& gate : gates) static_cast<void>(gate.pass(E::kAccept));
  std::vector<std::atomic<int>> winners(kRounds);
  std::vector<std::thread> threads;
  for (const E event : {E::kDone, E::kDone, E::kCancel, E::kTimeout, E::kAgentDeath}) {
    threads.emplace_back([&, event] {
      for (std::size_t i = 0; i < gates.size(); ++i) {
        if (gates[i].pass(event).verdict == V::kEnded) ++winners[i];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::atomic<int>& count : winners) EXPECT_EQ(count.load(), 1);
}

}  // namespace
}  // namespace handshake::service
