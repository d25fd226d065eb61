// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace handshake::tls {

/// The content of a file, or of a key of the kernel's keyring: PEM or DER, told apart by looking.
struct NamedBytes {
  std::string name;     ///< path or "key 0x1234": for messages
  std::string content;  ///< may be a private key; never logged
};

/// What a credential is made of. Certificate files hold the leaf first, then its intermediates.
struct CredentialSource {
  std::string name;  ///< for messages
  std::vector<std::pair<NamedBytes, NamedBytes>> key_pairs;  ///< certificate chain, private key
  std::vector<NamedBytes> trust_store;  ///< every certificate in it is a trust anchor
  std::vector<NamedBytes> crls;  ///< not empty: every certificate below the anchor needs a CRL
  bool check_extended_key_usage = true;
};

/// Parsed certificates, keys, trust store and revocation lists, ready for sessions of both sides.
/// Made once per process and reload, immutable, shared between sessions and threads.
class Credential {
 public:
  struct Parts;  ///< the TLS library's objects, known to this room only

  explicit Credential(std::unique_ptr<const Parts> parts) noexcept;
  Credential(const Credential&) = delete;
  Credential& operator=(const Credential&) = delete;
  ~Credential();

  [[nodiscard]] const std::string& name() const noexcept;
  /// True when it can prove an identity: a server needs that, a client may do without.
  [[nodiscard]] bool has_key_pair() const noexcept;
  /// Without trust anchors nothing is trusted: every certificate of a peer is rejected.
  [[nodiscard]] std::size_t trust_anchors() const noexcept;
  [[nodiscard]] const Parts& parts() const noexcept { return *parts_; }

 private:
  std::unique_ptr<const Parts> parts_;
};

/// The same trust store and rules with other key pairs, for a request that brings its own. Errors as
/// load_credential().
[[nodiscard]] Result<std::shared_ptr<const Credential>> with_key_pairs(
    const Credential& base, std::vector<std::pair<NamedBytes, NamedBytes>> key_pairs);

/// The TLS library signs with ML-DSA (OpenSSL 3.5 and newer).
[[nodiscard]] bool has_post_quantum_signatures();

/// Never prompts: a private key behind a password is refused. Errors are EINVAL and name the file
/// and the cause (no certificate in it, not PEM or DER, the key does not match the certificate,
/// too weak, a kind of key that TLS 1.3 does not have), or ENOMEM.
[[nodiscard]] Result<std::shared_ptr<const Credential>> load_credential(
    const CredentialSource& source);

}  // namespace handshake::tls
