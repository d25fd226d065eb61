// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "protocol/message.h"

namespace handshake::transport {

/// A generic netlink socket: of the kernel's, or, in tests, one end of a SEQPACKET pair whose other
/// end speaks the same bytes. Belongs to one thread. Use one for requests and another one for
/// multicast groups: a flood of notifications must not cost an answer.
///
/// The kernel works on a request inside send(2) and has queued the whole answer, or the next part
/// of it, when that or recv(2) returns. So request() is a plain call that waits for nobody; its
/// patience is for what only pretends to be the kernel.
class NetlinkSocket {
 public:
  /// In the calling thread's network namespace; close-on-exec. Errors: EMFILE, ENFILE, ENOMEM,
  /// EPROTONOSUPPORT as EIO (a kernel without netlink).
  [[nodiscard]] static Result<NetlinkSocket> open();
  explicit NetlinkSocket(UniqueFd socket) noexcept : socket_(std::move(socket)) {}

  /// Errors: EPERM, ENOENT (no such group).
  [[nodiscard]] Result<void> join(std::uint32_t group);

  /// For EventLoop::watch() and getsockopt(); borrowed.
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

  /// What one receive() found.
  struct Received {
    /// Notifications were lost (ENOBUFS): act as if one of each kind had come.
    bool overrun = false;
    /// Whole messages, or empty when the sender was not the kernel.
    std::vector<std::byte> bytes;
  };
  /// Never waits; nullopt when nothing waits. Errors: ECONNRESET (a pretended kernel has gone),
  /// EINVAL (a datagram larger than anything the kernel sends), EIO.
  [[nodiscard]] Result<std::optional<Received>> receive();

  enum class Answer : std::uint8_t {
    kReply,  ///< one message of the family's
    kAck,    ///< an acknowledgement
    kDump,   ///< any number of messages and an end
  };
  /// The messages that answer a request, each whole, without the acknowledgement or the end.
  using Messages = std::vector<std::vector<std::byte>>;

  /// Sends `message` under the number `family` and collects the answer. Errors: what the kernel
  /// says, its errno as the kind and "accept: Unknown attribute type" as the detail; ETIMEDOUT.
  template <class M>
  [[nodiscard]] Result<Messages> request(std::uint16_t family, std::uint8_t version,
                                         const M& message, Answer answer) {
    const protocol::MessageHeader header = next_header(family, version, answer);
    const auto bytes = protocol::build(header, message);
    if (!bytes) return tl::unexpected(bytes.error());
    return transact(*bytes, header.sequence, answer, M::kName);
  }

 private:
  [[nodiscard]] protocol::MessageHeader next_header(std::uint16_t family, std::uint8_t version,
                                                    Answer answer) noexcept;
  [[nodiscard]] Result<Messages> transact(std::span<const std::byte> bytes, std::uint32_t sequence,
                                          Answer answer, std::string_view what);

  UniqueFd socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace handshake::transport
