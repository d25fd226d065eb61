// SPDX-License-Identifier: Apache-2.0
#include "ktls/check.h"

#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <string>
#include <string_view>

namespace handshake::ktls {
namespace {

/// The short form of the answer: version and cipher, no key. EBUSY: this direction has none.
Result<tls_crypto_info> keyed_with(int fd, int direction, std::string_view name) {
  tls_crypto_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(fd, SOL_TLS, direction, &info, &size) != 0) {
    if (errno == EBUSY) {
      return fail(ErrorKind::kInputOutput, std::string(name) + " has no keys");
    }
    return fail_errno("ask the kernel for " + std::string(name));
  }
  if (info.version != TLS_1_3_VERSION || info.cipher_type == 0) {
    return fail(ErrorKind::kInputOutput, std::string(name) + " is not keyed for TLS 1.3");
  }
  return info;
}

}  // namespace

Result<void> verify(int fd) {
  std::array<char, 16> name{};
  socklen_t size = name.size() - 1;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_ULP, name.data(), &size) != 0) {
    return fail_errno("ask the kernel for the socket's upper layer");
  }
  const std::string_view layer(name.data());
  if (layer != "tls") {
    return fail(ErrorKind::kInputOutput,
                layer.empty() ? "the socket has no upper layer: it would send plaintext"
                              : "the socket's upper layer is not tls");
  }
  auto sending = keyed_with(fd, TLS_TX, "the direction that sends");
  if (!sending) return tl::unexpected(sending.error());
  auto receiving = keyed_with(fd, TLS_RX, "the direction that receives");
  if (!receiving) return tl::unexpected(receiving.error());
  if (sending->cipher_type != receiving->cipher_type) {
    return fail(ErrorKind::kInputOutput, "the two directions have different ciphers");
  }
  return {};
}

}  // namespace handshake::ktls
