// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include <sys/types.h>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "protocol/packet.h"

namespace handshake::transport {

/// The most bytes a datagram may have: what AF_UNIX SEQPACKET takes with default buffers
/// (PROTOCOL.md), rounded up. A longer one is a violation of the protocol.
inline constexpr std::size_t kMaxDatagram = std::size_t{256} * 1024;
/// The most descriptors the kernel lets ride beside one message (SCM_MAX_FD).
inline constexpr std::size_t kMaxFds = 253;

/// A connected pair, close-on-exec. Errors: EMFILE, ENFILE, ENOMEM.
[[nodiscard]] Result<std::pair<UniqueFd, UniqueFd>> seqpacket_pair();

/// A listening socket at `path` with the file mode `mode`. A stale socket file is replaced; EBUSY
/// when another process answers there; ENAMETOOLONG beyond sun_path's 107 bytes comes as EINVAL.
[[nodiscard]] Result<UniqueFd> listen_seqpacket(const std::string& path, mode_t mode);

/// Connects to `path`; waits for a listener whose queue is full for `patience` at most. Errors:
/// ENOENT, ECONNREFUSED (as kNotFound: nobody listens), EACCES, ETIMEDOUT.
[[nodiscard]] Result<UniqueFd> connect_seqpacket(const std::string& path,
                                                 milliseconds patience = milliseconds(10'000));

/// Who is at the other end, as of its connect() or socketpair() (SO_PEERCRED).
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
[[nodiscard]] Result<PeerCredentials> peer_credentials(int fd);

/// Takes the next datagram without blocking; nullopt when none waits. Errors: ECONNRESET at the
/// end of the stream, EINVAL for a datagram over kMaxDatagram, EIO otherwise. Descriptors are
/// close-on-exec; those the kernel dropped set Packet::fds_lost.
[[nodiscard]] Result<std::optional<protocol::Packet>> receive_packet(int fd);

enum class SendState : std::uint8_t {
  kSent,
  kFull,          ///< the peer does not read: EPOLLOUT tells when it does again
  kTooManyFds,    ///< ETOOMANYREFS: too many descriptors in flight; nothing tells when to retry
};
/// Sends one datagram without blocking. The fds stay the caller's.
/// Errors: ECONNRESET when the peer is gone, EINVAL when it is too large, EIO otherwise.
[[nodiscard]] Result<SendState> send_packet(int fd, std::span<const std::byte> bytes,
                                            std::span<const UniqueFd> fds);

}  // namespace handshake::transport
