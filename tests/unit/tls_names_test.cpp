// SPDX-License-Identifier: Apache-2.0
// Peer names, alerts, secrets: the parts of the room that need no session.
#include <gtest/gtest.h>

#include <algorithm>

#include "tls/alert.h"
#include "tls/peer_name.h"
#include "tls/secrets.h"
#include "tls/session.h"

namespace handshake::tls {
namespace {

TEST(PeerName, IsADnsNameOrAnAddress) {
  const std::vector<std::pair<std::string, PeerName>> cases{
      {"server.test", {PeerName::Kind::kDns, "server.test"}},
      {"server.test.", {PeerName::Kind::kDns, "server.test"}},
      {"localhost", {PeerName::Kind::kDns, "localhost"}},
      {"_nfs.a-b.xn--bcher-kva.test", {PeerName::Kind::kDns, "_nfs.a-b.xn--bcher-kva.test"}},
      {"192.0.2.1", {PeerName::Kind::kIp, "192.0.2.1"}},
      {"2001:DB8:0::1", {PeerName::Kind::kIp, "2001:db8::1"}},
      {"fe80::1%eth0", {PeerName::Kind::kIp, "fe80::1"}},
      {"::ffff:192.0.2.1", {PeerName::Kind::kIp, "192.0.2.1"}},
      // Not addresses, for inet_pton(3); as names they match no certificate by accident.
      {"192.0.2", {PeerName::Kind::kDns, "192.0.2"}},
      {std::string(63, 'a') + ".test", {PeerName::Kind::kDns, std::string(63, 'a') + ".test"}}};
  for (const auto& [text, expected] : cases) {
    const auto name = parse_peer_name(text);
    ASSERT_TRUE(name) << name.error().detail;
    EXPECT_EQ(*name, expected) << text;
  }
}

TEST(PeerName, ThatIsRefusedIsQuotedSafely) {
  const auto refused = parse_peer_name("evil\nname");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().detail.find('\n'), std::string::npos) << refused.error().detail;
}

TEST(Alerts, HaveNames) {
  EXPECT_EQ(alert_name(48), "unknown_ca");
  EXPECT_EQ(alert_name(116), "certificate_required");
  EXPECT_EQ(alert_name(7), "alert 7");
}

TEST(Ciphers, HaveTheirIanaNames) {
  EXPECT_EQ(to_string(Cipher::kAes128Gcm), "TLS_AES_128_GCM_SHA256");
  EXPECT_EQ(to_string(Cipher::kAes256Gcm), "TLS_AES_256_GCM_SHA384");
  EXPECT_EQ(to_string(Cipher::kChaCha20Poly1305), "TLS_CHACHA20_POLY1305_SHA256");
  EXPECT_EQ(to_string(Cipher::kAes128Ccm), "TLS_AES_128_CCM_SHA256");
}

std::vector<std::uint8_t> unhex(const std::string& hex) {
  std::vector<std::uint8_t> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// RFC 8448 §3, "Simple 1-RTT Handshake": the server's and the client's application traffic keys.
TEST(RecordKeys, AreThoseOfRfc8448) {
  struct Vector {
    const char* secret;
    const char* key;
    const char* iv;
  };
  for (const auto& [secret_hex, key, iv] :
       {Vector{"a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643",
               "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"},
        Vector{"9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5",
               "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"}}) {
    TrafficSecret secret;
    std::ranges::copy(unhex(secret_hex), secret.resize(32).begin());
    const auto keys = derive_record_keys(Cipher::kAes128Gcm, secret);
    ASSERT_TRUE(keys) << keys.error().detail;
    EXPECT_TRUE(std::ranges::equal(keys->key.view(), unhex(key)));
    EXPECT_TRUE(std::ranges::equal(keys->iv.view(), unhex(iv)));
  }
}

TEST(RecordKeys, NeedASecretOfTheRightSize) {
  TrafficSecret secret;
  EXPECT_FALSE(derive_record_keys(Cipher::kAes128Gcm, secret));
  static_cast<void>(secret.resize(32));
  EXPECT_TRUE(derive_record_keys(Cipher::kAes128Gcm, secret));
  EXPECT_FALSE(derive_record_keys(Cipher::kAes256Gcm, secret));
}

TEST(SecretBytes, AreOverwrittenWhenMovedAndWhenDestroyed) {
  alignas(SecretBytes<8>) unsigned char storage[sizeof(SecretBytes<8>)];
  const auto holds_secret = [&] {
    // Through volatile: looking at what is no longer an object is the point here.
    const volatile unsigned char* memory = storage;
    return std::count(memory, memory + 8, 0xab) > 0;
  };
  auto* first = new (storage) SecretBytes<8>();
  std::ranges::fill(first->resize(8), std::uint8_t{0xab});
  ASSERT_TRUE(holds_secret());
  SecretBytes<8> second(std::move(*first));
  EXPECT_FALSE(holds_secret());
  EXPECT_EQ(second.size(), 8U);
  *first = std::move(second);
  ASSERT_TRUE(holds_secret());
  first->~SecretBytes();
  EXPECT_FALSE(holds_secret());
}

}  // namespace
}  // namespace handshake::tls
