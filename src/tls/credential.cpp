// SPDX-License-Identifier: Apache-2.0
#include "tls/credential.h"

#include <algorithm>
#include <array>
#include <map>
#include <new>

#include <fmt/format.h>

#include "tls/context.h"
#include "tls/credential_parts.h"
#include "tls/files.h"
#include "tls/secrets.h"
#include "tls/session_hooks.h"

namespace handshake::tls {
namespace {

struct KeyPair {
  std::vector<X509Ptr> chain;  // the leaf first
  PkeyPtr key;
};

/// The kinds of keys of which a context holds one each; empty for what TLS 1.3 does not sign with
/// (RFC 8446 §4.2.3).
std::string_view key_kind(EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA: return "RSA";
    case EVP_PKEY_RSA_PSS: return "RSA-PSS";
    case EVP_PKEY_ED25519: return "Ed25519";
    case EVP_PKEY_ED448: return "Ed448";
    case EVP_PKEY_EC: {
      const std::string algorithm = key_algorithm(key);
      constexpr std::array kCurves{"ECDSA P-256", "ECDSA P-384", "ECDSA P-521"};
      const bool usable = std::find(kCurves.begin(), kCurves.end(), algorithm) != kCurves.end();
      return usable ? "ECDSA" : "";
    }
    default: break;
  }
  const char* name = EVP_PKEY_get0_type_name(key);
  const std::string_view kind = name != nullptr ? name : "";
  return kind.starts_with("ML-DSA") ? kind : "";
}

Result<void> check_key(const NamedBytes& file, EVP_PKEY* key) {
  if (key_kind(key).empty()) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{}: TLS 1.3 does not sign with a key of type {}: use RSA, ECDSA P-256, "
                            "P-384 or P-521, or Ed25519",
                            file.name, key_algorithm(key)));
  }
  constexpr int kMinBits = 112;
  if (EVP_PKEY_get_security_bits(key) < kMinBits) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{}: a key of type {} is too weak: RSA needs at least 2048 bits",
                            file.name, key_algorithm(key)));
  }
  return {};
}

Result<KeyPair> read_key_pair(const NamedBytes& certificate_file, const NamedBytes& key_file) {
  auto chain = read_certificates(certificate_file);
  if (!chain) return tl::unexpected(chain.error());
  auto key = read_private_key(key_file);
  if (!key) return tl::unexpected(key.error());
  if (auto usable = check_key(key_file, key->get()); !usable) return tl::unexpected(usable.error());

  const auto matching = std::find_if(chain->begin(), chain->end(), [&](const X509Ptr& certificate) {
    return X509_check_private_key(certificate.get(), key->get()) == 1;
  });
  drain_errors();
  if (matching == chain->end()) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{}: the key does not match the certificate in {} ({})", key_file.name,
                            certificate_file.name,
                            distinguished_name(X509_get_subject_name(chain->front().get()))));
  }
  if (matching != chain->begin()) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{}: the key {} belongs to certificate number {} of the file, but it "
                            "must come first, before its intermediates",
                            certificate_file.name, key_file.name,
                            matching - chain->begin() + 1));
  }
  return KeyPair{std::move(*chain), std::move(*key)};
}

Result<void> use_key_pair(SSL_CTX* context, const NamedBytes& file, const KeyPair& pair) {
  STACK_OF(X509)* intermediates = sk_X509_new_null();
  bool complete = intermediates != nullptr;
  for (std::size_t i = 1; complete && i < pair.chain.size(); ++i) {
    complete = sk_X509_push(intermediates, pair.chain[i].get()) > 0;  // borrowed
  }
  const bool used = complete && SSL_CTX_use_cert_and_key(context, pair.chain.front().get(),
                                                         pair.key.get(), intermediates, 1) == 1;
  sk_X509_free(intermediates);
  if (!used) return fail_openssl(ErrorKind::kInvalidArgument, file.name);
  return {};
}

/// Reads the key pairs and gives them to both contexts.
Result<void> add_key_pairs(const CredentialSource& source, const Credential::Parts& parts) {
  std::map<std::string, std::string, std::less<>> file_of_kind;
  for (const auto& [certificate_file, key_file] : source.key_pairs) {
    auto pair = read_key_pair(certificate_file, key_file);
    if (!pair) return tl::unexpected(pair.error());
    const auto [other, first] =
        file_of_kind.emplace(key_kind(pair->key.get()), certificate_file.name);
    if (!first) {
      return fail(ErrorKind::kInvalidArgument,
                  fmt::format("{}: a second key pair of type {}, after {}: a credential has one of "
                              "each type",
                              certificate_file.name, other->first, other->second));
    }
    for (SSL_CTX* context : {parts.client.get(), parts.server.get()}) {
      if (auto used = use_key_pair(context, certificate_file, *pair); !used) return used;
    }
  }
  return {};
}

/// Every certificate of the trust store is an anchor, a root or not. With revocation lists, a chain
/// needs one for each of its certificates (the exception for anchors is in session.cpp).
Result<void> fill_trust_store(const CredentialSource& source, X509_STORE* store,
                              std::size_t& anchors) {
  for (const NamedBytes& file : source.trust_store) {
    auto certificates = read_certificates(file);
    if (!certificates) return tl::unexpected(certificates.error());
    for (const X509Ptr& certificate : *certificates) {
      if (X509_STORE_add_cert(store, certificate.get()) != 1) {
        return fail_openssl(ErrorKind::kInvalidArgument, file.name);
      }
    }
    anchors += certificates->size();
  }
  for (const NamedBytes& file : source.crls) {
    auto lists = read_crls(file);
    if (!lists) return tl::unexpected(lists.error());
    for (const X509CrlPtr& list : *lists) {
      if (X509_STORE_add_crl(store, list.get()) != 1) {
        return fail_openssl(ErrorKind::kInvalidArgument, file.name);
      }
    }
  }
  unsigned long flags = X509_V_FLAG_PARTIAL_CHAIN;
  if (!source.crls.empty()) flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
  if (X509_STORE_set_flags(store, flags) != 1) {
    return fail_openssl(ErrorKind::kInputOutput, "trust store");
  }
  return {};
}

/// All but the trust store, which is given.
Result<std::unique_ptr<Credential::Parts>> parts_with(const CredentialSource& source,
                                                      X509_STORE* store, std::size_t anchors) {
  auto parts = std::make_unique<Credential::Parts>();
  parts->name = source.name;
  parts->has_key_pair = !source.key_pairs.empty();
  parts->check_extended_key_usage = source.check_extended_key_usage;
  parts->trust_anchors = anchors;
  for (const Side side : {Side::kClient, Side::kServer}) {
    auto context = make_context(side, on_secret);
    if (!context) return tl::unexpected(context.error());
    SSL_CTX_set_info_callback(context->get(), on_information);
    SSL_CTX_set1_cert_store(context->get(), store);
    (side == Side::kClient ? parts->client : parts->server) = std::move(*context);
  }
  if (auto added = add_key_pairs(source, *parts); !added) return tl::unexpected(added.error());
  return parts;
}

}  // namespace

Result<std::unique_ptr<Credential::Parts>> make_parts(const CredentialSource& source) {
  const X509StorePtr store(X509_STORE_new());
  if (!store) return fail_openssl(ErrorKind::kNoMemory, "trust store");
  std::size_t anchors = 0;
  if (auto filled = fill_trust_store(source, store.get(), anchors); !filled) {
    return tl::unexpected(filled.error());
  }
  return parts_with(source, store.get(), anchors);
}

Credential::Credential(std::unique_ptr<const Parts> parts) noexcept : parts_(std::move(parts)) {}
Credential::~Credential() = default;

const std::string& Credential::name() const noexcept { return parts_->name; }
bool Credential::has_key_pair() const noexcept { return parts_->has_key_pair; }
std::size_t Credential::trust_anchors() const noexcept { return parts_->trust_anchors; }

Result<std::shared_ptr<const Credential>> load_credential(const CredentialSource& source) {
  try {
    auto parts = make_parts(source);
    if (!parts) return tl::unexpected(parts.error());
    return std::make_shared<const Credential>(*std::move(parts));
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kNoMemory, "out of memory");
  }
}

Result<std::shared_ptr<const Credential>> with_key_pairs(
    const Credential& base, std::vector<std::pair<NamedBytes, NamedBytes>> key_pairs) {
  try {
    CredentialSource source;
    source.name = base.name();
    source.key_pairs = std::move(key_pairs);
    source.check_extended_key_usage = base.parts().check_extended_key_usage;
    X509_STORE* const store = SSL_CTX_get_cert_store(base.parts().client.get());
    auto parts = parts_with(source, store, base.trust_anchors());
    for (auto& [certificate, private_key] : source.key_pairs) {
      wipe(private_key.content.data(), private_key.content.size());
    }
    if (!parts) return tl::unexpected(parts.error());
    return std::make_shared<const Credential>(*std::move(parts));
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kNoMemory, "out of memory");
  }
}

bool has_post_quantum_signatures() {
  EVP_SIGNATURE* const signature = EVP_SIGNATURE_fetch(nullptr, "ML-DSA-65", nullptr);
  EVP_SIGNATURE_free(signature);
  drain_errors();
  return signature != nullptr;
}

}  // namespace handshake::tls
