// SPDX-License-Identifier: Apache-2.0
#include "tls/psk.h"

#include <algorithm>
#include <iterator>
#include <new>

#include "tls/credential_parts.h"
#include "tls/psk_hooks.h"

namespace handshake::tls {

PskHash psk_hash(const PresharedKey& key) noexcept {
  constexpr std::size_t kSha384Bytes = 48;
  const std::string_view identity = key.identity;
  const bool nvme = identity.size() >= 8 && identity.starts_with("NVMe") &&
                    (identity[5] == 'R' || identity[5] == 'G');
  if (nvme && identity.substr(6, 2) == "01") return PskHash::kSha256;
  if (nvme && identity.substr(6, 2) == "02") return PskHash::kSha384;
  return key.secret.size() == kSha384Bytes ? PskHash::kSha384 : PskHash::kSha256;
}

std::vector<Cipher> ciphers_with(PskHash hash, const std::vector<Cipher>& ciphers) {
  const std::size_t bytes = hash == PskHash::kSha384 ? 48 : 32;
  std::vector<Cipher> fitting;
  std::copy_if(ciphers.begin(), ciphers.end(), std::back_inserter(fitting),
               [bytes](Cipher cipher) { return secret_size(cipher) == bytes; });
  return fitting;
}

Result<std::shared_ptr<const Credential>> make_psk_credential() try {
  CredentialSource source;
  source.name = "pre-shared key";
  auto parts = make_parts(source);
  if (!parts) return tl::unexpected(parts.error());
  (*parts)->psk = true;
  SSL_CTX_set_psk_use_session_callback((*parts)->client.get(), on_psk_wanted);
  SSL_CTX_set_psk_find_session_callback((*parts)->server.get(), on_psk_offered);
  SSL_CTX_set_client_hello_cb((*parts)->server.get(), on_client_hello, nullptr);
  return std::make_shared<const Credential>(*std::move(parts));
} catch (const std::bad_alloc&) {
  return fail(ErrorKind::kNoMemory, "out of memory");
}

}  // namespace handshake::tls
