// SPDX-License-Identifier: Apache-2.0
// The kernel as a consumer: a fake kernel, our service, and a test that plays the agent.
#include <fcntl.h>
#include <keyutils.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <future>
#include <initializer_list>
#include <mutex>

#include <gtest/gtest.h>

#include "daemon/kernel_bridge.h"
#include "daemon/kernel_bridges.h"
#include "support/fake_kernel.h"
#include "support/loop_thread.h"
#include "support/sockets.h"

namespace handshake::daemon {
namespace {

using protocol::Auth;
using protocol::MessageType;
using service::Accepted;
using test::FakeKernel;

constexpr milliseconds kPatience{10'000};

/// Log lines, and waiting for one.
class Lines {
 public:
  Log log() {
    return Log(LogLevel::kDebug, [this](LogLevel, std::string_view line) {
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(line);
      changed_.notify_all();
    });
  }
  bool wait_for(const std::string& text) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return contains(text); });
  }
  void clear() {
    const std::lock_guard lock(mutex_);
    lines_.clear();
  }
  bool has(const std::string& text) {
    const std::lock_guard lock(mutex_);
    return contains(text);
  }

 private:
  bool contains(const std::string& text) const {
    return std::any_of(lines_.begin(), lines_.end(),
                       [&](const std::string& line) { return line.find(text) != std::string::npos; });
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> lines_;
};

FakeKernel::Request request_on(UniqueFd socket, MessageType type = MessageType::kServerhello,
                               Auth auth = Auth::kX509) {
  FakeKernel::Request request;
  request.socket = std::move(socket);
  request.parameters.message_type = type;
  request.parameters.auth_mode = auth;
  return request;
}

std::vector<std::byte> bytes_of(std::initializer_list<unsigned> values) {
  std::vector<std::byte> bytes;
  for (const unsigned value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

class KernelBridgeTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (thread_) {
      thread_->run([this] {
        agent_.reset();
        bridge_.reset();
      });
    }
    thread_.reset();
    service_.reset();
    EXPECT_TRUE(reaper_.wait_idle(Clock::now() + kPatience));
  }

  void start(FakeKernel::Contested contested = FakeKernel::Contested::kNothing) {
    if (!kernel_) kernel_ = std::make_unique<FakeKernel>(contested);
    service_options_.limits = limits_;
    service_ = std::make_unique<service::Service>(service_options_, lines_.log(), reaper_);
    service_->keep_listening(1);
    thread_ = std::make_unique<test::LoopThread>();
    context_ = std::make_unique<KernelBridge::Context>(
        KernelBridge::Context{thread_->loop(), lines_.log(), *service_, reaper_, [] {},
                              [this](int) { return verified_; }, "user"});
    thread_->run([this] {
      auto channel = KernelChannel::open({kernel_->connect(), kernel_->listen()}, lines_.log(), false);
      ASSERT_TRUE(channel) << channel.error().detail;
      bridge_ = KernelBridge::open(*context_, "self", std::move(*channel),
                                   {"for clients", "for servers", std::make_shared<keyring::Keyrings>(keyrings_)},
                                   [this](const Error& error) { failed_.set_value(error); })
                    .value();
    });
  }
  void connect_agent() {
    service::AgentInfo info;
    info.own_worker = true;
    agent_ = service_->connect_agent(info, [this](std::uint32_t) {
      const std::lock_guard lock(ready_mutex_);
      ready_ = true;
      ready_changed_.notify_all();
    });
    service::Subscription subscription;
    subscription.handler_classes = {1};
    subscription.every_netns = true;
    ASSERT_TRUE(agent_->subscribe(subscription));
  }
  /// The next request, as an agent gets it.
  Accepted accept() {
    if (!agent_) connect_agent();
    const TimePoint deadline = Clock::now() + kPatience;
    while (true) {
      auto accepted = agent_->accept(1);
      if (accepted && accepted->hand_over()) return std::move(*accepted);
      std::unique_lock lock(ready_mutex_);
      if (!ready_changed_.wait_until(lock, deadline, [this] { return std::exchange(ready_, false); })) {
        throw std::runtime_error("no request comes");
      }
    }
  }
  void done(const Accepted& accepted, std::uint32_t status, std::vector<std::uint32_t> remote_auth = {},
            std::vector<std::string> tags = {}) {
    thread_->run([&] {
      service::DoneReport report;
      report.status = status;
      report.mode = status == 0 ? protocol::SessionMode::kKtls : protocol::SessionMode::kNone;
      report.remote_auth = std::move(remote_auth);
      report.tags = std::move(tags);
      EXPECT_TRUE(agent_->done(accepted.token(), std::move(report)));
    });
  }
  /// A connected socket; its other end stays open until the test ends.
  UniqueFd socket() {
    auto [ours, peer] = test::tcp_pair();
    peers_.push_back(std::move(peer));
    return std::move(ours);
  }
  FakeKernel::Done next_done() {
    auto done = kernel_->next_done(kPatience);
    EXPECT_TRUE(done) << "the consumer hears nothing";
    return done.value_or(FakeKernel::Done{});
  }

  Lines lines_;
  service::Limits limits_;
  service::Options service_options_;
  service::Reaper reaper_;
  std::vector<std::string> keyrings_;
  Result<void> verified_;
  std::promise<Error> failed_;
  std::vector<UniqueFd> peers_;
  std::unique_ptr<FakeKernel> kernel_;
  std::unique_ptr<service::Service> service_;
  std::unique_ptr<test::LoopThread> thread_;
  std::unique_ptr<KernelBridge::Context> context_;
  std::unique_ptr<KernelBridge> bridge_;
  std::mutex ready_mutex_;
  std::condition_variable ready_changed_;
  bool ready_ = false;
  std::unique_ptr<service::AgentConnection> agent_;
};

TEST_F(KernelBridgeTest, AKernelsRequestReachesAnAgentAndItsResultTheConsumer) {
  start();
  auto request = request_on(socket(), MessageType::kClienthello, Auth::kX509);
  request.parameters.peername = "nfs.test";
  request.parameters.timeout = 10'000;
  kernel_->submit(std::move(request));
  Accepted accepted = accept();
  const service::AcceptedParameters& parameters = accepted.parameters();
  EXPECT_EQ(parameters.message_type, MessageType::kClienthello);
  EXPECT_EQ(parameters.auth_mode, Auth::kX509);
  EXPECT_EQ(parameters.peername, "nfs.test");
  EXPECT_EQ(parameters.credential, "for clients");
  EXPECT_EQ(parameters.timeout, milliseconds(10'000));
  EXPECT_EQ(parameters.relay, protocol::RelayMode::kNever);
  { const UniqueFd copy = accepted.take_socket(); }
  done(accepted, 0, {4294967295});
  const auto end = next_done();
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.remote_auth, std::vector<std::uint32_t>{4294967295});
  EXPECT_TRUE(end.tags.empty());
}

TEST_F(KernelBridgeTest, AServersRequestUsesTheServersCredential) {
  start();
  kernel_->submit(request_on(socket()));
  EXPECT_EQ(accept().parameters().credential, "for servers");
}

TEST_F(KernelBridgeTest, WhatWaitedBeforeWeCameIsTaken) {
  kernel_ = std::make_unique<FakeKernel>();
  kernel_->submit_silently(request_on(socket()));
  start();
  done(accept(), 0);
  EXPECT_EQ(next_done().status, 0);
}

TEST_F(KernelBridgeTest, OneReadyIsEnoughForAllThatWait) {
  start();
  for (int i = 0; i < 200; ++i) kernel_->submit_silently(request_on(socket()));
  kernel_->ready();
  for (int i = 0; i < 200; ++i) done(accept(), 0);
  for (int i = 0; i < 200; ++i) EXPECT_EQ(next_done().status, 0);
  EXPECT_EQ(kernel_->pending(), 0U);
}

TEST_F(KernelBridgeTest, AFailureReachesTheConsumerAsItsErrno) {
  start();
  for (const int status : {EACCES, ETIMEDOUT, ENOKEY, EKEYREJECTED, EOPNOTSUPP, EIO, 4095}) {
    kernel_->submit(request_on(socket()));
    done(accept(), static_cast<std::uint32_t>(status));
    const auto end = next_done();
    EXPECT_EQ(end.status, -status);
    EXPECT_TRUE(end.remote_auth.empty());
  }
}

TEST_F(KernelBridgeTest, SuccessIsNotReportedForASocketThatTheKernelDoesNotEncrypt) {
  verified_ = fail(ErrorKind::kInputOutput, "no keys for sending");
  start();
  kernel_->submit(request_on(socket()));
  done(accept(), 0, {7});
  const auto end = next_done();
  EXPECT_EQ(end.status, -EIO);
  EXPECT_TRUE(end.remote_auth.empty());
  EXPECT_TRUE(lines_.has("success is not reported: no keys for sending"));
}

TEST_F(KernelBridgeTest, WhatGoesOverALimitIsRefusedAtOnceAndBlocksNobody) {
  limits_.pending_per_netns = 1;
  start();
  for (int i = 0; i < 3; ++i) kernel_->submit(request_on(socket()));
  // "Try again" is what consumers make of it.
  EXPECT_EQ(next_done().status, -ETIMEDOUT);
  EXPECT_EQ(next_done().status, -ETIMEDOUT);
  EXPECT_EQ(kernel_->pending(), 0U);
  done(accept(), 0);
  EXPECT_EQ(next_done().status, 0);
}

TEST_F(KernelBridgeTest, ARequestThatNobodyServesInTimeIsETIMEDOUT) {
  start();
  auto request = request_on(socket());
  request.parameters.timeout = 20;
  kernel_->submit(std::move(request));
  static_cast<void>(accept());
  thread_->run([this] { static_cast<void>(service_->expire(Clock::now() + kPatience)); });
  EXPECT_EQ(next_done().status, -ETIMEDOUT);
}

TEST_F(KernelBridgeTest, AnAgentsDeathIsEIOAtOnce) {
  start();
  kernel_->submit(request_on(socket()));
  static_cast<void>(accept());
  thread_->run([this] { agent_.reset(); });
  EXPECT_EQ(next_done().status, -EIO);
}

TEST_F(KernelBridgeTest, ABridgeThatGoesAnswersEverything) {
  start();
  kernel_->submit(request_on(socket()));
  kernel_->submit(request_on(socket()));
  static_cast<void>(accept());  // one is with an agent, one waits
  thread_->run([this] { bridge_.reset(); });
  EXPECT_EQ(next_done().status, -ETIMEDOUT);
  EXPECT_EQ(next_done().status, -ETIMEDOUT);
  EXPECT_EQ(service_->live(), 0U);
}

TEST_F(KernelBridgeTest, WhatComesAfterTheLastAcceptIsLeftToTheNextAgent) {
  start();
  thread_->run([this] { bridge_->stop_accepting(); });
  kernel_->submit(request_on(socket()));
  EXPECT_FALSE(kernel_->next_done(milliseconds(50)));
  EXPECT_EQ(kernel_->pending(), 1U);
}

TEST_F(KernelBridgeTest, NothingIsAcceptedWithoutADescriptorToPutItOn) {
  start();
  connect_agent();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  auto request = request_on(socket());
  std::vector<UniqueFd> hoard;
  rlimit tight = before;
  tight.rlim_cur = 256;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  for (UniqueFd fd; (fd = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)));) hoard.push_back(std::move(fd));
  kernel_->submit(std::move(request));
  EXPECT_TRUE(lines_.wait_for("no descriptor is free"));
  EXPECT_EQ(kernel_->pending(), 1U);  // the kernel would have ended it with EIO
  hoard.clear();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  done(accept(), 0);
  EXPECT_EQ(next_done().status, 0);
}

TEST_F(KernelBridgeTest, ASocketThatIsNotTcpIsEOPNOTSUPP) {
  start();
  kernel_->submit(request_on(UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0))));
  EXPECT_EQ(next_done().status, -EOPNOTSUPP);
}

TEST_F(KernelBridgeTest, APeerThatHasGoneIsEIO) {
  start();
  UniqueFd ours = socket();
  test::set_linger(peers_.back().get(), true, 0);
  peers_.back().reset();  // resets the connection
  char byte = 0;
  ASSERT_EQ(::recv(ours.get(), &byte, 1, 0), -1);
  kernel_->submit(request_on(std::move(ours)));
  EXPECT_EQ(next_done().status, -EIO);
}

TEST_F(KernelBridgeTest, NoDescriptorIsLeft) {
  start();
  connect_agent();
  const std::size_t before = test::open_descriptors();
  for (int i = 0; i < 20; ++i) {
    kernel_->submit(request_on(socket()));
    Accepted accepted = accept();
    { const UniqueFd copy = accepted.take_socket(); }
    done(accepted, i % 2 == 0 ? 0U : EACCES);
    static_cast<void>(next_done());
  }
  EXPECT_TRUE(reaper_.wait_idle(Clock::now() + kPatience));
  // The test's peers and the fake kernel's own.
  EXPECT_EQ(test::open_descriptors(), before + 40);
}

// --- Session tags, or another meaning of their numbers (R2.5) ---------------------------------------

TEST_F(KernelBridgeTest, TagsGoToAKernelThatHasThemUpToItsNumber) {
  start(FakeKernel::Contested::kSessionTags);
  auto request = request_on(socket());
  request.parameters.max_tags = 2;
  kernel_->submit(std::move(request));
  done(accept(), 0, {}, {"c", "a", "b"});
  const auto end = next_done();
  EXPECT_EQ(end.status, 0);
  EXPECT_TRUE(kernel_->refused().empty());
  EXPECT_EQ(end.tags, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(lines_.has("the kernel takes 2 tags: 1 are left out"));
}

TEST_F(KernelBridgeTest, TagsStayAwayFromAKernelThatHasNone) {
  start();
  kernel_->submit(request_on(socket()));
  done(accept(), 0, {}, {"a"});
  const auto end = next_done();
  EXPECT_EQ(end.status, 0);
  EXPECT_TRUE(kernel_->refused().empty());
}

TEST_F(KernelBridgeTest, WhereTheNumbersMeanSomethingElseNeitherIsReadNorSent) {
  start(FakeKernel::Contested::kKeyUpdate);
  auto request = request_on(socket());
  // ACCEPT 10 as two bytes and 11 as a nest: whatever a key update may need.
  request.more_attributes = bytes_of({6, 0, 10, 0, 1, 2, 0, 0, 12, 0, 11, 128, 8, 0, 1, 0, 9, 9, 9, 9});
  kernel_->submit(std::move(request));
  done(accept(), 0, {5}, {"a"});
  const auto end = next_done();
  EXPECT_EQ(end.status, 0);
  EXPECT_EQ(end.remote_auth, std::vector<std::uint32_t>{5});
  EXPECT_TRUE(kernel_->refused().empty());
}

TEST_F(KernelBridgeTest, AMessageTypeOfTheFutureIsEOPNOTSUPPAndLeaksNothing) {
  start();
  const std::size_t before = test::open_descriptors();
  FakeKernel::Request request;
  request.socket = socket();
  request.more_attributes = bytes_of({8, 0, 3, 0, 3, 0, 0, 0});  // message-type 3
  kernel_->submit(std::move(request));
  EXPECT_EQ(next_done().status, -EOPNOTSUPP);
  EXPECT_TRUE(reaper_.wait_idle(Clock::now() + kPatience));
  EXPECT_EQ(test::open_descriptors(), before + 2);
}

// --- Keys --------------------------------------------------------------------------------------------

class KernelKeys : public KernelBridgeTest {
 protected:
  void SetUp() override {
    // Before there is another thread: those that come later share this process keyring.
    static int tests = 0;
    const std::string name = "hs-bridge-" + std::to_string(::getpid()) + "-" + std::to_string(++tests);
    ring_ = ::add_key("keyring", name.c_str(), nullptr, 0, KEY_SPEC_PROCESS_KEYRING);
    if (ring_ < 0) GTEST_SKIP() << "this machine's kernel has no keyrings: " << errno_name(errno);
  }
  std::uint32_t add(const std::string& description, const std::string& payload, const char* type = "user") {
    const auto serial = ::add_key(type, description.c_str(), payload.data(), payload.size(), ring_);
    EXPECT_GT(serial, 0) << std::strerror(errno);
    return static_cast<std::uint32_t>(serial);
  }
  static std::string text_of(const Secret& secret) {
    return {reinterpret_cast<const char*>(secret.view().data()), secret.size()};
  }
  keyring::Serial ring_ = 0;
};

TEST_F(KernelKeys, AClientsAgentGetsTheFirstUsableKeyAndNoOther) {
  const std::uint32_t revoked = add("revoked", "r");
  ASSERT_EQ(::keyctl_revoke(static_cast<keyring::Serial>(revoked)), 0);
  const std::uint32_t other_type = add("logon:x", "l", "logon");
  const std::uint32_t usable = add("NVMe1R01 host", "the key");
  const std::uint32_t second = add("second", "another");
  start();
  auto request = request_on(socket(), MessageType::kClienthello, Auth::kPsk);
  request.parameters.peer_identity = {revoked, other_type, usable, second};
  kernel_->submit(std::move(request));
  const Accepted accepted = accept();
  const auto& keys = accepted.parameters().keys;
  ASSERT_TRUE(keys && keys->psk);
  EXPECT_EQ(keys->psk->serial, usable);
  EXPECT_EQ(keys->psk->identity, "NVMe1R01 host");
  EXPECT_EQ(text_of(keys->psk->secret), "the key");
  EXPECT_TRUE(lines_.has("key " + keyring::serial_text(static_cast<keyring::Serial>(second)) + " is not offered"));
  EXPECT_TRUE(lines_.has("Key has been revoked"));
  EXPECT_FALSE(lines_.has("the key\""));
}

TEST_F(KernelKeys, WithoutAUsableKeyTheRequestIsENOKEY) {
  start();
  auto request = request_on(socket(), MessageType::kClienthello, Auth::kPsk);
  request.parameters.peer_identity = {0x12345678};
  kernel_->submit(std::move(request));
  EXPECT_EQ(next_done().status, -ENOKEY);
  EXPECT_TRUE(lines_.has("status=ENOKEY reason=\"key 0x12345678: Required key not available\""));
}

TEST_F(KernelKeys, AServersAgentFindsTheKeyInTheRequestsKeyring) {
  const std::uint32_t serial = add("NVMe1R01 host", "the key");
  start();
  auto request = request_on(socket(), MessageType::kServerhello, Auth::kPsk);
  request.parameters.peer_identity = {0};
  request.parameters.keyring = static_cast<std::uint32_t>(ring_);
  kernel_->submit(std::move(request));
  const Accepted accepted = accept();
  EXPECT_EQ(accepted.parameters().keys, nullptr);
  thread_->run([&] {
    const auto unknown = agent_->find_key(accepted.token(), {"NVMe1R01 stranger"});
    ASSERT_FALSE(unknown);
    EXPECT_EQ(unknown.error().kind, ErrorKind::kNoCredential);
    const auto found = agent_->find_key(accepted.token(), {"NVMe1R01 stranger", "NVMe1R01 host"});
    ASSERT_TRUE(found) << found.error().detail;
    EXPECT_EQ(found->serial, serial);
    EXPECT_EQ(found->identity, "NVMe1R01 host");
    EXPECT_EQ(text_of(found->secret), "the key");
  });
  EXPECT_TRUE(lines_.has("no key of type user for \\\"NVMe1R01 stranger\\\"")) << "not in the log";
  done(accepted, 0, {serial});
  EXPECT_EQ(next_done().remote_auth, std::vector<std::uint32_t>{serial});
}

TEST_F(KernelKeys, CertificatesBySerialComeAsDer) {
  const auto certificate = static_cast<std::int32_t>(add("certificate", "CERT DER"));
  const auto private_key = static_cast<std::int32_t>(add("key", "KEY DER"));
  start();
  auto request = request_on(socket(), MessageType::kClienthello, Auth::kX509);
  request.parameters.certificate = {{certificate, private_key}, {certificate, 0x12345678}};
  kernel_->submit(std::move(request));
  const Accepted accepted = accept();
  const auto& keys = accepted.parameters().keys;
  ASSERT_TRUE(keys);
  ASSERT_EQ(keys->key_pairs.size(), 1U);
  const auto& der = keys->key_pairs[0].certificate;
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(der.data()), der.size()), "CERT DER");
  EXPECT_EQ(text_of(keys->key_pairs[0].private_key), "KEY DER");
  EXPECT_TRUE(lines_.has("0x12345678"));
}

TEST_F(KernelKeys, ACertificateThatIsNotThereIsENOKEY) {
  start();
  auto request = request_on(socket(), MessageType::kClienthello, Auth::kX509);
  request.parameters.certificate = {{0x12345678, 0x12345679}};
  kernel_->submit(std::move(request));
  EXPECT_EQ(next_done().status, -ENOKEY);
}

TEST_F(KernelKeys, NoCertificateMeansTheConfiguredOne) {
  start();
  auto request = request_on(socket(), MessageType::kClienthello, Auth::kX509);
  request.parameters.certificate = {{0, 0}};
  kernel_->submit(std::move(request));
  const Accepted accepted = accept();
  EXPECT_TRUE(accepted.parameters().certificates.empty());
  EXPECT_TRUE(accepted.parameters().keys->key_pairs.empty());
}

// --- Namespaces ----------------------------------------------------------------------------------------

class KernelBridgesTest : public ::testing::Test {
 protected:
  KernelBridgesTest()
      : service_({}, Log(), reaper_),
        context_{thread_.loop(), lines_.log(), service_, reaper_, [] {}, [](int) { return Result<void>(); }} {
    service_.keep_listening(1);
    std::string pattern = (std::filesystem::temp_directory_path() / "hs-netns-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  ~KernelBridgesTest() override {
    thread_.run([this] { bridges_.reset(); });
    std::filesystem::remove_all(directory_);
  }
  void serve(std::vector<std::string> netns, bool serve_kernel = true) {
    thread_.run([&] {
      if (!bridges_) {
        bridges_ = std::make_unique<KernelBridges>(context_, [this] {
          ++opened_;
          return Result<KernelChannel::Sockets>(KernelChannel::Sockets{kernel_->connect(), kernel_->listen()});
        });
      }
      config::Settings settings;
      settings.serve_kernel = serve_kernel;
      settings.netns = std::move(netns);
      for (const char* name : {"authenticate.client", "authenticate.server", "authenticate.server special"}) {
        config::KernelCredential kernel;
        kernel.credential.name = name;
        kernel.credential.client = std::string_view(name) == "authenticate.client";
        if (std::string_view(name).ends_with(" special")) kernel.netns = netns_path();
        settings.kernel_credentials.push_back(std::move(kernel));
      }
      bridges_->configure(settings);
    });
  }
  std::vector<std::string> served() {
    std::vector<std::string> names;
    thread_.run([&] { names = bridges_->served(); });
    return names;
  }
  [[nodiscard]] std::string netns_path() const { return (directory_ / "ns").string(); }

  Lines lines_;
  service::Reaper reaper_;
  service::Service service_;
  test::LoopThread thread_;
  KernelBridge::Context context_;
  std::unique_ptr<FakeKernel> kernel_ = std::make_unique<FakeKernel>();
  std::unique_ptr<KernelBridges> bridges_;
  std::filesystem::path directory_;
  int opened_ = 0;
};

TEST_F(KernelBridgesTest, OurOwnNamespaceIsServed) {
  serve({"self"});
  EXPECT_EQ(served(), std::vector<std::string>{"self"});
  EXPECT_TRUE(lines_.has("netns=self kernel consumers are served session-tags=no"));
}

TEST_F(KernelBridgesTest, AKernelWithoutTheFamilyIsNoErrorAndIsAskedOnce) {
  kernel_ = std::make_unique<FakeKernel>(FakeKernel::Contested::kNothing, false);
  serve({"self", netns_path()});
  EXPECT_TRUE(served().empty());
  EXPECT_TRUE(lines_.has("this kernel has no handshake family"));
  serve({"self"});
  EXPECT_EQ(opened_, 1);
}

TEST_F(KernelBridgesTest, NothingIsServedUnlessTheConfigurationIsForTheKernel) {
  serve({"self"}, false);
  EXPECT_TRUE(served().empty());
  EXPECT_EQ(opened_, 0);
}

TEST_F(KernelBridgesTest, AReloadKeepsWhatIsServedAndEndsWhatIsNoMore) {
  serve({"self"});
  serve({"self"});
  EXPECT_EQ(opened_, 1);
  serve({"self"}, false);
  EXPECT_TRUE(served().empty());
}

TEST_F(KernelBridgesTest, ANamespaceAppearsVanishesAndIsMadeAnew) {
  if (::geteuid() != 0) GTEST_SKIP() << "entering a network namespace needs CAP_SYS_ADMIN";
  serve({netns_path()});
  EXPECT_TRUE(served().empty());
  const auto other_netns = [](auto meanwhile) {
    int pipe[2];
    ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
    int ready[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      char byte = ::unshare(CLONE_NEWNET) == 0 ? 'y' : 'n';
      if (::write(ready[1], &byte, 1) != 1) ::_exit(1);
      ::close(pipe[1]);
      ::_exit(static_cast<int>(::read(pipe[0], &byte, 1)));
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    if (byte == 'y') meanwhile("/proc/" + std::to_string(child) + "/ns/net");
    for (const int fd : {pipe[0], pipe[1], ready[0], ready[1]}) ::close(fd);
    ::waitpid(child, nullptr, 0);
    if (byte != 'y') GTEST_SKIP() << "making a network namespace needs CAP_SYS_ADMIN";
  };
  for (int round = 1; round <= 2; ++round) {
    other_netns([&](const std::string& path) {
      std::filesystem::create_symlink(path, netns_path());
      EXPECT_TRUE(lines_.wait_for("netns=" + netns_path() + " kernel consumers are served"));
      EXPECT_EQ(opened_, round);
      std::filesystem::remove(netns_path());
      EXPECT_TRUE(lines_.wait_for("netns=" + netns_path() + " the network namespace has gone"));
      EXPECT_TRUE(served().empty());
    });
    lines_.clear();
  }
}

TEST_F(KernelBridgesTest, ANamespaceWithSettingsOfItsOwnUsesThem) {
  if (::geteuid() != 0) GTEST_SKIP() << "entering a network namespace needs CAP_SYS_ADMIN";
  std::filesystem::create_symlink("/proc/self/ns/net", netns_path());
  serve({netns_path()});
  ASSERT_EQ(served().size(), 1U);
  const auto [socket, peer] = test::tcp_pair();
  kernel_->submit(request_on(UniqueFd(::dup(socket.get()))));
  std::promise<void> ready;
  const auto agent = service_.connect_agent({.own_worker = true}, [&](std::uint32_t) { ready.set_value(); });
  service::Subscription subscription;
  subscription.handler_classes = {1};
  subscription.every_netns = true;
  ASSERT_TRUE(agent->subscribe(subscription));
  ASSERT_EQ(ready.get_future().wait_for(kPatience), std::future_status::ready);
  auto accepted = agent->accept(1);
  ASSERT_TRUE(accepted);
  EXPECT_EQ(accepted->parameters().credential, "authenticate.server special");
  EXPECT_TRUE(accepted->hand_over());
}

}  // namespace
}  // namespace handshake::daemon
