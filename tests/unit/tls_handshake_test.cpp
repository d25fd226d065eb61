// SPDX-License-Identifier: Apache-2.0
// What a handshake reads, settles and leaves behind, against plain OpenSSL.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "support/record.h"
#include "support/tls_credentials.h"
#include "support/tls_peer.h"

namespace handshake {
namespace {

using test_pki::Authority;
using test_pki::Issued;
using test_pki::KeyType;
using test_tls::Link;
using test_tls::Peer;
using test_tls::PeerOptions;
using test_tls::Record;
using tls::Cipher;
using tls::Session;
using tls::Side;

constexpr std::uint8_t kHandshakeType = 22;
constexpr std::uint8_t kDataType = 23;

struct World {
  Authority ca{"test CA"};
  Issued server = ca.issue({.common_name = "server", .dns_names = {"server.test"},
                            .ip_addresses = {"127.0.0.1"}});
  Issued client = ca.issue({.common_name = "client"});
  std::shared_ptr<const tls::Credential> server_credential =
      test_tls::load(test_tls::source({server}, {ca.certificate_pem()}));
  std::shared_ptr<const tls::Credential> client_credential =
      test_tls::load(test_tls::source({client}, {ca.certificate_pem()}));
};

const World& world() {
  static const World made;
  return made;
}

std::unique_ptr<Session> session_on(const Link& link, tls::SessionParameters parameters) {
  const auto& credential = parameters.side == Side::kServer ? world().server_credential
                                                            : world().client_credential;
  return std::move(Session::create(link.session_end.get(), credential, parameters).value());
}

PeerOptions peer_for(Side session_side) {
  PeerOptions options;
  options.server = session_side == Side::kClient;
  if (options.server) options.identity = &world().server;
  options.trusted_pem = world().ca.certificate_pem();
  if (!options.server) options.server_name = "server.test";
  return options;
}

tls::SessionParameters parameters_for(Side side) {
  return side == Side::kClient ? test_tls::client_for("server.test") : test_tls::server();
}

test_tls::DirectionKeys keys_of(Cipher cipher, const tls::TrafficSecret& secret) {
  const auto keys = tls::derive_record_keys(cipher, secret);
  const auto key = keys->key.view();
  const auto iv = keys->iv.view();
  return {cipher, {key.begin(), key.end()}, {iv.begin(), iv.end()}};
}

// ---------------------------------------------------------------------------------------------
// Every cipher, both sides, the peer's bytes in one piece or one at a time.

struct Case {
  Side side;
  Cipher cipher;
  std::size_t piece;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const Side side : {Side::kClient, Side::kServer}) {
    for (const Cipher cipher : tls::kAllCiphers) {
      for (const std::size_t piece : {std::size_t{0}, std::size_t{1}, std::size_t{7}}) {
        cases.push_back({side, cipher, piece});
      }
    }
  }
  return cases;
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  const auto& [side, cipher, piece] = info.param;
  std::string name = side == Side::kClient ? "client_" : "server_";
  name += std::string(to_string(cipher)).substr(4);
  return name + (piece == 0 ? "_at_once" : "_" + std::to_string(piece) + "_at_a_time");
}

class EveryCipher : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Handshake, EveryCipher, testing::ValuesIn(all_cases()), case_name);

TEST_P(EveryCipher, LeavesTheDataThatCameWithTheFinishedUnread) {
  const auto& [side, cipher, piece] = GetParam();
  const Link link = Link::unix_pair();
  tls::SessionParameters parameters = parameters_for(side);
  parameters.ciphers = {cipher};
  const auto session = session_on(link, parameters);
  PeerOptions options = peer_for(side);
  options.suites = to_string(cipher);
  options.with_finished = "the first words of the peer";
  options.tickets = 2;
  Peer peer(options);

  const auto outcome = test_tls::shake_hands(*session, peer, link, piece);
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  ASSERT_EQ(*outcome, Session::Progress::kFinished);
  ASSERT_TRUE(peer.finished());
  EXPECT_EQ(session->facts().cipher, cipher);

  if (side == Side::kClient) peer.write("said after the tickets");
  link.send(peer.take_output());
  const auto& peers_secret =
      side == Side::kClient ? session->secrets().server : session->secrets().client;

  // Advancing again changes nothing: what follows belongs to the kernel.
  ASSERT_EQ(*session->advance(), Session::Progress::kFinished);
  const std::string unread = link.take_unread();
  const auto records = test_tls::open_records(keys_of(cipher, peers_secret), unread);
  ASSERT_TRUE(records) << "the first unread byte does not begin record 0";
  ASSERT_EQ(records->front(), (Record{kDataType, options.with_finished}));
  if (side == Side::kServer) {
    EXPECT_EQ(records->size(), 1U);
  } else {
    ASSERT_EQ(records->size(), 4U);  // an OpenSSL server's two tickets are in between
    EXPECT_EQ((*records)[1].type, kHandshakeType);
    EXPECT_EQ((*records)[2].type, kHandshakeType);
    EXPECT_EQ((*records)[3], (Record{kDataType, "said after the tickets"}));
  }
}

TEST_P(EveryCipher, ItsKeysAreThoseThePeerReadsWith) {
  const auto& [side, cipher, piece] = GetParam();
  const Link link = Link::unix_pair();
  tls::SessionParameters parameters = parameters_for(side);
  parameters.ciphers = {cipher};
  const auto session = session_on(link, parameters);
  PeerOptions options = peer_for(side);
  options.suites = to_string(cipher);
  Peer peer(options);
  ASSERT_TRUE(test_tls::shake_hands(*session, peer, link, piece));

  const auto& own_secret =
      side == Side::kClient ? session->secrets().client : session->secrets().server;
  const auto keys = keys_of(cipher, own_secret);
  peer.receive(test_tls::seal_record(keys, {kDataType, "record 0"}, 0) +
               test_tls::seal_record(keys, {kDataType, ", record 1"}, 1));
  EXPECT_EQ(peer.read(), "record 0, record 1");
}

// ---------------------------------------------------------------------------------------------
// The socket stays as its owner left it.

class SocketFlags : public testing::TestWithParam<std::tuple<Side, bool>> {};
INSTANTIATE_TEST_SUITE_P(Handshake, SocketFlags,
                         testing::Combine(testing::Values(Side::kClient, Side::kServer),
                                          testing::Bool()));

int flags_of(const Link& link) { return ::fcntl(link.session_end.get(), F_GETFL); }

TEST_P(SocketFlags, ABlockingOrNonblockingSocketStaysSoAndNeverBlocksUs) {
  const auto [side, nonblocking] = GetParam();
  const Link link = Link::tcp_pair();
  const int before = flags_of(link) | (nonblocking ? O_NONBLOCK : 0);
  ASSERT_EQ(::fcntl(link.session_end.get(), F_SETFL, before), 0);
  const auto session = session_on(link, parameters_for(side));
  Peer peer(peer_for(side));
  // Nothing has arrived for a server, nor for a client: either would block on a blocking socket.
  ASSERT_EQ(*session->advance(), Session::Progress::kWantRead);
  EXPECT_EQ(flags_of(link), before);
  const auto outcome = test_tls::shake_hands(*session, peer, link, 1);
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  EXPECT_EQ(*outcome, Session::Progress::kFinished);
  EXPECT_EQ(flags_of(link), before);
}

TEST_P(SocketFlags, TheConsumerMayToggleThemInTheMiddle) {
  const auto [side, starts_nonblocking] = GetParam();
  const Link link = Link::tcp_pair();
  const auto session = session_on(link, parameters_for(side));
  Peer peer(peer_for(side));
  // The consumer's copy of the socket shares the file description.
  const UniqueFd consumers(::dup(link.session_end.get()));
  int flags = starts_nonblocking ? O_RDWR | O_NONBLOCK : O_RDWR;
  std::string to_session = peer.take_output();
  for (int round = 0; round < 20'000; ++round) {
    flags ^= O_NONBLOCK;
    ASSERT_EQ(::fcntl(consumers.get(), F_SETFL, flags), 0);
    const auto outcome = session->advance();
    ASSERT_TRUE(outcome) << outcome.error().error.detail;
    ASSERT_EQ(flags_of(link), flags);
    peer.receive(link.receive());
    to_session += peer.take_output();
    link.send(to_session.substr(0, 1));
    to_session.erase(0, 1);
    if (*outcome == Session::Progress::kFinished && peer.finished()) return;
  }
  FAIL() << "the handshake did not finish";
}

TEST(Handshake, SendsAFlightInPiecesThroughASocketThatIsFull) {
  const Link link = Link::unix_pair();
  // A flight of several certificates does not fit in.
  const int smallest = 1;
  ASSERT_EQ(::setsockopt(link.session_end.get(), SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest), 0);
  Issued identity = world().server;
  identity.chain_pem += world().ca.certificate_pem();
  for (int i = 0; i < 4; ++i) identity.chain_pem += identity.chain_pem;
  const auto credential = test_tls::load(test_tls::source({identity}));
  auto session =
      std::move(Session::create(link.session_end.get(), credential, test_tls::server()).value());
  Peer peer(peer_for(Side::kServer));
  link.send(peer.take_output());
  bool was_full = false;
  for (int round = 0; round < 1000 && !peer.finished(); ++round) {
    const auto outcome = session->advance();
    ASSERT_TRUE(outcome) << outcome.error().error.detail;
    was_full |= *outcome == Session::Progress::kWantWrite;
    peer.receive(link.receive());
  }
  EXPECT_TRUE(was_full);
  link.send(peer.take_output());
  EXPECT_EQ(*session->advance(), Session::Progress::kFinished);
}

// ---------------------------------------------------------------------------------------------
// Facts.

TEST(SessionFacts, OfAClientNameTheServer) {
  const Link link = Link::unix_pair();
  const auto session = session_on(link, test_tls::client_for("server.test"));
  Peer peer(peer_for(Side::kClient));
  ASSERT_TRUE(test_tls::shake_hands(*session, peer, link));
  const auto& facts = session->facts();
  EXPECT_EQ(facts.peer_subject, "CN=server,O=handshaked tests");
  EXPECT_TRUE(facts.peer_authenticated);
  EXPECT_EQ(facts.certificate_algorithm, "ECDSA P-256");
  EXPECT_EQ(facts.cipher, Cipher::kAes256Gcm);
  const bool hybrid = OPENSSL_version_major() > 3 || OPENSSL_version_minor() >= 5;
  EXPECT_EQ(facts.group, hybrid ? "X25519MLKEM768" : "x25519");
}

TEST(SessionFacts, OfAServerNameTheClientOnlyWhenItProvedItself) {
  for (const bool with_certificate : {false, true}) {
    const Link link = Link::unix_pair();
    tls::SessionParameters parameters = test_tls::server();
    parameters.request_client_certificate = true;
    const auto session = session_on(link, parameters);
    PeerOptions options = peer_for(Side::kServer);
    if (with_certificate) options.identity = &world().client;
    Peer peer(options);
    const auto outcome = test_tls::shake_hands(*session, peer, link);
    ASSERT_TRUE(outcome) << outcome.error().error.detail;
    ASSERT_EQ(*outcome, Session::Progress::kFinished);
    EXPECT_EQ(session->facts().peer_authenticated, with_certificate);
    EXPECT_EQ(session->facts().peer_subject,
              with_certificate ? "CN=client,O=handshaked tests" : "");
    EXPECT_EQ(session->facts().certificate_algorithm, "ECDSA P-256");
  }
}

TEST(SessionFacts, AreNotAskedForByAServerThatDoesNotAsk) {
  const Link link = Link::unix_pair();
  const auto session = session_on(link, test_tls::server());
  PeerOptions options = peer_for(Side::kServer);
  options.identity = &world().client;
  Peer peer(options);
  ASSERT_TRUE(test_tls::shake_hands(*session, peer, link));
  EXPECT_FALSE(session->facts().peer_authenticated);
}

TEST(Server, SendsItsChainAndNothingOfItsTrustStore) {
  const Link link = Link::unix_pair();
  const auto session = session_on(link, test_tls::server());  // the CA is in its trust store
  Peer peer(peer_for(Side::kServer));
  ASSERT_TRUE(test_tls::shake_hands(*session, peer, link));
  ASSERT_TRUE(peer.finished());
  EXPECT_EQ(sk_X509_num(SSL_get_peer_cert_chain(peer.ssl())), 1);
}

TEST(Client, PresentsItsCertificateOnlyWhenTold) {
  for (const bool present : {false, true}) {
    const Link link = Link::unix_pair();
    tls::SessionParameters parameters = test_tls::client_for("server.test");
    parameters.present_certificate = present;
    const auto session = session_on(link, parameters);
    PeerOptions options = peer_for(Side::kClient);
    options.ask_for_certificate = true;
    Peer peer(options);
    ASSERT_TRUE(test_tls::shake_hands(*session, peer, link));
    ASSERT_TRUE(peer.finished());
    EXPECT_EQ(SSL_get0_peer_certificate(peer.ssl()) != nullptr, present);
  }
}

TEST(Client, SendsServerNameIndicationForDnsNamesOnly) {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"server.test", "server.test"}, {"server.test.", "server.test"}, {"127.0.0.1", ""}};
  for (const auto& [peername, sni] : cases) {
    const Link link = Link::unix_pair();
    const auto session = session_on(link, test_tls::client_for(peername));
    Peer peer(peer_for(Side::kClient));
    const auto outcome = test_tls::shake_hands(*session, peer, link);
    ASSERT_TRUE(outcome) << peername << ": " << outcome.error().error.detail;
    const char* seen = SSL_get_servername(peer.ssl(), TLSEXT_NAMETYPE_host_name);
    EXPECT_EQ(seen != nullptr ? std::string(seen) : std::string(), sni);
  }
}

TEST(Client, WithoutPeernameVerifiesTheAddressItIsConnectedTo) {
  const Link link = Link::tcp_pair();
  tls::SessionParameters parameters;
  const auto session = session_on(link, parameters);
  Peer peer(peer_for(Side::kClient));
  const auto outcome = test_tls::shake_hands(*session, peer, link);
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  EXPECT_EQ(*outcome, Session::Progress::kFinished);
}

TEST(Client, WithNothingToVerifyIsNotMade) {
  const Link link = Link::unix_pair();
  auto refused = Session::create(link.session_end.get(), world().client_credential, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalidArgument);
}

// ---------------------------------------------------------------------------------------------
// Several key pairs.

struct KeyChoice {
  const char* signature_algorithms;
  const char* algorithm;
};

class SeveralKeys : public testing::TestWithParam<KeyChoice> {
 protected:
  static const std::shared_ptr<const tls::Credential>& credential() {
    static const auto made = [] {
      std::vector<Issued> identities;
      for (const KeyType type : {KeyType::kRsa2048, KeyType::kEcdsaP384, KeyType::kEd25519}) {
        identities.push_back(world().ca.issue({.common_name = "several",
                                               .dns_names = {"server.test"}, .key_type = type}));
      }
      return test_tls::load(test_tls::source(identities, {world().ca.certificate_pem()}));
    }();
    return made;
  }
};
INSTANTIATE_TEST_SUITE_P(
    Handshake, SeveralKeys,
    testing::Values(KeyChoice{"rsa_pss_rsae_sha256:ECDSA+SHA256", "RSA 2048"},
                    KeyChoice{"ecdsa_secp384r1_sha384:ECDSA+SHA256", "ECDSA P-384"},
                    KeyChoice{"ed25519:ECDSA+SHA256", "Ed25519"}));

TEST_P(SeveralKeys, AServerChoosesByTheClientsSignatureAlgorithms) {
  const Link link = Link::unix_pair();
  auto session =
      std::move(Session::create(link.session_end.get(), credential(), test_tls::server()).value());
  PeerOptions options = peer_for(Side::kServer);
  options.signature_algorithms = GetParam().signature_algorithms;
  Peer peer(options);
  const auto outcome = test_tls::shake_hands(*session, peer, link);
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  EXPECT_EQ(session->facts().certificate_algorithm, GetParam().algorithm);
}

TEST_P(SeveralKeys, AClientChoosesByTheServersSignatureAlgorithms) {
  const Link link = Link::unix_pair();
  tls::SessionParameters parameters = test_tls::client_for("server.test");
  parameters.present_certificate = true;
  auto session =
      std::move(Session::create(link.session_end.get(), credential(), parameters).value());
  PeerOptions options = peer_for(Side::kClient);
  options.ask_for_certificate = true;
  options.signature_algorithms = GetParam().signature_algorithms;
  Peer peer(options);
  ASSERT_TRUE(test_tls::shake_hands(*session, peer, link));
  ASSERT_TRUE(peer.finished());
  const X509* presented = SSL_get0_peer_certificate(peer.ssl());
  ASSERT_NE(presented, nullptr);
  const int type = EVP_PKEY_get_base_id(X509_get0_pubkey(presented));
  const std::string algorithm = GetParam().algorithm;
  EXPECT_EQ(type, algorithm == "RSA 2048" ? EVP_PKEY_RSA
                  : algorithm == "Ed25519" ? EVP_PKEY_ED25519
                                           : EVP_PKEY_EC);
}

// ---------------------------------------------------------------------------------------------
// Peers that take the longer way.

TEST(Handshake, FollowsAHelloRetryRequest) {
  for (const Side side : {Side::kClient, Side::kServer}) {
    const Link link = Link::unix_pair();
    const auto session = session_on(link, parameters_for(side));
    PeerOptions options = peer_for(side);
    options.groups = side == Side::kClient ? "P-384" : "X448:P-384";
    Peer peer(options);
    const auto outcome = test_tls::shake_hands(*session, peer, link, 1);
    ASSERT_TRUE(outcome) << outcome.error().error.detail;
    ASSERT_EQ(*outcome, Session::Progress::kFinished);
    EXPECT_EQ(session->facts().group, "secp384r1");
  }
}

TEST(Handshake, AcceptsAChainWithIntermediates) {
  const Authority intermediate = world().ca.intermediate("intermediate");
  const Issued leaf = intermediate.issue({.common_name = "below", .dns_names = {"server.test"}});
  const Link link = Link::unix_pair();
  const auto session = session_on(link, test_tls::client_for("server.test"));
  PeerOptions options = peer_for(Side::kClient);
  options.identity = &leaf;
  Peer peer(options);
  const auto outcome = test_tls::shake_hands(*session, peer, link);
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  EXPECT_EQ(*outcome, Session::Progress::kFinished);

  // And sends one.
  const Link other = Link::unix_pair();
  const auto credential = test_tls::load(test_tls::source({leaf}));
  auto server =
      std::move(Session::create(other.session_end.get(), credential, test_tls::server()).value());
  Peer client(peer_for(Side::kServer));
  ASSERT_TRUE(test_tls::shake_hands(*server, client, other));
  EXPECT_TRUE(client.finished());
}

class LongHello : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(Handshake, LongHello, testing::Values(15'000, 17'000, 60'000));

TEST_P(LongHello, IsAcceptedHoweverItArrives) {
  for (const std::size_t piece : {std::size_t{0}, std::size_t{1}, std::size_t{4099}}) {
    const Link link = Link::unix_pair();
    const auto session = session_on(link, test_tls::server());
    PeerOptions options = peer_for(Side::kServer);
    options.hello_padding = GetParam();
    options.with_finished = "unread";
    Peer peer(options);
    const auto outcome = test_tls::shake_hands(*session, peer, link, piece);
    ASSERT_TRUE(outcome) << outcome.error().error.detail;
    ASSERT_EQ(*outcome, Session::Progress::kFinished);
    const std::string unread = link.take_unread();
    const auto records = test_tls::open_records(
        keys_of(session->facts().cipher, session->secrets().client), unread);
    ASSERT_TRUE(records);
    EXPECT_EQ(records->front().content, "unread");
  }
}

TEST(Handshake, SendsNoTicket) {
  const Link link = Link::unix_pair();
  const auto session = session_on(link, test_tls::server());
  Peer peer(peer_for(Side::kServer));
  ASSERT_TRUE(test_tls::shake_hands(*session, peer, link));
  ASSERT_TRUE(peer.finished());
  EXPECT_EQ(*session->advance(), Session::Progress::kFinished);
  EXPECT_EQ(link.receive(), "");
}

TEST(Handshake, ASessionOutlivesTheReloadOfItsCredential) {
  const Link link = Link::unix_pair();
  auto credential = test_tls::load(test_tls::source({world().server}));
  auto session =
      std::move(Session::create(link.session_end.get(), credential, test_tls::server()).value());
  credential.reset();
  Peer peer(peer_for(Side::kServer));
  ASSERT_TRUE(test_tls::shake_hands(*session, peer, link));
  EXPECT_TRUE(peer.finished());
}

}  // namespace
}  // namespace handshake
