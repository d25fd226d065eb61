// SPDX-License-Identifier: Apache-2.0
// For tls/*.cpp only.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "tls/cipher.h"
#include "tls/openssl.h"

namespace handshake::tls {

/// What all sessions of one side have in common: TLS 1.3 only, the four suites, no tickets, no
/// resumption, no early data, no record layer of the library's own in the kernel. `on_secret` gets
/// the traffic secrets in the format of SSLKEYLOGFILE.
[[nodiscard]] Result<SslContextPtr> make_context(Side side, SSL_CTX_keylog_cb_func on_secret);

/// The names of suites as SSL_set_ciphersuites() wants them.
[[nodiscard]] std::string suite_list(std::span<const Cipher> ciphers);

}  // namespace handshake::tls
