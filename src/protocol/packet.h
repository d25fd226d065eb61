// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "base/unique_fd.h"

namespace handshake::protocol {

/// One SEQPACKET datagram: one or several whole netlink messages and the descriptors that rode
/// beside them (SCM_RIGHTS), in the order sent. The fds are owned here.
struct Packet {
  std::vector<std::byte> bytes;
  std::vector<UniqueFd> fds;
  /// The kernel dropped descriptors of this datagram because this process had none free
  /// (MSG_CTRUNC). `fds` holds what did arrive; nothing in it can be trusted to be complete.
  bool fds_lost = false;
};

}  // namespace handshake::protocol
