// SPDX-License-Identifier: Apache-2.0
#include "tls/context.h"

#include <algorithm>
#include <array>
#include <span>

namespace handshake::tls {
namespace {

constexpr int kSecurityLevel = 2;       // 112 bits: RSA from 2048, no SHA-1
constexpr int kMaxIntermediates = 8;
constexpr long kMaxChainBytes = 32 * 1024;  // a peer's claim makes us reserve this much
// The library reserves the buffer for a record before it has anything to send. A flight with a long
// chain takes two records for it.
constexpr long kHandshakeFragment = 4096;

/// The first list that this library, and its provider, know. From OpenSSL 3.5 on there is hybrid
/// post-quantum key exchange; a key share for X25519 goes with it (`*`), so that a peer without it
/// costs no round trip.
constexpr std::array kGroupLists{
    "?*X25519MLKEM768/?*X25519:?P-256/?P-384:?P-521",
    "X25519:P-256:P-384:P-521",
    "P-256:P-384:P-521",
};

bool set_groups(SSL_CTX* context) {
  const bool set = std::any_of(kGroupLists.begin(), kGroupLists.end(), [&](const char* list) {
    return SSL_CTX_set1_groups_list(context, list) == 1;
  });
  if (set) drain_errors();
  return set;
}

std::uint64_t options() {
  std::uint64_t options = SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                          SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;
#ifdef SSL_OP_NO_RX_CERTIFICATE_COMPRESSION
  options |= SSL_OP_NO_RX_CERTIFICATE_COMPRESSION;  // a peer does not get to inflate
#endif
#ifdef SSL_OP_NO_TX_CERTIFICATE_COMPRESSION
  options |= SSL_OP_NO_TX_CERTIFICATE_COMPRESSION;
#endif
  return options;
}

}  // namespace

std::string suite_list(std::span<const Cipher> ciphers) {
  std::string list;
  for (const Cipher cipher : ciphers) {
    if (!list.empty()) list += ':';
    list += to_string(cipher);
  }
  return list;
}

Result<SslContextPtr> make_context(Side side, SSL_CTX_keylog_cb_func on_secret) {
  SslContextPtr context(
      SSL_CTX_new(side == Side::kClient ? TLS_client_method() : TLS_server_method()));
  if (!context) return fail_openssl(ErrorKind::kInputOutput, "make a TLS context");
  SSL_CTX* raw = context.get();

  if (SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(raw, TLS1_3_VERSION) != 1) {
    return fail_openssl(ErrorKind::kInputOutput, "restrict the TLS library to TLS 1.3");
  }
  if (SSL_CTX_set_ciphersuites(raw, suite_list(kAllCiphers).c_str()) != 1) {
    return fail_openssl(ErrorKind::kInputOutput, "set the cipher suites");
  }
  if (!set_groups(raw)) return fail_openssl(ErrorKind::kInputOutput, "set the key exchange groups");

  // The system's openssl.cnf may have set options of its own: kTLS is ours, middlebox
  // compatibility (RFC 8446 D.4) is the default everywhere.
  SSL_CTX_clear_options(raw, SSL_OP_ENABLE_KTLS | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_options(raw, options());
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN |
                            SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_max_early_data(raw, 0);
  SSL_CTX_set_security_level(raw, std::max(kSecurityLevel, SSL_CTX_get_security_level(raw)));
  SSL_CTX_set_verify_depth(raw, kMaxIntermediates);
  SSL_CTX_set_max_cert_list(raw, kMaxChainBytes);
  SSL_CTX_set_read_ahead(raw, 0);
  SSL_CTX_set_max_send_fragment(raw, kHandshakeFragment);
  SSL_CTX_set_keylog_callback(raw, on_secret);
  return context;
}

}  // namespace handshake::tls
