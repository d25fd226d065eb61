// SPDX-License-Identifier: Apache-2.0
#include "daemon/authorizer.h"

#include <sys/socket.h>

#include <algorithm>

#include <fmt/format.h>

namespace handshake::daemon {

namespace {

bool listed(const config::AccessList& access, const Caller& caller) {
  if (access.everybody) return true;
  if (std::find(access.users.begin(), access.users.end(), caller.uid) != access.users.end()) {
    return true;
  }
  return std::any_of(access.groups.begin(), access.groups.end(), [&](gid_t group) {
    return group == caller.gid ||
           std::find(caller.groups.begin(), caller.groups.end(), group) != caller.groups.end();
  });
}

}  // namespace

Result<void> may_use(const config::Settings& settings, const Caller& caller,
                     const std::string& name, protocol::MessageType role, std::uint16_t port) {
  if (name.empty()) return fail(ErrorKind::kInvalidArgument, "no credential named");
  const auto found =
      std::find_if(settings.credentials.begin(), settings.credentials.end(),
                   [&](const config::CredentialSettings& credential) { return credential.name == name; });
  if (found == settings.credentials.end() || !listed(found->access, caller)) {
    return fail(ErrorKind::kNotPermitted,
                fmt::format("uid {} may not use a credential \"{}\"", caller.uid, name));
  }
  const bool server = role == protocol::MessageType::kServerhello;
  if (server ? !found->server : !found->client) {
    return fail(ErrorKind::kNotPermitted, fmt::format("credential \"{}\" is not for the role of a {}",
                                                      name, server ? "server" : "client"));
  }
  const auto& ports = found->access.ports;
  const bool port_allowed =
      ports.empty() || std::any_of(ports.begin(), ports.end(), [port](const config::PortRange& range) {
        return port >= range.first && port <= range.last;
      });
  if (!port_allowed) {
    return fail(ErrorKind::kNotPermitted,
                fmt::format("credential \"{}\" is not for port {}", name, port));
  }
  return {};
}

std::vector<gid_t> peer_groups(int fd) {
  std::vector<gid_t> groups(64);
  socklen_t length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  int failed = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
  if (failed != 0 && errno == ERANGE) {
    groups.resize(length / sizeof(gid_t));
    failed = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
  }
  groups.resize(failed == 0 ? length / sizeof(gid_t) : 0);
  return groups;
}

}  // namespace handshake::daemon
