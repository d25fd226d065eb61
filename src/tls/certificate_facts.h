// SPDX-License-Identifier: Apache-2.0
// For tls/*.cpp only.
#pragma once

#include "policy/peer_facts.h"
#include "tls/openssl.h"

namespace handshake::tls {

/// What filters can see of a certificate. Takes time and memory in proportion to its size, whatever
/// is in it; what is malformed is marked as unreadable. Throws std::bad_alloc.
[[nodiscard]] policy::CertificateFacts certificate_facts(X509* certificate);

[[nodiscard]] policy::Fingerprint fingerprint_of(const X509* certificate);

}  // namespace handshake::tls
