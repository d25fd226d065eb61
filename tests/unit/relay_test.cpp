// SPDX-License-Identifier: Apache-2.0
#include "ktls/relay.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <csignal>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "ktls/plain_pair.h"
#include "support/loop_thread.h"
#include "support/pki.h"
#include "support/sockets.h"
#include "tls/credential.h"
#include "tls/session.h"

namespace handshake::ktls {
namespace {

using namespace std::chrono_literals;
using test::get_int;
using test::LoopThread;
using test::open_descriptors;
using test::set_int;
using test::set_linger;
using test::set_timeout;
using test::tcp_pair;

constexpr auto kPatience = 60s;
constexpr std::size_t kMiB = std::size_t{1} << 20;

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* p) const noexcept {
    Free(p);
  }
};
using SslPtr = std::unique_ptr<SSL, Deleter<SSL_free>>;
using SslCtxPtr = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>>;
using BioPtr = std::unique_ptr<BIO, Deleter<BIO_free>>;
using X509Ptr = std::unique_ptr<X509, Deleter<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;

// Byte `at` of a stream that no shift or loss of a block leaves looking right.
std::byte pattern(std::size_t at) {
  return static_cast<std::byte>((at * 2654435761U) >> 13U);
}

std::vector<std::byte> patterned(std::size_t size, std::size_t from = 0) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = pattern(from + i);
  return bytes;
}

// What the far end of a connection or of a plain pair saw when it read to the end.
struct Seen {
  std::size_t bytes = 0;
  bool as_sent = true;
  bool clean_end = false;
  int error = 0;
};

// The consumer: plain reads and writes on a blocking socket.
class Consumer {
 public:
  explicit Consumer(UniqueFd fd) : fd_(std::move(fd)) {
    set_timeout(fd_.get(), SO_RCVTIMEO, kPatience);
    set_timeout(fd_.get(), SO_SNDTIMEO, kPatience);
  }
  [[nodiscard]] int fd() const { return fd_.get(); }
  // Writes bytes [from, from+size) of the pattern; returns how many went.
  std::size_t write(std::size_t size, std::size_t from = 0) {
    std::size_t sent = 0;
    while (sent < size) {
      const auto block = patterned(std::min(size - sent, std::size_t{100'000}), from + sent);
      const ssize_t n = ::send(fd_.get(), block.data(), block.size(), MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<std::size_t>(n);
    }
    return sent;
  }
  // Reads until the end, an error, or `limit` bytes.
  Seen read(std::size_t limit = SIZE_MAX, std::size_t from = 0) {
    Seen seen;
    std::vector<std::byte> block(100'000);
    while (seen.bytes < limit) {
      const ssize_t n =
          ::recv(fd_.get(), block.data(), std::min(block.size(), limit - seen.bytes), 0);
      if (n < 0) {
        seen.error = errno;
        break;
      }
      if (n == 0) {
        seen.clean_end = true;
        break;
      }
      for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
        seen.as_sent = seen.as_sent && block[i] == pattern(from + seen.bytes + i);
      }
      seen.bytes += static_cast<std::size_t>(n);
    }
    return seen;
  }
  void shut() { ASSERT_EQ(::shutdown(fd_.get(), SHUT_WR), 0); }
  void close() { fd_.reset(); }
  void reset() {
    set_linger(fd_.get(), true, 0);
    fd_.reset();
  }

 private:
  UniqueFd fd_;
};

// The peer: stock OpenSSL on its own end of the connection.
class Peer {
 public:
  Peer(SSL_CTX* context, UniqueFd fd, bool server) : fd_(std::move(fd)), ssl_(SSL_new(context)) {
    set_timeout(fd_.get(), SO_RCVTIMEO, kPatience);
    set_timeout(fd_.get(), SO_SNDTIMEO, kPatience);
    SSL_set_fd(ssl_.get(), fd_.get());
    if (server) {
      SSL_set_accept_state(ssl_.get());
    } else {
      SSL_set_connect_state(ssl_.get());
    }
  }
  [[nodiscard]] SSL* ssl() { return ssl_.get(); }
  [[nodiscard]] int fd() const { return fd_.get(); }

  std::size_t write(std::size_t size, std::size_t from = 0, std::size_t record = 16384) {
    std::size_t sent = 0;
    while (sent < size) {
      const auto block = patterned(std::min(size - sent, record), from + sent);
      ERR_clear_error();
      if (SSL_write(ssl_.get(), block.data(), static_cast<int>(block.size())) <= 0) break;
      sent += block.size();
    }
    return sent;
  }
  // clean_end: close_notify. error: EPROTO for an alert or bytes that are not TLS, else errno.
  Seen read(std::size_t limit = SIZE_MAX, std::size_t from = 0) {
    Seen seen;
    std::vector<std::byte> block(16384);
    while (seen.bytes < limit) {
      ERR_clear_error();
      errno = 0;
      const int want = static_cast<int>(std::min(block.size(), limit - seen.bytes));
      const int n = SSL_read(ssl_.get(), block.data(), want);
      if (n <= 0) {
        const int saved = errno;
        const int why = SSL_get_error(ssl_.get(), n);
        seen.clean_end = why == SSL_ERROR_ZERO_RETURN;
        if (why == SSL_ERROR_SYSCALL) seen.error = saved;
        if (why == SSL_ERROR_SSL) {
          seen.error = ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING
                           ? ECONNRESET
                           : EPROTO;
        }
        break;
      }
      for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
        seen.as_sent = seen.as_sent && block[i] == pattern(from + seen.bytes + i);
      }
      seen.bytes += static_cast<std::size_t>(n);
    }
    return seen;
  }
  // Writes and reads at the same time.
  Seen exchange(std::size_t to_write, std::size_t to_read) {
    set_nonblocking(true);
    Seen seen;
    std::size_t sent = 0;
    std::vector<std::byte> incoming(16384);
    std::vector<std::byte> block;
    while (sent < to_write || seen.bytes < to_read) {
      bool moved = false;
      if (sent < to_write) {
        if (block.empty()) block = patterned(std::min(to_write - sent, std::size_t{16384}), sent);
        ERR_clear_error();
        if (SSL_write(ssl_.get(), block.data(), static_cast<int>(block.size())) > 0) {
          sent += block.size();
          block.clear();
          moved = true;
        }
      }
      if (seen.bytes < to_read) {
        ERR_clear_error();
        const int n = SSL_read(ssl_.get(), incoming.data(), static_cast<int>(incoming.size()));
        for (int i = 0; i < n; ++i) {
          seen.as_sent = seen.as_sent && incoming[static_cast<std::size_t>(i)] == pattern(seen.bytes);
          ++seen.bytes;
        }
        moved = moved || n > 0;
      }
      pollfd entry{fd_.get(), POLLIN, 0};
      if (!block.empty()) entry.events |= POLLOUT;
      if (!moved && ::poll(&entry, 1, static_cast<int>(milliseconds(kPatience).count())) <= 0) break;
    }
    set_nonblocking(false);
    return seen;
  }
  void close_notify() { EXPECT_EQ(SSL_shutdown(ssl_.get()) < 0, false); }
  void cut() { ASSERT_EQ(::shutdown(fd_.get(), SHUT_WR), 0); }
  void close() { fd_.reset(); }
  // A reset makes the peer's kernel forget what it has not delivered yet.
  void reset_when_delivered() {
    const TimePoint limit = Clock::now() + kPatience;
    for (int queued = 1; queued != 0;) {
      ASSERT_EQ(::ioctl(fd_.get(), SIOCOUTQ, &queued), 0);
      ASSERT_LT(Clock::now(), limit);
    }
    set_linger(fd_.get(), true, 0);
    fd_.reset();
  }
  void set_nonblocking(bool on) {
    const int flags = ::fcntl(fd_.get(), F_GETFL);
    ASSERT_EQ(::fcntl(fd_.get(), F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), 0);
  }

 private:
  UniqueFd fd_;
  SslPtr ssl_;
};

// What all tests share: a certificate for the server, whoever that is.
class Pki {
 public:
  Pki() : authority_("relay test CA") {
    test_pki::LeafOptions options;
    options.dns_names = {"peer.test"};
    const test_pki::Issued leaf = authority_.issue(options);
    tls::CredentialSource source;
    source.name = "test";
    source.key_pairs = {{{"leaf", leaf.chain_pem}, {"key", leaf.key_pem}}};
    source.trust_store = {{"ca", authority_.certificate_pem()}};
    credential_ = tls::load_credential(source).value();

    client_.reset(SSL_CTX_new(TLS_client_method()));
    server_.reset(SSL_CTX_new(TLS_server_method()));
    for (SSL_CTX* context : {client_.get(), server_.get()}) {
      SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
      SSL_CTX_set_mode(context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }
    const BioPtr certificate(BIO_new_mem_buf(leaf.certificate_pem.data(), -1));
    const X509Ptr x509(PEM_read_bio_X509(certificate.get(), nullptr, nullptr, nullptr));
    const BioPtr key(BIO_new_mem_buf(leaf.key_pem.data(), -1));
    const KeyPtr pkey(PEM_read_bio_PrivateKey(key.get(), nullptr, nullptr, nullptr));
    EXPECT_EQ(SSL_CTX_use_certificate(server_.get(), x509.get()), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey(server_.get(), pkey.get()), 1);
  }
  [[nodiscard]] const std::shared_ptr<const tls::Credential>& credential() const {
    return credential_;
  }
  [[nodiscard]] SSL_CTX* context(bool server) const {
    return server ? server_.get() : client_.get();
  }
  static const Pki& instance() {
    static const Pki pki;
    return pki;
  }

 private:
  test_pki::Authority authority_;
  std::shared_ptr<const tls::Credential> credential_;
  SslCtxPtr client_;
  SslCtxPtr server_;
};

struct Setup {
  tls::Side side = tls::Side::kServer;
  int peer_receive_buffer = 0;
  int outer_receive_buffer = 0;
};

// One relay with somebody at both ends of it.
class Line {
 public:
  explicit Line(LoopThread& thread, const Setup& setup = {}) : thread_(&thread) {
    auto [peer_end, our_end] = tcp_pair(setup.peer_receive_buffer);
    const bool peer_serves = setup.side == tls::Side::kClient;
    const Pki& pki = Pki::instance();
    peer_ = std::make_unique<Peer>(pki.context(peer_serves), std::move(peer_end), peer_serves);
    tls::SessionParameters parameters;
    parameters.side = setup.side;
    if (setup.side == tls::Side::kClient) parameters.peername = "peer.test";
    auto session = tls::Session::create(our_end.get(), pki.credential(), parameters);
    EXPECT_TRUE(session.has_value());
    peer_->set_nonblocking(true);
    bool ours = false;
    bool theirs = false;
    while (!ours || !theirs) {
      if (!theirs) theirs = SSL_do_handshake(peer_->ssl()) == 1;
      if (!ours) {
        const auto progress = (*session)->advance();
        if (!progress) {
          ADD_FAILURE() << progress.error().error.detail;
          return;
        }
        ours = *progress == tls::Session::Progress::kFinished;
      }
    }
    peer_->set_nonblocking(false);

    // Kept for tests that look at, or meddle with, the socket as a consumer could.
    consumers_copy_ = UniqueFd(::fcntl(our_end.get(), F_DUPFD_CLOEXEC, 0));
    PlainPair pair = make_plain_pair().value();
    if (setup.outer_receive_buffer != 0) {
      set_int(pair.outer.get(), SOL_SOCKET, SO_RCVBUF, setup.outer_receive_buffer);
    }
    inner_copy_ = UniqueFd(::fcntl(pair.inner.get(), F_DUPFD_CLOEXEC, 0));
    consumer_ = std::make_unique<Consumer>(std::move(pair.outer));
    thread.run([&, this, &socket = our_end] {
      relay_ = std::move(Relay::create(thread.loop(), std::move(*session), std::move(socket),
                                       std::move(pair.inner))
                             .value());
    });
  }
  ~Line() {
    // A watch belongs to the loop's thread.
    thread_->run([this] { relay_.reset(); });
  }
  Line(const Line&) = delete;

  void start() {
    consumers_copy_.reset();
    inner_copy_.reset();
    start_keeping_copies();
  }
  void start_keeping_copies() {
    thread_->run([this] {
      relay_->start([this](const Relay::Outcome& outcome) {
        relay_.reset();
        outcome_.set_value(outcome);
      });
    });
  }
  void destroy() {
    thread_->run([this] { relay_.reset(); });
  }
  [[nodiscard]] Relay::Outcome outcome() {
    if (!ended_.valid()) ended_ = outcome_.get_future();
    if (ended_.wait_for(kPatience) != std::future_status::ready) {
      ADD_FAILURE() << "the relay does not end";
      return {};
    }
    return ended_.get();
  }
  [[nodiscard]] bool has_ended() {
    bool ended = false;
    thread_->run([&] { ended = relay_ == nullptr; });
    return ended;
  }
  Peer& peer() { return *peer_; }
  Consumer& consumer() { return *consumer_; }
  UniqueFd& consumers_copy() { return consumers_copy_; }
  UniqueFd& inner_copy() { return inner_copy_; }

 private:
  LoopThread* thread_;
  std::unique_ptr<Peer> peer_;
  std::unique_ptr<Consumer> consumer_;
  UniqueFd consumers_copy_;
  UniqueFd inner_copy_;
  std::unique_ptr<Relay> relay_;
  std::promise<Relay::Outcome> outcome_;
  std::future<Relay::Outcome> ended_;
};

class RelayTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    ::signal(SIGPIPE, SIG_IGN);  // OpenSSL's own BIO writes without MSG_NOSIGNAL
    [[maybe_unused]] const Pki& pki = Pki::instance();
  }
  void SetUp() override { descriptors_ = open_descriptors(); }
  void TearDown() override {
    thread_.reset();
    EXPECT_EQ(open_descriptors(), descriptors_);
  }
  LoopThread& thread() {
    if (thread_ == nullptr) thread_ = std::make_unique<LoopThread>();
    return *thread_;
  }

 private:
  std::unique_ptr<LoopThread> thread_;
  std::size_t descriptors_ = 0;
};

void expect_all(const Seen& seen, std::size_t bytes) {
  EXPECT_EQ(seen.bytes, bytes);
  EXPECT_TRUE(seen.as_sent);
}

class RelayBothRoles : public RelayTest, public ::testing::WithParamInterface<tls::Side> {};

TEST_P(RelayBothRoles, CarriesManyMebibytesInBothDirectionsAtOnce) {
  Line line(thread(), {.side = GetParam()});
  line.start();
  constexpr std::size_t kSize = 24 * kMiB;
  auto writer = std::async(std::launch::async, [&] { return line.consumer().write(kSize); });
  auto reader = std::async(std::launch::async, [&] { return line.consumer().read(kSize); });
  expect_all(line.peer().exchange(kSize, kSize), kSize);
  EXPECT_EQ(writer.get(), kSize);
  expect_all(reader.get(), kSize);
  line.consumer().close();
  EXPECT_TRUE(line.peer().read().clean_end);
  line.peer().close_notify();
  const Relay::Outcome outcome = line.outcome();
  EXPECT_EQ(outcome.status, 0) << outcome.reason;
  EXPECT_EQ(outcome.bytes_to_peer, kSize);
  EXPECT_EQ(outcome.bytes_from_peer, kSize);
}

INSTANTIATE_TEST_SUITE_P(Roles, RelayBothRoles,
                         ::testing::Values(tls::Side::kServer, tls::Side::kClient),
                         [](const auto& side) {
                           return side.param == tls::Side::kServer ? "Server" : "Client";
                         });

TEST_F(RelayTest, CarriesSingleBytes) {
  Line line(thread());
  line.start();
  for (std::size_t i = 0; i < 500; ++i) {
    ASSERT_EQ(line.consumer().write(1, i), 1U);
    expect_all(line.peer().read(1, i), 1);
    ASSERT_EQ(line.peer().write(1, i), 1U);
    expect_all(line.consumer().read(1, i), 1);
  }
  // And many records that arrive at once.
  ASSERT_EQ(line.peer().write(3000, 0, 1), 3000U);
  expect_all(line.consumer().read(3000), 3000);
}

TEST_F(RelayTest, PeerThatDoesNotReadStopsTheConsumer) {
  Line line(thread(), {.peer_receive_buffer = 64 * 1024});
  // What lies in the socket's own queue is the kernel's choice: fix it to see the relay's part.
  set_int(line.consumers_copy().get(), SOL_SOCKET, SO_SNDBUF, 64 * 1024);
  set_int(line.consumer().fd(), SOL_SOCKET, SO_SNDBUF, 64 * 1024);
  line.start();
  set_timeout(line.consumer().fd(), SO_SNDTIMEO, 300ms);
  constexpr std::size_t kSize = 64 * kMiB;
  const std::size_t sent = line.consumer().write(kSize);
  EXPECT_GT(sent, 64 * std::size_t{1024});
  EXPECT_LT(sent, 2 * kMiB);
  expect_all(line.peer().read(sent), sent);
  // And it goes on from there.
  ASSERT_EQ(line.consumer().write(1000, sent), 1000U);
  expect_all(line.peer().read(1000, sent), 1000);
}

TEST_F(RelayTest, ConsumerThatDoesNotReadStopsThePeer) {
  Line line(thread(), {.outer_receive_buffer = 64 * 1024});
  set_int(line.consumers_copy().get(), SOL_SOCKET, SO_RCVBUF, 64 * 1024);
  set_int(line.peer().fd(), SOL_SOCKET, SO_SNDBUF, 64 * 1024);
  line.start();
  set_timeout(line.peer().fd(), SO_SNDTIMEO, 300ms);
  const std::size_t sent = line.peer().write(64 * kMiB);
  EXPECT_GT(sent, 64 * std::size_t{1024});
  EXPECT_LT(sent, 2 * kMiB);
  // The record that did not fit whole has begun: the peer must finish it.
  auto reader = std::async(std::launch::async, [&] { return line.consumer().read(sent + 16384); });
  set_timeout(line.peer().fd(), SO_SNDTIMEO, kPatience);
  ASSERT_EQ(line.peer().write(16384, sent), 16384U);
  expect_all(reader.get(), sent + 16384);
}

TEST_F(RelayTest, ConsumersShutdownArrivesAsCloseNotifyAndReadingGoesOn) {
  Line line(thread());
  line.start();
  ASSERT_EQ(line.consumer().write(kMiB), kMiB);
  line.consumer().shut();
  const Seen seen = line.peer().read();
  expect_all(seen, kMiB);
  EXPECT_TRUE(seen.clean_end);
  ASSERT_EQ(line.peer().write(kMiB), kMiB);
  expect_all(line.consumer().read(kMiB), kMiB);
  EXPECT_FALSE(line.has_ended());
  line.peer().close_notify();
  EXPECT_TRUE(line.consumer().read().clean_end);
  EXPECT_EQ(line.outcome().status, 0);
}

TEST_F(RelayTest, PeersCloseNotifyArrivesAsEndOfFileAndWritingGoesOn) {
  Line line(thread());
  line.start();
  ASSERT_EQ(line.peer().write(kMiB), kMiB);
  line.peer().close_notify();
  const Seen seen = line.consumer().read();
  expect_all(seen, kMiB);
  EXPECT_TRUE(seen.clean_end);
  ASSERT_EQ(line.consumer().write(kMiB), kMiB);
  expect_all(line.peer().read(kMiB), kMiB);
  EXPECT_FALSE(line.has_ended());
  line.consumer().close();
  EXPECT_TRUE(line.peer().read().clean_end);
  const Relay::Outcome outcome = line.outcome();
  EXPECT_EQ(outcome.status, 0) << outcome.reason;
  EXPECT_EQ(outcome.bytes_to_peer, kMiB);
  EXPECT_EQ(outcome.bytes_from_peer, kMiB);
}

TEST_F(RelayTest, PeerThatHasGoneAfterItsCloseNotifyIsACleanEnd) {
  Line line(thread());
  line.start();
  ASSERT_EQ(line.peer().write(1000), 1000U);
  line.peer().close_notify();
  line.peer().close();
  const Seen seen = line.consumer().read();
  expect_all(seen, 1000);
  EXPECT_TRUE(seen.clean_end);
  line.consumer().close();
  EXPECT_EQ(line.outcome().status, 0);
}

TEST_F(RelayTest, ConsumerWritingToAPeerThatHasGoneGetsAnError) {
  Line line(thread());
  line.start();
  line.peer().close_notify();
  EXPECT_TRUE(line.consumer().read().clean_end);
  line.peer().close();
  // Without back-pressure it would go on for ever; how soon the error comes is TCP's business.
  EXPECT_LT(line.consumer().write(256 * kMiB), 256 * kMiB);
  EXPECT_EQ(line.outcome().status, ECONNRESET);
}

TEST_F(RelayTest, TruncationArrivesAsResetAfterAllTheData) {
  Line line(thread());
  line.start();
  ASSERT_EQ(line.peer().write(1000), 1000U);
  line.peer().cut();
  const Seen seen = line.consumer().read();
  expect_all(seen, 1000);
  EXPECT_FALSE(seen.clean_end);
  EXPECT_EQ(seen.error, ECONNRESET);
  const Relay::Outcome outcome = line.outcome();
  EXPECT_EQ(outcome.status, ECONNRESET);
  EXPECT_EQ(outcome.bytes_from_peer, 1000U);
}

TEST_F(RelayTest, TruncationWaitsForAConsumerThatReadsLate) {
  Line line(thread(), {.outer_receive_buffer = 16 * 1024});
  line.start();
  // More than the pair's buffers take, less than what stops the peer.
  constexpr std::size_t kSize = 2 * kMiB;
  auto writer = std::async(std::launch::async, [&] {
    const std::size_t sent = line.peer().write(kSize);
    line.peer().cut();
    return sent;
  });
  pollfd entry{line.consumer().fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&entry, 1, 10'000), 1);
  entry.events = 0;
  EXPECT_EQ(::poll(&entry, 1, 300), 0) << "the reset has overtaken the data";
  const Seen seen = line.consumer().read();
  EXPECT_EQ(writer.get(), kSize);
  expect_all(seen, kSize);
  EXPECT_FALSE(seen.clean_end);
  EXPECT_EQ(seen.error, ECONNRESET);
  EXPECT_EQ(line.outcome().status, ECONNRESET);
}

TEST_F(RelayTest, ConsumerThatWritesWhileATruncationWaitsIsNotBlocked) {
  Line line(thread(), {.outer_receive_buffer = 16 * 1024});
  line.start();
  constexpr std::size_t kSize = 200'000;
  ASSERT_EQ(line.peer().write(kSize), kSize);
  line.peer().cut();
  char byte = 0;
  ASSERT_EQ(::recv(line.peer().fd(), &byte, 1, 0), 0);  // the relay has seen it, and hung up
  EXPECT_EQ(line.consumer().write(4 * kMiB), 4 * kMiB);
  const Seen seen = line.consumer().read();
  expect_all(seen, kSize);
  EXPECT_EQ(seen.error, ECONNRESET);
  EXPECT_EQ(line.outcome().bytes_to_peer, 0U);
}

TEST_F(RelayTest, PeersResetArrivesAfterTheDataThatHadArrived) {
  Line line(thread());
  ASSERT_EQ(line.peer().write(10'000), 10'000U);
  line.peer().reset_when_delivered();
  line.start();
  const Seen seen = line.consumer().read();
  expect_all(seen, 10'000);
  EXPECT_EQ(seen.error, ECONNRESET);
  EXPECT_EQ(line.outcome().status, ECONNRESET);
}

TEST_F(RelayTest, PeersResetWhileTheConsumerWritesLosesNoneOfItsData) {
  Line line(thread(), {.outer_receive_buffer = 16 * 1024});
  constexpr std::size_t kSize = kMiB;
  set_int(line.consumers_copy().get(), SOL_SOCKET, SO_RCVBUF, 4 * static_cast<int>(kSize));
  line.start();
  ASSERT_EQ(line.peer().write(kSize), kSize);
  line.peer().reset_when_delivered();
  // The relay still has some of it when this write meets the reset.
  line.consumer().write(1000);
  const Seen seen = line.consumer().read();
  expect_all(seen, kSize);
  EXPECT_FALSE(seen.clean_end);
  EXPECT_EQ(line.outcome().status, ECONNRESET);
}

TEST_F(RelayTest, BrokenRecordArrivesAsResetAndThePeerGetsTheAlert) {
  Line line(thread());
  line.start();
  ASSERT_EQ(line.peer().write(1000), 1000U);
  const std::string record = std::string("\x17\x03\x03\x00\x20", 5) + std::string(32, 'x');
  ASSERT_EQ(::send(line.peer().fd(), record.data(), record.size(), 0), 37);
  const Seen seen = line.consumer().read();
  expect_all(seen, 1000);
  EXPECT_EQ(seen.error, ECONNRESET);
  EXPECT_EQ(line.peer().read().error, EPROTO);
  EXPECT_EQ(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
  EXPECT_EQ(line.outcome().status, EIO);
}

TEST_F(RelayTest, ConsumersResetIsNoCleanEndForThePeer) {
  Line line(thread());
  line.start();
  ASSERT_EQ(line.peer().write(1000), 1000U);
  expect_all(line.consumer().read(1000), 1000);
  line.consumer().reset();
  const Seen seen = line.peer().read();
  EXPECT_FALSE(seen.clean_end);
  EXPECT_EQ(seen.error, ECONNRESET);
  EXPECT_EQ(line.outcome().status, ECONNABORTED);
}

TEST_F(RelayTest, ConsumerThatClosesWithUnreadDataIsNoCleanEndForThePeer) {
  Line line(thread());
  line.start();
  ASSERT_EQ(line.peer().write(1000), 1000U);
  pollfd entry{line.consumer().fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&entry, 1, 10'000), 1);
  line.consumer().close();
  EXPECT_FALSE(line.peer().read().clean_end);
  EXPECT_EQ(line.outcome().status, ECONNABORTED);
}

TEST_F(RelayTest, ConsumersResetReachesAPeerWhoseSocketTheConsumerStillHolds) {
  Line line(thread());
  line.inner_copy().reset();
  line.start_keeping_copies();
  line.consumer().reset();
  EXPECT_EQ(line.peer().read().error, ECONNRESET);
  EXPECT_EQ(line.outcome().status, ECONNABORTED);
}

TEST_F(RelayTest, ConsumersResetIsNoticedWhileThePeerDoesNotRead) {
  Line line(thread(), {.peer_receive_buffer = 64 * 1024});
  set_int(line.consumers_copy().get(), SOL_SOCKET, SO_SNDBUF, 64 * 1024);
  line.start();
  set_timeout(line.consumer().fd(), SO_SNDTIMEO, 200ms);
  line.consumer().write(64 * kMiB);
  line.consumer().reset();
  EXPECT_EQ(line.outcome().status, ECONNABORTED);
}

TEST_F(RelayTest, ConsumerThatHasClosedAndGetsMoreDataResetsThePeer) {
  Line line(thread());
  line.start();
  line.consumer().close();
  EXPECT_TRUE(line.peer().read().clean_end);
  // The first bytes make the kernel answer with a reset, which the next ones meet.
  while (line.peer().write(16384) == 16384) {
  }
  EXPECT_EQ(line.outcome().status, ECONNABORTED);
}

TEST_F(RelayTest, ConsumerThatHasClosedIsNoticedThoughThePeerStaysSilent) {
  Line line(thread());
  line.consumers_copy().reset();
  line.start_keeping_copies();
  // A socket without owner is kept for a minute by default, and probed after another.
  set_int(line.consumer().fd(), IPPROTO_TCP, TCP_LINGER2, 1);
  line.consumer().close();
  EXPECT_TRUE(line.peer().read().clean_end);
  EXPECT_EQ(get_int(line.inner_copy().get(), SOL_SOCKET, SO_KEEPALIVE), 1);
  set_int(line.inner_copy().get(), IPPROTO_TCP, TCP_KEEPINTVL, 1);
  set_int(line.inner_copy().get(), IPPROTO_TCP, TCP_KEEPIDLE, 1);
  line.inner_copy().reset();
  EXPECT_EQ(line.outcome().status, ECONNABORTED);
}

TEST_F(RelayTest, FollowsKeyUpdatesOfThePeer) {
  Line line(thread());
  line.start();
  for (std::size_t i = 0; i < 5; ++i) {
    ASSERT_EQ(SSL_key_update(line.peer().ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
    ASSERT_EQ(line.peer().write(100'000, i * 100'000), 100'000U);
    expect_all(line.consumer().read(100'000, i * 100'000), 100'000);
    ASSERT_EQ(line.consumer().write(100'000, i * 100'000), 100'000U);
    expect_all(line.peer().read(100'000, i * 100'000), 100'000);
  }
}

TEST_F(RelayTest, DestroyedUnderWayIsACleanEndForNobody) {
  Line line(thread());
  line.start();
  ASSERT_EQ(line.peer().write(1000), 1000U);
  expect_all(line.consumer().read(1000), 1000);
  line.destroy();
  EXPECT_EQ(line.consumer().read().error, ECONNRESET);
  EXPECT_EQ(line.peer().read().error, ECONNRESET);
}

TEST_F(RelayTest, DestroyedBeforeItStartsIsACleanEndForNobody) {
  Line line(thread());
  line.consumers_copy().reset();
  line.inner_copy().reset();
  line.destroy();
  EXPECT_EQ(line.consumer().read().error, ECONNRESET);
  EXPECT_EQ(line.peer().read().error, ECONNRESET);
}

TEST_F(RelayTest, LingeringSocketOfTheConsumerDoesNotBlockTheLoop) {
  Line line(thread(), {.peer_receive_buffer = 4096});
  set_int(line.consumers_copy().get(), SOL_SOCKET, SO_SNDBUF, 1 << 20);
  set_linger(line.consumers_copy().get(), true, 20);
  line.start();
  line.peer().close_notify();
  // More than the peer's receive buffer: the rest is still queued when the relay closes.
  ASSERT_EQ(line.consumer().write(100'000), 100'000U);
  line.consumer().close();
  const TimePoint before = Clock::now();
  EXPECT_EQ(line.outcome().status, 0);
  EXPECT_LT(Clock::now() - before, 5s);
  const Seen seen = line.peer().read();
  expect_all(seen, 100'000);
  EXPECT_TRUE(seen.clean_end);
}

TEST_F(RelayTest, WaitsWithoutWorkInEveryHalfClosedState) {
  const auto idle = [this](const char* state) {
    const auto before = thread().cpu_time();
    // Nothing becomes readable here: the time just passes.
    EXPECT_EQ(::poll(nullptr, 0, 200), 0);
    EXPECT_LT(thread().cpu_time() - before, 50ms) << state;
  };
  {
    Line line(thread());
    line.start();
    idle("open");
    line.consumer().shut();
    EXPECT_TRUE(line.peer().read().clean_end);
    idle("consumer half-closed");
  }
  {
    Line line(thread());
    line.start();
    line.peer().close_notify();
    EXPECT_TRUE(line.consumer().read().clean_end);
    idle("peer half-closed");
    line.peer().cut();
    idle("peer half-closed, TCP too");
  }
  {
    Line line(thread(), {.peer_receive_buffer = 64 * 1024, .outer_receive_buffer = 64 * 1024});
    line.start();
    set_timeout(line.consumer().fd(), SO_SNDTIMEO, 200ms);
    line.consumer().write(64 * kMiB);
    idle("peer does not read");
    line.consumer().shut();
    idle("peer does not read, consumer half-closed");
    line.peer().close_notify();
    idle("peer does not read, both half-closed");
  }
  {
    // Less than the pair holds, so that the consumer's end of file has arrived.
    Line line(thread(), {.peer_receive_buffer = 64 * 1024});
    set_int(line.consumers_copy().get(), SOL_SOCKET, SO_SNDBUF, 64 * 1024);
    line.start();
    line.peer().close_notify();
    EXPECT_TRUE(line.consumer().read().clean_end);
    ASSERT_EQ(line.consumer().write(600'000), 600'000U);
    line.consumer().shut();
    idle("peer does not read, both half-closed, nothing left to read");
  }
  {
    Line line(thread(), {.outer_receive_buffer = 16 * 1024});
    line.start();
    ASSERT_EQ(line.peer().write(kMiB), kMiB);
    idle("consumer does not read");
    line.peer().cut();
    idle("consumer does not read, truncated");
  }
}

TEST_F(RelayTest, CarriesAThousandAtOnce) {
  constexpr std::size_t kLines = 1000;
  constexpr std::size_t kSize = 20'000;
  std::vector<std::unique_ptr<Line>> lines;
  for (std::size_t i = 0; i < kLines; ++i) {
    lines.push_back(std::make_unique<Line>(thread()));
    ASSERT_FALSE(HasFailure());
    lines.back()->start();
  }
  for (const auto& line : lines) {
    ASSERT_EQ(line->consumer().write(kSize), kSize);
    ASSERT_EQ(line->peer().write(kSize), kSize);
  }
  for (const auto& line : lines) {
    expect_all(line->peer().read(kSize), kSize);
    expect_all(line->consumer().read(kSize), kSize);
    line->consumer().shut();
  }
  for (const auto& line : lines) {
    EXPECT_TRUE(line->peer().read().clean_end);
    line->peer().close_notify();
  }
  for (const auto& line : lines) {
    EXPECT_TRUE(line->consumer().read().clean_end);
    const Relay::Outcome outcome = line->outcome();
    EXPECT_EQ(outcome.status, 0) << outcome.reason;
    EXPECT_EQ(outcome.bytes_to_peer, kSize);
    EXPECT_EQ(outcome.bytes_from_peer, kSize);
  }
}

TEST(PlainPair, IsOneLoopbackConnection) {
  const std::size_t before = open_descriptors();
  {
    const PlainPair pair = make_plain_pair().value();
    EXPECT_EQ(::fcntl(pair.outer.get(), F_GETFL) & O_NONBLOCK, 0);
    EXPECT_EQ(::fcntl(pair.inner.get(), F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    for (const int fd : {pair.outer.get(), pair.inner.get()}) {
      EXPECT_EQ(::fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
      EXPECT_EQ(get_int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    }
    char byte = 0;
    ASSERT_EQ(::send(pair.inner.get(), "x", 1, 0), 1);
    ASSERT_EQ(::recv(pair.outer.get(), &byte, 1, 0), 1);
    EXPECT_EQ(byte, 'x');
    EXPECT_EQ(open_descriptors(), before + 2);
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(PlainPair, TakesNoStrangersConnection) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(listener.get(), raw, length), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  ASSERT_EQ(::getsockname(listener.get(), raw, &length), 0);
  const auto connected = [&] {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), raw, length), 0);
    return fd;
  };
  const UniqueFd stays = connected();
  {
    const UniqueFd goes = connected();
    set_linger(goes.get(), true, 0);
  }
  const UniqueFd ours = connected();
  const UniqueFd late = connected();
  const Result<UniqueFd> other = accept_other_end(listener.get(), ours.get(), Clock::now() + 10s);
  ASSERT_TRUE(other.has_value()) << other.error().detail;
  ASSERT_EQ(::send(ours.get(), "x", 1, 0), 1);
  char byte = 0;
  ASSERT_EQ(::recv(other->get(), &byte, 1, 0), 1);
  EXPECT_EQ(byte, 'x');
  EXPECT_EQ(::recv(stays.get(), &byte, 1, 0), 0) << "a stranger's connection was kept";

  const UniqueFd unrelated(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(accept_other_end(listener.get(), unrelated.get(), Clock::now()).error().kind,
            ErrorKind::kTimedOut);
}

}  // namespace
}  // namespace handshake::ktls
