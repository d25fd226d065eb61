// SPDX-License-Identifier: Apache-2.0
// For tls/*.cpp only.
#pragma once

#include <vector>

#include "base/result.h"
#include "tls/credential.h"
#include "tls/openssl.h"

namespace handshake::tls {

// What a file holds, PEM or DER, told apart by looking. Errors are EINVAL and name the file. In PEM
// other blocks than those wanted are passed over; a block that is broken is an error, as is
// anything after the last DER object.

/// At least one.
[[nodiscard]] Result<std::vector<X509Ptr>> read_certificates(const NamedBytes& file);
/// At least one.
[[nodiscard]] Result<std::vector<X509CrlPtr>> read_crls(const NamedBytes& file);
/// The first one. A key behind a password is refused: nobody is there to type it.
[[nodiscard]] Result<PkeyPtr> read_private_key(const NamedBytes& file);

}  // namespace handshake::tls
