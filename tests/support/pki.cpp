// SPDX-License-Identifier: Apache-2.0
#include "support/pki.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace handshake::test_pki {
namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* object) const noexcept {
    Free(object);
  }
};
void free_bio(BIO* bio) noexcept { BIO_free(bio); }

using BioPtr = std::unique_ptr<BIO, Deleter<free_bio>>;
using PkeyPtr = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using X509Ptr = std::unique_ptr<X509, Deleter<X509_free>>;
using CrlPtr = std::unique_ptr<X509_CRL, Deleter<X509_CRL_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Deleter<X509_EXTENSION_free>>;
using TimePtr = std::unique_ptr<ASN1_TIME, Deleter<ASN1_TIME_free>>;
using IntegerPtr = std::unique_ptr<ASN1_INTEGER, Deleter<ASN1_INTEGER_free>>;
using Pkcs8Ptr = std::unique_ptr<PKCS8_PRIV_KEY_INFO, Deleter<PKCS8_PRIV_KEY_INFO_free>>;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "test PKI: %s\n", what);
  ERR_print_errors_fp(stderr);
  std::abort();
}

PkeyPtr make_key(KeyType type) {
  EVP_PKEY* key = nullptr;
  switch (type) {
    case KeyType::kEcdsaP256: key = EVP_EC_gen("P-256"); break;
    case KeyType::kEcdsaP384: key = EVP_EC_gen("P-384"); break;
    case KeyType::kRsa2048: key = EVP_RSA_gen(2048U); break;
    case KeyType::kRsa1024: key = EVP_RSA_gen(1024U); break;
    case KeyType::kEd25519: key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"); break;
  }
  require(key != nullptr, "make a key");
  return PkeyPtr(key);
}

const EVP_MD* digest_for(const EVP_PKEY* key) {
  return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256();
}

std::string contents(BIO* bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio, &text);
  return {text, static_cast<std::size_t>(size)};
}

template <class Write>
std::string written(Write write) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  require(bio != nullptr && write(bio.get()) == 1, "write an object");
  return contents(bio.get());
}

std::string pem_of(X509* certificate) {
  return written([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}
std::string der_of(X509* certificate) {
  return written([&](BIO* bio) { return i2d_X509_bio(bio, certificate); });
}
std::string pem_of(EVP_PKEY* key) {
  return written([&](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}
std::string der_of(EVP_PKEY* key) {
  const Pkcs8Ptr pkcs8(EVP_PKEY2PKCS8(key));
  return written([&](BIO* bio) { return i2d_PKCS8_PRIV_KEY_INFO_bio(bio, pkcs8.get()); });
}

long random_serial() {
  unsigned char bytes[4];
  require(RAND_bytes(bytes, sizeof bytes) == 1, "random serial");
  return (static_cast<long>(bytes[0] & 0x7f) << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3]) + 1;
}

void set_time(ASN1_TIME* target, std::chrono::hours from_now) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(from_now).count();
  require(X509_gmtime_adj(target, static_cast<long>(seconds)) != nullptr, "set a date");
}

void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  require(extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1,
          value.c_str());
}

struct Draft {
  X509Ptr certificate;
  long serial = 0;
};

/// `issuer` null: self-issued.
Draft draft(const std::string& common_name, EVP_PKEY* key, X509* issuer,
            std::chrono::hours not_before, std::chrono::hours not_after) {
  Draft made{X509Ptr(X509_new()), random_serial()};
  X509* certificate = made.certificate.get();
  require(certificate != nullptr && X509_set_version(certificate, X509_VERSION_3) == 1 &&
              ASN1_INTEGER_set(X509_get_serialNumber(certificate), made.serial) == 1 &&
              X509_set_pubkey(certificate, key) == 1,
          "draft a certificate");
  set_time(X509_getm_notBefore(certificate), not_before);
  set_time(X509_getm_notAfter(certificate), not_after);
  X509_NAME* name = X509_get_subject_name(certificate);
  const auto add = [&](const char* field, const std::string& value) {
    require(X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                       reinterpret_cast<const unsigned char*>(value.data()),
                                       static_cast<int>(value.size()), -1, 0) == 1,
            "set a name");
  };
  add("O", "handshaked tests");
  add("CN", common_name);
  require(X509_set_issuer_name(certificate,
                               issuer != nullptr ? X509_get_subject_name(issuer) : name) == 1,
          "set the issuer");
  return made;
}

std::string alternative_names(const LeafOptions& options) {
  std::string names;
  const auto add = [&](const std::string& name) { names += (names.empty() ? "" : ",") + name; };
  for (const std::string& name : options.dns_names) add("DNS:" + name);
  for (const std::string& address : options.ip_addresses) add("IP:" + address);
  return names;
}

const char* extended_key_usage(Usage usage) {
  switch (usage) {
    case Usage::kUnrestricted: return nullptr;
    case Usage::kServer: return "serverAuth";
    case Usage::kClient: return "clientAuth";
    case Usage::kServerAndClient: return "serverAuth,clientAuth";
  }
  return nullptr;
}

}  // namespace

struct Authority::Parts {
  PkeyPtr key;
  X509Ptr certificate;
  long serial = 0;
  std::string above_pem;  // this one and those above it, without the root

  static std::unique_ptr<Parts> make(const std::string& common_name, KeyType type,
                                     const Parts* issuer) {
    auto parts = std::make_unique<Parts>();
    parts->key = make_key(type);
    X509* above = issuer != nullptr ? issuer->certificate.get() : nullptr;
    Draft made = draft(common_name, parts->key.get(), above, std::chrono::hours{-24},
                       std::chrono::hours{24 * 365});
    X509* certificate = made.certificate.get();
    X509* signer = above != nullptr ? above : certificate;
    add_extension(certificate, signer, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(certificate, signer, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(certificate, signer, NID_subject_key_identifier, "hash");
    if (issuer != nullptr) {
      add_extension(certificate, signer, NID_authority_key_identifier, "keyid:always");
    }
    EVP_PKEY* signing_key = issuer != nullptr ? issuer->key.get() : parts->key.get();
    require(X509_sign(certificate, signing_key, digest_for(signing_key)) > 0, "sign a CA");
    if (issuer != nullptr) parts->above_pem = pem_of(certificate) + issuer->above_pem;
    parts->certificate = std::move(made.certificate);
    parts->serial = made.serial;
    return parts;
  }
};

Authority::Authority(const std::string& common_name, KeyType key_type)
    : parts_(Parts::make(common_name, key_type, nullptr)) {}
Authority::Authority(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Authority::Authority(Authority&&) noexcept = default;
Authority& Authority::operator=(Authority&&) noexcept = default;
Authority::~Authority() = default;

Authority Authority::intermediate(const std::string& common_name) const {
  return Authority(Parts::make(common_name, KeyType::kEcdsaP256, parts_.get()));
}

Issued Authority::issue(const LeafOptions& options) const {
  const PkeyPtr key = make_key(options.key_type);
  X509* issuer = parts_->certificate.get();
  Draft made = draft(options.common_name, key.get(), issuer, options.not_before, options.not_after);
  X509* certificate = made.certificate.get();
  add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE");
  add_extension(certificate, issuer, NID_key_usage, "critical,digitalSignature");
  add_extension(certificate, issuer, NID_authority_key_identifier, "keyid:always");
  if (const char* usage = extended_key_usage(options.usage)) {
    add_extension(certificate, issuer, NID_ext_key_usage, usage);
  }
  if (const std::string names = alternative_names(options); !names.empty()) {
    add_extension(certificate, issuer, NID_subject_alt_name, names);
  }
  require(X509_sign(certificate, parts_->key.get(), digest_for(parts_->key.get())) > 0,
          "sign a leaf");
  Issued issued;
  issued.certificate_pem = pem_of(certificate);
  issued.chain_pem = issued.certificate_pem + parts_->above_pem;
  issued.key_pem = pem_of(key.get());
  issued.certificate_der = der_of(certificate);
  issued.key_der = der_of(key.get());
  issued.serial = made.serial;
  return issued;
}

std::string Authority::certificate_pem() const { return pem_of(parts_->certificate.get()); }
std::string Authority::certificate_der() const { return der_of(parts_->certificate.get()); }
long Authority::serial() const { return parts_->serial; }

std::string Authority::crl_pem(const std::vector<long>& revoked_serials,
                               std::chrono::hours next_update) const {
  const CrlPtr crl(X509_CRL_new());
  const TimePtr time(ASN1_TIME_new());
  require(crl != nullptr && time != nullptr && X509_CRL_set_version(crl.get(), X509_CRL_VERSION_2) == 1 &&
              X509_CRL_set_issuer_name(crl.get(),
                                       X509_get_subject_name(parts_->certificate.get())) == 1,
          "draft a CRL");
  set_time(time.get(), std::chrono::hours{-48});
  require(X509_CRL_set1_lastUpdate(crl.get(), time.get()) == 1, "date a CRL");
  const TimePtr next(ASN1_TIME_new());
  set_time(next.get(), next_update);
  require(X509_CRL_set1_nextUpdate(crl.get(), next.get()) == 1, "date a CRL");
  for (const long serial : revoked_serials) {
    X509_REVOKED* revoked = X509_REVOKED_new();
    const IntegerPtr number(ASN1_INTEGER_new());
    require(revoked != nullptr && number != nullptr &&
                ASN1_INTEGER_set(number.get(), serial) == 1 &&
                X509_REVOKED_set_serialNumber(revoked, number.get()) == 1 &&
                X509_REVOKED_set_revocationDate(revoked, time.get()) == 1 &&
                X509_CRL_add0_revoked(crl.get(), revoked) == 1,
            "revoke");
  }
  require(X509_CRL_sort(crl.get()) == 1 &&
              X509_CRL_sign(crl.get(), parts_->key.get(), digest_for(parts_->key.get())) > 0,
          "sign a CRL");
  return written([&](BIO* bio) { return PEM_write_bio_X509_CRL(bio, crl.get()); });
}

std::string encrypt_key_pem(const std::string& key_pem, const std::string& password) {
  const BioPtr input(BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size())));
  const PkeyPtr key(PEM_read_bio_PrivateKey(input.get(), nullptr, nullptr, nullptr));
  require(key != nullptr, "read a key");
  return written([&](BIO* bio) {
    return PEM_write_bio_PKCS8PrivateKey(bio, key.get(), EVP_aes_256_cbc(), password.data(),
                                         static_cast<int>(password.size()), nullptr, nullptr);
  });
}

}  // namespace handshake::test_pki
