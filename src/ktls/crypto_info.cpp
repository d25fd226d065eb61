// SPDX-License-Identifier: Apache-2.0
#include "ktls/crypto_info.h"

#include <linux/tls.h>

#include <algorithm>
#include <cstring>

namespace handshake::ktls {
namespace {

/// The nonce of RFC 8446 §5.3 is salt and iv of the struct, one after the other; ChaCha20-Poly1305
/// has no salt.
template <class Info>
CryptoInfo fill(unsigned short cipher_type, const tls::RecordKeys& keys) {
  static_assert(sizeof(Info) <= 64);
  Info info{};
  static_assert(sizeof info.salt + sizeof info.iv == 12);
  info.info.version = TLS_1_3_VERSION;
  info.info.cipher_type = cipher_type;
  const auto key = keys.key.view();
  const auto nonce = keys.iv.view();
  std::copy_n(key.begin(), std::min(key.size(), sizeof info.key), info.key);
  if constexpr (sizeof info.salt > 0) std::copy_n(nonce.begin(), sizeof info.salt, info.salt);
  std::copy_n(nonce.begin() + sizeof info.salt, sizeof info.iv, info.iv);
  CryptoInfo bytes;
  std::memcpy(bytes.resize(sizeof info).data(), &info, sizeof info);
  tls::wipe(&info, sizeof info);
  return bytes;
}

}  // namespace

Result<CryptoInfo> make_crypto_info(tls::Cipher cipher, const tls::TrafficSecret& secret) {
  auto keys = tls::derive_record_keys(cipher, secret);
  if (!keys) return tl::unexpected(keys.error());
  switch (cipher) {
    case tls::Cipher::kAes128Gcm:
      return fill<tls12_crypto_info_aes_gcm_128>(TLS_CIPHER_AES_GCM_128, *keys);
    case tls::Cipher::kAes256Gcm:
      return fill<tls12_crypto_info_aes_gcm_256>(TLS_CIPHER_AES_GCM_256, *keys);
    case tls::Cipher::kChaCha20Poly1305:
      return fill<tls12_crypto_info_chacha20_poly1305>(TLS_CIPHER_CHACHA20_POLY1305, *keys);
    case tls::Cipher::kAes128Ccm:
      return fill<tls12_crypto_info_aes_ccm_128>(TLS_CIPHER_AES_CCM_128, *keys);
  }
  return fail(ErrorKind::kNotSupported, "unknown cipher suite");
}

Result<KernelKeys> make_kernel_keys(tls::Side side, tls::Cipher cipher,
                                    const tls::TrafficSecrets& secrets) {
  auto clients = make_crypto_info(cipher, secrets.client);
  if (!clients) return tl::unexpected(clients.error());
  auto servers = make_crypto_info(cipher, secrets.server);
  if (!servers) return tl::unexpected(servers.error());
  if (side == tls::Side::kClient) return KernelKeys{std::move(*clients), std::move(*servers)};
  return KernelKeys{std::move(*servers), std::move(*clients)};
}

}  // namespace handshake::ktls
