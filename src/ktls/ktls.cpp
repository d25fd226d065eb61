// SPDX-License-Identifier: Apache-2.0
#include "ktls/ktls.h"

#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "ktls/crypto_info.h"
#include "ktls/plain_pair.h"

namespace handshake::ktls {
namespace {

constexpr char kUpperLayer[] = "tls";

Result<void> set_keys(int fd, int direction, tls::Cipher cipher, const CryptoInfo& info) {
  const auto bytes = info.view();
  if (::setsockopt(fd, SOL_TLS, direction, bytes.data(), static_cast<socklen_t>(bytes.size())) ==
      0) {
    return {};
  }
  const int number = errno;
  const std::string what = fmt::format("give the kernel the keys for {} ({})",
                                       direction == TLS_TX ? "sending" : "receiving",
                                       to_string(cipher));
  // EINVAL and ENOENT: a cipher that this kernel, or its crypto configuration, does not have.
  if (number == EINVAL || number == ENOENT || number == EOPNOTSUPP) {
    return fail(ErrorKind::kNotSupported, fmt::format("{}: it does not support them: {}", what,
                                                      errno_name(number)));
  }
  return fail_errno(number, what);
}

Result<void> set_upper_layer(int fd) {
  if (::setsockopt(fd, IPPROTO_TCP, TCP_ULP, kUpperLayer, sizeof kUpperLayer - 1) == 0) return {};
  const int number = errno;
  if (number == ENOENT || number == ENOPROTOOPT) {
    return fail(ErrorKind::kNotSupported,
                "the kernel has no kTLS, or its module is not loaded (modprobe tls)");
  }
  if (number == EOPNOTSUPP) {
    return fail(ErrorKind::kNotSupported, "kTLS is not possible on this socket: it is not TCP");
  }
  return fail_errno(number, "put kTLS on the socket");
}

/// One small message. EIO: it did not arrive as it was sent.
Result<void> exchange(int sender, int receiver) {
  constexpr std::string_view kMessage = "probe";
  if (::send(sender, kMessage.data(), kMessage.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(kMessage.size())) {
    return fail_errno("send through kTLS");
  }
  pollfd ready{receiver, POLLIN, 0};
  constexpr int kPatienceMs = 2000;  // a busy machine must not look like one without kTLS
  std::array<char, kMessage.size()> got{};
  if (::poll(&ready, 1, kPatienceMs) != 1 ||
      ::recv(receiver, got.data(), got.size(), MSG_DONTWAIT) !=
          static_cast<ssize_t>(kMessage.size()) ||
      std::string_view(got.data(), got.size()) != kMessage) {
    return fail(ErrorKind::kInputOutput, "what was sent through kTLS did not come back");
  }
  return {};
}

Result<void> try_cipher(tls::Cipher cipher) {
  auto pair = make_plain_pair();
  if (!pair) return tl::unexpected(pair.error());
  tls::TrafficSecrets secrets;
  std::ranges::fill(secrets.client.resize(secret_size(cipher)), std::uint8_t{1});
  std::ranges::fill(secrets.server.resize(secret_size(cipher)), std::uint8_t{2});
  const int client = pair->inner.get();
  const int server = pair->outer.get();
  if (auto done = install(client, tls::Side::kClient, cipher, secrets); !done) return done;
  if (auto done = install(server, tls::Side::kServer, cipher, secrets); !done) return done;
  if (auto done = verify(client); !done) return done;
  if (auto done = exchange(client, server); !done) return done;
  return exchange(server, client);
}

}  // namespace

Result<void> install(int fd, tls::Side side, tls::Cipher cipher,
                     const tls::TrafficSecrets& secrets) {
  auto keys = make_kernel_keys(side, cipher, secrets);
  if (!keys) return tl::unexpected(keys.error());
  if (auto done = set_upper_layer(fd); !done) return done;
  if (auto done = set_keys(fd, TLS_TX, cipher, keys->sending); !done) return done;
  return set_keys(fd, TLS_RX, cipher, keys->receiving);
}

ProbeResult probe() {
  ProbeResult result;
  for (const tls::Cipher cipher : tls::kAllCiphers) {
    if (auto works = try_cipher(cipher); works) {
      result.ciphers.push_back(cipher);
    } else if (result.reason.empty()) {
      result.reason = works.error().detail;
    }
  }
  return result;
}

}  // namespace handshake::ktls
