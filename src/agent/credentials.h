// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/settings.h"
#include "tls/cipher.h"
#include "tls/credential.h"

namespace handshake::agent {

/// A credential section, parsed.
struct NamedCredential {
  std::shared_ptr<const tls::Credential> tls;
  bool client = false;  ///< may be used for clienthello
  bool server = false;  ///< may be used for serverhello
  bool require_client_certificate = false;
  bool for_kernel = false;  ///< a kernel consumer's, who wants to be told of identities
};

/// All credentials of one Settings, by name: loaded once per process, immutable (R3.13). Who may
/// use which is the service's decision, made before a request gets here.
class CredentialSet {
 public:
  /// Errors: every section that cannot be used, each naming the section and the file.
  [[nodiscard]] static tl::expected<CredentialSet, std::vector<Error>> load(
      const config::Settings& settings);

  /// ENOKEY, naming the credential: unknown, not for this side, or not named at all. There is no
  /// default: a request that names none has been checked against nobody's access list.
  [[nodiscard]] Result<NamedCredential> find(const std::optional<std::string>& name,
                                             tls::Side side) const;

  /// For requests whose sessions are authenticated by a pre-shared key of their own.
  [[nodiscard]] const std::shared_ptr<const tls::Credential>& psk() const noexcept { return psk_; }

  [[nodiscard]] const std::map<std::string, NamedCredential>& all() const noexcept {
    return credentials_;
  }

 private:
  std::map<std::string, NamedCredential> credentials_;
  std::shared_ptr<const tls::Credential> psk_;
};

}  // namespace handshake::agent
