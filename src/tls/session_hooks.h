// SPDX-License-Identifier: Apache-2.0
// For tls/*.cpp only: what the TLS library calls during a session, and what is noted there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "tls/openssl.h"
#include "tls/psk_hooks.h"
#include "tls/secrets.h"

namespace handshake::tls {

/// The library's callbacks cannot return what they learn; it ends up here. One for each session,
/// found through the SSL object.
struct Observations {
  TrafficSecrets secrets;
  std::optional<std::uint8_t> alert;  ///< the first one that was not a close_notify
  bool alert_sent = false;
  int verify_error = 0;  ///< X509_V_ERR_* of the certificate that was rejected
  int verify_depth = 0;
  std::string verify_subject;
  bool out_of_memory = false;
  std::unique_ptr<PskState> psk;  ///< null: a session with certificates
};

void observe(SSL* ssl, Observations& observations) noexcept;

/// SSL_CTX_set_keylog_callback: one line in the format of SSLKEYLOGFILE.
void on_secret(const SSL* ssl, const char* line) noexcept;
/// SSL_CTX_set_info_callback: alerts.
void on_information(const SSL* ssl, int where, int value) noexcept;
/// SSL_set_verify: notes what is wrong with which certificate.
int on_verify(int acceptable, X509_STORE_CTX* context) noexcept;

}  // namespace handshake::tls
