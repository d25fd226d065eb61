// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace handshake::service {

/// An address without its port; an IPv4 address is mapped into IPv6 (RFC 4291 2.5.5.2), so that
/// one peer is one address whatever the socket's family.
using PeerAddress = std::array<std::uint8_t, 16>;

/// What the service asks a socket itself. A value.
struct SocketFacts {
  bool stream_tcp = false;  ///< SOCK_STREAM over IPv4 or IPv6 with SO_PROTOCOL IPPROTO_TCP
  bool connected = false;
  std::uint64_t cookie = 0;        ///< SO_COOKIE: what the socket is, whatever its fd numbers
  std::uint64_t netns_cookie = 0;  ///< SO_NETNS_COOKIE: where it lives, whoever sent it
  std::string upper_layer;         ///< TCP_ULP, empty when there is none
  PeerAddress peer_address{};
  std::uint16_t peer_port = 0;
  std::uint16_t local_port = 0;
};

/// Reads them; changes nothing on the socket and never blocks. What is no socket at all or no
/// TCP is no failure: stream_tcp is false then and the rest is empty. Errors: those of
/// getsockopt(2) for a kernel without SO_COOKIE (4.12) or SO_NETNS_COOKIE (5.14).
[[nodiscard]] Result<SocketFacts> read_socket_facts(int fd);

/// "192.0.2.1:2049", "[2001:db8::1]:2049".
[[nodiscard]] std::string to_text(const PeerAddress& address, std::uint16_t port);

/// The network namespace that a socket belongs to; for an accepted AF_UNIX socket the one of the
/// process that connected. Errors: those of getsockopt(2).
[[nodiscard]] Result<std::uint64_t> netns_cookie_of(int socket);

}  // namespace handshake::service
