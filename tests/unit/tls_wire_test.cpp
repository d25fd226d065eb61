// SPDX-License-Identifier: Apache-2.0
// The BIO below a session hands out no byte beyond a record, whoever asks for how many.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <string>

#include "support/tls_peer.h"
#include "tls/wire.h"

namespace handshake::tls {
namespace {

using test_tls::Link;

const std::string kRecord("\x16\x03\x01\x00\x06" "abcdef", 11);
const std::string kEmptyRecord("\x16\x03\x01\x00\x00", 5);

TEST(Wire, GivesTheHeaderThenTheFragmentThoughMoreIsAskedFor) {
  const Link link = Link::unix_pair();
  Wire wire(link.session_end.get(), Side::kClient);
  link.send(kRecord + kEmptyRecord + kRecord + "more");
  std::array<char, 65536> buffer{};
  for (const int expected : {5, 6, 5, 5, 6}) EXPECT_EQ(wire.read(buffer), expected);
  wire.finish_handshake();
  EXPECT_EQ(wire.read(buffer), -1);
  EXPECT_TRUE(wire.blocked_read());
  EXPECT_EQ(link.take_unread(), "more");
}

TEST(Wire, FollowsRecordsThatAreReadInPieces) {
  const Link link = Link::unix_pair();
  Wire wire(link.session_end.get(), Side::kServer);
  link.send(kRecord + kRecord);
  std::array<char, 2> two{};
  for (const int expected : {2, 2, 1, 2, 2, 2, 2, 2, 1, 2, 2, 2}) EXPECT_EQ(wire.read(two), expected);
}

TEST(Wire, SendsAFlightAtOnceWhenItIsFlushed) {
  const Link link = Link::unix_pair();
  Wire wire(link.session_end.get(), Side::kClient);
  const std::string part = "part";
  EXPECT_EQ(wire.write(part), 4);
  EXPECT_EQ(wire.write(part), 4);
  EXPECT_EQ(link.receive(), "");
  EXPECT_TRUE(wire.flush());
  EXPECT_EQ(link.receive(), "partpart");
  wire.finish_handshake();
  EXPECT_EQ(wire.write(part), 4);
  EXPECT_EQ(link.receive(), "part");
}

TEST(Wire, HoldsALongHelloUntilItIsComplete) {
  const Link link = Link::unix_pair();
  Wire wire(link.session_end.get(), Side::kServer);
  constexpr std::size_t kHello = 20'000;
  std::string hello = std::string("\x01\x00\x4e\x20", 4) + std::string(kHello, 'h');  // 0x4e20
  std::string records;
  for (std::size_t at = 0; at < hello.size(); at += 10'000) {
    const std::string part = hello.substr(at, 10'000);
    records += std::string("\x16\x03\x01", 3) + static_cast<char>(part.size() >> 8) +
               static_cast<char>(part.size() & 0xff) + part;
  }
  link.send(records.substr(0, records.size() - 1));
  std::array<char, 65536> buffer{};
  EXPECT_EQ(wire.read(buffer), 5);
  EXPECT_EQ(wire.read(buffer), -1);
  EXPECT_TRUE(wire.blocked_read());
  link.send(records.substr(records.size() - 1) + "more");
  std::string handed_out = records.substr(0, 5);
  for (std::size_t size = 0; handed_out.size() < records.size(); ++size) {
    const int got = wire.read(std::span(buffer).first(1 + size % 5000));
    ASSERT_GT(got, 0);
    handed_out.append(buffer.data(), static_cast<std::size_t>(got));
  }
  EXPECT_EQ(handed_out, records);
  EXPECT_EQ(link.take_unread(), "more");
}

TEST(Wire, DoesNotHoldWhatTheLibraryRefusesAnyway) {
  const Link link = Link::unix_pair();
  Wire wire(link.session_end.get(), Side::kServer);
  link.send(std::string("\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9));  // 16 MiB
  std::array<char, 64> buffer{};
  EXPECT_EQ(wire.read(buffer), 5);
  EXPECT_EQ(wire.read(buffer), 4);
}

TEST(Wire, TellsEndAndErrorApart) {
  const Link link = Link::unix_pair();
  Wire ended(link.session_end.get(), Side::kClient);
  ::shutdown(link.test_end.get(), SHUT_WR);
  std::array<char, 8> buffer{};
  EXPECT_EQ(ended.read(buffer), -1);
  EXPECT_EQ(ended.trouble(), Wire::Trouble::kEndOfStream);
  Wire broken(-1, Side::kClient);
  EXPECT_EQ(broken.read(buffer), -1);
  EXPECT_EQ(broken.trouble(), Wire::Trouble::kSocket);
  EXPECT_EQ(broken.read_error(), EBADF);
  EXPECT_EQ(broken.write_error(), 0);
  EXPECT_EQ(broken.write(buffer), 8);
  EXPECT_FALSE(broken.flush());
  EXPECT_EQ(broken.write_error(), EBADF);
}

}  // namespace
}  // namespace handshake::tls
