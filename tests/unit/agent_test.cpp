// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sysexits.h>

#include <atomic>
#include <deque>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "agent/closer.h"
#include "agent/credentials.h"
#include "agent/serve.h"
#include "agent/warm_up.h"
#include "agent/worker.h"
#include "ktls/plain_pair.h"
#include "protocol/controller.h"
#include "protocol/families.h"
#include "protocol/messages.h"
#include "support/loop_thread.h"
#include "support/pki.h"
#include "support/sockets.h"
#include "tls/psk.h"
#include "tls/session.h"
#include "transport/seqpacket.h"

namespace handshake::agent {
namespace {

using namespace std::chrono_literals;
using test::copies_of;
using test::LoopThread;
using test::open_descriptors;
using test::tcp_pair;

constexpr auto kPatience = 30s;
constexpr std::uint32_t kClass = 1;

using WorkerDone = protocol::worker::DoneRequest;
using WorkerRequest = protocol::worker::AcceptReply;

// A CA that is trusted, one that is not, and what they have issued.
struct Pki {
  test_pki::Authority authority{"agent test CA"};
  test_pki::Authority stranger{"stranger"};
  test_pki::Issued server = issue(authority, "server.test");
  test_pki::Issued client = issue(authority, "client.test");

  static test_pki::Issued issue(const test_pki::Authority& authority, const std::string& name) {
    test_pki::LeafOptions options;
    options.common_name = name;
    options.dns_names = {name};
    options.ip_addresses = {"127.0.0.1"};
    return authority.issue(options);
  }
  static config::KeyPair key_pair(const test_pki::Issued& issued) {
    return {{"certificate.pem", issued.chain_pem}, {"key.pem", issued.key_pem}};
  }
  [[nodiscard]] config::Settings settings() const {
    const config::FileContent ca{"ca.pem", authority.certificate_pem()};
    config::CredentialSettings serving;
    serving.name = "serving";
    serving.server = true;
    serving.key_pairs = {key_pair(server)};
    serving.trust_store = {ca};
    config::CredentialSettings strict = serving;
    strict.name = "strict";
    strict.require_client_certificate = true;
    config::CredentialSettings anonymous;
    anonymous.name = "anonymous";
    anonymous.client = true;
    anonymous.trust_store = {ca};
    config::CredentialSettings known = anonymous;
    known.name = "known";
    known.key_pairs = {key_pair(client)};
    config::CredentialSettings suspicious = anonymous;
    suspicious.name = "suspicious";
    suspicious.trust_store = {{"other.pem", stranger.certificate_pem()}};
    config::Settings all;
    all.credentials = {serving, strict, anonymous, known, suspicious};
    config::KernelCredential kernel;
    kernel.credential = serving;
    kernel.credential.name = "authenticate.server";
    all.kernel_credentials.push_back(kernel);
    kernel.credential.name = "authenticate.server bare";
    kernel.credential.key_pairs.clear();
    all.kernel_credentials.push_back(kernel);
    kernel.credential = known;
    kernel.credential.name = "authenticate.client";
    all.kernel_credentials.push_back(kernel);
    return all;
  }
  static const Pki& instance() {
    static const Pki pki;
    return pki;
  }
};

CredentialSet credentials() { return CredentialSet::load(Pki::instance().settings()).value(); }

// The other side of a handshake: a TLS session of our own, driven from the test's thread.
class Peer {
 public:
  Peer(UniqueFd fd, tls::Side side, const std::string& credential) : fd_(std::move(fd)) {
    tls::SessionParameters parameters;
    parameters.side = side;
    parameters.present_certificate = side == tls::Side::kClient && credential == "known";
    if (side == tls::Side::kClient) parameters.peername = "server.test";
    if (side == tls::Side::kServer) parameters.request_client_certificate = true;
    auto used = credentials().find(credential, side);
    session_ = std::move(tls::Session::create(fd_.get(), used->tls, parameters).value());
  }
  // With a pre-shared key.
  Peer(UniqueFd fd, tls::Side side, std::shared_ptr<const tls::PresharedKey> key)
      : fd_(std::move(fd)), key_(std::move(key)) {
    tls::SessionParameters parameters;
    parameters.side = side;
    parameters.psk = key_;
    session_ = std::move(tls::Session::create(fd_.get(), credentials().psk(), parameters).value());
  }
  [[nodiscard]] int fd() const { return fd_.get(); }
  // A client's first message.
  void begin() {
    const auto progress = session_->advance();
    ASSERT_TRUE(progress.has_value());
    ASSERT_EQ(*progress, tls::Session::Progress::kWantRead);
  }
  // To the end, or until it fails.
  std::optional<tls::Failure> finish() {
    while (true) {
      const auto progress = session_->advance();
      if (!progress) return progress.error();
      if (*progress == tls::Session::Progress::kFinished) return std::nullopt;
      if (*progress == tls::Session::Progress::kWantKey) {
        session_->use_key(key_);
        continue;
      }
      if (!wait(*progress == tls::Session::Progress::kWantRead ? POLLIN : POLLOUT)) {
        ADD_FAILURE() << "the handshake hangs";
        return std::nullopt;
      }
    }
  }
  void write(const std::string& text) {
    auto left = std::as_bytes(std::span(text));
    while (!left.empty()) {
      const auto written = session_->write(left);
      ASSERT_TRUE(written.has_value());
      ASSERT_EQ(written->state, tls::Session::Io::State::kOk);
      left = left.subspan(written->bytes);
    }
  }
  // nullopt: the stream ended without close_notify.
  std::optional<std::string> read_to_end() {
    std::string text;
    std::array<std::byte, 16384> buffer{};
    while (true) {
      const auto got = session_->read(buffer);
      if (!got) return std::nullopt;
      text.append(reinterpret_cast<const char*>(buffer.data()), got->bytes);
      if (got->state == tls::Session::Io::State::kClosed) return text;
      if (got->state == tls::Session::Io::State::kWantRead && !wait(POLLIN)) {
        ADD_FAILURE() << "the peer hears nothing";
        return std::nullopt;
      }
    }
  }
  void close_notify() {
    const auto closed = session_->close_notify();
    ASSERT_TRUE(closed.has_value());
    ASSERT_EQ(*closed, tls::Session::Progress::kFinished);
  }

 private:
  bool wait(short events) {
    pollfd entry{fd_.get(), events, 0};
    return ::poll(&entry, 1, static_cast<int>(milliseconds(kPatience).count())) == 1;
  }

  UniqueFd fd_;
  std::shared_ptr<const tls::PresharedKey> key_;
  std::unique_ptr<tls::Session> session_;
};

struct Incoming {
  protocol::Packet packet;
  protocol::MessageView message;
};

enum class Vocabulary { kKernel, kWorker, kNone };

// The service's end of a channel, driven by the test: what it answers is written in the test.
class FakeService {
 public:
  FakeService(UniqueFd fd, Vocabulary vocabulary)
      : fd_(std::move(fd)), controller_(families(vocabulary)), vocabulary_(vocabulary) {}

  // The next message that is not for the controller; those are answered on the way.
  Incoming next() {
    while (true) {
      Incoming incoming = take();
      if (incoming.message.type != protocol::kControllerId) return incoming;
      for (const auto& datagram : controller_.answer(incoming.message)) send(datagram);
    }
  }
  void answer_controller() {
    const Incoming incoming = take();
    ASSERT_EQ(incoming.message.type, protocol::kControllerId);
    for (const auto& datagram : controller_.answer(incoming.message)) send(datagram);
  }
  // No message comes for a while.
  bool is_quiet(milliseconds time = 150ms) { return !wait(time); }

  void expect_subscription() {
    const Incoming incoming = next();
    ASSERT_EQ(incoming.message.type, protocol::kWorkerId);
    const auto request = parse<protocol::worker::SubscribeRequest>(incoming.message);
    EXPECT_EQ(request.handler_class, std::vector<std::uint32_t>{kClass});
    EXPECT_TRUE(request.every_netns);
    acknowledge(incoming.message, 0);
  }
  // Answers with EAGAIN when there is no request.
  Incoming expect_accept() {
    Incoming incoming = next();
    EXPECT_EQ(incoming.message.type, family());
    EXPECT_EQ(parse<protocol::worker::AcceptRequest>(incoming.message).handler_class, kClass);
    return incoming;
  }
  void refuse_accept(int error = EAGAIN) { acknowledge(expect_accept().message, error); }
  void give(const WorkerRequest& request, int socket) { give_to(expect_accept(), request, socket); }
  void give_to(const Incoming& accept, const WorkerRequest& request, int socket) {
    std::vector<UniqueFd> fds;
    if (socket >= 0) fds.emplace_back(::fcntl(socket, F_DUPFD_CLOEXEC, 0));
    if (vocabulary_ == Vocabulary::kWorker) {
      send(protocol::build(reply_to(accept.message), request).value(), fds);
      return;
    }
    protocol::kernel::AcceptReply reply;
    reply.sockfd = request.sockfd;
    reply.message_type = request.message_type;
    reply.auth_mode = request.auth_mode;
    reply.peername = request.peername;
    reply.timeout = request.timeout;
    send(protocol::build(reply_to(accept.message), reply).value(), fds);
  }
  void send_ready(std::uint32_t handler_class = kClass) {
    protocol::worker::ReadyEvent ready;
    ready.handler_class = handler_class;
    protocol::MessageHeader header;
    header.type = protocol::kHandshakeId;
    send(protocol::build(header, ready).value());
  }
  // DONE, and the fd that rode beside it.
  std::pair<WorkerDone, UniqueFd> expect_done(Incoming* whole = nullptr) {
    Incoming incoming = next();
    EXPECT_EQ(incoming.message.type, family());
    EXPECT_EQ(incoming.message.command, WorkerDone::kCommand);
    std::pair<WorkerDone, UniqueFd> done{parse<WorkerDone>(incoming.message), UniqueFd()};
    if (!incoming.packet.fds.empty()) done.second = std::move(incoming.packet.fds.front());
    EXPECT_EQ(static_cast<bool>(done.second), done.first.plain_end);
    if (whole != nullptr) *whole = std::move(incoming);
    return done;
  }
  void acknowledge(const protocol::MessageView& request, int error) {
    send(protocol::build_ack(request, error, {}));
  }
  void send(const std::vector<std::byte>& bytes, const std::vector<UniqueFd>& fds = {}) {
    const auto sent = transport::send_packet(fd_.get(), bytes, fds);
    ASSERT_TRUE(sent.has_value()) << sent.error().detail;
    ASSERT_EQ(*sent, transport::SendState::kSent);
  }
  static protocol::MessageHeader reply_to(const protocol::MessageView& request) {
    protocol::MessageHeader header;
    header.type = request.type;
    header.sequence = request.sequence;
    return header;
  }
  template <class M>
  static M parse(const protocol::MessageView& message) {
    EXPECT_EQ(message.command, M::kCommand);
    protocol::ExtAck ack;
    const auto parsed = M::parse(message.attributes, protocol::Unknown::kRefuse, ack);
    EXPECT_TRUE(parsed.has_value()) << ack.message;
    return parsed.value_or(M{});
  }
  void close() { fd_.reset(); }

 private:
  static std::vector<protocol::Controller::Registration> families(Vocabulary vocabulary) {
    std::vector<protocol::Controller::Registration> all;
    if (vocabulary == Vocabulary::kNone) return all;
    all.push_back({protocol::kHandshakeId, &protocol::kernel::kFamily, protocol::kHandshakeGroups});
    if (vocabulary == Vocabulary::kWorker) {
      all.push_back({protocol::kWorkerId, &protocol::worker::kFamily, protocol::kWorkerGroups});
    }
    return all;
  }
  [[nodiscard]] std::uint16_t family() const {
    return vocabulary_ == Vocabulary::kWorker ? protocol::kWorkerId : protocol::kHandshakeId;
  }
  bool wait(milliseconds time) {
    pollfd entry{fd_.get(), POLLIN, 0};
    return ::poll(&entry, 1, static_cast<int>(time.count())) == 1;
  }
  Incoming take() {
    Incoming incoming;
    incoming.packet = receive();
    protocol::MessageReader reader(incoming.packet.bytes);
    const auto message = reader.next();
    if (message && *message) {
      incoming.message = **message;
    } else {
      ADD_FAILURE() << "no message";
    }
    return incoming;
  }
  protocol::Packet receive() {
    if (!wait(kPatience)) {
      ADD_FAILURE() << "the worker is silent";
      return {};
    }
    auto packet = transport::receive_packet(fd_.get());
    EXPECT_TRUE(packet.has_value() && packet->has_value());
    return packet && *packet ? std::move(**packet) : protocol::Packet{};
  }

  UniqueFd fd_;
  protocol::Controller controller_;
  Vocabulary vocabulary_;
};

class AgentTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    // What is made once per process must not look like a leak.
    [[maybe_unused]] const Pki& pki = Pki::instance();
    ASSERT_TRUE(warm_up(credentials()).has_value());
  }
  void SetUp() override { descriptors_ = open_descriptors(); }
  void TearDown() override {
    if (worker_) thread_->run([this] { worker_.reset(); });
    service_.reset();
    thread_.reset();
    EXPECT_EQ(open_descriptors(), descriptors_);
  }

  FakeService& start(Vocabulary vocabulary = Vocabulary::kWorker, Worker::Options options = {}) {
    if (options.ktls.reason.empty()) options.ktls.reason = "not in this test";
    thread_ = std::make_unique<LoopThread>();
    auto [ours, theirs] = transport::seqpacket_pair().value();
    service_ = std::make_unique<FakeService>(std::move(ours), vocabulary);
    thread_->run([&, &channel = theirs] {
      worker_ = std::move(Worker::open(thread_->loop(), std::move(channel), credentials(), options,
                                       Log(), [this](const Error& error) {
                                         worker_.reset();
                                         stopped_.set_value(error);
                                       })
                              .value());
    });
    return *service_;
  }
  FakeService& start_subscribed(Worker::Options options = {}) {
    FakeService& service = start(Vocabulary::kWorker, std::move(options));
    service.expect_subscription();
    return service;
  }
  Error stopped() {
    auto future = stopped_.get_future();
    if (future.wait_for(kPatience) == std::future_status::ready) return future.get();
    ADD_FAILURE() << "the worker does not stop";
    return {};
  }
  Worker::Counters counters() {
    Worker::Counters counters;
    thread_->run([&] { counters = worker_->counters(); });
    return counters;
  }

 public:
  static WorkerRequest client_request(std::int32_t token = 1) {
    WorkerRequest request;
    request.sockfd = token;
    request.message_type = protocol::MessageType::kClienthello;
    request.auth_mode = protocol::Auth::kUnauth;
    request.peername = "server.test";
    request.request_id = 1000 + static_cast<std::uint64_t>(token);
    request.credential = "anonymous";
    request.relay = protocol::RelayMode::kAllowed;
    return request;
  }
  static WorkerRequest server_request(std::int32_t token = 1) {
    WorkerRequest request = client_request(token);
    request.message_type = protocol::MessageType::kServerhello;
    request.auth_mode = protocol::Auth::kX509;
    request.peername.reset();
    request.credential = "serving";
    return request;
  }

 protected:
  // Hands over `request` with a socket nobody answers on; the DONE that comes at once.
  WorkerDone refused(FakeService& service, const WorkerRequest& request) {
    auto [peer, consumer] = tcp_pair();
    service.give(request, consumer.get());
    service.refuse_accept();
    WorkerDone done = service.expect_done().first;
    EXPECT_EQ(copies_of(consumer.get()), 1U);
    service.send_ready();
    return done;
  }

 private:
  std::size_t descriptors_ = 0;
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<FakeService> service_;
  std::unique_ptr<Worker> worker_;
  std::promise<Error> stopped_;
};

TEST_F(AgentTest, ClientGetsARelayAndItsEndIsReported) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  service.give(client_request(7), consumer.get());
  Peer peer(std::move(peer_end), tls::Side::kServer, "serving");
  service.refuse_accept();
  ASSERT_FALSE(peer.finish().has_value());

  auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.status, 0U) << done.reason.value_or("");
  EXPECT_EQ(done.sockfd, 7);
  EXPECT_EQ(done.session_mode, protocol::SessionMode::kRelay);
  EXPECT_EQ(done.cipher, "TLS_AES_256_GCM_SHA384");
  EXPECT_FALSE(done.group->empty());
  EXPECT_EQ(done.peer_subject, "CN=server.test,O=handshaked tests");
  EXPECT_EQ(done.certificate_algorithm, "ECDSA P-256");
  EXPECT_EQ(done.reason, std::nullopt);
  EXPECT_EQ(done.alert, std::nullopt);
  ASSERT_TRUE(plain);
  EXPECT_EQ(::fcntl(plain.get(), F_GETFL) & O_NONBLOCK, 0);

  ASSERT_EQ(::send(plain.get(), "ping", 4, 0), 4);
  ASSERT_EQ(::shutdown(plain.get(), SHUT_WR), 0);
  EXPECT_EQ(peer.read_to_end(), "ping");
  peer.write("pong!");
  peer.close_notify();
  std::array<char, 16> text{};
  EXPECT_EQ(::recv(plain.get(), text.data(), text.size(), MSG_WAITALL), 5);

  const Incoming end = service.next();
  const auto report = FakeService::parse<protocol::worker::RelayEndRequest>(end.message);
  EXPECT_EQ(report.request_id, 1007U);
  EXPECT_EQ(report.bytes_to_peer, 4U);
  EXPECT_EQ(report.bytes_from_peer, 5U);
  EXPECT_EQ(report.status, 0U);
  EXPECT_EQ(copies_of(consumer.get()), 1U) << "the relay still holds the socket";
  EXPECT_EQ(counters().succeeded, 1U);
}

TEST_F(AgentTest, ServerGetsTheDataThatCameWithThePeersFinished) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  service.give(server_request(), consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kClient, "anonymous");
  ASSERT_FALSE(peer.finish().has_value());
  peer.write("early");
  peer.close_notify();
  const auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.status, 0U);
  EXPECT_EQ(done.peer_subject, std::nullopt);
  EXPECT_EQ(done.certificate_algorithm, "ECDSA P-256");
  std::array<char, 16> text{};
  EXPECT_EQ(::recv(plain.get(), text.data(), text.size(), MSG_WAITALL), 5);
}

TEST_F(AgentTest, ServerKnowsAClientByItsCertificate) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = server_request();
  request.client_auth = protocol::ClientAuth::kRequire;
  service.give(request, consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kClient, "known");
  ASSERT_FALSE(peer.finish().has_value());
  const auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.status, 0U);
  EXPECT_EQ(done.peer_subject, "CN=client.test,O=handshaked tests");
  EXPECT_TRUE(done.remote_auth.empty());
}

TEST_F(AgentTest, CertificateIsRequiredByTheRequestOrTheConfiguration) {
  FakeService& service = start_subscribed();
  WorkerRequest by_request = server_request();
  by_request.client_auth = protocol::ClientAuth::kRequire;
  WorkerRequest by_configuration = server_request();
  by_configuration.credential = "strict";
  for (const WorkerRequest& request : {by_request, by_configuration}) {
    auto [peer_end, consumer] = tcp_pair();
    service.give(request, consumer.get());
    service.refuse_accept();
    Peer peer(std::move(peer_end), tls::Side::kClient, "anonymous");
    static_cast<void>(peer.finish());  // a TLS 1.3 client is done before the server looks
    const auto [done, plain] = service.expect_done();
    EXPECT_EQ(done.status, static_cast<std::uint32_t>(EACCES));
    EXPECT_EQ(done.alert, 116U);  // certificate_required
    EXPECT_TRUE(done.alert_sent);
    service.send_ready();
  }
  // And the request has the last word.
  WorkerRequest lenient = by_configuration;
  lenient.client_auth = protocol::ClientAuth::kRequest;
  auto [peer_end, consumer] = tcp_pair();
  service.give(lenient, consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kClient, "anonymous");
  ASSERT_FALSE(peer.finish().has_value());
  EXPECT_EQ(service.expect_done().first.status, 0U);
}

TEST_F(AgentTest, UntrustedPeerIsRejectedWithAnAlertAndAReason) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = client_request();
  request.credential = "suspicious";
  service.give(request, consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kServer, "serving");
  const auto failure = peer.finish();
  ASSERT_TRUE(failure.has_value());
  EXPECT_FALSE(failure->alert_sent);
  const auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(EACCES));
  EXPECT_EQ(done.session_mode, protocol::SessionMode::kNone);
  EXPECT_EQ(done.alert, 48U);  // unknown_ca
  EXPECT_EQ(failure->alert, 48U);
  EXPECT_TRUE(done.alert_sent);
  EXPECT_FALSE(done.reason.value_or("").empty());
  EXPECT_EQ(copies_of(consumer.get()), 1U) << "reported before the socket was closed";
}

TEST_F(AgentTest, AlertSurvivesDataThatThePeerSentAlong) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = server_request();
  request.client_auth = protocol::ClientAuth::kRequire;
  Peer peer(std::move(peer_end), tls::Side::kClient, "anonymous");
  peer.begin();
  // The client's Finished and its data arrive together.
  test::set_int(peer.fd(), IPPROTO_TCP, TCP_CORK, 1);
  service.give(request, consumer.get());
  service.refuse_accept();
  ASSERT_FALSE(peer.finish().has_value());
  peer.write(std::string(10'000, 'x'));
  test::set_int(peer.fd(), IPPROTO_TCP, TCP_CORK, 0);
  EXPECT_EQ(service.expect_done().first.alert, 116U);
  consumer.reset();
  // A reset could overtake the alert, so there must be none.
  std::array<char, 64> record{};
  EXPECT_GT(::recv(peer.fd(), record.data(), record.size(), 0), 0);
  EXPECT_EQ(::recv(peer.fd(), record.data(), record.size(), 0), 0);
}

TEST_F(AgentTest, WrongNameIsRejected) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = client_request();
  request.peername = "other.test";
  service.give(request, consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kServer, "serving");
  EXPECT_TRUE(peer.finish().has_value());
  EXPECT_EQ(service.expect_done().first.status, static_cast<std::uint32_t>(EACCES));
}

TEST_F(AgentTest, WithoutANameThePeersAddressIsVerified) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = client_request();
  request.peername.reset();
  service.give(request, consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kServer, "serving");
  EXPECT_FALSE(peer.finish().has_value());
  EXPECT_EQ(service.expect_done().first.status, 0U);
}

TEST_F(AgentTest, WhatCannotBeServedIsRefusedAtOnceWithItsReason) {
  FakeService& service = start_subscribed();
  const auto expect = [&](const WorkerRequest& request, int error, const std::string& reason) {
    const WorkerDone done = refused(service, request);
    EXPECT_EQ(done.status, static_cast<std::uint32_t>(error)) << reason;
    EXPECT_NE(done.reason.value_or("").find(reason), std::string::npos)
        << done.reason.value_or("none");
  };
  WorkerRequest request = client_request();
  request.credential = "nobody";
  expect(request, ENOKEY, "credential nobody");
  request.credential = "serving";
  expect(request, ENOKEY, "credential serving: not for clients");
  request.credential.reset();
  expect(request, ENOKEY, "names no credential");
  request = client_request();
  request.auth_mode = protocol::Auth::kX509;
  expect(request, ENOKEY, "credential anonymous");
  request = client_request();
  request.auth_mode = protocol::Auth::kPsk;
  expect(request, ENOKEY, "brings no pre-shared key");
  request.auth_mode.reset();
  expect(request, EINVAL, "authenticate");
  request = client_request();
  request.certificate.resize(1);
  expect(request, EOPNOTSUPP, "key serial");
  request = client_request();
  request.relay = protocol::RelayMode::kNever;
  expect(request, EOPNOTSUPP, "no kTLS (not in this test)");
  request = client_request();
  request.message_type.reset();
  expect(request, EINVAL, "side");
  request = server_request();
  request.auth_mode = protocol::Auth::kUnauth;
  expect(request, EINVAL, "anonymous");
  request = server_request();
  request.credential = "anonymous";
  expect(request, ENOKEY, "credential anonymous: not for servers");
  EXPECT_EQ(counters().failed, 11U);
  service.refuse_accept();
}

TEST_F(AgentTest, KernelVocabularyIsEnoughForADance) {
  FakeService& service = start(Vocabulary::kKernel);
  auto [peer, consumer] = tcp_pair();
  service.give(client_request(3), consumer.get());
  service.refuse_accept();
  const Incoming incoming = service.next();
  EXPECT_EQ(incoming.message.type, protocol::kHandshakeId);
  // Strictly what a kernel knows.
  const auto done = FakeService::parse<protocol::kernel::DoneRequest>(incoming.message);
  EXPECT_EQ(done.sockfd, 3);
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(EOPNOTSUPP));
  EXPECT_EQ(copies_of(consumer.get()), 1U);
  service.send_ready();
  service.refuse_accept();
}

TEST_F(AgentTest, KernelVocabularyHasNoNamedCredential) {
  Worker::Options options;
  options.ktls.ciphers = {tls::Cipher::kAes128Gcm};
  FakeService& service = start(Vocabulary::kKernel, options);
  auto [peer, consumer] = tcp_pair();
  service.give(client_request(), consumer.get());
  service.refuse_accept();
  const auto done = FakeService::parse<protocol::kernel::DoneRequest>(service.next().message);
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(ENOKEY));
}

TEST_F(AgentTest, OnlyCiphersOfTheProbeAreOfferedForKtls) {
  Worker::Options options;
  options.ktls.ciphers = {tls::Cipher::kChaCha20Poly1305};
  FakeService& service = start_subscribed(options);
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = client_request();
  request.relay = protocol::RelayMode::kNever;
  service.give(request, consumer.get());
  service.refuse_accept();
  std::array<std::byte, 2048> hello{};
  pollfd entry{peer_end.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&entry, 1, 10'000), 1);
  const ssize_t got = ::recv(peer_end.get(), hello.data(), hello.size(), 0);
  // Record header 5, message header 4, version 2, random 32, session id 1 + 32, then the suites.
  constexpr std::size_t kSuites = 5 + 4 + 2 + 32 + 33;
  ASSERT_GT(got, static_cast<ssize_t>(kSuites + 4));
  EXPECT_EQ(hello[kSuites + 2], std::byte{0x13});
  EXPECT_EQ(hello[kSuites + 3], std::byte{0x03});
  const auto length = static_cast<unsigned>(hello[kSuites]) << 8U |
                      static_cast<unsigned>(hello[kSuites + 1]);
  EXPECT_LE(length, 4U);  // at most the signalling suite besides
}

TEST_F(AgentTest, AlwaysARelayEvenWhereThereIsKtls) {
  Worker::Options options;
  options.ktls.ciphers = {tls::Cipher::kAes128Gcm};
  FakeService& service = start_subscribed(options);
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = client_request();
  request.relay = protocol::RelayMode::kAlways;
  service.give(request, consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kServer, "serving");
  ASSERT_FALSE(peer.finish().has_value());
  const auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.session_mode, protocol::SessionMode::kRelay);
  EXPECT_EQ(done.cipher, "TLS_AES_256_GCM_SHA384") << "a relay is not limited to kTLS's ciphers";
}

TEST_F(AgentTest, DrainsUntilEagainAndAgainAfterReady) {
  FakeService& service = start_subscribed();
  auto [peer, consumer] = tcp_pair();
  WorkerRequest request = client_request();
  request.credential = "nobody";
  std::int32_t done = 0;
  std::int32_t token = 0;
  // The next ACCEPT and the DONE of the last one arrive in either order.
  const auto serve = [&, socket = consumer.get()](std::int32_t requests) {
    const std::int32_t last = token + requests;
    for (bool refused = false; !refused || done < last;) {
      const Incoming incoming = service.next();
      if (incoming.message.command == WorkerDone::kCommand) {
        ++done;
      } else if (token == last) {
        ASSERT_FALSE(std::exchange(refused, true)) << "ACCEPT after EAGAIN";
        service.acknowledge(incoming.message, EAGAIN);
      } else {
        request.sockfd = ++token;
        service.give_to(incoming, request, socket);
      }
    }
  };
  serve(5);
  EXPECT_TRUE(service.is_quiet()) << "ACCEPT without READY after EAGAIN";
  service.send_ready();
  serve(3);
  EXPECT_EQ(done, 8);
  service.send_ready(99);
  EXPECT_TRUE(service.is_quiet()) << "READY of another class is not for us";
}

TEST_F(AgentTest, ReadyThatCrossesAnEagainIsNotLost) {
  FakeService& service = start_subscribed();
  const Incoming accept = service.expect_accept();
  service.send_ready();
  service.acknowledge(accept.message, EAGAIN);
  service.refuse_accept();
  EXPECT_TRUE(service.is_quiet());
}

TEST_F(AgentTest, ReadyBeforeTheSubscriptionIsAcknowledgedIsNotLost) {
  FakeService& service = start();
  const Incoming subscribe = service.next();
  service.send_ready();
  service.acknowledge(subscribe.message, 0);
  service.refuse_accept();
}

// With room for two requests.
void fill_and_free(FakeService& service) {
  auto [first_peer, first] = tcp_pair();
  auto [second_peer, second] = tcp_pair();
  auto [third_peer, third] = tcp_pair();
  service.give(AgentTest::client_request(1), first.get());
  service.give(AgentTest::client_request(2), second.get());
  EXPECT_TRUE(service.is_quiet()) << "a third ACCEPT";
  first_peer.reset();
  EXPECT_EQ(service.expect_done().first.sockfd, 1);
  service.give(AgentTest::client_request(3), third.get());
  EXPECT_TRUE(service.is_quiet());
}

TEST_F(AgentTest, TakesNoMoreThanItMayAndGoesOnWhenRoomFrees) {
  Worker::Options options;
  options.max_handshakes = 2;
  fill_and_free(start_subscribed(options));
}

TEST_F(AgentTest, TakesNoMoreThanItHasDescriptorsForAndGoesOnWhenRoomFrees) {
  Worker::Options options;
  options.max_descriptors = 7;  // two handshakes of three, and one left over
  fill_and_free(start_subscribed(options));
}

TEST_F(AgentTest, RelaysCountAgainstTheDescriptors) {
  Worker::Options options;
  options.max_descriptors = 4;
  FakeService& service = start_subscribed(options);
  auto [peer_end, consumer] = tcp_pair();
  service.give(client_request(1), consumer.get());
  Peer peer(std::move(peer_end), tls::Side::kServer, "serving");
  ASSERT_FALSE(peer.finish().has_value());
  auto [done, plain] = service.expect_done();
  ASSERT_EQ(done.status, 0U);
  EXPECT_TRUE(service.is_quiet()) << "a relay holds two, a handshake would need three";
  plain.reset();
  peer.close_notify();
  EXPECT_EQ(service.next().message.command, protocol::worker::RelayEndRequest::kCommand);
  service.refuse_accept();
}

TEST_F(AgentTest, SocketThatDidNotFitIntoTheTableIsReported) {
  FakeService& service = start_subscribed();
  auto [peer, consumer] = tcp_pair();
  const Incoming accept = service.expect_accept();
  std::vector<UniqueFd> fds;
  fds.emplace_back(::fcntl(consumer.get(), F_DUPFD_CLOEXEC, 0));
  const auto reply = protocol::build(FakeService::reply_to(accept.message), client_request(5));
  // No descriptor below the limit is free, for nobody in this process.
  std::vector<UniqueFd> fillers;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit now = before;
  now.rlim_cur = open_descriptors() + 8;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &now), 0);
  while (true) {
    UniqueFd filler(::fcntl(consumer.get(), F_DUPFD_CLOEXEC, 0));
    if (!filler) break;
    fillers.push_back(std::move(filler));
  }
  service.send(*reply, fds);
  const WorkerDone done = service.expect_done().first;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(done.sockfd, 5);
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(EMFILE));
  EXPECT_EQ(counters().lost_descriptors, 1U);
  fillers.clear();
  // It comes back for the next one by itself.
  service.refuse_accept();
}

TEST_F(AgentTest, RequestWithoutItsSocketIsReported) {
  FakeService& service = start_subscribed();
  service.give(client_request(5), -1);
  // The next ACCEPT and DONE in either order.
  bool reported = false;
  for (int i = 0; i < 2; ++i) {
    const Incoming incoming = service.next();
    if (incoming.message.command != WorkerDone::kCommand) continue;
    const auto done = FakeService::parse<WorkerDone>(incoming.message);
    EXPECT_EQ(done.sockfd, 5);
    EXPECT_EQ(done.status, static_cast<std::uint32_t>(EINVAL));
    reported = true;
  }
  EXPECT_TRUE(reported);
}

TEST_F(AgentTest, UnreadableRequestIsReportedByItsToken) {
  FakeService& service = start_subscribed();
  const Incoming accept = service.expect_accept();
  protocol::MessageHeader header = FakeService::reply_to(accept.message);
  header.command = WorkerRequest::kCommand;
  protocol::MessageBuilder builder(header);
  builder.put<std::int32_t>(1, 6);  // sockfd
  builder.put_u32(3, 77);           // message-type out of range
  service.send(std::move(builder).finish().value());
  const WorkerDone done = service.expect_done().first;
  EXPECT_EQ(done.sockfd, 6);
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(EINVAL));
}

TEST_F(AgentTest, UnknownAttributesOfARequestAreSkippedAndCounted) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  const Incoming accept = service.expect_accept();
  protocol::MessageHeader header = FakeService::reply_to(accept.message);
  header.command = WorkerRequest::kCommand;
  protocol::MessageBuilder builder(header);
  client_request().put(builder);
  builder.put_u32(9000, 1);
  builder.put_string(9001, "new");
  std::vector<UniqueFd> fds;
  fds.emplace_back(::fcntl(consumer.get(), F_DUPFD_CLOEXEC, 0));
  service.send(std::move(builder).finish().value(), fds);
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kServer, "serving");
  ASSERT_FALSE(peer.finish().has_value());
  EXPECT_EQ(service.expect_done().first.status, 0U);
  EXPECT_EQ(counters().unknown_attributes, 2U);
}

TEST_F(AgentTest, PeerThatStallsIsGivenUpAtTheDeadline) {
  FakeService& service = start_subscribed();
  auto [peer, consumer] = tcp_pair();
  WorkerRequest request = client_request();
  request.timeout = 3'600'000;
  request.remaining = 100;
  service.give(request, consumer.get());
  service.refuse_accept();
  const WorkerDone done = service.expect_done().first;
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(ETIMEDOUT));
  EXPECT_EQ(copies_of(consumer.get()), 1U);
}

TEST_F(AgentTest, TimeoutAloneCountsTooAndOtherwiseTheConfigured) {
  Worker::Options options;
  options.default_timeout = 50ms;
  FakeService& service = start_subscribed(options);
  for (const bool given : {true, false}) {
    auto [peer, consumer] = tcp_pair();
    WorkerRequest request = client_request();
    if (given) request.timeout = 60;
    service.give(request, consumer.get());
    service.refuse_accept();
    EXPECT_EQ(service.expect_done().first.status, static_cast<std::uint32_t>(ETIMEDOUT));
    service.send_ready();
  }
}

TEST_F(AgentTest, StalledPeersDoNotDelayOthers) {
  FakeService& service = start_subscribed();
  std::vector<std::pair<UniqueFd, UniqueFd>> stalled;
  for (std::int32_t token = 1; token <= 200; ++token) {
    stalled.push_back(tcp_pair());
    service.give(token % 2 == 0 ? client_request(token) : server_request(token),
                 stalled.back().second.get());
  }
  auto [peer_end, consumer] = tcp_pair();
  service.give(client_request(1000), consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kServer, "serving");
  ASSERT_FALSE(peer.finish().has_value());
  const auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.sockfd, 1000);
  EXPECT_EQ(done.status, 0U);
}

TEST_F(AgentTest, SocketIsLeftAsTheConsumerHadIt) {
  FakeService& service = start_subscribed();
  for (const bool nonblocking : {false, true}) {
    auto [peer_end, consumer] = tcp_pair();
    ASSERT_EQ(::fcntl(consumer.get(), F_SETFL, nonblocking ? O_NONBLOCK : 0), 0);
    const int flags = ::fcntl(consumer.get(), F_GETFL);
    const int no_delay = test::get_int(consumer.get(), IPPROTO_TCP, TCP_NODELAY);
    WorkerRequest request = client_request();
    request.credential = "suspicious";
    service.give(request, consumer.get());
    service.refuse_accept();
    Peer peer(std::move(peer_end), tls::Side::kServer, "serving");
    EXPECT_TRUE(peer.finish().has_value());
    static_cast<void>(service.expect_done());
    EXPECT_EQ(::fcntl(consumer.get(), F_GETFL), flags);
    EXPECT_EQ(test::get_int(consumer.get(), IPPROTO_TCP, TCP_NODELAY), no_delay);
    service.send_ready();
  }
}

TEST_F(AgentTest, ConsumerTogglingNonblockMeanwhileHarmsNobody) {
  FakeService& service = start_subscribed();
  std::atomic<bool> stop = false;
  auto [peer_end, consumer] = tcp_pair();
  std::thread toggler([&, fd = consumer.get()] {
    for (bool on = false; !stop; on = !on) ::fcntl(fd, F_SETFL, on ? O_NONBLOCK : 0);
  });
  service.give(server_request(), consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kClient, "known");
  EXPECT_FALSE(peer.finish().has_value());
  EXPECT_EQ(service.expect_done().first.status, 0U);
  stop = true;
  toggler.join();
}

TEST_F(AgentTest, LingeringLastCopyDelaysNobody) {
  FakeService& service = start_subscribed();
  auto [stalled, consumer] = tcp_pair(4096);
  // A send queue that never empties, and a close() that would wait for it.
  test::set_linger(consumer.get(), true, 3600);
  const std::vector<char> junk(std::size_t{1} << 20);
  while (::send(consumer.get(), junk.data(), junk.size(), MSG_DONTWAIT) > 0) {
  }
  WorkerRequest request = client_request(1);
  request.remaining = 50;
  const Incoming accept = service.expect_accept();
  service.give_to(accept, request, consumer.get());
  consumer.reset();  // cancelled: neither the service nor the consumer has a copy any more
  // The next request is served while the first one's socket cannot be closed.
  auto [peer, other] = tcp_pair();
  WorkerRequest next = client_request(2);
  next.remaining = 300;
  service.give(next, other.get());
  service.refuse_accept();
  EXPECT_EQ(service.expect_done().first.sockfd, 2);
  EXPECT_TRUE(service.is_quiet());
  test::set_linger(stalled.get(), true, 0);
  stalled.reset();
  const WorkerDone done = service.expect_done().first;
  EXPECT_EQ(done.sockfd, 1);
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(ETIMEDOUT));
}

TEST_F(AgentTest, RefusedReportEndsItsRelay) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  service.give(client_request(), consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kServer, "serving");
  ASSERT_FALSE(peer.finish().has_value());
  Incoming incoming;
  auto [done, plain] = service.expect_done(&incoming);
  ASSERT_EQ(done.status, 0U);
  service.acknowledge(incoming.message, EBUSY);
  EXPECT_EQ(peer.read_to_end(), std::nullopt) << "a cancelled session must not end cleanly";
  EXPECT_EQ(counters().refused_reports, 1U);
}

TEST_F(AgentTest, BrokenAcceptIsTriedAgainLater) {
  FakeService& service = start_subscribed();
  service.refuse_accept(ENOMEM);
  service.refuse_accept();
}

TEST_F(AgentTest, StopsWhenTheChannelCloses) {
  FakeService& service = start_subscribed();
  auto [relayed_end, relayed] = tcp_pair();
  service.give(client_request(1), relayed.get());
  Peer peer(std::move(relayed_end), tls::Side::kServer, "serving");
  ASSERT_FALSE(peer.finish().has_value());
  auto [stalled, waiting] = tcp_pair();
  service.give(client_request(2), waiting.get());
  auto [done, plain] = service.expect_done();
  ASSERT_EQ(done.status, 0U);
  service.close();
  EXPECT_EQ(stopped().kind, ErrorKind::kConnectionReset);
  EXPECT_EQ(copies_of(waiting.get()), 1U);
  EXPECT_EQ(copies_of(relayed.get()), 1U);
  char byte = 0;
  EXPECT_EQ(::recv(plain.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(AgentTest, StopsWhenTheSubscriptionIsRefused) {
  FakeService& service = start();
  service.acknowledge(service.next().message, EPERM);
  EXPECT_EQ(stopped().kind, ErrorKind::kNotPermitted);
}

TEST_F(AgentTest, StopsWhenNoFamilyIsSpoken) {
  FakeService& service = start(Vocabulary::kNone);
  service.answer_controller();
  service.answer_controller();
  EXPECT_EQ(stopped().kind, ErrorKind::kNotFound);
}

TEST(CredentialSet, ReportsEveryBadSection) {
  config::Settings settings = Pki::instance().settings();
  config::CredentialSettings keyless;
  keyless.name = "keyless";
  keyless.server = true;
  config::CredentialSettings broken = settings.credentials.front();
  broken.name = "broken";
  broken.trust_store = {{"/etc/broken.pem", "no certificate"}};
  settings.credentials.push_back(keyless);
  settings.credentials.push_back(broken);
  const auto loaded = CredentialSet::load(settings);
  ASSERT_FALSE(loaded.has_value());
  ASSERT_EQ(loaded.error().size(), 2U);
  EXPECT_NE(loaded.error()[0].detail.find("credential keyless"), std::string::npos);
  EXPECT_NE(loaded.error()[1].detail.find("/etc/broken.pem"), std::string::npos);
}

TEST(WarmUp, NeedsAServersCredential) {
  const std::size_t before = open_descriptors();
  EXPECT_EQ(warm_up(credentials()), true);
  EXPECT_EQ(warm_up(CredentialSet{}), false);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(RunWorker, EndsWithTheChannelAndRefusesABadCredential) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const std::size_t descriptors = open_descriptors();
  {
    auto [ours, theirs] = transport::seqpacket_pair().value();
    FakeService service(std::move(ours), Vocabulary::kWorker);
    auto code = std::async(std::launch::async, [fd = theirs.release()] {
      return run_worker(fd, std::make_shared<config::Settings>(Pki::instance().settings()), Log());
    });
    service.expect_subscription();
    service.refuse_accept();
    service.close();
    EXPECT_EQ(code.get(), EX_OK);
  }
  {
    auto settings = std::make_shared<config::Settings>(Pki::instance().settings());
    settings->credentials.front().trust_store.front().content = "broken";
    auto [ours, theirs] = transport::seqpacket_pair().value();
    EXPECT_EQ(run_worker(theirs.release(), settings, Log()), EX_CONFIG);
  }
  EXPECT_EQ(open_descriptors(), descriptors);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST(Closer, ClosesAtOnceWhatCannotWait) {
  const auto loop = std::move(EventLoop::create().value());
  Closer closer(*loop);
  bool closed = false;
  closer.close(tcp_pair().first, [&] { closed = true; });
  EXPECT_TRUE(closed);
  closer.close(UniqueFd(), [&] { closed = false; });
  EXPECT_FALSE(closed);
}

TEST(Closer, MayBeGoneBeforeALingeringClose) {
  const auto loop = std::move(EventLoop::create().value());
  auto [stalled, socket] = tcp_pair(4096);
  test::set_linger(socket.get(), true, 3600);
  const std::vector<char> junk(std::size_t{1} << 20);
  while (::send(socket.get(), junk.data(), junk.size(), MSG_DONTWAIT) > 0) {
  }
  const std::size_t before = open_descriptors();
  {
    Closer closer(*loop);
    closer.close(std::move(socket), [] { ADD_FAILURE() << "nobody is left to be told"; });
  }
  test::set_linger(stalled.get(), true, 0);
  stalled.reset();
  const TimePoint limit = Clock::now() + kPatience;
  while (open_descriptors() > before - 2 && Clock::now() < limit) std::this_thread::yield();
  EXPECT_EQ(open_descriptors(), before - 2);
  bool ended = false;
  loop->post([&] {
    ended = true;
    loop->stop();
  });
  ASSERT_TRUE(loop->run().has_value());
  EXPECT_TRUE(ended);
}

// --- Keys of one request, and what kernel consumers want to know ------------------------------------

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

protocol::worker::PresharedKey wire_key(const std::string& identity, const std::string& secret) {
  protocol::worker::PresharedKey key;
  key.serial = 77;
  key.identity = bytes_of(identity);
  key.secret = bytes_of(secret);
  return key;
}

std::shared_ptr<const tls::PresharedKey> psk(const std::string& identity, const std::string& secret) {
  return std::make_shared<const tls::PresharedKey>(
      tls::PresharedKey{identity, Secret(bytes_of(secret))});
}

WorkerRequest psk_request(bool server) {
  WorkerRequest request = server ? AgentTest::server_request() : AgentTest::client_request();
  request.auth_mode = protocol::Auth::kPsk;
  request.peername.reset();
  request.credential = server ? "authenticate.server" : "authenticate.client";
  return request;
}

TEST_F(AgentTest, AClientOffersTheKeyThatItsRequestBrings) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = psk_request(false);
  request.psk = wire_key("NVMe1R02 host", std::string(48, 'k'));
  service.give(request, consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kServer, psk("NVMe1R02 host", std::string(48, 'k')));
  ASSERT_FALSE(peer.finish().has_value());
  const auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.status, 0U) << done.reason.value_or("");
  EXPECT_EQ(done.cipher, "TLS_AES_256_GCM_SHA384");
  EXPECT_EQ(done.peer_subject, "NVMe1R02 host");
  EXPECT_EQ(done.remote_auth, std::vector<std::uint32_t>{77});
}

TEST_F(AgentTest, AServerAsksForTheKeyOfTheIdentityThatItsPeerNames) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  service.give(psk_request(true), consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kClient, psk("NVMe1R01 host", std::string(32, 'k')));
  peer.begin();
  const Incoming question = service.next();
  const auto search = FakeService::parse<protocol::worker::FindKeyRequest>(question.message);
  EXPECT_EQ(search.sockfd, 1);
  ASSERT_EQ(search.identity.size(), 1U);
  EXPECT_EQ(search.identity[0], bytes_of("NVMe1R01 host"));
  protocol::worker::FindKeyReply reply;
  reply.psk = wire_key("NVMe1R01 host", std::string(32, 'k'));
  service.send(protocol::build(FakeService::reply_to(question.message), reply).value());
  ASSERT_FALSE(peer.finish().has_value());
  const auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.status, 0U) << done.reason.value_or("");
  EXPECT_EQ(done.peer_subject, "NVMe1R01 host");
  EXPECT_EQ(done.remote_auth, std::vector<std::uint32_t>{77});
}

TEST_F(AgentTest, AnIdentityThatNobodyKnowsIsEKEYREJECTED) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  service.give(psk_request(true), consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kClient, psk("unknown", std::string(32, 'k')));
  peer.begin();
  service.acknowledge(service.next().message, ENOKEY);
  const auto failure = peer.finish();
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->alert, 115);  // unknown_psk_identity
  EXPECT_EQ(failure->error.kind, ErrorKind::kKeyRejected);
  const auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(EKEYREJECTED));
  EXPECT_EQ(done.alert, 115U);
  EXPECT_TRUE(done.remote_auth.empty());
}

TEST_F(AgentTest, AnAnswerForAHandshakeThatHasEndedIsForgotten) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = psk_request(true);
  request.remaining = 50;
  service.give(request, consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kClient, psk("late", std::string(32, 'k')));
  peer.begin();
  const Incoming question = service.next();
  const WorkerDone done = service.expect_done().first;
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(ETIMEDOUT));
  protocol::worker::FindKeyReply reply;
  reply.psk = wire_key("late", std::string(32, 'k'));
  service.send(protocol::build(FakeService::reply_to(question.message), reply).value());
  service.send_ready();
  service.refuse_accept();  // it goes on
}

TEST_F(AgentTest, KeyPairsOfTheRequestTakeThePlaceOfTheCredentials) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = server_request();
  request.credential = "authenticate.server bare";  // has none
  request.certificate.resize(1);
  protocol::worker::KeyPair pair;
  pair.name = "key 0x1";
  pair.certificate = bytes_of(Pki::instance().server.certificate_der);
  pair.private_key = bytes_of(Pki::instance().server.key_der);
  request.key_pair = {pair};
  service.give(request, consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kClient, "known");
  ASSERT_FALSE(peer.finish().has_value());
  const auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.status, 0U) << done.reason.value_or("");
  EXPECT_EQ(done.peer_subject, "CN=client.test,O=handshaked tests");  // the trust store is the credential's
}

TEST_F(AgentTest, AKeyPairOfTheRequestThatDoesNotFitIsENOKEY) {
  FakeService& service = start_subscribed();
  WorkerRequest request = server_request();
  request.credential = "authenticate.server";
  protocol::worker::KeyPair pair;
  pair.name = "key 0x1";
  pair.certificate = bytes_of(Pki::instance().server.certificate_der);
  pair.private_key = bytes_of(Pki::instance().client.key_der);
  request.key_pair = {pair};
  const WorkerDone done = refused(service, request);
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(ENOKEY));
  EXPECT_NE(done.reason.value_or("").find("key 0x1"), std::string::npos);
  service.refuse_accept();
}

class KernelServer : public AgentTest, public ::testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Clients, KernelServer, ::testing::Bool(), [](const auto& client) {
  return client.param ? "WithACertificate" : "Anonymous";
});

TEST_P(KernelServer, IsToldOfAVerifiedCertificateThatNoKeyringHolds) {
  FakeService& service = start_subscribed();
  auto [peer_end, consumer] = tcp_pair();
  WorkerRequest request = server_request();
  request.credential = "authenticate.server";
  service.give(request, consumer.get());
  service.refuse_accept();
  Peer peer(std::move(peer_end), tls::Side::kClient, GetParam() ? "known" : "anonymous");
  ASSERT_FALSE(peer.finish().has_value());
  const auto [done, plain] = service.expect_done();
  EXPECT_EQ(done.status, 0U);
  EXPECT_EQ(done.remote_auth, GetParam() ? std::vector<std::uint32_t>{4294967295}
                                         : std::vector<std::uint32_t>{});
}

TEST_F(AgentTest, AKernelServerWithoutCertificateIsENOKEY) {
  FakeService& service = start_subscribed();
  WorkerRequest request = server_request();
  request.credential = "authenticate.server bare";
  const WorkerDone done = refused(service, request);
  EXPECT_EQ(done.status, static_cast<std::uint32_t>(ENOKEY));
  EXPECT_EQ(done.reason, "credential authenticate.server bare has no certificate and key");
  service.refuse_accept();
}

TEST(CredentialSet, LeavesOutPostQuantumKeysThatTheLibraryCannotUse) {
  config::Settings settings = Pki::instance().settings();
  config::KeyPair unreadable{{"pq.pem", "no certificate"}, {"pq-key.pem", "no key"}, true};
  settings.kernel_credentials.at(0).credential.key_pairs.push_back(unreadable);
  EXPECT_EQ(CredentialSet::load(settings).has_value(), !tls::has_post_quantum_signatures());
}

}  // namespace
}  // namespace handshake::agent
