// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace handshake::cli {

/// Whom to explain, and by which policy. Asks no daemon.
struct ExplainOptions {
  std::string certificate;         ///< file; empty: the peer has a PSK, or proves nothing
  std::vector<std::string> chain;  ///< files
  std::optional<std::string> psk_identity;
  std::vector<std::string> tags;    ///< files or directories; none: those of the configuration
  std::string config;               ///< empty: where the daemon looks
  std::optional<std::string> peer;  ///< address
  std::optional<std::string> local_address;
  std::optional<std::uint16_t> local_port;
  std::string role = "server";  ///< ours: client or server
  std::string handler_class = "tlshd";
  bool json = false;
};

/// `handshakectl tags explain`: each filter with what it saw, the tags, the rule that decides.
/// Succeeds whatever the verdict. EINVAL: a file or an address that cannot be read, a policy with
/// problems (which go to standard error).
[[nodiscard]] Result<void> explain_command(const ExplainOptions& options);

}  // namespace handshake::cli
