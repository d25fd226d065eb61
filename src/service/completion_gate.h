// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace handshake::service {

/// Where a request is in its life. The last two are final.
enum class RequestState : std::uint8_t {
  kPending,    ///< queued, no agent has it
  kAccepted,   ///< handed to one agent's connection
  kCompleted,  ///< the consumer's one completion has been decided
  kCancelled,  ///< a cancel won: no completion follows
};

/// What can happen to a request.
enum class RequestEvent : std::uint8_t {
  kAccept,      ///< an agent takes it from the queue
  kGiveBack,    ///< it could not be handed over after all
  kDone,        ///< its agent reports the result
  kCancel,      ///< its consumer withdraws it
  kTimeout,     ///< its deadline has passed
  kAgentDeath,  ///< the connection that accepted it has gone
  kDrain,       ///< the service or its namespace shuts down
};

/// What an event amounts to in a state.
enum class Verdict : std::uint8_t {
  kMoved,    ///< not final: pending <-> accepted
  kEnded,    ///< this event, and no other, has ended the request
  kIgnored,  ///< legal, and changes nothing
  kTooLate,  ///< another event has ended the request before
  kIllegal,  ///< cannot happen in this state; nothing changes
};

struct Step {
  RequestState next;
  Verdict verdict;
  friend bool operator==(const Step&, const Step&) = default;
};

/// The state machine of a request (REQUIREMENTS.md R1.8-R1.11), pure and total: what is not a
/// transition says so in its verdict and leaves the state as it is.
[[nodiscard]] constexpr Step advance(RequestState state, RequestEvent event) noexcept {
  switch (state) {
    case RequestState::kPending:
      switch (event) {
        case RequestEvent::kAccept: return {RequestState::kAccepted, Verdict::kMoved};
        case RequestEvent::kGiveBack: return {state, Verdict::kIllegal};
        case RequestEvent::kDone: return {state, Verdict::kIllegal};
        case RequestEvent::kCancel: return {RequestState::kCancelled, Verdict::kEnded};
        case RequestEvent::kTimeout: return {RequestState::kCompleted, Verdict::kEnded};
        case RequestEvent::kAgentDeath: return {state, Verdict::kIgnored};  // waits for the next
        case RequestEvent::kDrain: return {RequestState::kCompleted, Verdict::kEnded};
      }
      break;
    case RequestState::kAccepted:
      switch (event) {
        case RequestEvent::kAccept: return {state, Verdict::kIllegal};
        case RequestEvent::kGiveBack: return {RequestState::kPending, Verdict::kMoved};
        case RequestEvent::kDone: return {RequestState::kCompleted, Verdict::kEnded};
        case RequestEvent::kCancel: return {RequestState::kCancelled, Verdict::kEnded};
        case RequestEvent::kTimeout: return {RequestState::kCompleted, Verdict::kEnded};
        case RequestEvent::kAgentDeath: return {RequestState::kCompleted, Verdict::kEnded};
        case RequestEvent::kDrain: return {state, Verdict::kIgnored};  // may finish
      }
      break;
    case RequestState::kCompleted:
    case RequestState::kCancelled: return {state, Verdict::kTooLate};
  }
  return {state, Verdict::kIllegal};
}

/// The one atomic point per request that decides who has ended it. Any thread; never blocks,
/// never fails. Whoever gets Verdict::kEnded, and nobody else, goes on to call the consumer.
class CompletionGate {
 public:
  CompletionGate() = default;
  CompletionGate(const CompletionGate&) = delete;
  CompletionGate& operator=(const CompletionGate&) = delete;

  Step pass(RequestEvent event) noexcept {
    RequestState current = state_.load(std::memory_order_acquire);
    for (;;) {
      const Step step = advance(current, event);
      if (step.next == current) return step;
      if (state_.compare_exchange_weak(current, step.next, std::memory_order_acq_rel,
                                       std::memory_order_acquire)) {
        return step;
      }
    }
  }

  [[nodiscard]] RequestState state() const noexcept {
    return state_.load(std::memory_order_acquire);
  }

 private:
  std::atomic<RequestState> state_{RequestState::kPending};
};

}  // namespace handshake::service
