// SPDX-License-Identifier: Apache-2.0
// hs_recv and hs_send as they behave on a kTLS socket. This host's kernel has none, so records
// travel as datagrams whose first byte is the record type; tests/kernel runs the rest for real.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "client/failure.h"
#include "client/session.h"
#include "fake_service.h"
#include "transport/seqpacket.h"

namespace handshake::client {
namespace {

constexpr std::uint8_t kAlertRecord = 21;
constexpr std::uint8_t kHandshakeRecord = 22;
constexpr std::uint8_t kDataRecord = 23;

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

class KtlsSession : public ::testing::Test {
 protected:
  KtlsSession() {
    pending_record.clear();
    forced_error = 0;
    auto pair = transport::seqpacket_pair().value();
    peer_ = std::move(pair.second);
    session_.emplace(std::move(pair.first), Role::kClient, &kDatagrams);
  }

  void peer_sends(std::uint8_t type, std::string_view content) {
    std::string record(1, static_cast<char>(type));
    record += content;
    ASSERT_EQ(::send(peer_.get(), record.data(), record.size(), 0),
              static_cast<ssize_t>(record.size()));
  }
  void peer_sends(std::uint8_t type, std::initializer_list<int> content) {
    std::string text;
    for (const int value : content) text += static_cast<char>(value);
    peer_sends(type, text);
  }
  /// The next record that the peer gets; empty when there is none.
  std::string peer_gets() {
    std::array<char, 256> record{};
    const ssize_t count = ::recv(peer_.get(), record.data(), record.size(), MSG_DONTWAIT);
    return count > 0 ? std::string(record.data(), static_cast<std::size_t>(count)) : std::string();
  }
  ssize_t receive(std::size_t size = 4096, int flags = 0) {
    buffer_.assign(size, std::byte{});
    const ssize_t count = session_->receive(buffer_, flags);
    text_ = count > 0 ? std::string(reinterpret_cast<const char*>(buffer_.data()),
                                    static_cast<std::size_t>(count))
                      : std::string();
    return count;
  }
  /// A ticket of 100 bytes.
  static std::string ticket() {
    std::string message{4, 0, 0, 100};
    message.append(100, 'T');
    return message;
  }

  UniqueFd peer_;
  std::optional<Session> session_;
  std::vector<std::byte> buffer_;
  std::string text_;
};

TEST_F(KtlsSession, SkipsTicketsInFrontOfData) {
  peer_sends(kHandshakeRecord, ticket() + ticket());
  peer_sends(kHandshakeRecord, ticket());
  peer_sends(kDataRecord, "hello");
  EXPECT_EQ(receive(), 5);
  EXPECT_EQ(text_, "hello");
}

TEST_F(KtlsSession, SkipsTicketsInAOneByteBuffer) {
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

TEST_F(KtlsSession, WouldBlockWhenOnlyATicketCame) {
  peer_sends(kHandshakeRecord, ticket());
  EXPECT_EQ(receive(100, MSG_DONTWAIT), -EAGAIN);
  peer_sends(kDataRecord, "later");
  EXPECT_EQ(receive(100, MSG_DONTWAIT), 5);
}

TEST_F(KtlsSession, WouldBlockOnANonBlockingDescriptor) {
  ASSERT_EQ(::fcntl(session_->fd(), F_SETFL, O_NONBLOCK), 0);
  EXPECT_EQ(receive(), -EAGAIN);
}

TEST_F(KtlsSession, CloseNotifyIsTheEndForGood) {
  peer_sends(kDataRecord, "last");
  peer_sends(kAlertRecord, {1, 0});
  EXPECT_EQ(receive(), 4);
  EXPECT_EQ(receive(), 0);
  EXPECT_EQ(receive(), 0);
  EXPECT_EQ(session_->alert(), -1);
}

TEST_F(KtlsSession, SendingGoesOnAfterThePeersCloseNotify) {
  peer_sends(kAlertRecord, {1, 0});
  EXPECT_EQ(receive(), 0);
  const std::string text = "still here";
  EXPECT_EQ(session_->send(std::as_bytes(std::span(text)), 0), 10);
  EXPECT_EQ(peer_gets(), text);
}

TEST_F(KtlsSession, ACutConnectionIsNotTheEnd) {
  peer_sends(kDataRecord, "half of it");
  peer_.reset();
  EXPECT_EQ(receive(), 10);
  EXPECT_EQ(receive(), -ECONNRESET);
  EXPECT_EQ(receive(), -ECONNRESET);
}

TEST_F(KtlsSession, NamesTheAlertThatEndedTheSession) {
  peer_sends(kAlertRecord, {2, 116});
  EXPECT_EQ(receive(), -EACCES);
  EXPECT_EQ(session_->alert(), 116);
  EXPECT_STREQ(last_error(), "the peer ended the session with alert certificate_required (116)");
  EXPECT_EQ(receive(), -EACCES);
  const std::string text = "too late";
  EXPECT_EQ(session_->send(std::as_bytes(std::span(text)), 0), -EPIPE);
}

TEST_F(KtlsSession, CannotFollowAKeyUpdateAndSaysSo) {
  peer_sends(kHandshakeRecord, {24, 0, 0, 1, 0});
  peer_sends(kDataRecord, "under keys that nobody here has");
  EXPECT_EQ(receive(), -EKEYEXPIRED);
  EXPECT_EQ(receive(), -EKEYEXPIRED);
  EXPECT_EQ(peer_gets(), "");
}

TEST_F(KtlsSession, AnswersAViolationWithItsAlertAndSendsNothingAfterIt) {
  peer_sends(kHandshakeRecord, {13, 0, 0, 1, 0});
  EXPECT_EQ(receive(), -EPROTO);
  EXPECT_EQ(peer_gets(), std::string({21, 2, 10}));
  const std::string text = "x";
  EXPECT_EQ(session_->send(std::as_bytes(std::span(text)), 0), -EPIPE);
  EXPECT_EQ(session_->shutdown(), 0);
  EXPECT_EQ(session_->close(), 0);
  EXPECT_EQ(peer_gets(), "");
}

TEST_F(KtlsSession, TellsThePeerAboutARecordThatFailedAuthentication) {
  forced_error = EBADMSG;
  EXPECT_EQ(receive(), -EBADMSG);
  EXPECT_EQ(peer_gets(), std::string({21, 2, 20}));
  forced_error = 0;
  EXPECT_EQ(receive(), -EBADMSG);
}

TEST_F(KtlsSession, AnInterruptionEndsNothing) {
  forced_error = EINTR;
  EXPECT_EQ(receive(), -EINTR);
  forced_error = 0;
  peer_sends(kDataRecord, "on");
  EXPECT_EQ(receive(), 2);
}

TEST_F(KtlsSession, SkipsAFewEmptyRecords) {
  for (int i = 0; i < 5; ++i) peer_sends(kDataRecord, "");
  peer_sends(kDataRecord, "x");
  EXPECT_EQ(receive(), 1);
}

TEST_F(KtlsSession, ShutdownSendsCloseNotifyOnceAndReceivingGoesOn) {
  EXPECT_EQ(session_->shutdown(), 0);
  EXPECT_EQ(session_->shutdown(), 0);
  EXPECT_EQ(peer_gets(), std::string({21, 1, 0}));
  EXPECT_EQ(peer_gets(), "");
  const std::string text = "x";
  EXPECT_EQ(session_->send(std::as_bytes(std::span(text)), 0), -EPIPE);
  peer_sends(kDataRecord, "answer");
  EXPECT_EQ(receive(), 6);
}

TEST_F(KtlsSession, ShutdownThatWouldBlockCanBeTriedAgain) {
  ASSERT_EQ(::fcntl(session_->fd(), F_SETFL, O_NONBLOCK), 0);
  const std::string filler(1000, 'f');
  while (session_->send(std::as_bytes(std::span(filler)), 0) > 0) {}
  EXPECT_EQ(session_->shutdown(), -EAGAIN);
  std::array<char, 2000> scratch{};
  while (::recv(peer_.get(), scratch.data(), scratch.size(), MSG_DONTWAIT) > 0) {}
  EXPECT_EQ(session_->shutdown(), 0);
  EXPECT_EQ(peer_gets(), std::string({21, 1, 0}));
}

TEST_F(KtlsSession, CloseSendsCloseNotifyAndClosesTheDescriptor) {
  const std::size_t before = test::open_descriptors();
  EXPECT_EQ(session_->close(), 0);
  EXPECT_EQ(peer_gets(), std::string({21, 1, 0}));
  char byte = 0;
  EXPECT_EQ(::recv(peer_.get(), &byte, 1, MSG_DONTWAIT), 0);
  EXPECT_EQ(test::open_descriptors(), before - 1);
}

TEST_F(KtlsSession, CloseOfASessionWhosePeerSaidGoodbyeAndLeftIsClean) {
  peer_sends(kAlertRecord, {1, 0});
  peer_.reset();
  EXPECT_EQ(receive(), 0);
  EXPECT_EQ(session_->close(), 0);
}

TEST_F(KtlsSession, CloseTellsWhenCloseNotifyCouldNotBeSent) {
  peer_.reset();
  EXPECT_EQ(session_->close(), -EPIPE);
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
