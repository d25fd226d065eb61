// SPDX-License-Identifier: Apache-2.0
#include "agent/credentials.h"

#include <utility>

namespace handshake::agent {

namespace {

tls::NamedBytes named_bytes(const config::FileContent& file) { return {file.path, file.content}; }

tls::CredentialSource source_of(const config::CredentialSettings& section) {
  tls::CredentialSource source;
  source.name = section.name;
  for (const config::KeyPair& pair : section.key_pairs) {
    source.key_pairs.emplace_back(named_bytes(pair.certificate), named_bytes(pair.private_key));
  }
  for (const config::FileContent& file : section.trust_store) {
    source.trust_store.push_back(named_bytes(file));
  }
  for (const config::FileContent& file : section.crls) source.crls.push_back(named_bytes(file));
  source.check_extended_key_usage = section.check_extended_key_usage;
  return source;
}

Result<NamedCredential> load_one(const config::CredentialSettings& section) {
  auto credential = tls::load_credential(source_of(section));
  if (!credential) return tl::unexpected(credential.error());
  if (section.server && !(*credential)->has_key_pair()) {
    return fail(ErrorKind::kInvalidArgument, "a server needs a certificate and its key");
  }
  return NamedCredential{std::move(*credential), section.client, section.server,
                         section.require_client_certificate};
}

}  // namespace

tl::expected<CredentialSet, std::vector<Error>> CredentialSet::load(
    const config::Settings& settings) {
  CredentialSet set;
  std::vector<Error> problems;
  for (const config::CredentialSettings& section : settings.credentials) {
    Result<NamedCredential> loaded = load_one(section);
    if (loaded) {
      set.credentials_.insert_or_assign(section.name, std::move(*loaded));
    } else {
      problems.push_back({loaded.error().kind,
                          "credential " + section.name + ": " + loaded.error().detail});
    }
  }
  if (!problems.empty()) return tl::unexpected(std::move(problems));
  return set;
}

Result<NamedCredential> CredentialSet::find(const std::optional<std::string>& name,
                                            tls::Side side) const {
  if (!name) return fail(ErrorKind::kNoCredential, "the request names no credential");
  const auto found = credentials_.find(*name);
  if (found == credentials_.end()) {
    return fail(ErrorKind::kNoCredential, "credential " + *name + ": not configured");
  }
  const NamedCredential& credential = found->second;
  if (side == tls::Side::kClient && !credential.client) {
    return fail(ErrorKind::kNoCredential, "credential " + *name + ": not for clients");
  }
  if (side == tls::Side::kServer && !credential.server) {
    return fail(ErrorKind::kNoCredential, "credential " + *name + ": not for servers");
  }
  return credential;
}

}  // namespace handshake::agent
