// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace handshake::cli {

/// What `handshakectl connect` and `listen` have in common.
struct NetcatOptions {
  std::string socket;      ///< the service's consumer socket; empty: where the library finds it
  std::string host;        ///< connect: host to connect to; listen: address to bind
  std::string port;
  std::string credential;
  std::string peername;    ///< connect: name to verify; empty: the host as given
  std::string relay = "allowed";
  std::string client_auth = "default";
  std::string input;       ///< file to send; empty: standard input
  std::string output;      ///< file for what arrives; empty: standard output
  std::uint32_t timeout_ms = 0;
  bool anonymous = false;  ///< connect: without a certificate
  bool once = false;       ///< listen: one connection, whose outcome is the exit status
  bool quiet = false;
};

/// Connects, has the agent shake hands, sends the input, half-closes, writes what arrives until the
/// peer ends. The error says which of it failed.
[[nodiscard]] Result<void> connect_command(const NetcatOptions& options);

/// The same for connections that arrive, one after the other.
[[nodiscard]] Result<void> listen_command(const NetcatOptions& options);

}  // namespace handshake::cli
