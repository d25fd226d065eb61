// SPDX-License-Identifier: Apache-2.0
#include "tls/psk_hooks.h"

#include <algorithm>
#include <array>
#include <new>
#include <string_view>

#include "tls/context.h"
#include "tls/session_hooks.h"

namespace handshake::tls {
namespace {

using SslSessionPtr = std::unique_ptr<SSL_SESSION, Deleter<SSL_SESSION_free>>;

PskState* state_of(const SSL* ssl) noexcept {
  const auto* observations = static_cast<Observations*>(SSL_get_app_data(ssl));
  return observations != nullptr ? observations->psk.get() : nullptr;
}

/// A session to resume that never was: how OpenSSL takes an external key. Null: out of memory, or a
/// key that is too long (512 bytes).
SslSessionPtr session_with(SSL* ssl, const PresharedKey& key) noexcept {
  // Any suite of the right hash; which one is settled later.
  const std::array<unsigned char, 2> suite{0x13, psk_hash(key) == PskHash::kSha384 ? std::uint8_t{0x02}
                                                                                   : std::uint8_t{0x01}};
  const SSL_CIPHER* cipher = SSL_CIPHER_find(ssl, suite.data());
  SslSessionPtr session(SSL_SESSION_new());
  const std::span<const std::byte> secret = key.secret.view();
  const bool made =
      session && cipher != nullptr &&
      SSL_SESSION_set1_master_key(session.get(),
                                  reinterpret_cast<const unsigned char*>(secret.data()),
                                  secret.size()) == 1 &&
      SSL_SESSION_set_cipher(session.get(), cipher) == 1 &&
      SSL_SESSION_set_protocol_version(session.get(), TLS1_3_VERSION) == 1;
  return made ? std::move(session) : nullptr;
}

/// Takes numbers and vectors off the front of an extension (RFC 8446 §3).
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  [[nodiscard]] bool empty() const noexcept { return rest_.empty(); }
  /// opaque<0..2^16-1>; false when it is longer than what is there.
  [[nodiscard]] bool vector(std::string_view& value) noexcept {
    if (rest_.size() < 2) return false;
    const auto size = static_cast<std::size_t>(static_cast<unsigned char>(rest_[0]) << 8 |
                                               static_cast<unsigned char>(rest_[1]));
    if (rest_.size() - 2 < size) return false;
    value = rest_.substr(2, size);
    rest_.remove_prefix(2 + size);
    return true;
  }
  [[nodiscard]] bool skip(std::size_t bytes) noexcept {
    if (rest_.size() < bytes) return false;
    rest_.remove_prefix(bytes);
    return true;
  }

 private:
  std::string_view rest_;
};

/// OfferedPsks.identities (RFC 8446 §4.2.11); false when it is malformed. Throws std::bad_alloc.
bool read_identities(std::string_view extension, std::vector<std::string>& identities) {
  constexpr std::size_t kMaxIdentities = 32;  // more than anybody has; the rest is not looked at
  constexpr std::size_t kAgeBytes = 4;
  std::string_view list;
  if (!Reader(extension).vector(list)) return false;
  Reader reader(list);
  while (!reader.empty() && identities.size() < kMaxIdentities) {
    std::string_view identity;
    if (!reader.vector(identity) || identity.empty() || !reader.skip(kAgeBytes)) return false;
    identities.emplace_back(identity);
  }
  return !identities.empty();
}

int refuse(PskState& psk, ErrorKind kind, std::string reason, int& alert, int value) {
  psk.refusal_kind = kind;
  psk.refusal = std::move(reason);
  alert = value;
  return SSL_CLIENT_HELLO_ERROR;
}

int ask_for_key(SSL* ssl, PskState& psk, int& alert) {
  const unsigned char* extension = nullptr;
  std::size_t size = 0;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_psk, &extension, &size) != 1) {
    return refuse(psk, ErrorKind::kRejected, "peer offers no pre-shared key, but one is required", alert,
                  SSL_AD_HANDSHAKE_FAILURE);
  }
  if (!read_identities({reinterpret_cast<const char*>(extension), size}, psk.offered)) {
    return refuse(psk, ErrorKind::kInputOutput, "peer's pre_shared_key extension is malformed", alert,
                  SSL_AD_DECODE_ERROR);
  }
  psk.wanted = true;
  return SSL_CLIENT_HELLO_RETRY;
}

int use_key(SSL* ssl, PskState& psk, int& alert) {
  if (psk.key == nullptr) {
    return refuse(psk, ErrorKind::kKeyRejected, "no key is known for the peer's identity", alert,
                  SSL_AD_UNKNOWN_PSK_IDENTITY);
  }
  // The suite is chosen before the key is looked at: leave no wrong one to choose.
  const std::vector<Cipher> fitting = ciphers_with(psk_hash(*psk.key), psk.ciphers);
  if (fitting.empty() || SSL_set_ciphersuites(ssl, suite_list(fitting).c_str()) != 1) {
    return refuse(psk, ErrorKind::kNotSupported,
                  "the kernel has no cipher suite with the hash of the pre-shared key", alert,
                  SSL_AD_HANDSHAKE_FAILURE);
  }
  return SSL_CLIENT_HELLO_SUCCESS;
}

}  // namespace

int on_psk_wanted(SSL* ssl, const EVP_MD* hash, const unsigned char** identity, std::size_t* size,
                  SSL_SESSION** session) noexcept {
  const PskState* psk = state_of(ssl);
  if (psk == nullptr || psk->key == nullptr) return 0;
  const bool sha384 = psk_hash(*psk->key) == PskHash::kSha384;
  // After a HelloRetryRequest the suite, and with it the hash, is settled.
  if (hash != nullptr && EVP_MD_is_a(hash, sha384 ? "SHA384" : "SHA256") != 1) return 0;
  SslSessionPtr made = session_with(ssl, *psk->key);
  if (!made) return 0;
  *session = made.release();  // the library's from now on
  *identity = reinterpret_cast<const unsigned char*>(psk->key->identity.data());
  *size = psk->key->identity.size();
  return 1;
}

int on_psk_offered(SSL* ssl, const unsigned char* identity, std::size_t size,
                   SSL_SESSION** session) noexcept {
  *session = nullptr;
  const PskState* psk = state_of(ssl);
  if (psk == nullptr || psk->key == nullptr) return 1;  // not one of ours: try the next
  if (psk->key->identity != std::string_view(reinterpret_cast<const char*>(identity), size)) return 1;
  SslSessionPtr made = session_with(ssl, *psk->key);
  if (!made) return 0;
  *session = made.release();
  return 1;
}

int on_client_hello(SSL* ssl, int* alert, void* /*unused*/) noexcept {
  PskState* psk = state_of(ssl);
  *alert = SSL_AD_INTERNAL_ERROR;
  if (psk == nullptr) return SSL_CLIENT_HELLO_ERROR;
  try {
    return psk->answered ? use_key(ssl, *psk, *alert) : ask_for_key(ssl, *psk, *alert);
  } catch (const std::bad_alloc&) {
    static_cast<Observations*>(SSL_get_app_data(ssl))->out_of_memory = true;
    return SSL_CLIENT_HELLO_ERROR;
  }
}

}  // namespace handshake::tls
