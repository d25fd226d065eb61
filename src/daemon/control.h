// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "base/result.h"
#include "protocol/messages.h"
#include "protocol/packet.h"

namespace handshake::daemon {

/// What the control socket answers from.
struct ControlSource {
  std::function<protocol::control::StatusReply()> status;
  /// Oldest first.
  std::function<std::vector<protocol::control::SessionsReply>()> sessions;
  /// EINVAL: the new configuration is wrong and the old one stays in force.
  std::function<Result<void>()> reload;
};

/// One connection of handshakectl: spec/control.yaml, bytes in and bytes out.
class ControlEndpoint {
 public:
  using Sink = std::function<void(std::vector<std::byte>)>;
  /// `source` must outlive it.
  ControlEndpoint(const ControlSource& source, Sink sink);

  /// Answers every message of a packet. EINVAL when what follows is no message: close the connection.
  [[nodiscard]] Result<void> receive(const protocol::Packet& packet);

 private:
  void answer(const protocol::MessageView& request);

  const ControlSource& source_;
  Sink sink_;
};

}  // namespace handshake::daemon
