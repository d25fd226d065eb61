// SPDX-License-Identifier: Apache-2.0
#include "agent/warm_up.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "base/unique_fd.h"
#include "tls/session.h"

namespace handshake::agent {

namespace {

// Flights of a handshake, with room to spare: all of it goes through the socket buffers.
constexpr int kMaxTurns = 16;

std::shared_ptr<const tls::Credential> any_server(const CredentialSet& credentials) {
  for (const auto& [name, credential] : credentials.all()) {
    if (credential.server && credential.tls->has_key_pair()) return credential.tls;
  }
  return nullptr;
}

}  // namespace

Result<bool> warm_up(const CredentialSet& credentials) {
  const std::shared_ptr<const tls::Credential> serving = any_server(credentials);
  if (serving == nullptr) return false;
  auto nobody = tls::load_credential({.name = "warm-up"});
  if (!nobody) return tl::unexpected(nobody.error());

  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return fail_errno("warm-up: socketpair");
  }
  const UniqueFd server_end(fds[0]);
  const UniqueFd client_end(fds[1]);
  tls::SessionParameters parameters;
  parameters.side = tls::Side::kServer;
  auto server = tls::Session::create(server_end.get(), serving, parameters);
  if (!server) return tl::unexpected(server.error());
  parameters.side = tls::Side::kClient;
  parameters.peername = "warm-up.invalid";
  auto client = tls::Session::create(client_end.get(), *nobody, parameters);
  if (!client) return tl::unexpected(client.error());

  for (int turn = 0; turn < kMaxTurns; ++turn) {
    const auto greeted = (*client)->advance();
    const auto served = (*server)->advance();
    // Rejecting the certificate is how it is meant to end: everything before that has worked.
    if (!greeted && greeted.error().error.kind == ErrorKind::kRejected) return true;
    if (!greeted) return tl::unexpected(greeted.error().error);
    if (!served) return tl::unexpected(served.error().error);
  }
  return fail(ErrorKind::kInputOutput, "warm-up: the handshake does not end");
}

}  // namespace handshake::agent
