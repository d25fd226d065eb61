// SPDX-License-Identifier: Apache-2.0
// A session as the record layer of a relay.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <random>
#include <stdexcept>

#include "support/tls_credentials.h"
#include "support/tls_peer.h"

namespace handshake {
namespace {

using test_pki::Authority;
using test_pki::Issued;
using test_tls::Link;
using test_tls::Peer;
using test_tls::PeerOptions;
using tls::Session;
using tls::Side;
using Io = Session::Io;

struct World {
  Authority ca{"test CA"};
  Issued identity = ca.issue({.common_name = "both", .dns_names = {"server.test"}});
  std::shared_ptr<const tls::Credential> credential =
      test_tls::load(test_tls::source({identity}, {ca.certificate_pem()}));
};
const World& world() {
  static const World made;
  return made;
}

std::span<const std::byte> bytes(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
std::span<std::byte> bytes(std::string& text) {
  return {reinterpret_cast<std::byte*>(text.data()), text.size()};
}

struct Drained {
  std::string text;
  Io::State state = Io::State::kOk;  ///< of the read that gave nothing
  std::optional<tls::Failure> failure;
};

Drained drain(Session& session, std::size_t buffer_bytes = 20'000) {
  Drained drained;
  std::string buffer(buffer_bytes, '\0');
  for (;;) {
    const auto io = session.read(bytes(buffer));
    if (!io) {
      drained.failure = io.error();
      return drained;
    }
    drained.state = io->state;
    if (io->state != Io::State::kOk) return drained;
    drained.text.append(buffer, 0, io->bytes);
  }
}

class Stream : public testing::TestWithParam<Side> {
 protected:
  Stream() { connect({}); }

  void connect(PeerOptions options) {
    link_ = Link::unix_pair();
    options.server = GetParam() == Side::kClient;
    options.identity = &world().identity;
    session_ = std::move(Session::create(link_.session_end.get(), world().credential,
                                         options.server ? test_tls::client_for("server.test")
                                                        : test_tls::server())
                             .value());
    peer_ = std::make_unique<Peer>(options);
    const auto outcome = test_tls::shake_hands(*session_, *peer_, link_);
    if (!outcome) throw std::runtime_error(outcome.error().error.detail);
  }
  void deliver_to_session() { link_.send(peer_->take_output()); }
  void deliver_to_peer() { peer_->receive(link_.receive()); }

  Link link_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Peer> peer_;
};

std::string side_name(const testing::TestParamInfo<Side>& info) {
  return info.param == Side::kClient ? "Client" : "Server";
}
INSTANTIATE_TEST_SUITE_P(Tls, Stream, testing::Values(Side::kClient, Side::kServer), side_name);

TEST_P(Stream, CarriesDataBothWays) {
  peer_->write("from the peer");
  deliver_to_session();
  const Drained drained = drain(*session_);
  EXPECT_EQ(drained.text, "from the peer");  // a server's tickets before it are skipped
  EXPECT_EQ(drained.state, Io::State::kWantRead);

  const std::string text = "to the peer";
  const auto written = session_->write(bytes(text));
  ASSERT_TRUE(written);
  EXPECT_EQ(written->bytes, text.size());
  EXPECT_EQ(written->state, Io::State::kOk);
  deliver_to_peer();
  EXPECT_EQ(peer_->read(), text);
}

TEST_P(Stream, ReadsDataThatCameWithTheFinished) {
  PeerOptions options;
  options.with_finished = "early words";
  connect(options);
  EXPECT_EQ(drain(*session_, 3).text, "early words");
}

TEST_P(Stream, FollowsAKeyUpdateAndAnswersIt) {
  ASSERT_EQ(SSL_key_update(peer_->ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
  peer_->write("under new keys");
  deliver_to_session();
  EXPECT_EQ(drain(*session_).text, "under new keys");
  const std::string text = "under new keys, too";
  ASSERT_TRUE(session_->write(bytes(text)));
  deliver_to_peer();
  EXPECT_EQ(peer_->read(), text);
}

TEST_P(Stream, BackPressureIsReportedAndNothingIsLost) {
  std::mt19937 random(1);
  std::string text(1'000'000, '\0');
  std::generate(text.begin(), text.end(), [&] { return static_cast<char>(random()); });
  std::string arrived;
  bool was_full = false;
  for (std::size_t at = 0; at < text.size();) {
    // A copy, at another place every time: the buffer of a relay moves.
    const std::string part = text.substr(at, 50'000);
    const auto io = session_->write(bytes(part));
    ASSERT_TRUE(io) << io.error().error.detail;
    if (io->state == Io::State::kWantWrite) {
      was_full = true;
      ASSERT_EQ(io->bytes, 0U);
      deliver_to_peer();
      arrived += peer_->read();
    } else {
      ASSERT_GT(io->bytes, 0U);
      ASSERT_LE(io->bytes, part.size());
      at += io->bytes;
    }
  }
  EXPECT_TRUE(was_full);
  for (int i = 0; i < 100 && arrived.size() < text.size(); ++i) {
    deliver_to_peer();
    arrived += peer_->read();
  }
  EXPECT_EQ(arrived, text);
}

TEST_P(Stream, AReaderThatReadsUntilItWouldBlockMissesNothing) {
  std::string text;
  for (int i = 0; i < 3000; ++i) {
    const std::string part = "record " + std::to_string(i) + ";";
    peer_->write(part);
    text += part;
  }
  // All of it is in the socket before the first read, and nothing comes after.
  deliver_to_session();
  const Drained drained = drain(*session_, 100);
  EXPECT_EQ(drained.text, text);
  EXPECT_EQ(drained.state, Io::State::kWantRead);
}

TEST_P(Stream, HalfClosesEitherWay) {
  ASSERT_EQ(SSL_shutdown(peer_->ssl()), 0);
  deliver_to_session();
  ::shutdown(link_.test_end.get(), SHUT_WR);
  EXPECT_EQ(drain(*session_).state, Io::State::kClosed);
  EXPECT_EQ(drain(*session_).state, Io::State::kClosed);  // and it stays so

  const std::string text = "the answer to what was half-closed";
  ASSERT_TRUE(session_->write(bytes(text)));
  ASSERT_EQ(*session_->close_notify(), Session::Progress::kFinished);
  ASSERT_EQ(*session_->close_notify(), Session::Progress::kFinished);
  deliver_to_peer();
  EXPECT_EQ(peer_->read(), text);
  EXPECT_NE(SSL_get_shutdown(peer_->ssl()) & SSL_RECEIVED_SHUTDOWN, 0);
}

TEST_P(Stream, ReadsOnAfterItsOwnCloseNotify) {
  ASSERT_EQ(*session_->close_notify(), Session::Progress::kFinished);
  ASSERT_EQ(*session_->close_notify(), Session::Progress::kFinished);  // and reads nothing for it
  deliver_to_peer();
  EXPECT_EQ(peer_->read(), "");
  EXPECT_NE(SSL_get_shutdown(peer_->ssl()) & SSL_RECEIVED_SHUTDOWN, 0);
  peer_->write("still talking");
  deliver_to_session();
  EXPECT_EQ(drain(*session_).text, "still talking");
  EXPECT_FALSE(session_->write(bytes(std::string("not any more"))));
}

TEST_P(Stream, ACloseNotifyThatDoesNotFitIsSentLater) {
  const std::string part(16'384, 'x');
  for (;;) {
    const auto io = session_->write(bytes(part));
    ASSERT_TRUE(io);
    if (io->state == Io::State::kWantWrite) break;
  }
  // The record under way goes first; then the socket is filled up, past what the session knows.
  std::string arrived;
  for (;;) {
    deliver_to_peer();
    arrived += peer_->read();
    const auto io = session_->write(bytes(part));
    ASSERT_TRUE(io);
    if (io->state == Io::State::kOk) break;
  }
  const std::string noise(100'000, 'n');
  std::size_t filled = 0;
  for (ssize_t sent = 0; (sent = ::send(link_.session_end.get(), noise.data(), noise.size(),
                                        MSG_DONTWAIT)) > 0;) {
    filled += static_cast<std::size_t>(sent);
  }
  ASSERT_GT(filled, 0U);
  const auto blocked = session_->close_notify();
  ASSERT_TRUE(blocked) << blocked.error().error.detail;
  ASSERT_EQ(*blocked, Session::Progress::kWantWrite);
  const std::string before = link_.receive();
  ASSERT_EQ(*session_->close_notify(), Session::Progress::kFinished);
  const std::string after = link_.receive();
  peer_->receive(before.substr(0, before.size() - filled) + after);
  static_cast<void>(peer_->read());
  EXPECT_NE(SSL_get_shutdown(peer_->ssl()) & SSL_RECEIVED_SHUTDOWN, 0);
}

TEST_P(Stream, AnEndWithoutCloseNotifyIsATruncation) {
  peer_->write("the last words");
  deliver_to_session();
  ::shutdown(link_.test_end.get(), SHUT_WR);
  const Drained drained = drain(*session_);
  EXPECT_EQ(drained.text, "the last words");
  ASSERT_TRUE(drained.failure);
  EXPECT_EQ(drained.failure->error.kind, ErrorKind::kConnectionReset);
  EXPECT_EQ(drained.failure->error.detail,
            "peer ended the stream without close_notify: it may be truncated");
  EXPECT_FALSE(drained.failure->alert);
  EXPECT_EQ(link_.receive(), "") << "nobody would read an alert";
}

TEST_P(Stream, AnEndInTheMiddleOfARecordIsATruncation) {
  peer_->write("the last words");
  const std::string output = peer_->take_output();
  link_.send(output.substr(0, output.size() - 1));
  ::shutdown(link_.test_end.get(), SHUT_WR);
  const Drained drained = drain(*session_);
  EXPECT_EQ(drained.text, "");
  ASSERT_TRUE(drained.failure);
  EXPECT_EQ(drained.failure->error.kind, ErrorKind::kConnectionReset);
}

TEST_P(Stream, AForgedRecordIsAnswered) {
  peer_->write("to be changed");
  std::string output = peer_->take_output();
  output.back() = static_cast<char>(output.back() ^ 1);
  link_.send(output);
  const Drained drained = drain(*session_);
  ASSERT_TRUE(drained.failure);
  EXPECT_EQ(drained.failure->error.kind, ErrorKind::kInputOutput);
  EXPECT_EQ(drained.failure->alert, 20);
  EXPECT_TRUE(drained.failure->alert_sent);
  deliver_to_peer();
  static_cast<void>(peer_->read());
  EXPECT_EQ(peer_->alert_received(), 20);
}

TEST_P(Stream, AWriterToAPeerThatWentAwayStillReadsWhatItSaid) {
  peer_->write("I am leaving");
  deliver_to_session();
  link_.test_end.reset();
  const std::string text = "to nobody";
  const auto io = session_->write(bytes(text));
  ASSERT_FALSE(io);
  EXPECT_EQ(io.error().error.kind, ErrorKind::kConnectionReset);
  const Drained drained = drain(*session_);
  EXPECT_EQ(drained.text, "I am leaving");
  ASSERT_TRUE(drained.failure);
  EXPECT_EQ(drained.failure->error.kind, ErrorKind::kConnectionReset);
}

TEST_P(Stream, EmptyBuffersDoNothing) {
  std::string nothing;
  ASSERT_TRUE(session_->read(bytes(nothing)));
  ASSERT_TRUE(session_->write(bytes(nothing)));
  EXPECT_EQ(link_.receive(), "");
}

// In TLS 1.3 a client has finished before the server has seen its certificate.
TEST(LateRejection, OfAClientIsReadAsTheServersAlert) {
  const Authority stranger("nobody's CA");
  PeerOptions options;
  options.server = true;
  options.identity = &world().identity;
  options.ask_for_certificate = true;
  options.trusted_pem = stranger.certificate_pem();
  tls::SessionParameters parameters = test_tls::client_for("server.test");
  parameters.present_certificate = true;
  const Link link = Link::unix_pair();
  auto session =
      std::move(Session::create(link.session_end.get(), world().credential, parameters).value());
  Peer peer(options);
  ASSERT_EQ(*test_tls::shake_hands(*session, peer, link), Session::Progress::kFinished);
  const Drained drained = drain(*session);
  ASSERT_TRUE(drained.failure);
  EXPECT_EQ(drained.failure->error.kind, ErrorKind::kRejected);
  EXPECT_EQ(drained.failure->alert, 48);
  EXPECT_FALSE(drained.failure->alert_sent);
  EXPECT_EQ(drained.failure->error.detail,
            "peer sent alert 48 unknown_ca: it does not accept our certificate");
}

TEST(BothEnds, OfOurOwnTalkToEachOther) {
  for (const tls::Cipher cipher : tls::kAllCiphers) {
    const Link link = Link::tcp_pair();
    tls::SessionParameters client_parameters = test_tls::client_for("server.test");
    client_parameters.present_certificate = true;
    client_parameters.ciphers = {cipher};
    tls::SessionParameters server_parameters = test_tls::server();
    server_parameters.require_client_certificate = true;
    auto client = std::move(
        Session::create(link.session_end.get(), world().credential, client_parameters).value());
    auto server = std::move(
        Session::create(link.test_end.get(), world().credential, server_parameters).value());
    auto client_progress = client->advance();
    auto server_progress = server->advance();
    for (int round = 0; round < 1000; ++round) {
      ASSERT_TRUE(client_progress) << client_progress.error().error.detail;
      ASSERT_TRUE(server_progress) << server_progress.error().error.detail;
      if (*client_progress == Session::Progress::kFinished &&
          *server_progress == Session::Progress::kFinished) {
        break;
      }
      client_progress = client->advance();
      server_progress = server->advance();
    }
    ASSERT_EQ(*server_progress, Session::Progress::kFinished);
    EXPECT_TRUE(std::ranges::equal(client->secrets().client.view(), server->secrets().client.view()));
    EXPECT_TRUE(std::ranges::equal(client->secrets().server.view(), server->secrets().server.view()));
    EXPECT_FALSE(std::ranges::equal(client->secrets().client.view(), client->secrets().server.view()));
    EXPECT_EQ(server->facts().peer_subject, "CN=both,O=handshaked tests");
  }
}

}  // namespace
}  // namespace handshake
