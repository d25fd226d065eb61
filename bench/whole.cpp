// SPDX-License-Identifier: Apache-2.0
#include "whole.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <thread>

#include <fmt/format.h>

#include "handshake/handshake.h"

extern "C" char** environ;  // NOLINT: POSIX's own name

namespace handshake::bench {

namespace {

constexpr std::chrono::seconds kStartDeadline{20};
constexpr std::chrono::seconds kRoundDeadline{60};

Result<void> write_configuration(const DaemonPlan& plan) {
  std::ofstream file(plan.directory + "/handshaked.conf");
  file << "[debug]\nloglevel=0\n";
  for (const char* role : {"client", "server"}) {
    file << fmt::format(
        "[credential {0}]\nrole={0}\nx509.certificate={1}/{0}-ecdsa.pem\nx509.private_key={1}/{0}-ecdsa.key\n"
        "x509.truststore={1}/ca.pem\nallow.users={2}\n",
        role, plan.pki, ::getuid());
  }
  if (!file.flush()) return fail(ErrorKind::kInputOutput, "write " + plan.directory + "/handshaked.conf");
  return {};
}

double microseconds(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

}  // namespace

Result<std::unique_ptr<Daemon>> Daemon::start(const DaemonPlan& plan) {
  auto daemon = std::unique_ptr<Daemon>(new Daemon);
  daemon->directory_ = plan.directory;
  if (::mkdir((plan.directory + "/run").c_str(), 0700) != 0) return fail_errno("mkdir " + plan.directory + "/run");
  if (auto written = write_configuration(plan); !written) return tl::unexpected(written.error());

  std::vector<std::string> words{plan.program,    "--config",
                                 plan.directory + "/handshaked.conf", "--runtime-dir",
                                 plan.directory + "/run", "--workers", std::to_string(plan.workers)};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::string preload = "LD_PRELOAD=" + plan.preload;
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, "LD_PRELOAD=", 11) != 0) environment.push_back(*entry);
  }
  if (!plan.preload.empty()) environment.push_back(preload.data());
  environment.push_back(nullptr);

  const std::string log = plan.directory + "/handshaked.log";
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  const int failed =
      ::posix_spawn(&daemon->pid_, plan.program.c_str(), &actions, nullptr, argv.data(), environment.data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    daemon->pid_ = 0;
    return fail_errno(failed, "start " + plan.program);
  }

  // Ready is when it answers and has its workers.
  const TimePoint deadline = Clock::now() + kStartDeadline;
  while (Clock::now() < deadline) {
    if (::waitpid(daemon->pid_, nullptr, WNOHANG) != 0) {
      daemon->pid_ = 0;
      return fail(ErrorKind::kInputOutput, plan.program + " ended at once, see " + log);
    }
    hs_context* context = nullptr;
    if (hs_context_create(daemon->consumer_socket().c_str(), &context) == 0) {
      hs_context_destroy(context);
      const auto workers = children_of(daemon->pid_);
      if (workers.size() >= plan.workers) {
        daemon->processes_ = workers;
        daemon->processes_.push_back(daemon->pid_);
        return daemon;
      }
    }
    std::this_thread::sleep_for(milliseconds(20));
  }
  return fail(ErrorKind::kTimedOut, plan.program + " is not ready, see " + log);
}

Daemon::~Daemon() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  ::waitpid(pid_, nullptr, 0);
}

namespace {

using ContextPtr = std::unique_ptr<hs_context, decltype(&hs_context_destroy)>;

class WholePath final : public Variant {
 public:
  WholePath(const Daemon& daemon, bool relay, ContextPtr context)
      : daemon_(daemon), relay_(relay), context_(std::move(context)) {}

  std::string name() const override { return relay_ ? "whole path, relay" : "whole path"; }
  Result<Round> run(const Load& load, std::vector<TcpPair>& pairs) override;

 private:
  /// A handshake under way: its two completions find it through the cookie.
  struct Slot {
    WholePath* owner = nullptr;
    int ends_left = 0;
    TimePoint start;
  };

  static void on_done(void* cookie, const hs_result* result);
  [[nodiscard]] Result<void> submit(Slot& slot, const TcpPair& pair);
  [[nodiscard]] Nanoseconds all_cpu() const;
  [[nodiscard]] std::uint64_t all_switches() const;

  const Daemon& daemon_;
  const bool relay_;
  const ContextPtr context_;
  Load load_;
  std::vector<double> latencies_us_;
  std::vector<Slot*> free_;
  std::string failure_;
};

void WholePath::on_done(void* cookie, const hs_result* result) {
  auto* slot = static_cast<Slot*>(cookie);
  WholePath& self = *slot->owner;
  if (hs_result_status(result) != 0) {
    self.failure_ = fmt::format("{}: {}", errno_name(-hs_result_status(result)), hs_result_reason(result));
  }
  if (--slot->ends_left > 0) return;
  self.latencies_us_.push_back(microseconds(Clock::now() - slot->start));
  self.free_.push_back(slot);
}

Result<void> WholePath::submit(Slot& slot, const TcpPair& pair) {
  slot.ends_left = 2;
  slot.start = Clock::now();
  hs_options options = HS_OPTIONS_INIT;
  options.relay = relay_ ? HS_RELAY_ALWAYS : HS_RELAY_NEVER;
  options.credential = "server";
  options.client_auth = load_.mutual ? HS_CLIENT_AUTH_REQUIRE : HS_CLIENT_AUTH_REQUEST;
  int status = hs_server_hello_x509(context_.get(), pair.server.get(), &options, on_done, &slot, nullptr, nullptr);
  if (status != 0) return fail_errno(-status, fmt::format("submit: {}", hs_last_error()));
  options.credential = "client";
  options.peername = "localhost";
  options.client_auth = HS_CLIENT_AUTH_DEFAULT;
  const auto client = load_.mutual ? hs_client_hello_x509 : hs_client_hello_anon;
  status = client(context_.get(), pair.client.get(), &options, on_done, &slot, nullptr, nullptr);
  if (status != 0) return fail_errno(-status, fmt::format("submit: {}", hs_last_error()));
  return {};
}

Nanoseconds WholePath::all_cpu() const {
  Nanoseconds total = own_cpu_time();
  for (const pid_t process : daemon_.processes()) total += cpu_time(process);
  return total;
}

std::uint64_t WholePath::all_switches() const {
  std::uint64_t total = voluntary_switches(::getpid());
  for (const pid_t process : daemon_.processes()) total += voluntary_switches(process);
  return total;
}

Result<Round> WholePath::run(const Load& load, std::vector<TcpPair>& pairs) {
  load_ = load;
  latencies_us_.clear();
  latencies_us_.reserve(pairs.size());
  std::vector<Slot> slots(std::min(load.concurrency, pairs.size()));
  free_.clear();
  for (Slot& slot : slots) {
    slot.owner = this;
    free_.push_back(&slot);
  }
  std::size_t next = 0;

  const auto switches = all_switches();
  const Nanoseconds cpu = all_cpu();
  const TimePoint start = Clock::now();
  while (latencies_us_.size() < pairs.size()) {
    while (!free_.empty() && next < pairs.size()) {
      Slot& slot = *free_.back();
      free_.pop_back();
      if (auto submitted = submit(slot, pairs[next++]); !submitted) return tl::unexpected(submitted.error());
    }
    pollfd wait{hs_fd(context_.get()), POLLIN, 0};
    if (::poll(&wait, 1, static_cast<int>(milliseconds(kRoundDeadline).count())) == 0) {
      return fail(ErrorKind::kTimedOut, "the daemon has completed nothing for a minute");
    }
    hs_dispatch(context_.get());
    if (!failure_.empty()) return fail(ErrorKind::kInputOutput, failure_);
  }
  const auto count = static_cast<double>(pairs.size());
  Round round;
  round.wall_us = microseconds(Clock::now() - start) / count;
  // What the daemon does after the last completion (closing, logging) belongs to the round too.
  std::this_thread::sleep_for(milliseconds(20));
  round.cpu_us = std::chrono::duration<double, std::micro>(all_cpu() - cpu).count() / count;
  round.switches = static_cast<double>(all_switches() - switches) / count;
  round.latencies_us = std::move(latencies_us_);
  return round;
}

}  // namespace

Result<std::unique_ptr<Variant>> whole_path(const Daemon& daemon, bool relay) {
  hs_context* context = nullptr;
  if (const int status = hs_context_create(daemon.consumer_socket().c_str(), &context); status != 0) {
    return fail_errno(-status, "connect to handshaked");
  }
  return std::make_unique<WholePath>(daemon, relay, ContextPtr(context, hs_context_destroy));
}

}  // namespace handshake::bench
