// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "base/result.h"
#include "tls/cipher.h"
#include "tls/secrets.h"

namespace handshake::ktls {

/// A tls12_crypto_info_* of linux/tls.h, as setsockopt(SOL_TLS, TLS_TX or TLS_RX) takes it.
/// Overwritten when it is destroyed.
using CryptoInfo = tls::SecretBytes<64>;

/// Keys of one direction from its first record on (rec_seq 0). Errors: derive_record_keys().
[[nodiscard]] Result<CryptoInfo> make_crypto_info(tls::Cipher cipher,
                                                  const tls::TrafficSecret& secret);

/// Both directions as `side` sees them: a client sends with the client's secret.
struct KernelKeys {
  CryptoInfo sending;    ///< TLS_TX
  CryptoInfo receiving;  ///< TLS_RX
};
[[nodiscard]] Result<KernelKeys> make_kernel_keys(tls::Side side, tls::Cipher cipher,
                                                  const tls::TrafficSecrets& secrets);

}  // namespace handshake::ktls
