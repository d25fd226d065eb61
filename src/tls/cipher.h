// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace handshake::tls {

enum class Side : std::uint8_t { kClient, kServer };

/// The cipher suites of TLS 1.3 that kTLS has, by their IANA numbers (RFC 8446 B.4).
enum class Cipher : std::uint16_t {
  kAes128Gcm = 0x1301,
  kAes256Gcm = 0x1302,
  kChaCha20Poly1305 = 0x1303,
  kAes128Ccm = 0x1304,
};

/// All of them, the preferred one first.
inline constexpr std::array kAllCiphers{Cipher::kAes256Gcm, Cipher::kAes128Gcm,
                                        Cipher::kChaCha20Poly1305, Cipher::kAes128Ccm};

/// IANA name, which is also OpenSSL's: "TLS_AES_128_GCM_SHA256".
[[nodiscard]] std::string_view to_string(Cipher cipher) noexcept;

/// Bytes of the AEAD key.
[[nodiscard]] std::size_t key_size(Cipher cipher) noexcept;

/// Bytes of a traffic secret: the output size of the suite's hash.
[[nodiscard]] std::size_t secret_size(Cipher cipher) noexcept;

}  // namespace handshake::tls
