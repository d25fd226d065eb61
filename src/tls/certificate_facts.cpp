// SPDX-License-Identifier: Apache-2.0
#include "tls/certificate_facts.h"

#include <openssl/evp.h>

#include <array>
#include <chrono>
#include <span>

#include <fmt/format.h>

#include "tls/asn1_text.h"

namespace handshake::tls {
namespace {

using policy::CertificateFacts;
using policy::Presence;

std::string hexadecimal(std::span<const unsigned char> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 0xFU];
  }
  return text;
}

std::string digest(const X509* certificate, const EVP_MD* type) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned size = 0;
  if (X509_digest(certificate, type, bytes.data(), &size) != 1) {
    drain_errors();
    return {};
  }
  return hexadecimal({bytes.data(), size});
}

/// The content octets of an INTEGER. The library keeps sign and magnitude.
std::string integer_octets(const ASN1_INTEGER* number) {
  unsigned char* der = nullptr;
  const int size = i2d_ASN1_INTEGER(number, &der);
  const OpensslPtr<unsigned char> owner(der);
  if (size <= 0) {
    drain_errors();
    return {};
  }
  const unsigned char* content = der;
  long length = 0;
  int tag = 0;
  int tag_class = 0;
  if ((ASN1_get_object(&content, &length, &tag, &tag_class, size) & 0x80) != 0) {
    drain_errors();
    return {};
  }
  return hexadecimal({content, static_cast<std::size_t>(length)});
}

std::optional<std::chrono::sys_seconds> time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) {
    drain_errors();
    return std::nullopt;
  }
  const std::chrono::year_month_day date{
      std::chrono::year{parts.tm_year + 1900},
      std::chrono::month{static_cast<unsigned>(parts.tm_mon + 1)},
      std::chrono::day{static_cast<unsigned>(parts.tm_mday)}};
  if (!date.ok()) return std::nullopt;
  return std::chrono::sys_days{date} + std::chrono::hours{parts.tm_hour} +
         std::chrono::minutes{parts.tm_min} + std::chrono::seconds{parts.tm_sec};
}

policy::DistinguishedName name_of(const X509_NAME* name) {
  policy::DistinguishedName made;
  int relative_name = -1;  // of the entry before
  const int entries = X509_NAME_entry_count(name);
  for (int i = 0; i < entries; ++i) {
    const X509_NAME_ENTRY* entry = X509_NAME_get_entry(name, i);
    const ASN1_STRING* value = X509_NAME_ENTRY_get_data(entry);
    if (made.empty() || X509_NAME_ENTRY_set(entry) != relative_name) made.emplace_back();
    relative_name = X509_NAME_ENTRY_set(entry);
    auto text = utf8_text(value);
    const bool readable = text.has_value();
    made.back().push_back({oid_text(X509_NAME_ENTRY_get_object(entry)),
                           text ? std::move(*text) : std::string(), readable, der_of(value)});
  }
  return made;
}

std::string_view digest_name(int nid) noexcept {
  switch (nid) {
    case NID_md2: return "MD2";
    case NID_md5: return "MD5";
    case NID_ripemd160: return "RMD160";
    case NID_sha1: return "SHA1";
    case NID_sha224: return "SHA224";
    case NID_sha256: return "SHA256";
    case NID_sha384: return "SHA384";
    case NID_sha512: return "SHA512";
    case NID_sha3_224: return "SHA3-224";
    case NID_sha3_256: return "SHA3-256";
    case NID_sha3_384: return "SHA3-384";
    case NID_sha3_512: return "SHA3-512";
    default: return {};
  }
}

std::string_view signer_name(int nid) noexcept {
  switch (nid) {
    case NID_rsaEncryption: return "RSA";
    case NID_rsassaPss: return "RSA-PSS";
    case NID_X9_62_id_ecPublicKey: return "ECDSA";
    case NID_dsa: return "DSA";
    default: return {};
  }
}

/// As the reference agent's library calls it; empty for what has no name there.
std::string signature_name(X509* certificate) {
  int digest_nid = NID_undef;
  int key_nid = NID_undef;
  if (X509_get_signature_info(certificate, &digest_nid, &key_nid, nullptr, nullptr) != 1) {
    drain_errors();
    return {};
  }
  if (key_nid == NID_ED25519) return "EdDSA-Ed25519";
  if (key_nid == NID_ED448) return "EdDSA-Ed448";
  const std::string_view signer = signer_name(key_nid);
  const std::string_view hash = digest_name(digest_nid);
  return signer.empty() || hash.empty() ? std::string() : fmt::format("{}-{}", signer, hash);
}

std::string public_key_name(const EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA: return "RSA";
    case EVP_PKEY_RSA_PSS: return "RSA-PSS";
    case EVP_PKEY_EC: return "ECDSA";
    case EVP_PKEY_DSA: return "DSA";
    case EVP_PKEY_ED25519: return "Ed25519";
    case EVP_PKEY_ED448: return "Ed448";
    default: break;
  }
  const char* name = EVP_PKEY_get0_type_name(key);
  return name != nullptr ? name : "";
}

void take_public_key(const X509* certificate, CertificateFacts& facts) {
  const EVP_PKEY* key = X509_get0_pubkey(certificate);
  if (key == nullptr) {
    drain_errors();
    return;
  }
  facts.public_key_algorithm = public_key_name(key);
  const int bits = EVP_PKEY_get_bits(key);
  facts.public_key_bits = bits > 0 ? static_cast<unsigned>(bits) : 0;
}

void free_purposes(EXTENDED_KEY_USAGE* purposes) noexcept { EXTENDED_KEY_USAGE_free(purposes); }
void free_names(GENERAL_NAMES* names) noexcept { GENERAL_NAMES_free(names); }

/// A decoded extension, or why there is none. One that stands twice is unreadable (RFC 5280 §4.2).
template <class T, auto Free>
struct Extension {
  std::unique_ptr<T, Deleter<Free>> value;
  Presence presence = Presence::kAbsent;

  Extension(const X509* certificate, int nid) {
    constexpr int kThereIsNone = -1;
    int critical = 0;
    value.reset(static_cast<T*>(X509_get_ext_d2i(certificate, nid, &critical, nullptr)));
    if (value) {
      presence = Presence::kPresent;
    } else if (critical != kThereIsNone) {
      presence = Presence::kUnreadable;
    }
    drain_errors();
  }
};

void take_key_usage(const X509* certificate, CertificateFacts& facts) {
  const Extension<ASN1_BIT_STRING, ASN1_BIT_STRING_free> usage(certificate, NID_key_usage);
  facts.key_usage_presence = usage.presence;
  if (!usage.value) return;
  constexpr int kBits = 9;
  for (int bit = 0; bit < kBits; ++bit) {
    if (ASN1_BIT_STRING_get_bit(usage.value.get(), bit) == 0) continue;
    facts.key_usage = static_cast<std::uint16_t>(
        facts.key_usage | policy::key_usage_bit(static_cast<policy::KeyUsage>(bit)));
  }
}

void take_extended_key_usage(const X509* certificate, CertificateFacts& facts) {
  const Extension<EXTENDED_KEY_USAGE, free_purposes> usage(certificate, NID_ext_key_usage);
  facts.extended_key_usage_presence = usage.presence;
  if (!usage.value) return;
  for (int i = 0; i < sk_ASN1_OBJECT_num(usage.value.get()); ++i) {
    std::string oid = oid_text(sk_ASN1_OBJECT_value(usage.value.get(), i));
    if (oid.empty()) {
      facts.extended_key_usage_presence = Presence::kUnreadable;
    } else {
      facts.extended_key_usage.push_back(std::move(oid));
    }
  }
}

/// An IA5String. One with a byte beyond ASCII is kept, so that it can be seen, but nothing may be
/// concluded from its not matching.
void take_text(const ASN1_STRING* text, std::vector<std::string>& into, Presence& presence) {
  if (!utf8_text(text)) presence = Presence::kUnreadable;
  into.push_back(bytes_of(text));
}

void take_address(const ASN1_OCTET_STRING* octets, policy::AlternativeNames& names) {
  const std::string bytes = bytes_of(octets);
  const auto* first = reinterpret_cast<const std::uint8_t*>(bytes.data());
  if (const auto address = policy::IpAddress::from_bytes({first, bytes.size()})) {
    names.ip.push_back(*address);
  } else {
    names.presence = Presence::kUnreadable;
  }
}

void take_alternative_names(const X509* certificate, CertificateFacts& facts) {
  const Extension<GENERAL_NAMES, free_names> extension(certificate, NID_subject_alt_name);
  policy::AlternativeNames& names = facts.alternative_names;
  names.presence = extension.presence;
  if (!extension.value) return;
  for (int i = 0; i < sk_GENERAL_NAME_num(extension.value.get()); ++i) {
    int type = 0;
    const void* value =
        GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(extension.value.get(), i), &type);
    const auto* string = static_cast<const ASN1_STRING*>(value);
    switch (type) {
      case GEN_DNS: take_text(string, names.dns, names.presence); break;
      case GEN_URI: take_text(string, names.uri, names.presence); break;
      case GEN_EMAIL: take_text(string, names.email, names.presence); break;
      case GEN_IPADD: take_address(string, names); break;
      default: break;  // no filter looks at these, and `value` is no string
    }
  }
}

std::string signature_oid(const X509* certificate) {
  const X509_ALGOR* algorithm = nullptr;
  X509_get0_signature(nullptr, &algorithm, certificate);
  const ASN1_OBJECT* object = nullptr;
  if (algorithm != nullptr) X509_ALGOR_get0(&object, nullptr, nullptr, algorithm);
  return oid_text(object);
}

}  // namespace

policy::Fingerprint fingerprint_of(const X509* certificate) {
  return {digest(certificate, EVP_sha1()), digest(certificate, EVP_sha256())};
}

CertificateFacts certificate_facts(X509* certificate) {
  CertificateFacts facts;
  facts.version = static_cast<int>(X509_get_version(certificate)) + 1;
  facts.serial_number = integer_octets(X509_get0_serialNumber(certificate));
  facts.signature_algorithm = signature_name(certificate);
  facts.signature_algorithm_oid = signature_oid(certificate);
  facts.issuer = name_of(X509_get_issuer_name(certificate));
  facts.subject = name_of(X509_get_subject_name(certificate));
  facts.not_before = time_of(X509_get0_notBefore(certificate));
  facts.not_after = time_of(X509_get0_notAfter(certificate));
  take_public_key(certificate, facts);
  take_key_usage(certificate, facts);
  take_extended_key_usage(certificate, facts);
  take_alternative_names(certificate, facts);
  facts.fingerprint = fingerprint_of(certificate);
  return facts;
}

}  // namespace handshake::tls
