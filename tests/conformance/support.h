// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/unique_fd.h"

namespace handshake::testing {

/// Bugs of the test's surroundings, not of what is tested.
inline int must(int result, const char* what) {
  if (result < 0) throw std::runtime_error(std::string(what) + ": errno " + std::to_string(errno));
  return result;
}

inline UniqueFd duplicate(int fd) {
  return UniqueFd(must(::fcntl(fd, F_DUPFD_CLOEXEC, 0), "dup"));
}

inline ino_t inode_of(int fd) {
  struct stat status {};
  must(::fstat(fd, &status), "fstat");
  return status.st_ino;
}

/// A connected TCP connection over loopback.
struct TcpPair {
  UniqueFd client;
  UniqueFd server;
};

/// Connects from `from` (an address in 127.0.0.0/8) to 127.0.0.1. `buffer` bytes of send and
/// receive buffer when not 0.
inline TcpPair tcp_pair(const char* from = "127.0.0.1", int buffer = 0) {
  const auto sized = [buffer](const UniqueFd& fd) {
    if (buffer == 0) return;
    must(::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer), "SO_SNDBUF");
    must(::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer), "SO_RCVBUF");
  };
  const UniqueFd listener(must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sized(listener);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  must(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size), "bind");
  must(::listen(listener.get(), 1), "listen");
  must(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  TcpPair pair;
  pair.client.reset(must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sized(pair.client);
  sockaddr_in source{};
  source.sin_family = AF_INET;
  must(::inet_pton(AF_INET, from, &source.sin_addr), "inet_pton");
  must(::bind(pair.client.get(), reinterpret_cast<sockaddr*>(&source), sizeof source), "bind");
  must(::connect(pair.client.get(), reinterpret_cast<sockaddr*>(&address), size), "connect");
  pair.server.reset(must(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
  return pair;
}

/// How many descriptors this process has open.
inline std::size_t open_descriptors() {
  DIR* const directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) throw std::runtime_error("opendir /proc/self/fd");
  std::size_t count = 0;
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

/// Far enough that only a hang reaches it.
inline TimePoint soon() { return Clock::now() + std::chrono::seconds(60); }

}  // namespace handshake::testing
