// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <handshake/tagset.hpp>

#include "base/unique_fd.h"
#include "protocol/messages.h"

namespace handshake::service {

/// How many tags a session may have; ACCEPT's max-tags says so to the agent.
inline constexpr std::size_t kMaxTags = 64;

/// What an agent says about a finished handshake (DONE). Nothing in it has been checked.
struct DoneReport {
  std::optional<std::uint32_t> status;  ///< 0 or a positive errno up to 4095; absent means EIO
  std::vector<std::uint32_t> remote_auth;
  std::vector<std::string> tags;
  protocol::SessionMode mode = protocol::SessionMode::kNone;
  UniqueFd plain_end;  ///< goes with SessionMode::kRelay and status 0
  std::string cipher;
  std::string group;
  std::string peer_subject;
  std::string certificate_algorithm;
  std::string reason;
  std::optional<std::uint32_t> alert;
  bool alert_sent = false;
};

/// How a relay ended (RELAY-END).
struct RelayReport {
  std::uint64_t bytes_to_peer = 0;
  std::uint64_t bytes_from_peer = 0;
  std::uint32_t status = 0;  ///< 0 or a positive errno up to 4095
  std::string reason;        ///< one line, when the status is not 0
};

/// A positive errno as it came from an agent, made the negative one that a consumer gets. The
/// only place where the sign changes on that way. Absent means EIO (R1.6).
[[nodiscard]] constexpr int consumer_status(std::optional<std::uint32_t> reported) noexcept {
  return reported ? -static_cast<int>(*reported) : -EIO;
}

/// 1-255 bytes without NUL (R4.2; the one trailing NUL that is tolerated on the wire does not get
/// here).
[[nodiscard]] bool is_valid_tag(std::string_view tag) noexcept;

/// Index of the first malformed tag, wherever in the list.
[[nodiscard]] std::optional<std::size_t> find_malformed_tag(
    std::span<const std::string> tags) noexcept;

/// The first kMaxTags of well-formed tags as a set; the cap counts them as sent, duplicates
/// included. Throws std::bad_alloc when `memory` is out.
[[nodiscard]] TagSet collect_tags(std::span<const std::string> tags,
                                  std::pmr::memory_resource* memory);

}  // namespace handshake::service
