// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "protocol/messages.h"
#include "transport/netlink_socket.h"

namespace handshake::transport {

/// A family as the controller at the other end describes it.
struct NetlinkFamily {
  std::uint16_t id = 0;
  std::uint8_t version = 1;
  std::map<std::string, std::uint32_t, std::less<>> groups;
};

/// Errors: ENOENT (no such family there), those of NetlinkSocket::request().
[[nodiscard]] Result<NetlinkFamily> resolve_family(NetlinkSocket& socket, std::string_view name);

/// What a kernel's family `handshake` can do beyond version 1 of the protocol.
struct KernelCapabilities {
  /// DONE may carry tags (attribute 4) and ACCEPT's reply says how many (attribute 10). Without it
  /// neither number may be used, for either may mean something else (REQUIREMENTS.md R2.5).
  bool session_tags = false;

  friend bool operator==(const KernelCapabilities&, const KernelCapabilities&) = default;
};

/// From a policy dump of the family: session tags are there if DONE's attribute 4 is a string.
[[nodiscard]] KernelCapabilities capabilities_of(
    std::span<const protocol::nlctrl::GetpolicyReply> dump) noexcept;

/// Asks for the dump. Errors: those of NetlinkSocket::request(), EINVAL (not to be understood).
[[nodiscard]] Result<KernelCapabilities> read_capabilities(NetlinkSocket& socket,
                                                           std::uint16_t family);

}  // namespace handshake::transport
