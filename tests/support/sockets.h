// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <utility>

#include "base/unique_fd.h"

/// Sockets for tests. Failures are reported to GoogleTest.
namespace handshake::test {

inline std::size_t open_descriptors() {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

/// How many descriptors of this process are this very socket.
inline std::size_t copies_of(int fd) {
  struct stat wanted {};
  EXPECT_EQ(::fstat(fd, &wanted), 0);
  std::size_t copies = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    struct stat found {};
    if (::stat(entry.path().c_str(), &found) != 0) continue;
    if (found.st_ino == wanted.st_ino && found.st_dev == wanted.st_dev) ++copies;
  }
  return copies;
}

inline void set_linger(int fd, bool on, int seconds) {
  const linger value{on ? 1 : 0, seconds};
  EXPECT_EQ(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, sizeof value), 0);
}

inline void set_int(int fd, int level, int name, int value) {
  EXPECT_EQ(::setsockopt(fd, level, name, &value, sizeof value), 0);
}

inline int get_int(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  EXPECT_EQ(::getsockopt(fd, level, name, &value, &length), 0);
  return value;
}

/// SO_RCVTIMEO or SO_SNDTIMEO.
inline void set_timeout(int fd, int name, std::chrono::milliseconds timeout) {
  const timeval value{timeout.count() / 1000, timeout.count() % 1000 * 1000};
  EXPECT_EQ(::setsockopt(fd, SOL_SOCKET, name, &value, sizeof value), 0);
}

/// A blocking connection over 127.0.0.1; `receive_buffer` is the first end's, 0 for the default.
inline std::pair<UniqueFd, UniqueFd> tcp_pair(int receive_buffer = 0) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(listener.get(), raw, length), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  EXPECT_EQ(::getsockname(listener.get(), raw, &length), 0);
  UniqueFd a(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (receive_buffer != 0) set_int(a.get(), SOL_SOCKET, SO_RCVBUF, receive_buffer);
  EXPECT_EQ(::connect(a.get(), raw, length), 0);
  UniqueFd b(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(b);
  return {std::move(a), std::move(b)};
}

}  // namespace handshake::test
