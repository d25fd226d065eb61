// SPDX-License-Identifier: Apache-2.0
#include "transport/seqpacket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <memory>

#include <fmt/format.h>

namespace handshake::transport {

namespace {

constexpr std::size_t kControlSize = CMSG_SPACE(kMaxFds * sizeof(int)) + 64;

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("socket path \"{}\": {} bytes, must be 1 to {}", path, path.size(),
                            sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<UniqueFd> seqpacket_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno("socket");
  return fd;
}

}  // namespace

Result<std::pair<UniqueFd, UniqueFd>> seqpacket_pair() {
  std::array<int, 2> ends{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail_errno("socketpair");
  }
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Result<UniqueFd> listen_seqpacket(const std::string& path, mode_t mode) {
  auto address = address_of(path);
  if (!address) return tl::unexpected(address.error());
  auto fd = seqpacket_socket();
  if (!fd) return fd;
  const auto* generic = reinterpret_cast<const sockaddr*>(&*address);
  // The mode a socket file is born with decides who may connect before chmod() could run.
  const mode_t before = ::umask(static_cast<mode_t>(~mode & 0777U));
  int bound = ::bind(fd->get(), generic, sizeof *address);
  if (bound != 0 && errno == EADDRINUSE) {
    if (connect_seqpacket(path)) {
      ::umask(before);
      return fail(ErrorKind::kBusy, fmt::format("{}: another process already listens there", path));
    }
    struct stat file {};
    if (::lstat(path.c_str(), &file) == 0 && S_ISSOCK(file.st_mode)) ::unlink(path.c_str());
    bound = ::bind(fd->get(), generic, sizeof *address);
  }
  const int bind_errno = errno;
  ::umask(before);
  if (bound != 0) return fail_errno(bind_errno, fmt::format("bind {}", path));
  if (::listen(fd->get(), SOMAXCONN) != 0) return fail_errno(fmt::format("listen {}", path));
  return fd;
}

Result<UniqueFd> connect_seqpacket(const std::string& path, milliseconds patience) {
  auto address = address_of(path);
  if (!address) return tl::unexpected(address.error());
  auto fd = seqpacket_socket();
  if (!fd) return fd;
  const auto seconds = std::chrono::floor<std::chrono::seconds>(patience);
  timeval limit{};
  limit.tv_sec = seconds.count();
  limit.tv_usec = std::chrono::microseconds(patience - seconds).count();
  ::setsockopt(fd->get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(fd->get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0) {
    if (errno == ECONNREFUSED) {
      return fail(ErrorKind::kNotFound, fmt::format("connect {}: nobody listens there", path));
    }
    // EAGAIN is how a full queue says that the patience is over.
    return fail_errno(errno == EAGAIN ? ETIMEDOUT : errno, fmt::format("connect {}", path));
  }
  return fd;
}

Result<PeerCredentials> peer_credentials(int fd) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return fail_errno("SO_PEERCRED");
  }
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

Result<std::optional<protocol::Packet>> receive_packet(int fd) {
  // One buffer a thread: datagrams are short, connections many.
  static thread_local const auto buffer = std::make_unique<std::byte[]>(kMaxDatagram);
  alignas(cmsghdr) std::array<std::byte, kControlSize> control;
  iovec part{buffer.get(), kMaxDatagram};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t count = 0;
  // A peer that closes with our messages unread leaves an ECONNRESET that is reported once and
  // before what it had sent: ask again for the rest.
  bool reset = false;
  do {
    count = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (count < 0 && (errno == EINTR || (errno == ECONNRESET && !std::exchange(reset, true))));
  if (count < 0) {
    if (errno == EAGAIN) return std::optional<protocol::Packet>();
    return fail_errno("recvmsg");
  }
  protocol::Packet packet;
  for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
       item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t fds = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < fds; ++i) {
      int received = -1;
      std::memcpy(&received, CMSG_DATA(item) + i * sizeof(int), sizeof received);
      packet.fds.emplace_back(received);
    }
  }
  packet.fds_lost = (message.msg_flags & MSG_CTRUNC) != 0;
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("datagram longer than {} bytes", kMaxDatagram));
  }
  // SEQPACKET has no empty datagrams worth the name: 0 is the end of the connection.
  if (count == 0) return fail(ErrorKind::kConnectionReset, "the other end closed the connection");
  packet.bytes.assign(buffer.get(), buffer.get() + count);
  return packet;
}

Result<SendState> send_packet(int fd, std::span<const std::byte> bytes,
                              std::span<const UniqueFd> fds) {
  if (fds.size() > kMaxFds) {
    return fail(ErrorKind::kInvalidArgument, fmt::format("{} descriptors in one datagram", fds.size()));
  }
  alignas(cmsghdr) std::array<std::byte, kControlSize> control{};
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    for (std::size_t i = 0; i < fds.size(); ++i) {
      const int sent = fds[i].get();
      std::memcpy(CMSG_DATA(item) + i * sizeof(int), &sent, sizeof sent);
    }
  }
  ssize_t count = 0;
  do {
    count = ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (count < 0 && errno == EINTR);
  if (count >= 0) return SendState::kSent;
  if (errno == EAGAIN) return SendState::kFull;
  if (errno == ETOOMANYREFS) return SendState::kTooManyFds;
  return fail_errno("sendmsg");
}

}  // namespace handshake::transport
