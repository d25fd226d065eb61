// SPDX-License-Identifier: Apache-2.0
// libhandshake against the real service in this process: the test plays the agent, and needs no
// TLS for that.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include <gtest/gtest.h>

#include "base/event_loop.h"
#include "fake_service.h"
#include "handshake/handshake.h"
#include "service/consumer_endpoint.h"
#include "service/reaper.h"
#include "service/service.h"
#include "transport/packet_stream.h"
#include "transport/seqpacket.h"

namespace handshake {
namespace {

using protocol::SessionMode;
using service::Accepted;
using service::DoneReport;
using test::TcpPair;
using test::tcp_pair;

constexpr std::uint32_t kTlshd = 1;

/// The service behind a listening socket, on a loop of its own: what the daemon does for
/// consumers.
class ServiceOnALoop {
 public:
  ServiceOnALoop() {
    std::string pattern = (std::filesystem::temp_directory_path() / "service-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
    loop_ = EventLoop::create().value();
    listener_ = transport::listen_seqpacket(path(), 0600).value();
    watch_ = loop_->watch(listener_.get(), EPOLLIN, [this](std::uint32_t) { accept(); }).value();
    thread_ = std::thread([this] { EXPECT_TRUE(loop_->run()); });
  }
  ~ServiceOnALoop() {
    loop_->stop();
    thread_.join();
    consumers_.clear();
    watch_.reset();
    std::filesystem::remove_all(directory_);
  }

  [[nodiscard]] std::string path() const { return directory_ + "/consumer.sock"; }
  [[nodiscard]] service::Service& service() { return service_; }

 private:
  struct Consumer {
    std::unique_ptr<service::ConsumerEndpoint> endpoint;
    std::unique_ptr<transport::PacketStream> stream;
  };

  void accept() {
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(socket);
    const int number = next_++;
    Consumer& consumer = consumers_[number];
    transport::PacketStream::Handlers handlers;
    handlers.packet = [this, number](protocol::Packet packet) {
      EXPECT_TRUE(consumers_.at(number).endpoint->receive(std::move(packet)));
    };
    handlers.closed = [this, number](const Error&) { consumers_.erase(number); };
    consumer.stream =
        transport::PacketStream::open(*loop_, std::move(socket), {}, std::move(handlers)).value();
    consumer.endpoint = std::make_unique<service::ConsumerEndpoint>(
        service_, reaper_, service::ConsumerInfo{}, nullptr,
        [this, number](std::vector<std::byte> bytes, std::vector<UniqueFd> fds) {
          // Completions come on the test's thread, the stream belongs to the loop's.
          auto shared = std::make_shared<std::pair<std::vector<std::byte>, std::vector<UniqueFd>>>(
              std::move(bytes), std::move(fds));
          loop_->post([this, number, shared] {
            const auto found = consumers_.find(number);
            if (found == consumers_.end()) return;
            found->second.stream->send(std::move(shared->first), std::move(shared->second));
          });
        });
  }

  std::string directory_;
  service::Reaper reaper_;
  service::Service service_{service::Options{}, Log(), reaper_};
  std::unique_ptr<EventLoop> loop_;
  UniqueFd listener_;
  EventLoop::Watch watch_;
  std::map<int, Consumer> consumers_;
  int next_ = 0;
  std::thread thread_;
};

/// The other end of the seam.
class Agent {
 public:
  explicit Agent(service::Service& service)
      : connection_(service.connect_agent({}, [this](std::uint32_t) {
          const std::lock_guard lock(mutex_);
          ready_ = true;
          changed_.notify_all();
        })) {
    service::Subscription subscription;
    subscription.handler_classes = {kTlshd};
    subscription.every_netns = false;
    subscription.netns_cookies = {service::read_socket_facts(tcp_pair().mine.get())->netns_cookie};
    EXPECT_TRUE(connection_->subscribe(subscription));
  }

  /// The next request, waiting for it.
  Accepted accept() {
    while (true) {
      auto accepted = connection_->accept(kTlshd);
      if (accepted) {
        EXPECT_TRUE(accepted->hand_over());
        return std::move(*accepted);
      }
      std::unique_lock lock(mutex_);
      const bool came =
          changed_.wait_for(lock, std::chrono::seconds(20), [this] { return ready_; });
      if (!came) throw std::runtime_error("no request for the agent");
      ready_ = false;
    }
  }
  Result<void> done(const Accepted& accepted, DoneReport report) {
    return connection_->done(accepted.token(), std::move(report));
  }
  void die() { connection_.reset(); }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ready_ = false;
  std::unique_ptr<service::AgentConnection> connection_;
};

class ClientAndService : public ::testing::Test {
 protected:
  ClientAndService() {
    EXPECT_EQ(hs_context_create(service_.path().c_str(), &context_), 0) << hs_last_error();
  }
  ~ClientAndService() override {
    hs_result_unref(result_);
    hs_context_destroy(context_);
  }

  std::uint64_t submit(const hs_options* options = nullptr) {
    std::uint64_t request = 0;
    EXPECT_EQ(hs_client_hello_anon(context_, pair_.mine.get(), options, nullptr, this,
                                   [](void* self) {
                                     ++static_cast<ClientAndService*>(self)->releases_;
                                   },
                                   &request),
              0)
        << hs_last_error();
    return request;
  }

  ServiceOnALoop service_;
  std::atomic<int> releases_ = 0;
  hs_context* context_ = nullptr;
  hs_result* result_ = nullptr;
  TcpPair pair_ = tcp_pair();
};

TEST_F(ClientAndService, WithoutAnAgentASubmissionIsRefused) {
  EXPECT_EQ(hs_client_hello_anon(context_, pair_.mine.get(), nullptr, nullptr, nullptr, nullptr,
                                 nullptr),
            -ESRCH);
  EXPECT_STRNE(hs_last_error(), "");
}

TEST_F(ClientAndService, ARelayArrivesWithEverythingThatTheAgentSaid) {
  Agent agent(service_.service());
  hs_options options = HS_OPTIONS_INIT;
  options.peername = "server.example";
  options.credential = "web";
  const std::uint64_t request = submit(&options);
  Accepted accepted = agent.accept();
  EXPECT_EQ(accepted.parameters().peername, "server.example");
  EXPECT_EQ(accepted.parameters().credential, "web");
  EXPECT_EQ(accepted.parameters().relay, protocol::RelayMode::kAllowed);
  const std::uint64_t before = test::cookie_of(pair_.mine.get());
  UniqueFd socket = accepted.take_socket();
  EXPECT_EQ(test::cookie_of(socket.get()), before);

  TcpPair plain = tcp_pair();
  DoneReport report;
  report.status = 0;
  report.mode = SessionMode::kRelay;
  report.plain_end = std::move(plain.mine);
  report.cipher = "TLS_AES_256_GCM_SHA384";
  report.group = "X25519";
  report.peer_subject = "CN=server.example";
  report.tags = {"storage", "backup"};
  report.remote_auth = {12};
  ASSERT_TRUE(agent.done(accepted, std::move(report)));
  ASSERT_EQ(hs_wait(context_, request, 20'000, &result_), 0) << hs_last_error();
  EXPECT_EQ(releases_, 1);
  EXPECT_NE(test::cookie_of(pair_.mine.get()), before);
  EXPECT_EQ(hs_result_mode(result_), HS_MODE_RELAY);
  EXPECT_STREQ(hs_result_cipher(result_), "TLS_AES_256_GCM_SHA384");
  EXPECT_STREQ(hs_result_peer_subject(result_), "CN=server.example");
  EXPECT_NE(hs_result_log_id(result_), 0U);
  EXPECT_EQ(hs_result_peer_identity(result_, 0), 12U);
  EXPECT_EQ(hs_tagset_contains(hs_result_tags(result_), "backup"), 1);
  ASSERT_EQ(::send(pair_.mine.get(), "to the relay", 12, 0), 12);
  std::array<char, 32> got{};
  EXPECT_EQ(::recv(plain.peer.get(), got.data(), got.size(), 0), 12);
}

TEST_F(ClientAndService, AFailureArrivesWithItsReasonAndTheSignOfAnErrno) {
  Agent agent(service_.service());
  const std::uint64_t request = submit();
  const Accepted accepted = agent.accept();
  DoneReport report;
  report.status = EACCES;
  report.reason = "certificate has expired";
  report.alert = 45;
  report.alert_sent = true;
  ASSERT_TRUE(agent.done(accepted, std::move(report)));
  EXPECT_EQ(hs_wait(context_, request, 20'000, &result_), -EACCES);
  EXPECT_STREQ(hs_result_reason(result_), "certificate has expired");
  EXPECT_EQ(hs_result_alert(result_), 45);
  EXPECT_EQ(releases_, 1);
}

TEST_F(ClientAndService, ASocketHasOneRequestAtATimeAndMayBeSubmittedAgainAfterItsEnd) {
  Agent agent(service_.service());
  const std::uint64_t request = submit();
  const UniqueFd other_fd(::fcntl(pair_.mine.get(), F_DUPFD_CLOEXEC, 0));
  EXPECT_EQ(hs_client_hello_anon(context_, other_fd.get(), nullptr, nullptr, nullptr, nullptr,
                                 nullptr),
            -EBUSY);
  EXPECT_EQ(hs_cancel(context_, request), 1);
  const std::uint64_t again = submit();
  EXPECT_EQ(hs_cancel(context_, again), 1);
  EXPECT_EQ(releases_, 2);
}

TEST_F(ClientAndService, CancelWinsWhilePendingAndWhenAcceptedAndNotWhenDone) {
  Agent agent(service_.service());
  const std::uint64_t pending = submit();
  EXPECT_EQ(hs_cancel(context_, pending), 1);

  const std::uint64_t accepted_request = submit();
  const Accepted accepted = agent.accept();
  EXPECT_EQ(hs_cancel(context_, accepted_request), 1);
  DoneReport late;
  late.status = 0;
  EXPECT_EQ(agent.done(accepted, std::move(late)).error().kind, ErrorKind::kBusy);

  const std::uint64_t done_request = submit();
  const Accepted third = agent.accept();
  DoneReport report;
  report.status = EIO;
  ASSERT_TRUE(agent.done(third, std::move(report)));
  EXPECT_EQ(hs_cancel(context_, done_request), 0);
  EXPECT_EQ(hs_wait(context_, done_request, 20'000, nullptr), -EIO);
  EXPECT_EQ(releases_, 3);
}

TEST_F(ClientAndService, AnAgentThatDiesFinishesWhatItHadAcceptedWithEio) {
  auto agent = std::make_unique<Agent>(service_.service());
  const std::uint64_t request = submit();
  const Accepted accepted = agent->accept();
  agent->die();
  EXPECT_EQ(hs_wait(context_, request, 20'000, nullptr), -EIO);
}

TEST_F(ClientAndService, TheServicesTimeoutEndsAHangingAgentsRequest) {
  Agent agent(service_.service());
  hs_options options = HS_OPTIONS_INIT;
  options.timeout_ms = 1000;
  const std::uint64_t request = submit(&options);
  const Accepted accepted = agent.accept();
  service_.service().expire(Clock::now() + milliseconds(2000));
  EXPECT_EQ(hs_wait(context_, request, 20'000, nullptr), -ETIMEDOUT);
}

TEST_F(ClientAndService, DestroyingTheContextCancelsInTheService) {
  Agent agent(service_.service());
  static_cast<void>(submit());
  EXPECT_EQ(service_.service().live(), 1U);
  hs_context_destroy(context_);
  context_ = nullptr;
  EXPECT_EQ(releases_, 1);
  const TimePoint deadline = Clock::now() + std::chrono::seconds(20);
  while (service_.service().live() != 0 && Clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(service_.service().live(), 0U);
}

TEST_F(ClientAndService, WhatIsNotConnectedTcpIsRefused) {
  Agent agent(service_.service());
  const UniqueFd udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const UniqueFd loose(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  for (const int fd : {udp.get(), loose.get()}) {
    EXPECT_EQ(hs_client_hello_anon(context_, fd, nullptr, nullptr, nullptr, nullptr, nullptr),
              -EINVAL);
  }
}

TEST_F(ClientAndService, ThreadsShareAContextAndAnAgentServesThemAll) {
  Agent agent(service_.service());
  constexpr int kThreads = 6;
  constexpr int kRounds = 30;
  std::thread serving([&] {
    for (int i = 0; i < kThreads * kRounds; ++i) {
      Accepted accepted = agent.accept();
      accepted.take_socket().reset();
      DoneReport report;
      report.status = 0;
      report.mode = SessionMode::kRelay;
      report.plain_end = std::move(tcp_pair().mine);
      EXPECT_TRUE(agent.done(accepted, std::move(report)));
    }
  });
  std::atomic<int> sessions = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        const TcpPair pair = tcp_pair();
        std::uint64_t request = 0;
        ASSERT_EQ(hs_server_hello_x509(context_, pair.mine.get(), nullptr, nullptr, nullptr,
                                       nullptr, &request),
                  0)
            << hs_last_error();
        if (hs_wait(context_, request, 20'000, nullptr) == 0) ++sessions;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  serving.join();
  EXPECT_EQ(sessions, kThreads * kRounds);
}

}  // namespace
}  // namespace handshake
