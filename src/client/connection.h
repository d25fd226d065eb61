// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "client/failure.h"

namespace handshake::client {

/// How long the service may take over something it does at once. After that it counts as gone.
inline constexpr milliseconds kAnswerDeadline{10'000};

/// A connection on which the family is resolved.
struct Connection {
  UniqueFd socket;
  std::uint16_t family = 0;
};

/// Connects and asks the controller for the family, as with any generic netlink service. Blocks
/// for at most twice `patience`. ENOENT nobody listens, EACCES, EIO no answer or a wrong one.
[[nodiscard]] Expected<Connection> connect_service(const std::string& path,
                                                   milliseconds patience = kAnswerDeadline);

}  // namespace handshake::client
