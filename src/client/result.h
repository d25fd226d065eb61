// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "client/failure.h"
#include "client/record.h"
#include "handshake/handshake.h"
#include "handshake/tagset.hpp"

/// A TagSet whose tags include a terminating NUL, so that C can be given pointers into it. Tags
/// have no NUL inside: order and equality are those of the names.
struct hs_tagset {
  handshake::TagSet tags;

  /// EINVAL: a name is not 1 to 255 bytes, or has a NUL inside.
  [[nodiscard]] static handshake::client::Expected<hs_tagset> of(
      std::span<const std::string> names);
};

/// Filled by Context before anybody else sees it, immutable afterwards.
struct hs_result {
  mutable std::atomic<unsigned> references = 1;
  int status = -EIO;
  hs_mode mode = HS_MODE_NONE;
  int fd = -1;
  handshake::client::Role role = handshake::client::Role::kClient;
  /// SO_COOKIE of the socket that carries the session.
  std::uint64_t socket_identity = 0;
  std::uint64_t log_id = 0;
  std::string cipher;
  std::string group;
  std::string peer_subject;
  std::string reason;
  int alert = -1;
  bool alert_sent = false;
  std::vector<std::uint32_t> peer_identities;
  hs_tagset tags;
};

namespace handshake::client {

struct UnrefResult {
  void operator()(const hs_result* result) const noexcept {
    if (result->references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete result;
  }
};
/// One reference.
using ResultPtr = std::unique_ptr<hs_result, UnrefResult>;

}  // namespace handshake::client
