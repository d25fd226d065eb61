// SPDX-License-Identifier: Apache-2.0
#include "agent/credentials.h"

#include <utility>

#include "tls/psk.h"

namespace handshake::agent {

namespace {

tls::NamedBytes named_bytes(const config::FileContent& file) { return {file.path, file.content}; }

tls::CredentialSource source_of(const config::CredentialSettings& section) {
  tls::CredentialSource source;
  source.name = section.name;
  for (const config::KeyPair& pair : section.key_pairs) {
    // What tlshd would use with a newer library; an older one goes without, as tlshd does.
    if (pair.post_quantum && !tls::has_post_quantum_signatures()) continue;
    source.key_pairs.emplace_back(named_bytes(pair.certificate), named_bytes(pair.private_key));
  }
  for (const config::FileContent& file : section.trust_store) {
    source.trust_store.push_back(named_bytes(file));
  }
  for (const config::FileContent& file : section.crls) source.crls.push_back(named_bytes(file));
  source.check_extended_key_usage = section.check_extended_key_usage;
  return source;
}

Result<NamedCredential> load_one(const config::CredentialSettings& section, bool for_kernel) {
  auto credential = tls::load_credential(source_of(section));
  if (!credential) return tl::unexpected(credential.error());
  // The kernel's may do without: its requests can bring a pre-shared key, or certificates by serial.
  if (section.server && !for_kernel && !(*credential)->has_key_pair()) {
    return fail(ErrorKind::kInvalidArgument, "a server needs a certificate and its key");
  }
  return NamedCredential{std::move(*credential), section.client, section.server,
                         section.require_client_certificate, for_kernel};
}

}  // namespace

tl::expected<CredentialSet, std::vector<Error>> CredentialSet::load(
    const config::Settings& settings) {
  CredentialSet set;
  std::vector<Error> problems;
  const auto load_into_set = [&](const config::CredentialSettings& section, bool for_kernel) {
    Result<NamedCredential> loaded = load_one(section, for_kernel);
    if (loaded) {
      set.credentials_.insert_or_assign(section.name, std::move(*loaded));
    } else {
      problems.push_back({loaded.error().kind,
                          "credential " + section.name + ": " + loaded.error().detail});
    }
  };
  for (const config::CredentialSettings& section : settings.credentials) load_into_set(section, false);
  for (const config::KernelCredential& kernel : settings.kernel_credentials) {
    load_into_set(kernel.credential, true);
  }
  if (auto psk = tls::make_psk_credential()) {
    set.psk_ = std::move(*psk);
  } else {
    problems.push_back(psk.error());
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
