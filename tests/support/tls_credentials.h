// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "support/pki.h"
#include "tls/credential.h"
#include "tls/session.h"

/// Credentials and parameters that most tests of sessions use.
namespace handshake::test_tls {

inline tls::CredentialSource source(std::vector<test_pki::Issued> identities,
                                    std::vector<std::string> trusted_pem = {},
                                    std::vector<std::string> crls = {}) {
  tls::CredentialSource made;
  made.name = "test";
  for (const auto& identity : identities) {
    made.key_pairs.push_back({{"cert.pem", identity.chain_pem}, {"key.pem", identity.key_pem}});
  }
  for (auto& pem : trusted_pem) made.trust_store.push_back({"trusted.pem", std::move(pem)});
  for (auto& pem : crls) made.crls.push_back({"crl.pem", std::move(pem)});
  return made;
}

/// For what must load: throws otherwise, which fails the test.
inline std::shared_ptr<const tls::Credential> load(const tls::CredentialSource& from) {
  return tls::load_credential(from).value();
}

inline tls::SessionParameters client_for(std::string name) {
  tls::SessionParameters parameters;
  parameters.side = tls::Side::kClient;
  parameters.peername = std::move(name);
  return parameters;
}

inline tls::SessionParameters server() {
  tls::SessionParameters parameters;
  parameters.side = tls::Side::kServer;
  return parameters;
}

}  // namespace handshake::test_tls
