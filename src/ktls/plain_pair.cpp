// SPDX-License-Identifier: Apache-2.0
#include "ktls/plain_pair.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "base/clock.h"

namespace handshake::ktls {

namespace {

// The kernel connects loopback sockets within connect(2); only a flood by other processes makes
// anybody wait here, and no longer than this.
constexpr milliseconds kPairDeadline{500};

// How much may wait in the kernel on the relay's side, each way. Left to itself the kernel lets
// a receive buffer grow to tens of megabytes, and a consumer's back-pressure should not come late.
constexpr int kSocketBufferBytes = 256 * 1024;

struct Address {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);

  [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  friend bool operator==(const Address& a, const Address& b) {
    return a.length == b.length && std::memcmp(&a.storage, &b.storage, a.length) == 0;
  }
};

Address loopback(int family) {
  Address address;
  if (family == AF_INET) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.length = sizeof v4;
    std::memcpy(&address.storage, &v4, sizeof v4);
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_addr = in6addr_loopback;
    address.length = sizeof v6;
    std::memcpy(&address.storage, &v6, sizeof v6);
  }
  return address;
}

template <class T>
Result<void> set_option(int fd, int level, int name, const T& value, const char* what) {
  if (::setsockopt(fd, level, name, &value, sizeof value) != 0) return fail_errno(what);
  return {};
}

// False when the deadline has passed.
Result<bool> wait_for(int fd, short events, TimePoint deadline) {
  while (true) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::clamp<long>(left, 0, 1000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return fail_errno("poll");
    if (Clock::now() >= deadline) return false;
  }
}

Result<void> finish_connect(int fd, TimePoint deadline) {
  const Result<bool> ready = wait_for(fd, POLLOUT, deadline);
  if (!ready) return tl::unexpected(ready.error());
  if (!*ready) return fail(ErrorKind::kTimedOut, "loopback pair: connect timed out");
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return fail_errno("SO_ERROR");
  if (error != 0) return fail_errno(error, "loopback pair: connect");
  return {};
}

Result<PlainPair> make_pair(int family) {
  const TimePoint deadline = Clock::now() + kPairDeadline;
  const UniqueFd listener(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail_errno("loopback pair: socket");
  Address address = loopback(family);
  if (::bind(listener.get(), address.get(), address.length) != 0) {
    return fail_errno("loopback pair: bind");
  }
  if (::listen(listener.get(), 1) != 0) return fail_errno("loopback pair: listen");
  address.length = sizeof address.storage;
  if (::getsockname(listener.get(), address.get(), &address.length) != 0) {
    return fail_errno("loopback pair: getsockname");
  }

  PlainPair pair;
  pair.inner = UniqueFd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!pair.inner) return fail_errno("loopback pair: socket");
  const int inner = pair.inner.get();
  // Before connecting: the window that is offered follows the receive buffer.
  auto set = set_option(inner, SOL_SOCKET, SO_RCVBUF, kSocketBufferBytes, "SO_RCVBUF");
  if (set) set = set_option(inner, SOL_SOCKET, SO_SNDBUF, kSocketBufferBytes, "SO_SNDBUF");
  if (set) set = set_option(inner, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
  if (set) set = set_option(inner, SOL_SOCKET, SO_LINGER, linger{1, 0}, "SO_LINGER");
  if (!set) return tl::unexpected(set.error());

  if (::connect(inner, address.get(), address.length) != 0) {
    if (errno != EINPROGRESS) return fail_errno("loopback pair: connect");
    const Result<void> connected = finish_connect(inner, deadline);
    if (!connected) return tl::unexpected(connected.error());
  }
  Result<UniqueFd> outer = accept_other_end(listener.get(), inner, deadline);
  if (!outer) return tl::unexpected(outer.error());
  pair.outer = std::move(*outer);
  set = set_option(pair.outer.get(), IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
  if (!set) return tl::unexpected(set.error());
  return pair;
}

}  // namespace

Result<UniqueFd> accept_other_end(int listener, int connected, TimePoint deadline) {
  // Nobody else can have this address while our end is connected, so what matches is ours.
  Address wanted;
  if (::getsockname(connected, wanted.get(), &wanted.length) != 0) {
    return fail_errno("loopback pair: getsockname");
  }
  while (true) {
    UniqueFd accepted(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!accepted) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN) return fail_errno("loopback pair: accept4");
      const Result<bool> ready = wait_for(listener, POLLIN, deadline);
      if (!ready) return tl::unexpected(ready.error());
      if (!*ready) return fail(ErrorKind::kTimedOut, "loopback pair: accept timed out");
      continue;
    }
    Address peer;
    // A stranger who has already gone has no address; one who has not has another.
    if (::getpeername(accepted.get(), peer.get(), &peer.length) == 0 && peer == wanted) {
      return accepted;
    }
    if (Clock::now() >= deadline) {
      return fail(ErrorKind::kTimedOut, "loopback pair: strangers keep the port busy");
    }
  }
}

Result<PlainPair> make_plain_pair() {
  Result<PlainPair> pair = make_pair(AF_INET);
  if (pair || pair.error().kind == ErrorKind::kNoMemory) return pair;
  Result<PlainPair> v6 = make_pair(AF_INET6);
  // Where both fail, IPv4's reason is the one an administrator can use.
  return v6 ? std::move(v6) : std::move(pair);
}

}  // namespace handshake::ktls
