// SPDX-License-Identifier: Apache-2.0
// Files of a credential. The first byte chooses which one the rest is.
#include <cstdint>
#include <string>

#include "tls/credential.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string content(data + 1, data + size);
  handshake::tls::CredentialSource source;
  source.name = "fuzz";
  switch (data[0] % 3) {
    case 0: source.trust_store.push_back({"trusted", content}); break;
    case 1: source.crls.push_back({"revoked", content}); break;
    default: source.key_pairs.push_back({{"cert", content}, {"key", content}}); break;
  }
  const auto credential = handshake::tls::load_credential(source);
  if (!credential && credential.error().detail.empty()) __builtin_trap();
  return 0;
}
