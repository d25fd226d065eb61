// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace handshake::tls {

/// What a server's certificate must name (RFC 9525).
struct PeerName {
  enum class Kind : std::uint8_t { kDns, kIp };
  Kind kind = Kind::kDns;
  std::string text;  ///< without trailing dot or zone; ::ffff:192.0.2.1 is 192.0.2.1

  friend bool operator==(const PeerName&, const PeerName&) = default;
};

/// An IP literal or a DNS name of letters, digits, '-' and '_'. EINVAL for anything else, a leading
/// dot or a wildcard above all: verification would take them for "any name below".
[[nodiscard]] Result<PeerName> parse_peer_name(std::string_view text);

/// The address that the socket is connected to. EINVAL: it is not an IP socket, or not connected.
[[nodiscard]] Result<PeerName> peer_address_of(int fd);

}  // namespace handshake::tls
