// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

/// Certificates for tests, made when the test runs. Failures abort: a test cannot go on without.
namespace handshake::test_pki {

enum class KeyType { kEcdsaP256, kEcdsaP384, kRsa2048, kRsa1024, kEd25519 };
enum class Usage { kUnrestricted, kServer, kClient, kServerAndClient };  // extended key usage

struct LeafOptions {
  std::string common_name = "leaf";
  std::vector<std::string> dns_names;
  std::vector<std::string> ip_addresses;
  KeyType key_type = KeyType::kEcdsaP256;
  Usage usage = Usage::kUnrestricted;
  /// Relative to now.
  std::chrono::hours not_before{-1};
  std::chrono::hours not_after{24};
};

/// A certificate and its key. `chain_pem` is the certificate followed by the intermediates up to,
/// without, the root.
struct Issued {
  std::string certificate_pem;
  std::string chain_pem;
  std::string key_pem;
  std::string certificate_der;
  std::string key_der;  ///< PKCS#8
  long serial = 0;
};

class Authority {
 public:
  explicit Authority(const std::string& common_name, KeyType key_type = KeyType::kEcdsaP256);
  Authority(Authority&&) noexcept;
  Authority& operator=(Authority&&) noexcept;
  ~Authority();

  [[nodiscard]] Authority intermediate(const std::string& common_name) const;
  [[nodiscard]] Issued issue(const LeafOptions& options) const;
  [[nodiscard]] std::string certificate_pem() const;
  [[nodiscard]] std::string certificate_der() const;
  [[nodiscard]] long serial() const;
  /// A revocation list that names these serials.
  [[nodiscard]] std::string crl_pem(const std::vector<long>& revoked_serials,
                                    std::chrono::hours next_update = std::chrono::hours{24}) const;

 private:
  struct Parts;
  explicit Authority(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

/// The same key behind a password ("-----BEGIN ENCRYPTED PRIVATE KEY-----").
[[nodiscard]] std::string encrypt_key_pem(const std::string& key_pem, const std::string& password);

}  // namespace handshake::test_pki
