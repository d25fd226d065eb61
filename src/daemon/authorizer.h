// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/settings.h"
#include "protocol/messages.h"

namespace handshake::daemon {

/// Who asks: effective ids of the consumer, as of its connect(2), and the groups it has now.
struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};

/// May `caller` use the credential `name` in this role on this port (its own for a server, the
/// peer's for a client)? EPERM, with a sentence that names what is missing, for everything that no
/// access list allows; a credential that does not exist is refused the same way, so that names
/// cannot be probed by strangers. EINVAL: no credential named.
[[nodiscard]] Result<void> may_use(const config::Settings& settings, const Caller& caller,
                                   const std::string& name, protocol::MessageType role,
                                   std::uint16_t port);

/// The supplementary groups of the peer of an AF_UNIX socket (SO_PEERGROUPS).
[[nodiscard]] std::vector<gid_t> peer_groups(int fd);

}  // namespace handshake::daemon
