// SPDX-License-Identifier: Apache-2.0
#include "service/socket_facts.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>


namespace handshake::service {
namespace {

struct Endpoint {
  PeerAddress address{};
  std::uint16_t port = 0;
};

template <class T>
bool read_option(int fd, int level, int name, T& value) {
  socklen_t size = sizeof value;
  return ::getsockopt(fd, level, name, &value, &size) == 0 && size == sizeof value;
}

bool is_stream_tcp(int fd) {
  int domain = 0;
  int type = 0;
  int protocol = 0;
  return read_option(fd, SOL_SOCKET, SO_DOMAIN, domain) &&
         (domain == AF_INET || domain == AF_INET6) &&
         read_option(fd, SOL_SOCKET, SO_TYPE, type) && type == SOCK_STREAM &&
         read_option(fd, SOL_SOCKET, SO_PROTOCOL, protocol) && protocol == IPPROTO_TCP;
}

Endpoint to_endpoint(const sockaddr_storage& storage) {
  Endpoint endpoint;
  if (storage.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &storage, sizeof v4);
    endpoint.address[10] = endpoint.address[11] = 0xff;
    std::memcpy(endpoint.address.data() + 12, &v4.sin_addr, 4);
    endpoint.port = ntohs(v4.sin_port);
  } else if (storage.ss_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, &storage, sizeof v6);
    std::memcpy(endpoint.address.data(), &v6.sin6_addr, 16);
    endpoint.port = ntohs(v6.sin6_port);
  }
  return endpoint;
}

}  // namespace

Result<SocketFacts> read_socket_facts(int fd) {
  SocketFacts facts;
  facts.stream_tcp = is_stream_tcp(fd);
  if (!facts.stream_tcp) return facts;

  sockaddr_storage address{};
  socklen_t size = sizeof address;
  facts.connected = ::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  if (!facts.connected) return facts;
  const Endpoint peer = to_endpoint(address);
  facts.peer_address = peer.address;
  facts.peer_port = peer.port;

  address = {};
  size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    facts.local_port = to_endpoint(address).port;
  }

  if (!read_option(fd, SOL_SOCKET, SO_COOKIE, facts.cookie)) return fail_errno("SO_COOKIE");
  if (!read_option(fd, SOL_SOCKET, SO_NETNS_COOKIE, facts.netns_cookie)) {
    return fail_errno("SO_NETNS_COOKIE");
  }

  std::array<char, 64> name{};
  size = name.size();
  // The kernel answers with length 0 when there is none; an error means that it knows no upper
  // layer protocols at all.
  if (::getsockopt(fd, IPPROTO_TCP, TCP_ULP, name.data(), &size) == 0) {
    facts.upper_layer.assign(name.data(), ::strnlen(name.data(), size));
  }
  return facts;
}

std::string to_text(const PeerAddress& address, std::uint16_t port) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool mapped = std::all_of(address.begin(), address.begin() + 10,
                                  [](std::uint8_t byte) { return byte == 0; }) &&
                      address[10] == 0xff && address[11] == 0xff;
  if (mapped) {
    ::inet_ntop(AF_INET, address.data() + 12, text.data(), text.size());
    return std::string(text.data()) + ":" + std::to_string(port);
  }
  ::inet_ntop(AF_INET6, address.data(), text.data(), text.size());
  return "[" + std::string(text.data()) + "]:" + std::to_string(port);
}

Result<std::uint64_t> netns_cookie_of(int socket) {
  std::uint64_t cookie = 0;
  if (!read_option(socket, SOL_SOCKET, SO_NETNS_COOKIE, cookie)) {
    return fail_errno("SO_NETNS_COOKIE");
  }
  return cookie;
}

}  // namespace handshake::service
