// SPDX-License-Identifier: Apache-2.0
// What loads as a credential, and what is said about what does not.
#include <gtest/gtest.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "support/tls_credentials.h"
#include "support/tls_peer.h"

namespace handshake {
namespace {

using test_pki::Authority;
using test_pki::Issued;
using test_pki::KeyType;
using tls::CredentialSource;

const Authority& ca() {
  static const Authority made("test CA");
  return made;
}
const Issued& leaf() {
  static const Issued made = ca().issue({.common_name = "leaf", .dns_names = {"server.test"}});
  return made;
}

CredentialSource with_pair(std::string certificate, std::string key) {
  CredentialSource source;
  source.name = "test";
  source.key_pairs.push_back(
      {{"/etc/cert.pem", std::move(certificate)}, {"/etc/key.pem", std::move(key)}});
  return source;
}

CredentialSource with_trust(std::string content) {
  CredentialSource source;
  source.name = "test";
  source.trust_store.push_back({"/etc/ca.pem", std::move(content)});
  return source;
}

void expect_refused(const CredentialSource& source, const std::string& reason) {
  const auto loaded = tls::load_credential(source);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().kind, ErrorKind::kInvalidArgument);
  EXPECT_NE(loaded.error().detail.find(reason), std::string::npos)
      << "said: " << loaded.error().detail << "\nnot: " << reason;
  // Never a word of the key.
  EXPECT_EQ(loaded.error().detail.find("PRIVATE KEY-----\n"), std::string::npos);
}

bool serves(const std::shared_ptr<const tls::Credential>& credential) {
  const test_tls::Link link = test_tls::Link::unix_pair();
  auto session = std::move(
      tls::Session::create(link.session_end.get(), credential, test_tls::server()).value());
  test_tls::PeerOptions options;
  options.trusted_pem = ca().certificate_pem();
  test_tls::Peer peer(options);
  const auto outcome = test_tls::shake_hands(*session, peer, link);
  return outcome && peer.finished();
}

TEST(Credential, LoadsPemAndDer) {
  const auto from_pem = tls::load_credential(with_pair(leaf().chain_pem, leaf().key_pem));
  ASSERT_TRUE(from_pem) << from_pem.error().detail;
  EXPECT_TRUE(serves(*from_pem));
  auto source = with_pair(leaf().certificate_der, leaf().key_der);
  source.trust_store.push_back({"ca.der", ca().certificate_der()});
  const auto from_der = tls::load_credential(source);
  ASSERT_TRUE(from_der) << from_der.error().detail;
  EXPECT_TRUE(serves(*from_der));
  EXPECT_TRUE((*from_der)->has_key_pair());
  EXPECT_EQ((*from_der)->trust_anchors(), 1U);
  EXPECT_EQ((*from_der)->name(), "test");
}

TEST(Credential, LoadsDerOfSeveralCertificatesInARow) {
  const Authority intermediate = ca().intermediate("intermediate");
  const Issued below = intermediate.issue({.common_name = "below"});
  const auto loaded = tls::load_credential(
      with_pair(below.certificate_der + intermediate.certificate_der(), below.key_der));
  ASSERT_TRUE(loaded) << loaded.error().detail;
  EXPECT_TRUE(serves(*loaded));
}

TEST(Credential, PassesOverWhatElseIsInAPemFile) {
  const std::string both = "# our server\n" + leaf().key_pem + "subject=CN = leaf\n" + leaf().chain_pem;
  const auto loaded = tls::load_credential(with_pair(both, both));
  ASSERT_TRUE(loaded) << loaded.error().detail;
  EXPECT_TRUE(serves(*loaded));
}

TEST(Credential, CountsTheAnchorsOfABundle) {
  const auto loaded = tls::load_credential(
      with_trust(ca().certificate_pem() + Authority("another").certificate_pem()));
  ASSERT_TRUE(loaded) << loaded.error().detail;
  EXPECT_EQ((*loaded)->trust_anchors(), 2U);
  EXPECT_FALSE((*loaded)->has_key_pair());
}

TEST(Credential, NamesTheFileThatIsNotWhatItShouldBe) {
  expect_refused(with_pair("", leaf().key_pem), "/etc/cert.pem: the file is empty");
  expect_refused(with_pair("hello", leaf().key_pem), "/etc/cert.pem: neither PEM nor DER");
  expect_refused(with_pair(leaf().key_pem, leaf().key_pem),
                 "/etc/cert.pem: there is no certificate in it, only PRIVATE KEY");
  expect_refused(with_pair(leaf().chain_pem, ""), "/etc/key.pem: the file is empty");
  expect_refused(with_pair(leaf().chain_pem, leaf().chain_pem),
                 "/etc/key.pem: there is no private key in it");
  expect_refused(with_trust(leaf().key_pem), "/etc/ca.pem: there is no certificate in it");
  expect_refused(with_trust("0garbage"), "/etc/ca.pem: cannot read the certificate");

  CredentialSource source = with_trust(ca().certificate_pem());
  source.crls.push_back({"/etc/crl.pem", ca().certificate_pem()});
  expect_refused(source, "/etc/crl.pem: there is no revocation list in it, only CERTIFICATE");
}

TEST(Credential, RefusesDamagedFiles) {
  std::string cut = leaf().chain_pem;
  cut.resize(cut.size() / 2);
  expect_refused(with_pair(cut, leaf().key_pem), "/etc/cert.pem: PEM block 1 is broken");
  std::string garbled = leaf().chain_pem;
  garbled[100] = '!';
  expect_refused(with_pair(garbled, leaf().key_pem), "/etc/cert.pem: PEM block 1 is broken");
  std::string wrong = leaf().chain_pem;  // another letter: base64 is fine, the DER is not
  wrong[32] = wrong[32] == 'A' ? 'B' : 'A';
  expect_refused(with_pair(wrong, leaf().key_pem), "/etc/cert.pem: cannot read the certificate");
  expect_refused(with_pair(leaf().certificate_der + "x", leaf().key_der), "/etc/cert.pem");
  expect_refused(with_pair(leaf().certificate_der, leaf().key_der + "x"),
                 "/etc/key.pem: bytes follow the private key");
  expect_refused(with_pair(leaf().certificate_der, leaf().key_der.substr(0, 30)),
                 "/etc/key.pem: cannot read the private key");
}

TEST(Credential, RefusesAKeyOfAnotherCertificate) {
  const Issued other = ca().issue({.common_name = "other"});
  expect_refused(with_pair(leaf().chain_pem, other.key_pem),
                 "/etc/key.pem: the key does not match the certificate in /etc/cert.pem "
                 "(CN=leaf,O=handshaked tests)");
}

TEST(Credential, RefusesAChainInTheWrongOrder) {
  expect_refused(with_pair(ca().certificate_pem() + leaf().certificate_pem, leaf().key_pem),
                 "belongs to certificate number 2 of the file");
}

TEST(Credential, RefusesAKeyBehindAPasswordWithoutAskingForIt) {
  const std::string encrypted = test_pki::encrypt_key_pem(leaf().key_pem, "secret");
  expect_refused(with_pair(leaf().chain_pem, encrypted),
                 "/etc/key.pem: the private key is protected by a password");
  // The same in DER: the base64 between the lines.
  BIO* bio = BIO_new_mem_buf(encrypted.data(), static_cast<int>(encrypted.size()));
  char* name = nullptr;
  char* header = nullptr;
  unsigned char* der = nullptr;
  long size = 0;
  ASSERT_EQ(PEM_read_bio(bio, &name, &header, &der, &size), 1);
  const std::string encrypted_der(reinterpret_cast<char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(name);
  OPENSSL_free(header);
  OPENSSL_free(der);
  BIO_free(bio);
  expect_refused(with_pair(leaf().certificate_der, encrypted_der),
                 "/etc/key.pem: the private key is protected by a password");
}

TEST(Credential, RefusesAWeakKey) {
  const Issued weak = ca().issue({.common_name = "weak", .key_type = KeyType::kRsa1024});
  expect_refused(with_pair(weak.chain_pem, weak.key_pem),
                 "/etc/key.pem: a key of type RSA 1024 is too weak");
}

TEST(Credential, RefusesAKindOfKeyThatTls13DoesNotHave) {
  EVP_PKEY* key = EVP_EC_gen("secp256k1");
  BIO* bio = BIO_new(BIO_s_mem());
  ASSERT_EQ(PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr), 1);
  std::string pem(BIO_ctrl_pending(bio), '\0');
  BIO_read(bio, pem.data(), static_cast<int>(pem.size()));
  BIO_free(bio);
  EVP_PKEY_free(key);
  expect_refused(with_pair(leaf().chain_pem, pem),
                 "/etc/key.pem: TLS 1.3 does not sign with a key of type ECDSA secp256k1");
}

TEST(Credential, RefusesTwoKeyPairsOfAKind) {
  CredentialSource source = with_pair(leaf().chain_pem, leaf().key_pem);
  const Issued other = ca().issue({.common_name = "other", .key_type = KeyType::kEcdsaP384});
  source.key_pairs.push_back({{"/etc/cert2.pem", other.chain_pem}, {"/etc/key2.pem", other.key_pem}});
  expect_refused(source,
                 "/etc/cert2.pem: a second key pair of type ECDSA, after /etc/cert.pem");
}

TEST(Credential, LoadsKeyPairsOfSeveralKinds) {
  CredentialSource source;
  for (const KeyType type : {KeyType::kRsa2048, KeyType::kEcdsaP256, KeyType::kEd25519}) {
    const Issued issued = ca().issue({.common_name = "one of several", .key_type = type});
    source.key_pairs.push_back({{"cert", issued.chain_pem}, {"key", issued.key_der}});
  }
  const auto loaded = tls::load_credential(source);
  ASSERT_TRUE(loaded) << loaded.error().detail;
  EXPECT_TRUE(serves(*loaded));
}

TEST(Credential, WithNothingInItTrustsNothing) {
  const auto loaded = tls::load_credential({});
  ASSERT_TRUE(loaded) << loaded.error().detail;
  EXPECT_FALSE((*loaded)->has_key_pair());
  EXPECT_EQ((*loaded)->trust_anchors(), 0U);
}

}  // namespace
}  // namespace handshake
