// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "ktls/check.h"
#include "tls/cipher.h"
#include "tls/secrets.h"

namespace handshake::ktls {

struct ProbeResult {
  /// What the kernel encrypts and decrypts, the preferred one first; empty without kTLS.
  std::vector<tls::Cipher> ciphers;
  /// Why a cipher, or all of them, are missing; empty when none is.
  std::string reason;
};

/// Tries every cipher on a TCP connection to itself over the loopback device, data included. Needs
/// no privilege once the module `tls` is loaded. Takes a few milliseconds; on a kernel that takes
/// keys and then loses data, two seconds per cipher.
[[nodiscard]] ProbeResult probe();

/// Hands the record layer of `fd` to the kernel, both directions, from record 0 on: right after the
/// handshake, before anything is read or written. A failure leaves a socket that must be closed: it
/// may have the upper layer without its keys, and would send plaintext. EOPNOTSUPP: no kTLS, or not
/// with this cipher; EEXIST: another upper layer; EINVAL, EIO.
[[nodiscard]] Result<void> install(int fd, tls::Side side, tls::Cipher cipher,
                                   const tls::TrafficSecrets& secrets);

}  // namespace handshake::ktls
