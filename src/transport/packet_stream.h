// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "protocol/packet.h"

namespace handshake::transport {

/// A connected AF_UNIX SOCK_SEQPACKET socket on an event loop: whole datagrams in, whole datagrams
/// out, a bounded queue for a peer that does not read. Belongs to the loop's thread.
///
/// Handlers run from the loop, never from inside send() or close(); either may destroy the stream.
class PacketStream {
 public:
  struct Options {
    /// What may wait for a peer that does not read, payload bytes; beyond it the stream closes
    /// with EAGAIN (R1.14: "a client that never reads its replies").
    std::size_t max_queued_bytes = std::size_t{1} << 20;
    /// Takes descriptors that are no longer needed, because close() may block on what a stranger
    /// sent (R1.15). Without it they are closed here.
    std::function<void(UniqueFd)> discard;
  };
  struct Handlers {
    std::function<void(protocol::Packet)> packet;
    /// Once, after which nothing more arrives: the peer is gone (ECONNRESET), broke the protocol
    /// (EINVAL) or does not read (EAGAIN). Not called after close().
    std::function<void(const Error&)> closed;
  };

  /// Errors: those of EventLoop::watch().
  [[nodiscard]] static Result<std::unique_ptr<PacketStream>> open(EventLoop& loop, UniqueFd socket,
                                                                  Options options,
                                                                  Handlers handlers);
  PacketStream(const PacketStream&) = delete;
  PacketStream& operator=(const PacketStream&) = delete;
  ~PacketStream();

  /// Sends now or queues. A failure is reported through `closed`; after it, sending does nothing.
  void send(std::vector<std::byte> bytes, std::vector<UniqueFd> fds = {});
  /// Stops at once; what is queued is dropped.
  void close();
  /// Descriptor of the socket, for getsockopt(); borrowed. -1 when closed.
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  [[nodiscard]] std::size_t queued_bytes() const noexcept { return queued_bytes_; }

 private:
  struct Outgoing {
    std::vector<std::byte> bytes;
    std::vector<UniqueFd> fds;
  };

  PacketStream(EventLoop& loop, UniqueFd socket, Options options, Handlers handlers);
  void on_ready(std::uint32_t events);
  void on_readable();
  void flush();
  void fail_later(Error error);
  void update_interest();
  void discard(std::vector<UniqueFd> fds);

  EventLoop& loop_;
  UniqueFd socket_;
  Options options_;
  std::shared_ptr<const Handlers> handlers_;
  std::deque<Outgoing> queue_;
  std::size_t queued_bytes_ = 0;
  bool failed_ = false;
  EventLoop::Watch watch_;
  EventLoop::Timer retry_;    // after ETOOMANYREFS
  EventLoop::Timer failure_;  // delivers `closed` from the loop
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace handshake::transport
