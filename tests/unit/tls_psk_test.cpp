// SPDX-License-Identifier: Apache-2.0
// Sessions with an external pre-shared key, both sides, against plain OpenSSL.
#include <gtest/gtest.h>

#include <algorithm>

#include "support/tls_credentials.h"
#include "support/tls_peer.h"
#include "tls/psk.h"

namespace handshake {
namespace {

using test_tls::Link;
using test_tls::Peer;
using test_tls::PeerOptions;
using tls::Cipher;
using tls::PresharedKey;
using tls::PskHash;
using tls::Session;
using tls::Side;

constexpr std::uint8_t kHandshakeFailure = 40;
constexpr std::uint8_t kDecodeError = 50;
constexpr std::uint8_t kIllegalParameter = 47;  // OpenSSL's for a binder that does not verify
constexpr std::uint8_t kUnknownPskIdentity = 115;

const std::string kIdentity = "NVMe1R01 nqn.2014-08.org.nvmexpress:uuid:1 nqn.2026-11.test:sub1 digest=";

Secret secret_of(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return Secret(std::vector<std::byte>(bytes.begin(), bytes.end()));
}

std::shared_ptr<const PresharedKey> key_of(const std::string& identity, const std::string& secret) {
  return std::make_shared<const PresharedKey>(PresharedKey{identity, secret_of(secret)});
}

std::unique_ptr<Session> session_on(const Link& link, Side side, std::shared_ptr<const PresharedKey> key,
                                    std::vector<Cipher> ciphers = {tls::kAllCiphers.begin(),
                                                                   tls::kAllCiphers.end()}) {
  tls::SessionParameters parameters;
  parameters.side = side;
  parameters.psk = std::move(key);
  parameters.ciphers = std::move(ciphers);
  return Session::create(link.session_end.get(), tls::make_psk_credential().value(), parameters).value();
}

/// Lets both talk; a server's question for its key is answered with `key`.
test_tls::Outcome talk(Session& session, Peer& peer, const Link& link,
                       const std::shared_ptr<const PresharedKey>& key, std::size_t piece = 0) {
  for (;;) {
    const auto outcome = test_tls::shake_hands(session, peer, link, piece);
    if (!outcome || *outcome != Session::Progress::kWantKey) return outcome;
    session.use_key(key);
  }
}

struct Case {
  Side side;
  bool sha384;
  std::size_t identity_bytes;
  std::size_t piece;
};

class EveryPsk : public testing::TestWithParam<Case> {};

const Case kCases[] = {
    {Side::kClient, false, 80, 0},  {Side::kClient, true, 80, 1},   {Side::kClient, false, 500, 0},
    {Side::kClient, true, 4000, 0}, {Side::kServer, false, 80, 1},  {Side::kServer, true, 80, 0},
    {Side::kServer, false, 500, 0}, {Side::kServer, true, 4000, 7},
};

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const Case& one = info.param;
  return std::string(one.side == Side::kClient ? "client" : "server") + (one.sha384 ? "_sha384_" : "_sha256_") +
         std::to_string(one.identity_bytes) + "_piece" + std::to_string(one.piece);
}

INSTANTIATE_TEST_SUITE_P(Psk, EveryPsk, testing::ValuesIn(kCases), name_of);

TEST_P(EveryPsk, IsAuthenticatedByTheKeyAndUsesItsHash) {
  const auto& [side, sha384, identity_bytes, piece] = GetParam();
  std::string identity = sha384 ? "NVMe1R02 " : "NVMe1R01 ";
  identity.resize(identity_bytes, 'x');
  const std::string secret(sha384 ? 48 : 32, '\x7f');
  const auto key = key_of(identity, secret);
  PeerOptions options;
  options.server = side == Side::kClient;
  options.psk_identity = identity;
  options.psk_key = secret;
  options.psk_sha384 = sha384;
  Peer peer(options);
  const Link link = Link::unix_pair();
  const auto session = session_on(link, side, side == Side::kClient ? key : nullptr);

  const auto outcome = talk(*session, peer, link, key, piece);
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  ASSERT_EQ(*outcome, Session::Progress::kFinished);
  EXPECT_TRUE(peer.finished());
  EXPECT_EQ(SSL_session_reused(peer.ssl()), 1);
  EXPECT_TRUE(session->facts().peer_authenticated);
  EXPECT_EQ(session->facts().psk_identity, identity);
  EXPECT_EQ(session->facts().peer_subject, "");
  const std::size_t hash_bytes = sha384 ? 48 : 32;
  EXPECT_EQ(tls::secret_size(session->facts().cipher), hash_bytes);
  EXPECT_EQ(session->secrets().client.size(), hash_bytes);
  if (side == Side::kServer) {
    EXPECT_EQ(session->offered_identities(), std::vector<std::string>{identity});
  }
}

// --- A server ------------------------------------------------------------------------------------------

PeerOptions client_with(const std::string& identity, const std::string& secret) {
  PeerOptions options;
  options.psk_identity = identity;
  options.psk_key = secret;
  return options;
}

TEST(PskServer, AnUnknownIdentityIsEKEYREJECTEDAndThePeerIsTold) {
  Peer peer(client_with(kIdentity, std::string(32, 'k')));
  const Link link = Link::unix_pair();
  const auto session = session_on(link, Side::kServer, nullptr);
  const auto outcome = talk(*session, peer, link, nullptr);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.kind, ErrorKind::kKeyRejected);
  EXPECT_EQ(outcome.error().alert, kUnknownPskIdentity);
  EXPECT_TRUE(outcome.error().alert_sent);
  EXPECT_EQ(peer.alert_received(), kUnknownPskIdentity);
}

TEST(PskServer, AnotherKeyUnderAKnownIdentityIsEACCESAndThePeerIsTold) {
  Peer peer(client_with(kIdentity, std::string(32, 'k')));
  const Link link = Link::unix_pair();
  const auto session = session_on(link, Side::kServer, nullptr);
  const auto outcome = talk(*session, peer, link, key_of(kIdentity, std::string(32, 'w')));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.kind, ErrorKind::kRejected);
  EXPECT_EQ(outcome.error().error.detail, "peer has another key than ours for its identity");
  EXPECT_EQ(outcome.error().alert, kIllegalParameter);
  EXPECT_EQ(peer.alert_received(), kIllegalParameter);
}

TEST(PskServer, APeerWithoutPskIsRefused) {
  Peer peer(PeerOptions{});
  const Link link = Link::unix_pair();
  const auto session = session_on(link, Side::kServer, nullptr);
  const auto outcome = talk(*session, peer, link, nullptr);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.kind, ErrorKind::kRejected);
  EXPECT_EQ(outcome.error().error.detail, "peer offers no pre-shared key, but one is required");
  EXPECT_EQ(peer.alert_received(), kHandshakeFailure);
}

TEST(PskServer, AHashThatTheKernelHasNoCipherForIsEOPNOTSUPP) {
  PeerOptions options = client_with("NVMe1R02 x", std::string(48, 'k'));
  options.psk_sha384 = true;
  Peer peer(options);
  const Link link = Link::unix_pair();
  const auto session = session_on(link, Side::kServer, nullptr, {Cipher::kAes128Gcm});
  const auto outcome = talk(*session, peer, link, key_of("NVMe1R02 x", std::string(48, 'k')));
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.kind, ErrorKind::kNotSupported);
}

TEST(PskServer, AKeyForAnotherIdentityThanTheOneOfferedIsNoProof) {
  Peer peer(client_with(kIdentity, std::string(32, 'k')));
  const Link link = Link::unix_pair();
  const auto session = session_on(link, Side::kServer, nullptr);
  const auto outcome = talk(*session, peer, link, key_of("another", std::string(32, 'k')));
  EXPECT_FALSE(outcome);
  EXPECT_FALSE(peer.finished());
}

TEST(PskServer, AsksOnceForAllThatAClientOffersAlsoAfterAHelloRetryRequest) {
  PeerOptions options = client_with(kIdentity, std::string(32, 'k'));
  options.groups = "X448:P-256";  // a key share for the first only, which we do not take
  Peer peer(options);
  const Link link = Link::unix_pair();
  const auto session = session_on(link, Side::kServer, nullptr);
  const auto first = test_tls::shake_hands(*session, peer, link);
  ASSERT_TRUE(first);
  ASSERT_EQ(*first, Session::Progress::kWantKey);
  EXPECT_EQ(*session->advance(), Session::Progress::kWantKey);
  session->use_key(key_of(kIdentity, std::string(32, 'k')));
  const auto outcome = test_tls::shake_hands(*session, peer, link);
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  EXPECT_EQ(*outcome, Session::Progress::kFinished);
  EXPECT_TRUE(peer.finished());
}

/// A ClientHello with this pre_shared_key extension and little else.
std::string hello_with(const std::string& psk_extension) {
  const auto u8 = [](std::size_t value) { return std::string(1, static_cast<char>(value)); };
  const auto u16 = [&](std::size_t value) { return u8(value >> 8) + u8(value & 0xff); };
  const auto extension = [&](std::size_t type, const std::string& body) {
    return u16(type) + u16(body.size()) + body;
  };
  const std::string extensions = extension(43, u8(2) + u16(0x0304)) +          // supported_versions
                                 extension(45, u8(1) + u8(1)) +                // psk_dhe_ke
                                 extension(10, u16(2) + u16(29)) +             // x25519
                                 extension(51, u16(36) + u16(29) + u16(32) + std::string(32, '\x09')) +
                                 extension(13, u16(2) + u16(0x0403)) +
                                 extension(41, psk_extension);
  const std::string body = u16(0x0303) + std::string(32, 'r') + u8(0) + u16(2) + u16(0x1301) + u8(1) + u8(0) +
                           u16(extensions.size()) + extensions;
  const std::string message = u8(1) + u8(0) + u16(body.size()) + body;
  return u8(22) + u16(0x0301) + u16(message.size()) + message;
}

TEST(PskServer, AMalformedExtensionIsADecodeError) {
  using namespace std::string_literals;
  for (const std::string& extension :
       {""s, "\0"s, "\0\0"s, "\0\4\0\0\0\0"s, "\0\x09\0\5ab\0\0\0\0"s, "\xff\xff\0\1a\0\0\0\0"s, "\0\7\0\1a\0\0\0"s}) {
    const Link link = Link::unix_pair();
    const auto session = session_on(link, Side::kServer, nullptr);
    link.send(hello_with(extension));
    const auto outcome = session->advance();
    ASSERT_FALSE(outcome) << extension.size();
    EXPECT_EQ(outcome.error().error.kind, ErrorKind::kInputOutput);
    EXPECT_EQ(outcome.error().alert, kDecodeError);
  }
}

TEST(PskServer, LooksAtNoMoreThan32Identities) {
  std::string identities;
  for (int i = 0; i < 100; ++i) identities += std::string("\0\3", 2) + std::to_string(100 + i) + std::string(4, '\0');
  const auto size = identities.size();
  const std::string binders = std::string("\0\x21\x20", 3) + std::string(32, 'b');
  const Link link = Link::unix_pair();
  const auto session = session_on(link, Side::kServer, nullptr);
  link.send(hello_with(std::string{static_cast<char>(size >> 8), static_cast<char>(size & 0xff)} + identities + binders));
  const auto outcome = session->advance();
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  EXPECT_EQ(*outcome, Session::Progress::kWantKey);
  ASSERT_EQ(session->offered_identities().size(), 32U);
  EXPECT_EQ(session->offered_identities().front(), "100");
}

// --- A client ------------------------------------------------------------------------------------------

TEST(PskClient, AServerWithAnotherKeyEndsItWithEACCES) {
  PeerOptions options;
  options.server = true;
  options.psk_identity = kIdentity;
  options.psk_key = std::string(32, 'w');
  Peer peer(options);
  const Link link = Link::unix_pair();
  const auto session = session_on(link, Side::kClient, key_of(kIdentity, std::string(32, 'k')));
  const auto outcome = talk(*session, peer, link, nullptr);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.kind, ErrorKind::kRejected);
  EXPECT_EQ(outcome.error().alert, kIllegalParameter);
  EXPECT_FALSE(outcome.error().alert_sent);
}

TEST(PskClient, AServerThatAnswersWithACertificateIsRefused) {
  const test_pki::Authority ca("psk test CA");
  const auto identity = ca.issue({.common_name = "server", .dns_names = {"server.test"}});
  PeerOptions options;
  options.server = true;
  options.identity = &identity;
  Peer peer(options);
  const Link link = Link::unix_pair();
  const auto session = session_on(link, Side::kClient, key_of(kIdentity, std::string(32, 'k')));
  const auto outcome = talk(*session, peer, link, nullptr);
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.kind, ErrorKind::kRejected);
}

TEST(PskClient, WithoutAKeyThereIsNoSession) {
  const Link link = Link::unix_pair();
  tls::SessionParameters parameters;
  const auto session = Session::create(link.session_end.get(), tls::make_psk_credential().value(), parameters);
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::kNoCredential);
}

TEST(PskClient, AHashThatTheKernelHasNoCipherForIsEOPNOTSUPP) {
  const Link link = Link::unix_pair();
  tls::SessionParameters parameters;
  parameters.psk = key_of("NVMe1R02 x", std::string(48, 'k'));
  parameters.ciphers = {Cipher::kAes128Gcm, Cipher::kChaCha20Poly1305};
  const auto session = Session::create(link.session_end.get(), tls::make_psk_credential().value(), parameters);
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::kNotSupported);
}

// --- Its hash ------------------------------------------------------------------------------------------

TEST(PskHash, ComesFromTheNvmeIdentityOrElseFromTheKeysLength) {
  const auto hash = [](const std::string& identity, std::size_t bytes) {
    return tls::psk_hash(PresharedKey{identity, secret_of(std::string(bytes, 'k'))});
  };
  EXPECT_EQ(hash("NVMe0R01 host subsystem", 48), PskHash::kSha256);
  EXPECT_EQ(hash("NVMe1R01 host subsystem digest", 32), PskHash::kSha256);
  EXPECT_EQ(hash("NVMe0R02 host subsystem", 32), PskHash::kSha384);
  EXPECT_EQ(hash("NVMe1G02 host subsystem digest", 48), PskHash::kSha384);
  EXPECT_EQ(hash("NVMe1R03 host subsystem digest", 48), PskHash::kSha384);
  EXPECT_EQ(hash("NVMe1R", 32), PskHash::kSha256);
  EXPECT_EQ(hash("somebody", 32), PskHash::kSha256);
  EXPECT_EQ(hash("somebody", 48), PskHash::kSha384);
  EXPECT_EQ(hash("somebody", 64), PskHash::kSha256);
}

}  // namespace
}  // namespace handshake
