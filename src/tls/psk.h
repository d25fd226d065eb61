// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/secret.h"
#include "tls/cipher.h"
#include "tls/credential.h"

namespace handshake::tls {

/// An external pre-shared key (RFC 8446 §4.2.11). It goes with one hash, and so with the cipher
/// suites of that hash only.
struct PresharedKey {
  std::string identity;  ///< any bytes, up to 65535
  Secret secret;
};

enum class PskHash : std::uint8_t { kSha256, kSha384 };

/// From an NVMe identity ("NVMe0R01 ...", "NVMe1G02 ...": NVMe/TCP transport specification 3.6.1.3,
/// 01 is SHA-256, 02 is SHA-384), otherwise from the key's length: SHA-384 for 48 bytes, else
/// SHA-256, which is RFC 8446's default.
[[nodiscard]] PskHash psk_hash(const PresharedKey& key) noexcept;

/// Those of `ciphers` that go with `hash`, in their order.
[[nodiscard]] std::vector<Cipher> ciphers_with(PskHash hash, const std::vector<Cipher>& ciphers);

/// What sessions with a pre-shared key are made from: no certificate, no trust store. Such a session
/// is authenticated by the key or not at all. ENOMEM, EIO: the TLS library refused.
[[nodiscard]] Result<std::shared_ptr<const Credential>> make_psk_credential();

}  // namespace handshake::tls
