// SPDX-License-Identifier: Apache-2.0
// hs_recv and hs_send on a kTLS socket, twice: over datagrams that stand for records, which every
// machine has, and over the kernel's own kTLS with every cipher, which runs in the test bed of
// tests/kernel. And on a relay's socket.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "client/failure.h"
#include "client/session.h"
#include "client/socket.h"
#include "fake_service.h"
#include "ktls/ktls.h"
#include "support/record.h"
#include "tls/secrets.h"
#include "transport/seqpacket.h"

namespace handshake::client {
namespace {

constexpr std::uint8_t kAlertRecord = 21;
constexpr std::uint8_t kHandshakeRecord = 22;
constexpr std::uint8_t kDataRecord = 23;

/// The peer: sends and receives records, whatever they travel in.
class Wire {
 public:
  Wire() = default;
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  virtual ~Wire() = default;
  [[nodiscard]] virtual UniqueFd take_session_end() = 0;
  [[nodiscard]] virtual const RecordIo* io() const = 0;
  virtual void send(std::uint8_t type, const std::string& content) = 0;
  /// A record that does not authenticate.
  virtual void send_corrupted() = 0;
  /// The next record, its type first; empty when there is none.
  [[nodiscard]] virtual std::string receive() = 0;
  /// Reads and forgets whatever is there.
  virtual void discard() = 0;
  virtual void hang_up() = 0;
};

// --- Datagrams ---------------------------------------------------------------------------------

/// What is left of a record that a small buffer could not take, as the kernel keeps it.
thread_local std::vector<std::byte> pending_record;
thread_local int forced_error = 0;

ssize_t receive_datagram(int fd, std::span<std::byte> buffer, int flags,
                         std::optional<std::uint8_t>& type) {
  type.reset();
  if (forced_error != 0) return -forced_error;
  if (pending_record.empty()) {
    std::vector<std::byte> record(70'000);
    const ssize_t count = ::recv(fd, record.data(), record.size(), flags);
    if (count < 0) return -errno;
    if (count == 0) return 0;
    record.resize(static_cast<std::size_t>(count));
    if (record.front() == std::byte{0xFF}) return -EBADMSG;
    pending_record = std::move(record);
  }
  type = static_cast<std::uint8_t>(pending_record.front());
  const std::size_t taken = std::min(buffer.size(), pending_record.size() - 1);
  std::copy_n(pending_record.begin() + 1, taken, buffer.begin());
  pending_record.erase(pending_record.begin() + 1,
                       pending_record.begin() + 1 + static_cast<std::ptrdiff_t>(taken));
  if (pending_record.size() == 1) pending_record.clear();
  return static_cast<ssize_t>(taken);
}

int send_alert_datagram(int fd, std::uint8_t level, Alert alert, int flags) {
  const std::array<std::uint8_t, 3> record{kAlertRecord, level, static_cast<std::uint8_t>(alert)};
  return ::send(fd, record.data(), record.size(), flags | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

const RecordIo kDatagrams{receive_datagram, send_alert_datagram};

class DatagramWire : public Wire {
 public:
  DatagramWire() : pair_(transport::seqpacket_pair().value()) {
    pending_record.clear();
    forced_error = 0;
  }
  UniqueFd take_session_end() override { return std::move(pair_.first); }
  const RecordIo* io() const override { return &kDatagrams; }
  void send(std::uint8_t type, const std::string& content) override {
    const std::string record = static_cast<char>(type) + content;
    ASSERT_EQ(::send(pair_.second.get(), record.data(), record.size(), 0),
              static_cast<ssize_t>(record.size()));
  }
  void send_corrupted() override { send(0xFF, ""); }
  std::string receive() override {
    std::array<char, 2000> record{};
    const ssize_t count = ::recv(pair_.second.get(), record.data(), record.size(), MSG_DONTWAIT);
    if (count <= 0) return {};
    // Data goes as it is, alerts with their type.
    const std::string got(record.data(), static_cast<std::size_t>(count));
    return got.front() == static_cast<char>(kAlertRecord) ? got
                                                          : static_cast<char>(kDataRecord) + got;
  }
  void discard() override {
    while (!receive().empty()) {}
  }
  void hang_up() override { pair_.second.reset(); }

 private:
  std::pair<UniqueFd, UniqueFd> pair_;
};

// --- The kernel --------------------------------------------------------------------------------

bool kernel_has_ktls() {
  const test::TcpPair pair = test::tcp_pair();
  return ::setsockopt(pair.mine.get(), IPPROTO_TCP, TCP_ULP, "tls", 3) == 0;
}

/// A client's socket whose kernel was given keys that this class has too.
class KernelWire : public Wire {
 public:
  explicit KernelWire(tls::Cipher cipher) : pair_(test::tcp_pair()) {
    tls::TrafficSecrets secrets;
    std::ranges::fill(secrets.client.resize(tls::secret_size(cipher)), std::uint8_t{0xC1});
    std::ranges::fill(secrets.server.resize(tls::secret_size(cipher)), std::uint8_t{0x5E});
    const auto installed = ktls::install(pair_.mine.get(), tls::Side::kClient, cipher, secrets);
    EXPECT_TRUE(installed) << installed.error().detail;
    from_client_ = keys(cipher, secrets.client);
    from_server_ = keys(cipher, secrets.server);
    const int on = 1;  // records must not wait for each other
    ::setsockopt(pair_.peer.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(pair_.mine.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  UniqueFd take_session_end() override { return std::move(pair_.mine); }
  const RecordIo* io() const override { return &kernel_record_io; }
  void send(std::uint8_t type, const std::string& content) override {
    write(test_tls::seal_record(from_server_, {type, content}, sent_++));
  }
  void send_corrupted() override {
    std::string record = test_tls::seal_record(from_server_, {kDataRecord, "x"}, sent_++);
    record.back() = static_cast<char>(record.back() ^ 1);
    write(record);
  }
  std::string receive() override {
    const std::string record = take_record();
    if (record.empty()) return {};
    const auto opened = test_tls::open_records(from_client_, record, received_++);
    EXPECT_TRUE(opened && opened->size() == 1);
    if (!opened || opened->empty()) return {};
    return static_cast<char>(opened->front().type) + opened->front().content;
  }
  void discard() override {
    while (!take_record().empty()) ++received_;
  }
  void hang_up() override { pair_.peer.reset(); }

 private:
  static test_tls::DirectionKeys keys(tls::Cipher cipher, const tls::TrafficSecret& secret) {
    const auto derived = tls::derive_record_keys(cipher, secret).value();
    return {cipher,
            {derived.key.view().begin(), derived.key.view().end()},
            {derived.iv.view().begin(), derived.iv.view().end()}};
  }
  void write(const std::string& bytes) {
    ASSERT_EQ(::send(pair_.peer.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  /// One whole record as it is on the wire.
  std::string take_record() {
    std::array<char, 65536> chunk{};
    while (true) {
      if (stream_.size() >= 5) {
        const auto high = static_cast<unsigned char>(stream_[3]);
        const auto low = static_cast<unsigned char>(stream_[4]);
        const std::size_t size = 5 + (std::size_t{high} << 8U) + low;
        if (stream_.size() >= size) {
          std::string record = stream_.substr(0, size);
          stream_.erase(0, size);
          return record;
        }
      }
      // Loopback delivers before send() returns; what has begun to arrive is waited for.
      if (stream_.empty() && !test::readable(pair_.peer.get(), 100)) return {};
      const ssize_t count = ::recv(pair_.peer.get(), chunk.data(), chunk.size(), 0);
      if (count <= 0) return {};
      stream_.append(chunk.data(), static_cast<std::size_t>(count));
    }
  }

  test::TcpPair pair_;
  test_tls::DirectionKeys from_client_;
  test_tls::DirectionKeys from_server_;
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
  std::string stream_;
};

// --- Both --------------------------------------------------------------------------------------

/// nullopt: datagrams.
class KtlsSession : public ::testing::TestWithParam<std::optional<tls::Cipher>> {
 protected:
  void SetUp() override {
    if (!GetParam()) {
      wire_ = std::make_unique<DatagramWire>();
    } else if (kernel_has_ktls()) {
      wire_ = std::make_unique<KernelWire>(*GetParam());
    } else {
      GTEST_SKIP() << "this kernel has no kTLS; the test bed's has";
    }
    session_.emplace(wire_->take_session_end(), Role::kClient, wire_->io());
  }

  void peer_sends(std::uint8_t type, const std::string& content) { wire_->send(type, content); }
  void peer_sends(std::uint8_t type, std::initializer_list<int> content) {
    std::string text;
    for (const int value : content) text += static_cast<char>(value);
    wire_->send(type, text);
  }
  std::string peer_gets() { return wire_->receive(); }
  ssize_t receive(std::size_t size = 4096, int flags = 0) {
    buffer_.assign(size, std::byte{});
    const ssize_t count = session_->receive(buffer_, flags);
    text_ = count > 0 ? std::string(reinterpret_cast<const char*>(buffer_.data()),
                                    static_cast<std::size_t>(count))
                      : std::string();
    return count;
  }
  ssize_t send(const std::string& text) { return session_->send(std::as_bytes(std::span(text)), 0); }
  /// A ticket of 100 bytes.
  static std::string ticket() {
    std::string message{4, 0, 0, 100};
    message.append(100, 'T');
    return message;
  }

  std::unique_ptr<Wire> wire_;
  std::optional<Session> session_;
  std::vector<std::byte> buffer_;
  std::string text_;
};

std::string name_of(const ::testing::TestParamInfo<std::optional<tls::Cipher>>& info) {
  return info.param ? std::string(to_string(*info.param)) : "Datagrams";
}
INSTANTIATE_TEST_SUITE_P(
    Over, KtlsSession,
    ::testing::Values(std::nullopt, tls::Cipher::kAes128Gcm, tls::Cipher::kAes256Gcm,
                      tls::Cipher::kChaCha20Poly1305, tls::Cipher::kAes128Ccm),
    name_of);

TEST_P(KtlsSession, SkipsTicketsInFrontOfData) {
  peer_sends(kHandshakeRecord, ticket() + ticket());
  peer_sends(kHandshakeRecord, ticket());
  peer_sends(kDataRecord, "hello");
  EXPECT_EQ(receive(), 5);
  EXPECT_EQ(text_, "hello");
}

TEST_P(KtlsSession, SkipsTicketsInAOneByteBuffer) {
  peer_sends(kHandshakeRecord, ticket().substr(0, 50));
  peer_sends(kHandshakeRecord, ticket().substr(50) + ticket());
  peer_sends(kDataRecord, "ab");
  peer_sends(kAlertRecord, {1, 0});
  EXPECT_EQ(receive(1), 1);
  EXPECT_EQ(text_, "a");
  EXPECT_EQ(receive(1), 1);
  EXPECT_EQ(text_, "b");
  EXPECT_EQ(receive(1), 0);
}

TEST_P(KtlsSession, WouldBlockWhenOnlyATicketCame) {
  peer_sends(kHandshakeRecord, ticket());
  EXPECT_EQ(receive(100, MSG_DONTWAIT), -EAGAIN);
  peer_sends(kDataRecord, "later");
  EXPECT_EQ(receive(100, MSG_DONTWAIT), 5);
}

TEST_P(KtlsSession, WouldBlockOnANonBlockingDescriptor) {
  ASSERT_EQ(::fcntl(session_->fd(), F_SETFL, O_NONBLOCK), 0);
  EXPECT_EQ(receive(), -EAGAIN);
}

TEST_P(KtlsSession, CloseNotifyIsTheEndForGood) {
  peer_sends(kDataRecord, "last");
  peer_sends(kAlertRecord, {1, 0});
  EXPECT_EQ(receive(), 4);
  EXPECT_EQ(receive(), 0);
  EXPECT_EQ(receive(), 0);
  EXPECT_EQ(session_->alert(), -1);
}

TEST_P(KtlsSession, SendingGoesOnAfterThePeersCloseNotify) {
  peer_sends(kAlertRecord, {1, 0});
  EXPECT_EQ(receive(), 0);
  EXPECT_EQ(send("still here"), 10);
  EXPECT_EQ(peer_gets(), "\x17still here");
}

TEST_P(KtlsSession, ACutConnectionIsNotTheEnd) {
  peer_sends(kDataRecord, "half of it");
  wire_->hang_up();
  EXPECT_EQ(receive(), 10);
  EXPECT_EQ(receive(), -ECONNRESET);
  EXPECT_EQ(receive(), -ECONNRESET);
}

TEST_P(KtlsSession, NamesTheAlertThatEndedTheSession) {
  peer_sends(kAlertRecord, {2, 116});
  EXPECT_EQ(receive(), -EACCES);
  EXPECT_EQ(session_->alert(), 116);
  EXPECT_STREQ(last_error(), "the peer ended the session with alert certificate_required (116)");
  EXPECT_EQ(receive(), -EACCES);
  EXPECT_EQ(send("too late"), -EPIPE);
}

TEST_P(KtlsSession, CannotFollowAKeyUpdateAndSaysSo) {
  peer_sends(kHandshakeRecord, {24, 0, 0, 1, 0});
  peer_sends(kDataRecord, "under keys that nobody here has");
  EXPECT_EQ(receive(), -EKEYEXPIRED);
  EXPECT_EQ(receive(), -EKEYEXPIRED);
  EXPECT_EQ(peer_gets(), "");
}

TEST_P(KtlsSession, AnswersAViolationWithItsAlertAndSendsNothingAfterIt) {
  peer_sends(kHandshakeRecord, {13, 0, 0, 1, 0});
  EXPECT_EQ(receive(), -EPROTO);
  EXPECT_EQ(peer_gets(), std::string({21, 2, 10}));
  EXPECT_EQ(send("x"), -EPIPE);
  EXPECT_EQ(session_->shutdown(), 0);
  EXPECT_EQ(session_->close(), 0);
  EXPECT_EQ(peer_gets(), "");
}

TEST_P(KtlsSession, TellsThePeerAboutARecordThatFailedAuthentication) {
  wire_->send_corrupted();
  EXPECT_EQ(receive(), -EBADMSG);
  EXPECT_EQ(peer_gets(), std::string({21, 2, 20}));
  EXPECT_EQ(receive(), -EBADMSG);
}

TEST_P(KtlsSession, AnInterruptionEndsNothing) {
  if (GetParam()) return;  // nobody can make the kernel say it at a chosen moment
  forced_error = EINTR;
  EXPECT_EQ(receive(), -EINTR);
  forced_error = 0;
  peer_sends(kDataRecord, "on");
  EXPECT_EQ(receive(), 2);
}

TEST_P(KtlsSession, SkipsAFewEmptyRecords) {
  for (int i = 0; i < 5; ++i) peer_sends(kDataRecord, "");
  peer_sends(kDataRecord, "x");
  EXPECT_EQ(receive(), 1);
}

TEST_P(KtlsSession, ShutdownSendsCloseNotifyOnceAndReceivingGoesOn) {
  EXPECT_EQ(session_->shutdown(), 0);
  EXPECT_EQ(session_->shutdown(), 0);
  EXPECT_EQ(peer_gets(), std::string({21, 1, 0}));
  EXPECT_EQ(peer_gets(), "");
  EXPECT_EQ(send("x"), -EPIPE);
  peer_sends(kDataRecord, "answer");
  EXPECT_EQ(receive(), 6);
}

TEST_P(KtlsSession, ShutdownThatWouldBlockCanBeTriedAgain) {
  ASSERT_EQ(::fcntl(session_->fd(), F_SETFL, O_NONBLOCK), 0);
  const std::string filler(1000, 'f');
  while (send(filler) > 0) {}
  EXPECT_EQ(session_->shutdown(), -EAGAIN);
  wire_->discard();
  EXPECT_EQ(session_->shutdown(), 0);
  EXPECT_EQ(peer_gets(), std::string({21, 1, 0}));
}

TEST_P(KtlsSession, CloseSendsCloseNotifyAndClosesTheDescriptor) {
  const std::size_t before = test::open_descriptors();
  EXPECT_EQ(session_->close(), 0);
  EXPECT_EQ(peer_gets(), std::string({21, 1, 0}));
  EXPECT_EQ(peer_gets(), "");
  EXPECT_EQ(test::open_descriptors(), before - 1);
}

TEST_P(KtlsSession, CloseOfASessionWhosePeerSaidGoodbyeAndLeftIsClean) {
  peer_sends(kAlertRecord, {1, 0});
  wire_->hang_up();
  EXPECT_EQ(receive(), 0);
  EXPECT_EQ(session_->close(), 0);
}

TEST_P(KtlsSession, CloseTellsWhenCloseNotifyCouldNotBeSent) {
  wire_->hang_up();
  if (GetParam()) {
    // TCP learns that the peer is gone from the answer to what it sends.
    EXPECT_EQ(send("x"), 1);
    ASSERT_TRUE(test::readable(session_->fd()));
  }
  const int status = session_->close();
  EXPECT_TRUE(status == -EPIPE || status == -ECONNRESET) << status;
}

TEST_P(KtlsSession, MessagesOverSeveralRecordsAndRecordsOverSeveralCalls) {
  const std::string stream = ticket() + ticket() + ticket();
  for (std::size_t piece = 3; piece < stream.size(); piece += 13) {
    for (std::size_t at = 0; at < stream.size(); at += piece) {
      peer_sends(kHandshakeRecord, stream.substr(at, piece));
    }
    peer_sends(kDataRecord, "between");
    for (const std::string part : {"bet", "wee", "n"}) {
      ASSERT_EQ(receive(3), static_cast<ssize_t>(part.size()));
      ASSERT_EQ(text_, part);
    }
  }
}

TEST_P(KtlsSession, ASessionThatIsClosedWithTicketsUnreadResetsNothing) {
  peer_sends(kHandshakeRecord, ticket());
  peer_sends(kHandshakeRecord, ticket());
  EXPECT_EQ(send("the last words"), 14);
  EXPECT_EQ(session_->close(), 0);
  EXPECT_EQ(peer_gets(), "\x17the last words");
  EXPECT_EQ(peer_gets(), std::string({21, 1, 0}));
}

TEST_P(KtlsSession, TheKernelsWordIsTakenForItsKeys) {
  const auto identity = socket_identity(session_->fd());
  const auto checked = check_ktls(session_->fd(), identity.value());
  EXPECT_EQ(checked.has_value(), GetParam().has_value());
  EXPECT_FALSE(check_ktls(session_->fd(), *identity + 1));
}

ssize_t receive_untyped(int, std::span<std::byte> buffer, int, std::optional<std::uint8_t>& type) {
  type.reset();
  buffer[0] = std::byte{'p'};
  return 1;
}

TEST(KtlsSessionAlone, BytesThatNoRecordBroughtAreRefused) {
  const RecordIo plain{receive_untyped, send_alert_datagram};
  auto pair = transport::seqpacket_pair().value();
  Session session(std::move(pair.first), Role::kClient, &plain);
  std::array<std::byte, 16> buffer{};
  EXPECT_EQ(session.receive(buffer, 0), -EIO);
}

class RelaySession : public ::testing::Test {
 protected:
  RelaySession() {
    auto pair = test::tcp_pair();
    peer_ = std::move(pair.peer);
    session_.emplace(std::move(pair.mine), Role::kServer, nullptr);
  }
  UniqueFd peer_;
  std::optional<Session> session_;
  std::array<std::byte, 64> buffer_{};
};

TEST_F(RelaySession, CarriesPlainBytesBothWays) {
  ASSERT_EQ(::send(peer_.get(), "in", 2, 0), 2);
  EXPECT_EQ(session_->receive(buffer_, 0), 2);
  const std::string text = "out";
  EXPECT_EQ(session_->send(std::as_bytes(std::span(text)), 0), 3);
  std::array<char, 8> got{};
  EXPECT_EQ(::recv(peer_.get(), got.data(), got.size(), 0), 3);
}

TEST_F(RelaySession, WouldBlock) { EXPECT_EQ(session_->receive(buffer_, MSG_DONTWAIT), -EAGAIN); }

TEST_F(RelaySession, HalfCloseLeavesTheOtherDirectionOpen) {
  EXPECT_EQ(session_->shutdown(), 0);
  char byte = 0;
  EXPECT_EQ(::recv(peer_.get(), &byte, 1, 0), 0);
  ASSERT_EQ(::send(peer_.get(), "x", 1, 0), 1);
  EXPECT_EQ(session_->receive(buffer_, 0), 1);
  const std::string text = "x";
  EXPECT_EQ(session_->send(std::as_bytes(std::span(text)), 0), -EPIPE);
  EXPECT_EQ(::shutdown(peer_.get(), SHUT_WR), 0);
  EXPECT_EQ(session_->receive(buffer_, 0), 0);
  EXPECT_EQ(session_->receive(buffer_, 0), 0);
}

TEST_F(RelaySession, AResetIsATruncationAfterTheLastByte) {
  ASSERT_EQ(::send(peer_.get(), "rest", 4, 0), 4);
  const linger reset{1, 0};
  ASSERT_EQ(::setsockopt(peer_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
  ASSERT_TRUE(test::readable(session_->fd()));
  EXPECT_EQ(session_->receive(buffer_, 0), 4);
  peer_.reset();
  EXPECT_EQ(session_->receive(buffer_, 0), -ECONNRESET);
  EXPECT_EQ(session_->receive(buffer_, 0), -ECONNRESET);
}

TEST_F(RelaySession, CloseReadsWhatIsThereSoThatNothingSentIsLost) {
  ASSERT_EQ(::send(peer_.get(), "unread", 6, 0), 6);
  ASSERT_TRUE(test::readable(session_->fd()));
  const std::string text = "the last words";
  EXPECT_EQ(session_->send(std::as_bytes(std::span(text)), 0), 14);
  EXPECT_EQ(session_->close(), 0);
  std::array<char, 32> got{};
  EXPECT_EQ(::recv(peer_.get(), got.data(), got.size(), 0), 14);
  EXPECT_EQ(::recv(peer_.get(), got.data(), got.size(), 0), 0);
}

TEST_F(RelaySession, OneThreadReceivesWhileAnotherSends) {
  constexpr std::size_t kTotal = std::size_t{1} << 20;
  std::thread echo([this] {
    std::array<char, 4096> chunk{};
    ssize_t count = 0;
    while ((count = ::recv(peer_.get(), chunk.data(), chunk.size(), 0)) > 0) {
      ASSERT_EQ(::send(peer_.get(), chunk.data(), static_cast<std::size_t>(count), 0), count);
    }
    ::shutdown(peer_.get(), SHUT_WR);
  });
  std::thread sender([this] {
    const std::vector<std::byte> chunk(10'000, std::byte{7});
    std::size_t sent = 0;
    while (sent < kTotal) {
      const ssize_t count =
          session_->send(std::span(chunk).first(std::min(chunk.size(), kTotal - sent)), 0);
      ASSERT_GT(count, 0);
      sent += static_cast<std::size_t>(count);
    }
    EXPECT_EQ(session_->shutdown(), 0);
  });
  std::size_t received = 0;
  std::array<std::byte, 3000> chunk{};
  while (true) {
    const ssize_t count = session_->receive(chunk, 0);
    ASSERT_GE(count, 0);
    if (count == 0) break;
    received += static_cast<std::size_t>(count);
  }
  sender.join();
  echo.join();
  EXPECT_EQ(received, kTotal);
}

}  // namespace
}  // namespace handshake::client
