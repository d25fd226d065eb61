// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace handshake::transport {

/// A connection to a service on which a family's number is known.
struct FamilyConnection {
  UniqueFd socket;
  std::uint16_t family = 0;
};

/// Connects to `path` and asks the controller there for `family`, as with any generic netlink
/// service. Waits at most `patience`. Errors: ENOENT (nobody listens), EACCES, ETIMEDOUT, EIO (no
/// such family, or an answer that is none).
[[nodiscard]] Result<FamilyConnection> connect_family(const std::string& path,
                                                      std::string_view family,
                                                      milliseconds patience);

}  // namespace handshake::transport
