// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "service/service.h"
#include "support.h"

namespace handshake::testing {

using service::Accepted;
using service::AgentConnection;
using service::AgentInfo;
using service::Completion;
using service::Counters;
using service::DoneReport;
using service::Ending;
using service::Options;
using service::Reaper;
using service::Service;
using service::SessionRecord;
using service::SocketFacts;
using service::Submission;
using service::Subscription;

inline constexpr std::uint32_t kTlshd = 1;
inline constexpr std::uint32_t kDummyClass = 100;

/// What a consumer sees of one request.
struct Seen {
  std::atomic<int> completions{0};
  std::atomic<int> releases{0};
  std::atomic<bool> released_first{false};

  Completion last() {
    const std::lock_guard lock(mutex);
    return std::move(completion);
  }
  int status() {
    const std::lock_guard lock(mutex);
    return completion.status;
  }

  std::mutex mutex;
  Completion completion;
};

/// An agent and the READYs it got.
struct TestAgent {
  std::shared_ptr<std::atomic<int>> readies = std::make_shared<std::atomic<int>>(0);
  std::unique_ptr<AgentConnection> connection;

  AgentConnection* operator->() const { return connection.get(); }
};

/// Collects log lines.
struct LogLines {
  std::mutex mutex;
  std::vector<std::string> lines;

  Log log() {
    return Log(LogLevel::kDebug, [this](LogLevel, std::string_view line) {
      const std::lock_guard lock(mutex);
      lines.emplace_back(line);
    });
  }
};

/// A service with a clock of its own, and a check at the end that nothing was leaked.
class ServiceTest : public ::testing::Test {
 protected:
  ServiceTest() : descriptors_before_(open_descriptors()) {
    options_.now = [this] { return now(); };
    options_.observer = [this](const SessionRecord& record) {
      const std::lock_guard lock(records_mutex_);
      records_.push_back(record);
    };
  }

  void TearDown() override {
    const std::size_t relays = service_ ? service_->counters().relays_now : 0;
    if (service_ && relays == 0) {
      const Counters counters = service_->counters();
      if (service_->live() == 0) {
        EXPECT_EQ(counters.memory_now, 0u);
        EXPECT_EQ(counters.pending_now, 0u);
        EXPECT_EQ(counters.in_flight_now, 0u);
      }
    }
    agents_.clear();
    service_.reset();
    sockets_.clear();
    // Every request has ended in exactly one way, and was released after it.
    for (const auto& seen : seen_) {
      EXPECT_LE(seen->completions, 1);
      EXPECT_EQ(seen->releases, 1);
      EXPECT_FALSE(seen->released_first);
    }
    seen_.clear();
    EXPECT_TRUE(reaper_.wait_idle(soon()));
    EXPECT_EQ(open_descriptors(), descriptors_before_) << "descriptors were leaked";
  }

  Service& service() {
    if (!service_) service_ = std::make_unique<Service>(options_, log_lines_.log(), reaper_);
    return *service_;
  }

  TimePoint now() const { return start_ + std::chrono::milliseconds(elapsed_ms_.load()); }
  void pass(milliseconds time) { elapsed_ms_ += time.count(); }

  /// A connected socket of its own; stays open until the end of the test.
  int socket(const char* peer = "127.0.0.1") {
    sockets_.push_back(tcp_pair(peer));
    return sockets_.back().server.get();
  }
  TcpPair& last_pair() { return sockets_.back(); }

  /// A valid submission of `fd`, which stays the caller's. `seen` hears of its end.
  static Submission submission(int fd, const std::shared_ptr<Seen>& seen) {
    Submission submission;
    submission.socket = duplicate(fd);
    submission.message_type = protocol::MessageType::kClienthello;
    submission.auth_mode = protocol::Auth::kUnauth;
    submission.complete = [seen](Completion completion) {
      const std::lock_guard lock(seen->mutex);
      seen->completion = std::move(completion);
      ++seen->completions;
    };
    submission.release = [seen] { ++seen->releases; };
    return submission;
  }

  std::shared_ptr<Seen> new_seen() { return std::make_shared<Seen>(); }

  /// Submits what is valid otherwise; a success is checked for exactly one end at the end.
  Result<std::uint64_t> submit(Submission submission, const std::shared_ptr<Seen>& seen) {
    if (submission.complete == nullptr) return service().submit(std::move(submission), now());
    submission.complete = [seen, inner = std::move(submission.complete)](Completion completion) {
      if (seen->releases != 0) seen->released_first = true;
      inner(std::move(completion));
    };
    Result<std::uint64_t> id = service().submit(std::move(submission), now());
    if (id) seen_.push_back(seen);
    return id;
  }

  struct Submitted {
    std::uint64_t id = 0;
    std::shared_ptr<Seen> seen;
  };
  /// Submits `fd`, or a socket of its own; must succeed.
  Submitted submit_one(int fd = -1,
                       const std::function<void(Submission&)>& change = [](Submission&) {}) {
    auto seen = new_seen();
    Submission one = submission(fd >= 0 ? fd : socket(), seen);
    change(one);
    Result<std::uint64_t> id = submit(std::move(one), seen);
    EXPECT_TRUE(id) << (id ? "" : id.error().detail);
    return {id.value_or(0), seen};
  }
  /// What submitting `fd` fails with; 0 for success.
  int submit_errno(int fd, const std::function<void(Submission&)>& change = [](Submission&) {}) {
    auto seen = new_seen();
    Submission one = submission(fd, seen);
    change(one);
    const Result<std::uint64_t> id = submit(std::move(one), seen);
    if (!id) {
      EXPECT_EQ(seen->completions, 0);
      EXPECT_EQ(seen->releases, 0) << "after a failed submit the cookie stays the caller's";
    }
    return id ? 0 : id.error().number();
  }

  TestAgent connect(AgentInfo info = {.pid = 1, .uid = 0, .netns_cookie = 0, .own_worker = true}) {
    TestAgent agent;
    agent.connection = service().connect_agent(
        info, [readies = agent.readies](std::uint32_t) { ++*readies; });
    return agent;
  }
  /// An agent that listens for `handler_class` everywhere.
  TestAgent listen(std::uint32_t handler_class = kTlshd) {
    TestAgent agent = connect();
    const auto subscribed =
        agent->subscribe({.handler_classes = {handler_class}, .every_netns = true});
    EXPECT_TRUE(subscribed);
    return agent;
  }

  struct Taken {
    std::int32_t token = 0;
    std::uint64_t id = 0;
    UniqueFd socket;
    service::AcceptedParameters parameters;
  };
  /// Takes the next request and keeps it; must succeed.
  static Taken take(const TestAgent& agent, std::uint32_t handler_class = kTlshd) {
    Result<Accepted> accepted = agent->accept(handler_class);
    EXPECT_TRUE(accepted) << (accepted ? "" : accepted.error().detail);
    if (!accepted) return {};
    Taken taken{accepted->token(), accepted->parameters().request_id, accepted->take_socket(),
                accepted->parameters()};
    EXPECT_TRUE(accepted->hand_over());
    return taken;
  }
  static int accept_errno(const TestAgent& agent, std::uint32_t handler_class = kTlshd) {
    const Result<Accepted> accepted = agent->accept(handler_class);
    return accepted ? 0 : accepted.error().number();
  }

  static DoneReport report(std::optional<std::uint32_t> status = 0) {
    DoneReport report;
    report.status = status;
    return report;
  }
  static int done_errno(const TestAgent& agent, std::int32_t token,
                        std::optional<std::uint32_t> status = 0) {
    const Result<void> result = agent->done(token, report(status));
    return result ? 0 : result.error().number();
  }

  std::vector<SessionRecord> records() {
    const std::lock_guard lock(records_mutex_);
    return records_;
  }

  Options options_;  // before the first use of service()
  LogLines log_lines_;
  Reaper reaper_;

 private:
  const std::size_t descriptors_before_;
  const TimePoint start_ = TimePoint(std::chrono::hours(1));
  std::atomic<std::int64_t> elapsed_ms_{0};
  std::mutex records_mutex_;
  std::vector<SessionRecord> records_;
  std::vector<TcpPair> sockets_;
  std::vector<std::shared_ptr<Seen>> seen_;
  std::vector<TestAgent> agents_;
  std::unique_ptr<Service> service_;
};

}  // namespace handshake::testing
