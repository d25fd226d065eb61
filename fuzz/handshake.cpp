// SPDX-License-Identifier: Apache-2.0
// A session fed by a hostile peer. The first byte chooses the side and the size of the pieces in
// which the rest arrives; then the peer closes its end.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/unique_fd.h"
#include "support/pki.h"
#include "tls/session.h"

namespace {

using handshake::UniqueFd;
namespace tls = handshake::tls;

std::shared_ptr<const tls::Credential> make_credential() {
  const handshake::test_pki::Authority ca("fuzz CA");
  const auto identity = ca.issue({.common_name = "both", .dns_names = {"server.test"}});
  tls::CredentialSource source;
  source.name = "fuzz";
  source.key_pairs.push_back({{"cert", identity.chain_pem}, {"key", identity.key_pem}});
  source.trust_store.push_back({"ca", ca.certificate_pem()});
  return tls::load_credential(source).value();
}

/// What the session sends, so that a full socket does not end the run.
void discard(int fd) {
  std::array<char, 65536> buffer{};
  while (::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT) > 0) {
  }
}

void check(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto credential = make_credential();
  if (size < 1 || size > 65536) return 0;
  tls::SessionParameters parameters;
  parameters.side = (data[0] & 1) != 0 ? tls::Side::kClient : tls::Side::kServer;
  parameters.peername = "server.test";
  parameters.present_certificate = true;
  parameters.require_client_certificate = true;
  const std::size_t piece = (data[0] & 2) != 0 ? 1 + data[0] / 4U : size;

  std::array<int, 2> fds{};
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
  const UniqueFd ours(fds[0]);
  const UniqueFd peers(fds[1]);
  auto session = tls::Session::create(ours.get(), credential, parameters);
  check(session.has_value());
  auto progress = (*session)->advance();
  for (std::span rest(data + 1, size - 1); progress && !rest.empty();) {
    const auto part = rest.first(std::min(piece, rest.size()));
    check(::send(peers.get(), part.data(), part.size(), 0) == static_cast<ssize_t>(part.size()));
    rest = rest.subspan(part.size());
    progress = (*session)->advance();
    discard(peers.get());
  }
  ::shutdown(peers.get(), SHUT_WR);
  progress = (*session)->advance();
  // Nobody gets through without our keys, and a failure has a reason of one line.
  check(!progress);
  const std::string& reason = progress.error().error.detail;
  check(!reason.empty());
  check(std::all_of(reason.begin(), reason.end(),
                    [](char c) { return static_cast<unsigned char>(c) >= ' '; }));
  return 0;
}
