// SPDX-License-Identifier: Apache-2.0
// Every way in which a handshake is refused: what the caller is told, and what the peer sees.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <stdexcept>

#include "support/tls_credentials.h"
#include "support/tls_peer.h"

namespace handshake {
namespace {

using std::chrono::hours;
using test_pki::Authority;
using test_pki::Issued;
using test_pki::LeafOptions;
using test_pki::Usage;
using test_tls::client_for;
using test_tls::Link;
using test_tls::Peer;
using test_tls::PeerOptions;
using tls::Session;
using tls::Side;

// Alerts of RFC 8446 §6.
constexpr int kHandshakeFailure = 40;
constexpr int kBadCertificate = 42;
constexpr int kUnsupportedCertificate = 43;
constexpr int kCertificateRevoked = 44;
constexpr int kCertificateExpired = 45;
constexpr int kIllegalParameter = 47;
constexpr int kUnknownCa = 48;
constexpr int kProtocolVersion = 70;
constexpr int kCertificateRequired = 116;

struct Refused {
  tls::Failure failure;
  std::optional<int> seen_by_peer;
};

const Authority& ca() {
  static const Authority made("test CA");
  return made;
}
const Authority& stranger() {
  static const Authority made("nobody's CA");
  return made;
}

LeafOptions leaf() {
  return {.common_name = "leaf", .dns_names = {"server.test"}, .ip_addresses = {"192.0.2.1"},
          .usage = Usage::kServerAndClient};
}

Refused run(const std::shared_ptr<const tls::Credential>& credential,
            const tls::SessionParameters& parameters, const PeerOptions& options) {
  const Link link = Link::unix_pair();
  auto session = std::move(Session::create(link.session_end.get(), credential, parameters).value());
  Peer peer(options);
  const auto outcome = test_tls::shake_hands(*session, peer, link);
  if (outcome) throw std::runtime_error("was not refused");
  // Every later call fails the same way.
  const auto again = session->advance();
  if (again || again.error().error.detail != outcome.error().error.detail) {
    throw std::runtime_error("was refused differently the second time");
  }
  // A client has finished before its certificate is refused, and reads of it (RFC 8446 §4.4.2.4).
  if (peer.finished()) static_cast<void>(peer.read());
  return {outcome.error(), peer.alert_received()};
}

/// Our client, and a server that presents `identity`.
Refused refuse_server(const Issued& identity, const std::string& name,
                      std::vector<std::string> crls = {}) {
  PeerOptions options;
  options.server = true;
  options.identity = &identity;
  const auto credential =
      test_tls::load(test_tls::source({}, {ca().certificate_pem()}, std::move(crls)));
  return run(credential, client_for(name), options);
}

/// Our server, which requires a certificate, and a client that presents `identity`, if any.
Refused refuse_client(const Issued* identity, std::vector<std::string> crls = {}) {
  PeerOptions options;
  options.identity = identity;
  tls::SessionParameters parameters = test_tls::server();
  parameters.require_client_certificate = true;
  const auto credential = test_tls::load(
      test_tls::source({ca().issue(leaf())}, {ca().certificate_pem()}, std::move(crls)));
  return run(credential, parameters, options);
}

void expect_rejected(const Refused& refused, int alert, const std::string& reason) {
  EXPECT_EQ(refused.failure.error.kind, ErrorKind::kRejected) << refused.failure.error.detail;
  EXPECT_EQ(refused.failure.alert, alert);
  EXPECT_TRUE(refused.failure.alert_sent);
  EXPECT_EQ(refused.seen_by_peer, alert);
  EXPECT_NE(refused.failure.error.detail.find(reason), std::string::npos)
      << refused.failure.error.detail;
}

// ---------------------------------------------------------------------------------------------
// Certificates of servers.

TEST(AClientRefuses, AServerOfAnUntrustedAuthority) {
  const auto refused = refuse_server(stranger().issue(leaf()), "server.test");
  expect_rejected(refused, kUnknownCa, "unable to get local issuer certificate");
}

TEST(AClientRefuses, ASelfSignedServer) {
  // A CA's own certificate stands in for one.
  const Issued issued = stranger().issue(leaf());
  Issued self_signed = issued;
  self_signed.chain_pem += stranger().certificate_pem();
  expect_rejected(refuse_server(self_signed, "server.test"), kUnknownCa,
                  "self-signed certificate in certificate chain");
}

TEST(AClientRefuses, AnExpiredServer) {
  LeafOptions options = leaf();
  options.not_before = hours{-48};
  options.not_after = hours{-24};
  expect_rejected(refuse_server(ca().issue(options), "server.test"), kCertificateExpired,
                  "certificate has expired (CN=leaf,O=handshaked tests, depth 0)");
}

TEST(AClientRefuses, AServerThatIsNotYetValid) {
  LeafOptions options = leaf();
  options.not_before = hours{12};
  expect_rejected(refuse_server(ca().issue(options), "server.test"), kBadCertificate,
                  "certificate is not yet valid");
}

TEST(AClientRefuses, AServerOfAnotherName) {
  expect_rejected(refuse_server(ca().issue(leaf()), "other.test"), kBadCertificate,
                  "it is not for other.test");
}

TEST(AClientRefuses, AServerAtAnotherAddress) {
  expect_rejected(refuse_server(ca().issue(leaf()), "192.0.2.2"), kBadCertificate,
                  "it is not for 192.0.2.2");
}

TEST(AClientRefuses, AServerWhoseNameIsInTheSubjectOnly) {
  LeafOptions options = leaf();
  options.common_name = "server.test";
  options.dns_names.clear();
  options.ip_addresses.clear();
  expect_rejected(refuse_server(ca().issue(options), "server.test"), kBadCertificate,
                  "it is not for server.test");
}

TEST(AClientRefuses, AnAddressThatIsWrittenAsADnsName) {
  LeafOptions options = leaf();
  options.dns_names = {"192.0.2.7"};
  expect_rejected(refuse_server(ca().issue(options), "192.0.2.7"), kBadCertificate,
                  "it is not for 192.0.2.7");
}

TEST(AClientRefuses, AWildcardForAPartOfALabelOrForMoreThanOne) {
  for (const std::string& wanted : {std::string("a.server.lan.test"), std::string("server.test")}) {
    LeafOptions options = leaf();
    options.dns_names = {"*.lan.test", "ser*.lan.test", "s*.test"};
    expect_rejected(refuse_server(ca().issue(options), wanted), kBadCertificate, "is not for");
  }
  LeafOptions partial = leaf();
  partial.dns_names = {"ser*.lan.test"};
  expect_rejected(refuse_server(ca().issue(partial), "server.lan.test"), kBadCertificate,
                  "is not for");
}

TEST(AClientRefuses, AServerWithAWeakKey) {
  LeafOptions options = leaf();
  options.key_type = test_pki::KeyType::kRsa1024;
  PeerOptions peer;
  peer.server = true;
  const Issued identity = ca().issue(options);
  peer.identity = &identity;
  peer.security_level = 0;
  const auto refused = run(test_tls::load(test_tls::source({}, {ca().certificate_pem()})),
                           client_for("server.test"), peer);
  expect_rejected(refused, kBadCertificate, "EE certificate key too weak");
}

TEST(AClientRefuses, AChainThatIsTooLong) {
  std::vector<Authority> chain;
  chain.push_back(ca().intermediate("0"));
  while (chain.size() < 9) chain.push_back(chain.back().intermediate(std::to_string(chain.size())));
  const auto refused = refuse_server(chain.back().issue(leaf()), "server.test");
  EXPECT_EQ(refused.failure.error.kind, ErrorKind::kRejected) << refused.failure.error.detail;
  EXPECT_EQ(refused.seen_by_peer, kUnknownCa);
}

TEST(AClientRefuses, AChainOfTooManyBytes) {
  Issued identity = ca().issue(leaf());
  std::string padding = ca().certificate_pem();
  for (int i = 0; i < 7; ++i) padding += padding;  // 128 certificates of some 500 bytes
  identity.chain_pem += padding;
  const auto refused = refuse_server(identity, "server.test");
  EXPECT_EQ(refused.failure.error.kind, ErrorKind::kInputOutput);
  EXPECT_EQ(refused.failure.alert, kIllegalParameter) << refused.failure.error.detail;
  EXPECT_EQ(refused.seen_by_peer, kIllegalParameter);
}

TEST(AClientRefuses, AServerWithAClientsCertificate) {
  LeafOptions options = leaf();
  options.usage = Usage::kClient;
  // OpenSSL has two names for it: "unsupported" and "unsuitable certificate purpose".
  expect_rejected(refuse_server(ca().issue(options), "server.test"), kUnsupportedCertificate,
                  "certificate purpose");
}

TEST(AClientRefuses, ARevokedServer) {
  const Issued identity = ca().issue(leaf());
  const auto refused =
      refuse_server(identity, "server.test", {ca().crl_pem({identity.serial})});
  expect_rejected(refused, kCertificateRevoked, "certificate revoked");
}

TEST(AClientRefuses, AServerBelowARevokedIntermediate) {
  const Authority intermediate = ca().intermediate("intermediate");
  const auto refused =
      refuse_server(intermediate.issue(leaf()), "server.test",
                    {ca().crl_pem({intermediate.serial()}), intermediate.crl_pem({})});
  expect_rejected(refused, kCertificateRevoked, "depth 1");
}

TEST(AClientRefuses, AChainOfWhichARevocationListIsMissing) {
  const Authority intermediate = ca().intermediate("intermediate");
  const Issued identity = intermediate.issue(leaf());
  expect_rejected(refuse_server(identity, "server.test", {ca().crl_pem({})}), kUnknownCa,
                  "unable to get certificate CRL");
  expect_rejected(refuse_server(identity, "server.test", {intermediate.crl_pem({})}), kUnknownCa,
                  "unable to get certificate CRL");
}

TEST(AClientRefuses, AChainWhoseRevocationListIsOutOfDate) {
  expect_rejected(
      refuse_server(ca().issue(leaf()), "server.test", {ca().crl_pem({}, hours{-1})}),
      kCertificateExpired, "CRL has expired");
}

TEST(AClientRefuses, EveryServerWithoutATrustStore) {
  const Issued identity = ca().issue(leaf());
  PeerOptions options;
  options.server = true;
  options.identity = &identity;
  const auto refused =
      run(test_tls::load(test_tls::source({})), client_for("server.test"), options);
  expect_rejected(refused, kUnknownCa, "credential test has no trust store");
}

// ---------------------------------------------------------------------------------------------
// Certificates of clients.

TEST(AServerRefuses, AClientWithoutACertificateWhenOneIsRequired) {
  expect_rejected(refuse_client(nullptr), kCertificateRequired, "presented no certificate");
}

TEST(AServerRefuses, AClientOfAnUntrustedAuthority) {
  const Issued identity = stranger().issue(leaf());
  expect_rejected(refuse_client(&identity), kUnknownCa, "unable to get local issuer");
}

TEST(AServerRefuses, AnUntrustedClientAlsoWhereACertificateIsOptional) {
  const Issued identity = stranger().issue(leaf());
  PeerOptions options;
  options.identity = &identity;
  tls::SessionParameters parameters = test_tls::server();
  parameters.request_client_certificate = true;
  const auto credential =
      test_tls::load(test_tls::source({ca().issue(leaf())}, {ca().certificate_pem()}));
  expect_rejected(run(credential, parameters, options), kUnknownCa, "unable to get local issuer");
}

TEST(AServerRefuses, AnExpiredClient) {
  LeafOptions options = leaf();
  options.not_before = hours{-48};
  options.not_after = hours{-24};
  const Issued identity = ca().issue(options);
  expect_rejected(refuse_client(&identity), kCertificateExpired, "certificate has expired");
}

TEST(AServerRefuses, AClientWithAServersCertificate) {
  LeafOptions options = leaf();
  options.usage = Usage::kServer;
  const Issued identity = ca().issue(options);
  expect_rejected(refuse_client(&identity), kUnsupportedCertificate, "certificate purpose");
}

TEST(AServerRefuses, ARevokedClient) {
  const Issued identity = ca().issue(leaf());
  expect_rejected(refuse_client(&identity, {ca().crl_pem({identity.serial})}), kCertificateRevoked,
                  "certificate revoked");
}

TEST(AServerAccepts, AnyUsageWhenToldNotToCheckIt) {
  LeafOptions options = leaf();
  options.usage = Usage::kServer;
  const Issued identity = ca().issue(options);
  auto source = test_tls::source({identity}, {ca().certificate_pem()});
  source.check_extended_key_usage = false;
  const auto credential = test_tls::load(source);
  const Link link = Link::unix_pair();
  tls::SessionParameters parameters = test_tls::server();
  parameters.require_client_certificate = true;
  auto session = std::move(Session::create(link.session_end.get(), credential, parameters).value());
  PeerOptions peer_options;
  peer_options.identity = &identity;
  Peer peer(peer_options);
  const auto outcome = test_tls::shake_hands(*session, peer, link);
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  EXPECT_TRUE(session->facts().peer_authenticated);
}

TEST(AClientAccepts, AnAnchorThatIsNotARootWithoutItsOwnRevocationList) {
  const Authority intermediate = ca().intermediate("intermediate");
  const Issued identity = intermediate.issue(leaf());
  const auto credential = test_tls::load(
      test_tls::source({}, {intermediate.certificate_pem()}, {intermediate.crl_pem({})}));
  const Link link = Link::unix_pair();
  auto session = std::move(
      Session::create(link.session_end.get(), credential, client_for("server.test")).value());
  PeerOptions options;
  options.server = true;
  options.identity = &identity;
  Peer peer(options);
  const auto outcome = test_tls::shake_hands(*session, peer, link);
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  EXPECT_EQ(*outcome, Session::Progress::kFinished);
  EXPECT_TRUE(session->facts().peer_authenticated);
}

// ---------------------------------------------------------------------------------------------
// What the peer says.

TEST(APeersAlert, AboutOurCertificateIsARejection) {
  // The peer, a client that trusts nobody we know.
  PeerOptions options;
  options.trusted_pem = stranger().certificate_pem();
  const auto refused =
      run(test_tls::load(test_tls::source({ca().issue(leaf())})), test_tls::server(), options);
  EXPECT_EQ(refused.failure.error.kind, ErrorKind::kRejected);
  EXPECT_EQ(refused.failure.alert, kUnknownCa);
  EXPECT_FALSE(refused.failure.alert_sent);
  EXPECT_EQ(refused.failure.error.detail,
            "peer sent alert 48 unknown_ca: it does not accept our certificate");
}

/// Sends `bytes` as the first thing that our client or server receives.
struct RawPeer {
  Link link = Link::unix_pair();
  std::unique_ptr<Session> session;
  std::string sent_first;  // by the session, before it received anything

  explicit RawPeer(Side side) {
    const auto credential =
        test_tls::load(test_tls::source({ca().issue(leaf())}, {ca().certificate_pem()}));
    session = std::move(Session::create(link.session_end.get(), credential,
                                        side == Side::kClient ? client_for("server.test")
                                                              : test_tls::server())
                            .value());
    if (!session->advance()) throw std::runtime_error("failed before it received anything");
    sent_first = link.receive();
  }
  tls::Failure send(const std::string& bytes, bool then_close = false) {
    link.send(bytes);
    if (then_close) ::shutdown(link.test_end.get(), SHUT_WR);
    const auto outcome = session->advance();
    if (outcome) throw std::runtime_error("was not refused");
    return outcome.error();
  }
};

TEST(APeersAlert, OfEveryKindHasItsErrno) {
  const std::vector<std::pair<int, ErrorKind>> cases{
      {40, ErrorKind::kNotSupported}, {42, ErrorKind::kRejected},   {44, ErrorKind::kRejected},
      {45, ErrorKind::kRejected},    {48, ErrorKind::kRejected},    {49, ErrorKind::kRejected},
      {70, ErrorKind::kNotSupported}, {80, ErrorKind::kInputOutput}, {112, ErrorKind::kInputOutput},
      {115, ErrorKind::kKeyRejected}, {116, ErrorKind::kRejected},  {255, ErrorKind::kInputOutput}};
  for (const auto& [alert, kind] : cases) {
    RawPeer peer(Side::kClient);
    std::string record{'\x15', 3, 3, 0, 2, 2, static_cast<char>(alert)};
    const auto failure = peer.send(record);
    EXPECT_EQ(failure.error.kind, kind) << failure.error.detail;
    EXPECT_EQ(failure.alert, alert);
    EXPECT_FALSE(failure.alert_sent);
    EXPECT_EQ(failure.error.detail.find("peer sent alert " + std::to_string(alert)), 0U)
        << failure.error.detail;
    EXPECT_EQ(peer.link.receive(), "");
  }
}

// ---------------------------------------------------------------------------------------------
// Peers of another time, or of another kind.

TEST(AnOldPeer, AServerTellsATls12ClientTheVersion) {
  PeerOptions options;
  options.max_version = TLS1_2_VERSION;
  const auto refused =
      run(test_tls::load(test_tls::source({ca().issue(leaf())})), test_tls::server(), options);
  EXPECT_EQ(refused.failure.error.kind, ErrorKind::kNotSupported);
  EXPECT_EQ(refused.failure.alert, kProtocolVersion);
  EXPECT_TRUE(refused.failure.alert_sent);
  EXPECT_EQ(refused.seen_by_peer, kProtocolVersion);
  EXPECT_EQ(refused.failure.error.detail, "peer does not speak TLS 1.3");
}

TEST(AnOldPeer, AClientHearsItFromATls12Server) {
  const Issued identity = ca().issue(leaf());
  PeerOptions options;
  options.server = true;
  options.identity = &identity;
  options.max_version = TLS1_2_VERSION;
  const auto refused = run(test_tls::load(test_tls::source({}, {ca().certificate_pem()})),
                           client_for("server.test"), options);
  EXPECT_EQ(refused.failure.error.kind, ErrorKind::kNotSupported);
  EXPECT_EQ(refused.failure.alert, kProtocolVersion);
  EXPECT_FALSE(refused.failure.alert_sent);
}

TEST(AnOldPeer, MayAnswerAClientWithHandshakeFailure) {
  const std::string alert("\x15\x03\x03\x00\x02\x02\x28", 7);
  RawPeer at_once(Side::kClient);
  EXPECT_EQ(at_once.send(alert).error.kind, ErrorKind::kNotSupported);

  // After a HelloRetryRequest, which an old server does not send, it means something else.
  const Issued identity = ca().issue(leaf());
  PeerOptions options;
  options.server = true;
  options.identity = &identity;
  options.groups = "P-384";
  Peer server(options);
  RawPeer later(Side::kClient);
  server.receive(later.sent_first);
  later.link.send(server.take_output());
  ASSERT_TRUE(later.session->advance());
  EXPECT_EQ(later.send(alert).error.kind, ErrorKind::kInputOutput);
}

TEST(AnOldPeer, AClientTellsAServerThatAnswersWithTls12) {
  RawPeer peer(Side::kClient);
  // ServerHello of TLS 1.2: version 0x0303, a random, no session, ECDHE-RSA-AES128-GCM-SHA256.
  std::string hello = std::string("\x03\x03", 2) + std::string(32, 'r') +
                      std::string("\x00\xc0\x2f\x00\x00\x00", 6);
  std::string message =
      std::string("\x02\x00\x00", 3) + static_cast<char>(hello.size()) + hello;
  std::string record =
      std::string("\x16\x03\x03\x00", 4) + static_cast<char>(message.size()) + message;
  const auto failure = peer.send(record);
  EXPECT_EQ(failure.error.kind, ErrorKind::kNotSupported) << failure.error.detail;
  EXPECT_EQ(failure.alert, kProtocolVersion);
  EXPECT_TRUE(failure.alert_sent);
  EXPECT_EQ(peer.link.receive(), std::string("\x15\x03\x03\x00\x02\x02\x46", 7));
}

TEST(APeerWithoutTls, IsNamedByWhatItSays) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"GET / HTTP/1.1\r\nHost: server.test\r\n\r\n", "'GET / HTTP/1.1..Host: se'"},
      {"HTTP/1.1 400 Bad Request\r\n", "'HTTP/1.1 400 Bad Request'"},
      {"220 mail.test ESMTP\r\n", "'220 mail.test ESMTP..'"},
      {std::string("\x80\x2e\x01\x00\x02", 5), "'.....'"},  // SSL 2
      {"\x16\x02garbage", "'..garbage'"},
      {"x", "'x'"},
      {"'\x1b[31m\n", "'..[31m.'"}};
  for (const Side side : {Side::kServer, Side::kClient}) {
    for (const auto& [bytes, quoted] : cases) {
      RawPeer peer(side);
      const auto failure = peer.send(bytes);
      EXPECT_EQ(failure.error.kind, ErrorKind::kInputOutput);
      EXPECT_FALSE(failure.alert);
      EXPECT_EQ(failure.error.detail, "peer does not speak TLS: it sent " + quoted);
      EXPECT_EQ(peer.link.receive(), "") << "it would not understand";
    }
  }
}

TEST(ASilentPeer, ThatClosesIsAnError) {
  RawPeer server(Side::kServer);
  EXPECT_EQ(server.send("", true).error.detail,
            "peer closed the connection before it sent anything");
  RawPeer client(Side::kClient);
  EXPECT_EQ(client.send("\x16\x03", true).error.detail,
            "peer closed the connection in the middle of the handshake");
}

TEST(ASocketThatIsNotConnected, IsAnErrorThatNamesTheCause) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto credential =
      test_tls::load(test_tls::source({ca().issue(leaf())}, {ca().certificate_pem()}));
  auto session =
      std::move(Session::create(socket.get(), credential, client_for("server.test")).value());
  const auto outcome = session->advance();
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().error.kind, ErrorKind::kInputOutput);
  EXPECT_EQ(outcome.error().error.detail, "send to peer: Broken pipe");
}

TEST(AFullSocket, DoesNotHideWhyTheHandshakeFailed) {
  RawPeer peer(Side::kClient);
  const std::string noise(100'000, 'n');
  while (::send(peer.link.session_end.get(), noise.data(), noise.size(), MSG_DONTWAIT) > 0) {
  }
  // A handshake message that no server sends: it is answered with an alert, which does not fit in.
  const auto failure = peer.send(std::string("\x16\x03\x03\x00\x04\x01\x00\x00\x00", 9));
  EXPECT_EQ(failure.error.kind, ErrorKind::kInputOutput);
  EXPECT_NE(failure.error.detail.find("unexpected message"), std::string::npos)
      << failure.error.detail;
}

TEST(TruncatedHandshake, IsAnErrorWhereverItEnds) {
  const Issued identity = ca().issue(leaf());
  const auto credential =
      test_tls::load(test_tls::source({identity}, {ca().certificate_pem()}));
  for (const Side side : {Side::kClient, Side::kServer}) {
    for (std::size_t size = 0;; size += 13) {
      const Link link = Link::unix_pair();
      auto session = std::move(Session::create(link.session_end.get(), credential,
                                               side == Side::kClient ? client_for("server.test")
                                                                     : test_tls::server())
                                   .value());
      PeerOptions options;
      options.server = side == Side::kClient;
      options.identity = options.server ? &identity : nullptr;
      Peer peer(options);
      ASSERT_TRUE(session->advance());
      peer.receive(link.receive());
      const std::string flight = peer.take_output();
      if (size >= flight.size()) break;
      link.send(flight.substr(0, size));
      ::shutdown(link.test_end.get(), SHUT_WR);
      const auto outcome = session->advance();
      ASSERT_FALSE(outcome) << size << " of " << flight.size();
      EXPECT_EQ(outcome.error().error.kind, ErrorKind::kInputOutput);
      EXPECT_EQ(outcome.error().error.detail.find("peer closed the connection"), 0U)
          << outcome.error().error.detail;
    }
  }
}

TEST(DamagedHandshake, IsRefusedWhereverItIs) {
  const Issued identity = ca().issue(leaf());
  const auto credential =
      test_tls::load(test_tls::source({identity}, {ca().certificate_pem()}));
  // A bit of a server's flight: in the hello it changes the keys, later the record's tag.
  for (std::size_t at = 5;; at += 17) {
    const Link link = Link::unix_pair();
    auto session = std::move(
        Session::create(link.session_end.get(), credential, client_for("server.test")).value());
    PeerOptions options;
    options.server = true;
    options.identity = &identity;
    Peer peer(options);
    ASSERT_TRUE(session->advance());
    peer.receive(link.receive());
    std::string flight = peer.take_output();
    if (at >= flight.size()) break;
    flight[at] = static_cast<char>(flight[at] ^ 1);
    link.send(flight);
    auto outcome = session->advance();
    // A record that has grown longer leaves us waiting for its end.
    if (outcome && *outcome == Session::Progress::kWantRead) {
      ::shutdown(link.test_end.get(), SHUT_WR);
      outcome = session->advance();
    }
    ASSERT_FALSE(outcome) << "byte " << at;
    EXPECT_NE(outcome.error().error.kind, ErrorKind::kNoMemory);
  }
}

TEST(AFlood, OfHandshakeBytesEnds) {
  RawPeer peer(Side::kServer);
  // An endless ClientHello, in fragments of one byte; the length it claims is allowed.
  std::string record("\x16\x03\x01\x00\x04\x01\x01\xff\xff", 9);
  for (int i = 0; i < 400'000; ++i) record += std::string("\x16\x03\x01\x00\x01x", 6);
  std::optional<tls::Failure> failure;
  for (std::size_t at = 0; at < record.size() && !failure; at += 10'000) {
    peer.link.send(record.substr(at, 10'000));
    if (const auto outcome = peer.session->advance(); !outcome) failure = outcome.error();
  }
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->error.detail, "peer's handshake is longer than 262144 bytes");
}

TEST(NothingInCommon, EndsWithHandshakeFailure) {
  const Issued identity = ca().issue(leaf());
  const auto credential = test_tls::load(test_tls::source({identity}, {ca().certificate_pem()}));
  tls::SessionParameters parameters = test_tls::server();
  parameters.ciphers = {tls::Cipher::kAes128Ccm};
  PeerOptions options;
  options.suites = "TLS_AES_256_GCM_SHA384";
  const auto refused = run(credential, parameters, options);
  EXPECT_EQ(refused.failure.error.kind, ErrorKind::kInputOutput);
  EXPECT_EQ(refused.failure.alert, kHandshakeFailure);
  EXPECT_EQ(refused.seen_by_peer, kHandshakeFailure);
  EXPECT_EQ(refused.failure.error.detail,
            "TLS failed: no shared cipher (sent alert 40 handshake_failure)");
}

// ---------------------------------------------------------------------------------------------
// What is refused before anything is sent.

TEST(SessionCreate, NeedsAKeyPairForAServerAndForAClientThatPresentsOne) {
  const Link link = Link::unix_pair();
  const auto anonymous = test_tls::load(test_tls::source({}, {ca().certificate_pem()}));
  tls::SessionParameters client = client_for("server.test");
  EXPECT_TRUE(Session::create(link.session_end.get(), anonymous, client));
  client.present_certificate = true;
  for (const auto& parameters : {test_tls::server(), client}) {
    const auto refused = Session::create(link.session_end.get(), anonymous, parameters);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::kNoCredential);
    EXPECT_EQ(refused.error().detail, "credential test has no certificate and key");
  }
}

TEST(SessionCreate, RefusesNamesThatVerificationWouldTakeForAnother) {
  const Link link = Link::unix_pair();
  const auto anonymous = test_tls::load(test_tls::source({}, {ca().certificate_pem()}));
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".server.test"), std::string("*.test"),
        std::string("server..test"), std::string("server.test\0.evil", 17),
        std::string("server test"), std::string("s\xc3\xa9rver.test"), std::string("1.2.3.4/8"),
        std::string("[::1]"), std::string(254, 'a'), std::string(64, 'a') + ".test"}) {
    const auto refused = Session::create(link.session_end.get(), anonymous, client_for(name));
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().kind, ErrorKind::kInvalidArgument);
  }
}

TEST(SessionCreate, RefusesAnEmptyListOfCiphers) {
  const Link link = Link::unix_pair();
  tls::SessionParameters parameters = client_for("server.test");
  parameters.ciphers.clear();
  const auto credential = test_tls::load(test_tls::source({}, {ca().certificate_pem()}));
  const auto refused = Session::create(link.session_end.get(), credential, parameters);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalidArgument);
}

}  // namespace
}  // namespace handshake
