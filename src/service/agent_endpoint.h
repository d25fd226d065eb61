// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "protocol/controller.h"
#include "protocol/message.h"
#include "protocol/packet.h"
#include "service/dispatch.h"
#include "service/revocable.h"
#include "service/service.h"

namespace handshake::service {

/// One agent's connection in terms of messages: bytes in, bytes out, whatever carries them. Speaks
/// the family `handshake` with the kernel's attributes and `hs-worker` with ours beside
/// them, as strictly as the kernel, and the controller's family. ACCEPT and DONE are root's and
/// the service's own user's, whoever has the connection.
///
/// receive() and retire() belong to one thread. `sink` is called from there and from whichever
/// thread submits a request, one call at a time, and not after the destructor, which is the
/// agent's death.
class AgentEndpoint {
 public:
  /// Takes one datagram and the descriptors that go beside it.
  using Sink = std::function<void(std::vector<std::byte> bytes, std::vector<UniqueFd> fds)>;

  AgentEndpoint(Service& service, Reaper& reaper, const AgentInfo& info, Sink sink);
  AgentEndpoint(const AgentEndpoint&) = delete;
  AgentEndpoint& operator=(const AgentEndpoint&) = delete;
  ~AgentEndpoint();

  /// False: this was no netlink, or memory is out in the middle of an answer; the connection is
  /// of no use any more.
  [[nodiscard]] bool receive(protocol::Packet packet);

  /// Nothing new for this agent; what it has it may finish.
  void retire() { connection_->retire(); }

 private:
  struct Incoming;

  Answer handle(Incoming& packet, const protocol::MessageView& request,
                const protocol::Controller::Registration& family, protocol::ExtAck& ack);
  template <class Request, class Reply>
  Answer accept(const protocol::MessageView& request, protocol::ExtAck& ack);
  template <class Request>
  Answer done(Incoming& packet, const protocol::MessageView& request, protocol::ExtAck& ack);
  Answer subscribe(const protocol::MessageView& request, protocol::ExtAck& ack);
  Answer find_key(const protocol::MessageView& request, protocol::ExtAck& ack);
  Answer relay_end(const protocol::MessageView& request, protocol::ExtAck& ack);
  void refuse_done(const protocol::MessageView& request, const char* reason);
  void ready(std::uint32_t handler_class);
  void send_ready(std::uint32_t handler_class);

  Reaper& reaper_;
  const bool privileged_;
  Revocable<std::vector<std::byte>, std::vector<UniqueFd>> sink_;
  Mutex mutex_;
  /// While a SUBSCRIBE is being answered READY waits: the answer goes first.
  bool hold_ready_ HS_GUARDED_BY(mutex_) = false;
  std::vector<std::uint32_t> held_ready_ HS_GUARDED_BY(mutex_);
  std::unique_ptr<AgentConnection> connection_;
};

}  // namespace handshake::service
