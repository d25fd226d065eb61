// SPDX-License-Identifier: Apache-2.0
#include "client/socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "ktls/check.h"

namespace handshake::client {

namespace {

template <class T>
bool get_option(int fd, int level, int name, T& value) {
  socklen_t length = sizeof value;
  return ::getsockopt(fd, level, name, &value, &length) == 0 && length == sizeof value;
}

bool is(int fd, int option, int wanted) {
  int value = 0;
  return get_option(fd, SOL_SOCKET, option, value) && value == wanted;
}

bool is_loopback(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    return (ntohl(in.sin_addr.s_addr) >> 24U) == IN_LOOPBACKNET;
  }
  sockaddr_in6 in6{};
  std::memcpy(&in6, &address, sizeof in6);
  return address.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr) != 0;
}

bool has_upper_layer(int fd) {
  std::array<char, 16> name{};
  socklen_t length = name.size();
  // Kernels without any upper layer protocol refuse the question, and have none.
  return ::getsockopt(fd, IPPROTO_TCP, TCP_ULP, name.data(), &length) == 0 && length != 0 &&
         name[0] != '\0';
}

/// Null when it may be the plain end of a relay.
const char* refuse_plain_end(int fd) {
  if (!is(fd, SO_DOMAIN, AF_INET) && !is(fd, SO_DOMAIN, AF_INET6)) return "not an IP socket";
  if (!is(fd, SO_TYPE, SOCK_STREAM) || !is(fd, SO_PROTOCOL, IPPROTO_TCP)) return "not TCP";
  if (!is(fd, SO_ACCEPTCONN, 0)) return "it listens";
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) != 0 || !is_loopback(own)) {
    return "not bound to a loopback address";
  }
  // A relay whose peer was quick may have been reset already: no peer any more, but an error that
  // the caller is to read from it.
  sockaddr_storage peer{};
  length = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0) {
    if (!is_loopback(peer)) return "connected to another host";
  } else if (errno != ENOTCONN) {
    return "without a peer";
  }
  if (has_upper_layer(fd)) return "it has an upper layer protocol";
  return nullptr;
}

Expected<void> same_socket(int fd, std::uint64_t identity) {
  const auto now = socket_identity(fd);
  if (!now || *now != identity) {
    return refuse(EIO, "fd " + std::to_string(fd) +
                           " no longer names the socket that was submitted");
  }
  return {};
}

void carry_over(int from, int to) {
  const int flags = ::fcntl(from, F_GETFL);
  const int own = ::fcntl(to, F_GETFL);
  if (flags >= 0 && own >= 0 && ((flags ^ own) & O_NONBLOCK) != 0) {
    ::fcntl(to, F_SETFL, own ^ O_NONBLOCK);
  }
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    timeval timeout{};
    if (get_option(from, SOL_SOCKET, option, timeout) &&
        (timeout.tv_sec != 0 || timeout.tv_usec != 0)) {
      ::setsockopt(to, SOL_SOCKET, option, &timeout, sizeof timeout);
    }
  }
}

}  // namespace

Expected<std::uint64_t> socket_identity(int fd) {
  std::uint64_t cookie = 0;
  if (!get_option(fd, SOL_SOCKET, SO_COOKIE, cookie)) {
    return refuse(EINVAL, "fd " + std::to_string(fd) + " is not an open socket");
  }
  return cookie;
}

Expected<void> check_ktls(int fd, std::uint64_t identity) {
  if (auto same = same_socket(fd, identity); !same) return same;
  if (auto keyed = ktls::verify(fd); !keyed) {
    return refuse(EIO, "the service reported kTLS, the kernel does not: " + keyed.error().detail);
  }
  return {};
}

Expected<void> adopt_relay(int fd, std::uint64_t identity, UniqueFd plain_end) {
  if (auto same = same_socket(fd, identity); !same) return same;
  const auto plain = socket_identity(plain_end.get());
  if (!plain) return refuse(EIO, "the service sent a relay that is not a socket");
  if (*plain == identity) {
    return refuse(EIO, "the service sent the unencrypted socket back as a relay");
  }
  if (const char* objection = refuse_plain_end(plain_end.get()); objection != nullptr) {
    return refuse(EIO, std::string("the service sent an unusable relay: ") + objection);
  }
  carry_over(fd, plain_end.get());
  const int flags = ::fcntl(fd, F_GETFD);
  const bool close_on_exec = flags >= 0 && (flags & FD_CLOEXEC) != 0;
  int placed = 0;
  do {
    placed = ::dup3(plain_end.get(), fd, close_on_exec ? O_CLOEXEC : 0);
    // EBUSY: another thread is just opening that number, which it will not get.
  } while (placed < 0 && (errno == EINTR || errno == EBUSY));
  if (placed < 0) return refuse(EIO, "dup3 of the relay failed");
  return {};
}

}  // namespace handshake::client
