// SPDX-License-Identifier: Apache-2.0
#include "tls/secrets.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include <array>
#include <string>

#include "tls/openssl.h"

namespace handshake::tls {
namespace {

const char* hash_name(Cipher cipher) noexcept {
  return secret_size(cipher) == 48 ? "SHA2-384" : "SHA2-256";
}

/// HKDF-Expand-Label(secret, label, "", output size), RFC 8446 §7.1.
bool expand_label(EVP_KDF_CTX* context, Cipher cipher, const TrafficSecret& secret,
                  std::string label, std::span<std::uint8_t> output) {
  // OSSL_PARAM takes pointers to non-const even for what it only reads.
  std::string mode = "EXPAND_ONLY";
  std::string digest = hash_name(cipher);
  std::string prefix = "tls13 ";
  auto* key = const_cast<std::uint8_t*>(secret.view().data());
  const std::array parameters{
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_MODE, mode.data(), 0),
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key, secret.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, prefix.data(), prefix.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, label.data(), label.size()),
      OSSL_PARAM_construct_end()};
  return EVP_KDF_derive(context, output.data(), output.size(), parameters.data()) == 1;
}

}  // namespace

void wipe(void* memory, std::size_t bytes) noexcept { OPENSSL_cleanse(memory, bytes); }

Result<RecordKeys> derive_record_keys(Cipher cipher, const TrafficSecret& secret) {
  if (secret.empty() || secret.size() != secret_size(cipher)) {
    return fail(ErrorKind::kInvalidArgument, "traffic secret: not the size of the suite's hash");
  }
  const KdfPtr kdf(EVP_KDF_fetch(nullptr, "TLS13-KDF", nullptr));
  const KdfContextPtr context(kdf ? EVP_KDF_CTX_new(kdf.get()) : nullptr);
  RecordKeys keys;
  if (!context ||
      !expand_label(context.get(), cipher, secret, "key", keys.key.resize(key_size(cipher))) ||
      !expand_label(context.get(), cipher, secret, "iv", keys.iv.resize(12))) {
    return fail_openssl(ErrorKind::kInputOutput, "derive record keys");
  }
  return keys;
}

}  // namespace handshake::tls
