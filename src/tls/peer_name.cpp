// SPDX-License-Identifier: Apache-2.0
#include "tls/peer_name.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "base/log.h"

namespace handshake::tls {
namespace {

std::string print(int family, const void* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  return ::inet_ntop(family, address, text.data(), text.size()) != nullptr ? text.data() : "";
}

PeerName ip(const in_addr& address) { return {PeerName::Kind::kIp, print(AF_INET, &address)}; }

PeerName ip(const in6_addr& address) {
  if (!IN6_IS_ADDR_V4MAPPED(&address)) return {PeerName::Kind::kIp, print(AF_INET6, &address)};
  in_addr mapped{};
  std::memcpy(&mapped, &address.s6_addr[12], sizeof mapped);
  return ip(mapped);
}

std::optional<PeerName> parse_ip(const std::string& text) {
  in_addr v4{};
  if (::inet_pton(AF_INET, text.c_str(), &v4) == 1) return ip(v4);
  in6_addr v6{};
  const std::string without_zone = text.substr(0, text.find('%'));
  if (::inet_pton(AF_INET6, without_zone.c_str(), &v6) == 1) return ip(v6);
  return std::nullopt;
}

bool is_dns_name(std::string_view name) {
  constexpr std::size_t kMaxName = 253;
  constexpr std::size_t kMaxLabel = 63;
  if (name.empty() || name.size() > kMaxName) return false;
  std::size_t label = 0;
  for (const char c : name) {
    if (c == '.') {
      if (label == 0) return false;
      label = 0;
      continue;
    }
    const bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (!allowed || ++label > kMaxLabel) return false;
  }
  return label > 0;
}

}  // namespace

Result<PeerName> parse_peer_name(std::string_view text) {
  if (text.find('\0') == std::string_view::npos) {
    if (auto address = parse_ip(std::string(text))) return *address;
  }
  std::string_view name = text;
  if (name.ends_with('.')) name.remove_suffix(1);
  if (is_dns_name(name)) return PeerName{PeerName::Kind::kDns, std::string(name)};
  return fail(ErrorKind::kInvalidArgument,
              fmt::format("{}: neither a DNS name (letters, digits, '-', '.'; international names "
                          "as xn--) nor an IP address",
                          log_field("peername", text)));
}

Result<PeerName> peer_address_of(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("no peername given, and the socket has no peer: {}",
                            errno_name(errno)));
  }
  if (storage.ss_family == AF_INET) {
    sockaddr_in address{};
    std::memcpy(&address, &storage, sizeof address);
    return ip(address.sin_addr);
  }
  if (storage.ss_family == AF_INET6) {
    sockaddr_in6 address{};
    std::memcpy(&address, &storage, sizeof address);
    return ip(address.sin6_addr);
  }
  return fail(ErrorKind::kInvalidArgument,
              "no peername given, and the peer has no IP address: nothing to verify its "
              "certificate against");
}

}  // namespace handshake::tls
