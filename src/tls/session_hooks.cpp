// SPDX-License-Identifier: Apache-2.0
#include "tls/session_hooks.h"

#include <new>
#include <string_view>

namespace handshake::tls {
namespace {

Observations* observations_of(const SSL* ssl) noexcept {
  return static_cast<Observations*>(SSL_get_app_data(ssl));
}

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

/// Leaves `secret` empty when the text is not one; the end of the handshake looks at its size.
void parse_secret(std::string_view hex, TrafficSecret& secret) noexcept {
  const auto bytes = secret.resize(hex.size() / 2);
  if (bytes.size() * 2 != hex.size()) return secret.clear();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const int high = hex_digit(hex[2 * i]);
    const int low = hex_digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return secret.clear();
    bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
}

/// A trust anchor is trusted for what it is (RFC 5280 §6.1.1 d): nobody above it need speak for it.
bool lacks_only_the_anchors_crl(X509_STORE_CTX* context) noexcept {
  const STACK_OF(X509)* chain = X509_STORE_CTX_get0_chain(context);
  return X509_STORE_CTX_get_error(context) == X509_V_ERR_UNABLE_TO_GET_CRL && chain != nullptr &&
         X509_STORE_CTX_get_error_depth(context) == sk_X509_num(chain) - 1;
}

}  // namespace

void observe(SSL* ssl, Observations& observations) noexcept { SSL_set_app_data(ssl, &observations); }

void on_secret(const SSL* ssl, const char* line) noexcept {
  Observations* observations = observations_of(ssl);
  if (observations == nullptr) return;
  const std::string_view text(line);  // LABEL CLIENT_RANDOM SECRET
  const std::size_t label_end = text.find(' ');
  const std::size_t secret_start = text.rfind(' ');
  if (label_end == std::string_view::npos || label_end == secret_start) return;
  const std::string_view label = text.substr(0, label_end);
  const std::string_view secret = text.substr(secret_start + 1);
  if (label == "CLIENT_TRAFFIC_SECRET_0") parse_secret(secret, observations->secrets.client);
  if (label == "SERVER_TRAFFIC_SECRET_0") parse_secret(secret, observations->secrets.server);
}

void on_information(const SSL* ssl, int where, int value) noexcept {
  if ((where & SSL_CB_ALERT) == 0) return;
  Observations* observations = observations_of(ssl);
  if (observations == nullptr || observations->alert) return;
  const auto alert = static_cast<std::uint8_t>(value & 0xff);
  if (alert == SSL_AD_CLOSE_NOTIFY || alert == SSL_AD_USER_CANCELLED) return;
  observations->alert = alert;
  observations->alert_sent = (where & SSL_CB_WRITE) != 0;
}

int on_verify(int acceptable, X509_STORE_CTX* context) noexcept {
  if (acceptable == 1) return 1;
  if (lacks_only_the_anchors_crl(context)) {
    X509_STORE_CTX_set_error(context, X509_V_OK);
    return 1;
  }
  const auto* ssl = static_cast<const SSL*>(
      X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()));
  Observations* observations = ssl != nullptr ? observations_of(ssl) : nullptr;
  if (observations == nullptr || observations->verify_error != X509_V_OK) return 0;
  observations->verify_error = X509_STORE_CTX_get_error(context);
  observations->verify_depth = X509_STORE_CTX_get_error_depth(context);
  try {
    const X509* certificate = X509_STORE_CTX_get_current_cert(context);
    if (certificate == nullptr) certificate = X509_STORE_CTX_get0_cert(context);
    if (certificate != nullptr) {
      observations->verify_subject = distinguished_name(X509_get_subject_name(certificate));
    }
  } catch (const std::bad_alloc&) {
    observations->out_of_memory = true;
  }
  return 0;
}

}  // namespace handshake::tls
