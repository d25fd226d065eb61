// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "protocol/message.h"
#include "protocol/packet.h"

namespace handshake::dummy {

/// An agent for handler class 100 that completes every request without any TLS (REQUIREMENTS.md
/// R7.5): status 0 and the tag "dummy", or EACCES for the peername "refuse.test". It knows the
/// kernel's attributes only (dummy.yaml). One thread, blocking.
class DummyAgent {
 public:
  /// `service` is a connected SEQPACKET socket to the service's side of an agent.
  explicit DummyAgent(UniqueFd service) : socket_(std::move(service)) {}

  /// Resolves the family, subscribes, and serves until the service closes the connection. Errors:
  /// whatever keeps it from serving, and what the service says to what it asks.
  [[nodiscard]] Result<void> run();
  [[nodiscard]] std::uint64_t served() const noexcept { return served_; }

 private:
  struct Answer {
    protocol::Packet packet;
    protocol::MessageView view;  ///< into packet.bytes
  };

  [[nodiscard]] Result<void> resolve();
  [[nodiscard]] Result<void> subscribe();
  /// ACCEPT until nothing waits.
  [[nodiscard]] Result<void> drain();
  /// Sends one message of a generated type and waits for what answers it.
  template <class M>
  [[nodiscard]] Result<Answer> ask(std::uint16_t family, const M& message, std::uint16_t flags);
  /// The next datagram; nullopt when the service has closed.
  [[nodiscard]] Result<std::optional<protocol::Packet>> receive();

  UniqueFd socket_;
  std::uint16_t family_ = 0;
  std::uint32_t sequence_ = 0;
  std::uint64_t served_ = 0;
  bool ready_ = false;
};

}  // namespace handshake::dummy
