// SPDX-License-Identifier: Apache-2.0
#include "tls/openssl.h"

#include <openssl/ec.h>

#include <array>

#include <fmt/format.h>

namespace handshake::tls {

LibraryError drain_errors() {
  LibraryError first;
  while (const unsigned long code = ERR_get_error()) {
    if (first.library != 0) continue;
    first.library = ERR_GET_LIB(code);
    first.reason = ERR_GET_REASON(code);
    first.out_of_memory = first.reason == ERR_R_MALLOC_FAILURE;
    if (const char* text = ERR_reason_error_string(code)) {
      first.text = text;
    } else {
      first.text = fmt::format("error {:#x}", code);
    }
  }
  return first;
}

tl::unexpected<Error> fail_openssl(ErrorKind kind, std::string_view what) {
  const LibraryError error = drain_errors();
  if (error.out_of_memory) return fail(ErrorKind::kNoMemory, fmt::format("{}: out of memory", what));
  if (error.library == 0) return fail(kind, std::string(what));
  return fail(kind, fmt::format("{}: {}", what, error.text));
}

std::string distinguished_name(const X509_NAME* name) {
  if (name == nullptr) return {};
  const BioPtr bio(BIO_new(BIO_s_mem()));
  // UTF-8 goes out as it is (RFC 4514), everything that could break a line does not.
  constexpr unsigned long kFlags = XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB);
  if (!bio || X509_NAME_print_ex(bio.get(), name, 0, kFlags) < 0) {
    drain_errors();
    return {};
  }
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

std::string key_algorithm(EVP_PKEY* key) {
  if (key == nullptr) return {};
  const int type = EVP_PKEY_get_base_id(key);
  switch (type) {
    case EVP_PKEY_RSA: return fmt::format("RSA {}", EVP_PKEY_get_bits(key));
    case EVP_PKEY_RSA_PSS: return fmt::format("RSA-PSS {}", EVP_PKEY_get_bits(key));
    case EVP_PKEY_ED25519: return "Ed25519";
    case EVP_PKEY_ED448: return "Ed448";
    case EVP_PKEY_EC: {
      std::array<char, 64> group{};
      if (EVP_PKEY_get_group_name(key, group.data(), group.size(), nullptr) != 1) {
        drain_errors();
        return "ECDSA";
      }
      const char* nist = EC_curve_nid2nist(OBJ_sn2nid(group.data()));
      return fmt::format("ECDSA {}", nist != nullptr ? nist : group.data());
    }
    default: break;
  }
  const char* name = EVP_PKEY_get0_type_name(key);
  return name != nullptr ? name : "unknown";
}

}  // namespace handshake::tls
