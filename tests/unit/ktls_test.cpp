// SPDX-License-Identifier: Apache-2.0
// What the kernel is given, and what is said where it takes nothing. What needs a kernel with kTLS
// is skipped elsewhere, and runs in the test bed of tests/kernel.
#include <gtest/gtest.h>

#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "ktls/crypto_info.h"
#include "ktls/ktls.h"
#include "support/record.h"
#include "support/tls_credentials.h"
#include "support/tls_peer.h"

namespace handshake::ktls {
namespace {

using tls::Cipher;
using tls::Side;

/// What the kernel makes of a crypto info (net/tls/tls_sw.c): the key, and a nonce of salt and iv.
template <class Info>
test_tls::DirectionKeys unpack(Cipher cipher, std::span<const std::uint8_t> bytes) {
  Info info{};
  EXPECT_EQ(bytes.size(), sizeof info);
  std::memcpy(&info, bytes.data(), std::min(bytes.size(), sizeof info));
  EXPECT_EQ(info.info.version, TLS_1_3_VERSION);
  const std::array<unsigned char, 8> zero{};
  EXPECT_EQ(std::memcmp(info.rec_seq, zero.data(), sizeof info.rec_seq), 0);
  test_tls::DirectionKeys keys{cipher, {}, {}};
  keys.key.assign(info.key, info.key + sizeof info.key);
  keys.iv.assign(info.salt, info.salt + sizeof info.salt);
  keys.iv.insert(keys.iv.end(), info.iv, info.iv + sizeof info.iv);
  return keys;
}

test_tls::DirectionKeys unpack(Cipher cipher, const CryptoInfo& info) {
  tls_crypto_info head{};
  std::memcpy(&head, info.view().data(), sizeof head);
  switch (cipher) {
    case Cipher::kAes128Gcm:
      EXPECT_EQ(head.cipher_type, TLS_CIPHER_AES_GCM_128);
      return unpack<tls12_crypto_info_aes_gcm_128>(cipher, info.view());
    case Cipher::kAes256Gcm:
      EXPECT_EQ(head.cipher_type, TLS_CIPHER_AES_GCM_256);
      return unpack<tls12_crypto_info_aes_gcm_256>(cipher, info.view());
    case Cipher::kChaCha20Poly1305:
      EXPECT_EQ(head.cipher_type, TLS_CIPHER_CHACHA20_POLY1305);
      return unpack<tls12_crypto_info_chacha20_poly1305>(cipher, info.view());
    case Cipher::kAes128Ccm:
      EXPECT_EQ(head.cipher_type, TLS_CIPHER_AES_CCM_128);
      return unpack<tls12_crypto_info_aes_ccm_128>(cipher, info.view());
  }
  return {};
}

class EveryCipher : public testing::TestWithParam<std::tuple<Side, Cipher>> {};
INSTANTIATE_TEST_SUITE_P(CryptoInfo, EveryCipher,
                         testing::Combine(testing::Values(Side::kClient, Side::kServer),
                                          testing::ValuesIn(tls::kAllCiphers)));

// The kernel's part is played by a record layer of the tests, which gets nothing but these structs.
TEST_P(EveryCipher, OpensWhatThePeerSendsAndSealsWhatItReads) {
  const auto [side, cipher] = GetParam();
  const test_pki::Authority ca("test CA");
  const auto identity = ca.issue({.common_name = "both", .dns_names = {"server.test"}});
  const auto credential = test_tls::load(test_tls::source({identity}, {ca.certificate_pem()}));
  tls::SessionParameters parameters =
      side == Side::kClient ? test_tls::client_for("server.test") : test_tls::server();
  parameters.ciphers = {cipher};
  const auto link = test_tls::Link::unix_pair();
  auto session = std::move(
      tls::Session::create(link.session_end.get(), credential, parameters).value());
  test_tls::PeerOptions options;
  options.server = side == Side::kClient;
  options.identity = &identity;
  options.suites = to_string(cipher);
  options.with_finished = "record 0";
  test_tls::Peer peer(options);
  const auto outcome = test_tls::shake_hands(*session, peer, link);
  ASSERT_TRUE(outcome) << outcome.error().error.detail;
  peer.write("the last record");
  link.send(peer.take_output());

  const auto keys = make_kernel_keys(side, cipher, session->secrets());
  ASSERT_TRUE(keys) << keys.error().detail;
  const auto records =
      test_tls::open_records(unpack(cipher, keys->receiving), link.take_unread());
  ASSERT_TRUE(records);
  EXPECT_EQ(records->front().content, "record 0");
  EXPECT_EQ(records->back().content, "the last record");

  peer.receive(test_tls::seal_record(unpack(cipher, keys->sending), {23, "sent by the kernel"}, 0));
  EXPECT_EQ(peer.read(), "sent by the kernel");
}

/// Whether this machine's kernel has kTLS, found out in a way of its own.
bool kernel_has_ktls() {
  const auto link = test_tls::Link::tcp_pair();
  return ::setsockopt(link.session_end.get(), IPPROTO_TCP, TCP_ULP, "tls", 3) == 0;
}

struct KernelRecord {
  std::uint8_t type = 0;
  std::string content;
};

/// As a consumer does that is ready for tickets: with the record type beside the data.
KernelRecord receive_record(int fd) {
  std::string content(16'384, '\0');
  alignas(cmsghdr) std::array<char, CMSG_SPACE(1)> control{};
  iovec part{content.data(), content.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(fd, &message, 0);
  content.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  KernelRecord record{0, content};
  const cmsghdr* type = CMSG_FIRSTHDR(&message);
  if (type != nullptr && type->cmsg_level == SOL_TLS && type->cmsg_type == TLS_GET_RECORD_TYPE) {
    record.type = *CMSG_DATA(type);
  }
  return record;
}

TEST_P(EveryCipher, GoesOnInTheKernelWhereTheSessionEnds) {
  if (!kernel_has_ktls()) GTEST_SKIP() << "this kernel has no kTLS; the test bed's has";
  const auto [side, cipher] = GetParam();
  const test_pki::Authority ca("test CA");
  const auto identity = ca.issue({.common_name = "both", .dns_names = {"server.test"}});
  const auto credential = test_tls::load(test_tls::source({identity}, {ca.certificate_pem()}));
  tls::SessionParameters parameters =
      side == Side::kClient ? test_tls::client_for("server.test") : test_tls::server();
  parameters.ciphers = {cipher};
  const auto link = test_tls::Link::tcp_pair();
  auto session = std::move(
      tls::Session::create(link.session_end.get(), credential, parameters).value());
  test_tls::PeerOptions options;
  options.server = side == Side::kClient;
  options.identity = &identity;
  options.suites = to_string(cipher);
  options.with_finished = "with the Finished";
  options.tickets = 2;
  test_tls::Peer peer(options);
  ASSERT_TRUE(test_tls::shake_hands(*session, peer, link));
  const int fd = link.session_end.get();
  const auto installed = install(fd, side, cipher, session->secrets());
  ASSERT_TRUE(installed) << installed.error().detail;
  ASSERT_TRUE(verify(fd)) << verify(fd).error().detail;
  session.reset();

  peer.write("and later");
  link.send(peer.take_output());
  const timeval patience{5, 0};
  ASSERT_EQ(::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
  const std::string everything = "with the Finishedand later";
  std::string data;
  int tickets = 0;
  // One call may return the data of several records, but never a record of another type with it.
  while (data.size() < everything.size()) {
    const KernelRecord record = receive_record(fd);
    ASSERT_FALSE(record.content.empty()) << "after " << data;
    if (record.type == 23) data += record.content;
    if (record.type == 22) ++tickets;
  }
  EXPECT_EQ(data, everything);
  EXPECT_EQ(tickets, side == Side::kClient ? 2 : 0);

  const std::string answer = "from the kernel";
  ASSERT_EQ(::send(fd, answer.data(), answer.size(), 0), static_cast<ssize_t>(answer.size()));
  peer.receive(link.receive());
  EXPECT_EQ(peer.read(), answer);
}

TEST(CryptoInfo, OfASecretThatIsNoneIsRefused) {
  EXPECT_FALSE(make_crypto_info(Cipher::kAes128Gcm, tls::TrafficSecret()));
}

TEST(Probe, SaysWhatTheKernelTakesOrWhyItTakesNothing) {
  const ProbeResult result = probe();
  if (kernel_has_ktls()) {
    EXPECT_EQ(result.ciphers.size(), tls::kAllCiphers.size()) << result.reason;
  } else {
    EXPECT_TRUE(result.ciphers.empty());
    EXPECT_EQ(result.reason, "the kernel has no kTLS, or its module is not loaded (modprobe tls)");
  }
}

TEST(Verify, RefusesASocketThatWouldSendPlaintext) {
  const auto link = test_tls::Link::tcp_pair();
  const auto verified = verify(link.session_end.get());
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().kind, ErrorKind::kInputOutput);
  EXPECT_EQ(verified.error().detail, "the socket has no upper layer: it would send plaintext");
}

TEST(Verify, RefusesASocketWithTheUpperLayerAndNoKeys) {
  const auto link = test_tls::Link::tcp_pair();
  if (::setsockopt(link.session_end.get(), IPPROTO_TCP, TCP_ULP, "tls", 3) != 0) {
    GTEST_SKIP() << "this kernel has no kTLS; the test bed's has";
  }
  const auto verified = verify(link.session_end.get());
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().detail, "the direction that sends has no keys");
}

TEST(Verify, RefusesWhatIsNotTcp) {
  const auto link = test_tls::Link::unix_pair();
  EXPECT_FALSE(verify(link.session_end.get()));
  EXPECT_EQ(verify(-1).error().kind, ErrorKind::kBadDescriptor);
}

TEST(Install, SaysWhyItCannot) {
  tls::TrafficSecrets secrets;
  static_cast<void>(secrets.client.resize(32));
  static_cast<void>(secrets.server.resize(32));
  const auto not_tcp = test_tls::Link::unix_pair();
  const auto refused =
      install(not_tcp.session_end.get(), Side::kClient, Cipher::kAes128Gcm, secrets);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kNotSupported);
  EXPECT_EQ(refused.error().detail, "kTLS is not possible on this socket: it is not TCP");

  const auto tcp = test_tls::Link::tcp_pair();
  const auto installed = install(tcp.session_end.get(), Side::kClient, Cipher::kAes128Gcm, secrets);
  if (kernel_has_ktls()) {
    ASSERT_TRUE(installed) << installed.error().detail;
    EXPECT_TRUE(verify(tcp.session_end.get()));
  } else {
    ASSERT_FALSE(installed);
    EXPECT_EQ(installed.error().kind, ErrorKind::kNotSupported);
    // Nothing was changed: the caller may still carry the session itself.
    EXPECT_EQ(verify(tcp.session_end.get()).error().detail,
              "the socket has no upper layer: it would send plaintext");
  }
}

}  // namespace
}  // namespace handshake::ktls
