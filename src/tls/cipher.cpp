// SPDX-License-Identifier: Apache-2.0
#include "tls/cipher.h"

namespace handshake::tls {

std::string_view to_string(Cipher cipher) noexcept {
  switch (cipher) {
    case Cipher::kAes128Gcm: return "TLS_AES_128_GCM_SHA256";
    case Cipher::kAes256Gcm: return "TLS_AES_256_GCM_SHA384";
    case Cipher::kChaCha20Poly1305: return "TLS_CHACHA20_POLY1305_SHA256";
    case Cipher::kAes128Ccm: return "TLS_AES_128_CCM_SHA256";
  }
  return "unknown";
}

std::size_t key_size(Cipher cipher) noexcept {
  switch (cipher) {
    case Cipher::kAes128Gcm:
    case Cipher::kAes128Ccm: return 16;
    case Cipher::kAes256Gcm:
    case Cipher::kChaCha20Poly1305: return 32;
  }
  return 0;
}

std::size_t secret_size(Cipher cipher) noexcept {
  switch (cipher) {
    case Cipher::kAes128Gcm:
    case Cipher::kAes128Ccm:
    case Cipher::kChaCha20Poly1305: return 32;
    case Cipher::kAes256Gcm: return 48;
  }
  return 0;
}

}  // namespace handshake::tls
