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

}  // namespace handshake::ktls
