// SPDX-License-Identifier: Apache-2.0
// For tls/*.cpp only.
#pragma once

#include <memory>
#include <string>

#include "tls/credential.h"
#include "tls/openssl.h"

namespace handshake::tls {

struct Credential::Parts {
  std::string name;
  bool has_key_pair = false;
  bool check_extended_key_usage = true;
  bool psk = false;  ///< sessions are authenticated by a pre-shared key
  std::size_t trust_anchors = 0;
  /// Have the key pairs and the trust store; sessions are made from them and add what is theirs.
  /// The library counts references under a constant pointer, too.
  SslContextPtr client;
  SslContextPtr server;
};

/// Reads and checks everything in `source`. Throws std::bad_alloc.
[[nodiscard]] Result<std::unique_ptr<Credential::Parts>> make_parts(const CredentialSource& source);

}  // namespace handshake::tls
