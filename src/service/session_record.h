// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <handshake/tagset.hpp>

#include "base/clock.h"
#include "protocol/messages.h"

namespace handshake::service {

/// Who ended a request.
enum class Ending : std::uint8_t {
  kNone,       ///< it has not ended
  kDone,       ///< its agent reported
  kCancelled,  ///< its consumer withdrew it
  kTimedOut,
  kAgentDied,
  kDrained,
};

[[nodiscard]] std::string_view to_string(Ending ending) noexcept;

/// Everything that is known about one request and the session it became: for log lines, metrics
/// and the session table. A value; holds no key.
struct SessionRecord {
  std::uint64_t request_id = 0;
  /// Pending, accepted, established (a relay that is carried) or ended.
  protocol::SessionState state = protocol::SessionState::kPending;
  std::uint64_t netns_cookie = 0;
  std::uint32_t handler_class = 0;
  protocol::MessageType role = protocol::MessageType::kUnspec;
  protocol::Auth auth_mode = protocol::Auth::kUnspec;
  std::string peer;  ///< address and port
  std::uint16_t local_port = 0;
  std::string peername;
  std::string credential;
  std::uint32_t uid = 0;
  std::uint32_t agent_pid = 0;  ///< 0: no agent has it yet

  TimePoint submitted{};
  TimePoint accepted{};   ///< of the last ACCEPT, when agent_pid is not 0
  TimePoint completed{};  ///< when ending is not kNone
  /// From submission to completion; zero before it.
  [[nodiscard]] Clock::duration duration() const noexcept {
    return ending == Ending::kNone ? Clock::duration::zero() : completed - submitted;
  }

  Ending ending = Ending::kNone;
  int status = 0;  ///< 0 or a negative errno; -ECANCELED for a cancelled request
  protocol::SessionMode mode = protocol::SessionMode::kNone;
  std::string cipher;
  std::string group;
  std::string certificate_algorithm;
  std::string peer_subject;
  TagSet tags;
  std::string reason;
  std::optional<std::uint32_t> alert;
  bool alert_sent = false;

  // Of a relay, once it has ended; relay_status is 0 or a negative errno.
  std::uint64_t bytes_to_peer = 0;
  std::uint64_t bytes_from_peer = 0;
  int relay_status = 0;
};

/// Everything the service counts. All but the last group only grow.
struct Counters {
  std::uint64_t submitted = 0;             ///< requests taken
  std::uint64_t accepted = 0;              ///< hand-overs to an agent
  std::uint64_t given_back = 0;            ///< hand-overs that failed; the request waits again
  std::uint64_t succeeded = 0;             ///< completed with status 0
  std::uint64_t failed = 0;                ///< completed by an agent with another status
  std::uint64_t cancelled = 0;
  std::uint64_t timed_out = 0;
  std::uint64_t agent_died = 0;            ///< completed because their agent's connection went
  std::uint64_t drained = 0;

  std::uint64_t refused_invalid = 0;       ///< submit: EINVAL
  std::uint64_t refused_upper_layer = 0;   ///< submit: EEXIST
  std::uint64_t refused_busy = 0;          ///< submit: EBUSY
  std::uint64_t refused_no_agent = 0;      ///< submit: ESRCH
  std::uint64_t refused_draining = 0;      ///< submit: EOPNOTSUPP
  std::uint64_t refused_not_permitted = 0; ///< submit: EPERM, from the authorizer
  std::uint64_t refused_memory = 0;        ///< submit: ENOMEM
  std::uint64_t limited_memory = 0;        ///< submit: EAGAIN, the memory budget
  std::uint64_t limited_netns = 0;         ///< submit: EAGAIN, pending of a namespace
  std::uint64_t limited_uid = 0;           ///< submit: EAGAIN, pending of a consumer's uid
  std::uint64_t limited_closing = 0;       ///< submit: EAGAIN, a uid's descriptors block when closed
  std::uint64_t limited_address_pending = 0;    ///< submit: EAGAIN, pending of a peer address
  std::uint64_t limited_address_in_flight = 0;  ///< submit: EAGAIN, accepted of a peer address

  std::uint64_t done_unknown_token = 0;    ///< DONE: EBADF
  std::uint64_t done_too_late = 0;         ///< DONE: EBUSY
  std::uint64_t done_malformed = 0;        ///< DONE: refused, its request finished with EIO
  std::uint64_t tags_capped = 0;           ///< DONE with more than kMaxTags tags
  std::uint64_t tags_dropped = 0;          ///< DONE whose tags there was no memory for
  std::uint64_t ready_sent = 0;
  std::uint64_t relays_ended = 0;

  std::uint64_t pending_now = 0;
  std::uint64_t in_flight_now = 0;
  std::uint64_t relays_now = 0;
  std::uint64_t agents_now = 0;
  std::uint64_t memory_now = 0;            ///< bytes charged to the memory budget
};

/// Every counter by name, in the order above.
inline constexpr std::array kCounterNames = {
    std::pair{std::string_view("submitted"), &Counters::submitted},
    std::pair{std::string_view("accepted"), &Counters::accepted},
    std::pair{std::string_view("given-back"), &Counters::given_back},
    std::pair{std::string_view("succeeded"), &Counters::succeeded},
    std::pair{std::string_view("failed"), &Counters::failed},
    std::pair{std::string_view("cancelled"), &Counters::cancelled},
    std::pair{std::string_view("timed-out"), &Counters::timed_out},
    std::pair{std::string_view("agent-died"), &Counters::agent_died},
    std::pair{std::string_view("drained"), &Counters::drained},
    std::pair{std::string_view("refused-invalid"), &Counters::refused_invalid},
    std::pair{std::string_view("refused-upper-layer"), &Counters::refused_upper_layer},
    std::pair{std::string_view("refused-busy"), &Counters::refused_busy},
    std::pair{std::string_view("refused-no-agent"), &Counters::refused_no_agent},
    std::pair{std::string_view("refused-draining"), &Counters::refused_draining},
    std::pair{std::string_view("refused-not-permitted"), &Counters::refused_not_permitted},
    std::pair{std::string_view("refused-memory"), &Counters::refused_memory},
    std::pair{std::string_view("limited-memory"), &Counters::limited_memory},
    std::pair{std::string_view("limited-netns"), &Counters::limited_netns},
    std::pair{std::string_view("limited-uid"), &Counters::limited_uid},
    std::pair{std::string_view("limited-closing"), &Counters::limited_closing},
    std::pair{std::string_view("limited-address-pending"), &Counters::limited_address_pending},
    std::pair{std::string_view("limited-address-in-flight"), &Counters::limited_address_in_flight},
    std::pair{std::string_view("done-unknown-token"), &Counters::done_unknown_token},
    std::pair{std::string_view("done-too-late"), &Counters::done_too_late},
    std::pair{std::string_view("done-malformed"), &Counters::done_malformed},
    std::pair{std::string_view("tags-capped"), &Counters::tags_capped},
    std::pair{std::string_view("tags-dropped"), &Counters::tags_dropped},
    std::pair{std::string_view("ready-sent"), &Counters::ready_sent},
    std::pair{std::string_view("relays-ended"), &Counters::relays_ended},
    std::pair{std::string_view("pending-now"), &Counters::pending_now},
    std::pair{std::string_view("in-flight-now"), &Counters::in_flight_now},
    std::pair{std::string_view("relays-now"), &Counters::relays_now},
    std::pair{std::string_view("agents-now"), &Counters::agents_now},
    std::pair{std::string_view("memory-now"), &Counters::memory_now},
};
static_assert(kCounterNames.size() * sizeof(std::uint64_t) == sizeof(Counters),
              "a counter has no name");

}  // namespace handshake::service
