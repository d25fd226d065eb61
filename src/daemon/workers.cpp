// SPDX-License-Identifier: Apache-2.0
#include "daemon/workers.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "config/sealed.h"
#include "transport/seqpacket.h"

extern "C" char** environ;  // NOLINT: POSIX's own name

namespace handshake::daemon {

namespace {

/// A worker that lived less than this did not work: its replacement waits longer each time.
constexpr milliseconds kHealthy{1000};
constexpr milliseconds kFirstBackoff{100};
constexpr milliseconds kLongestBackoff{5000};

/// posix_spawn's file actions and attributes, freed.
class SpawnPlan {
 public:
  SpawnPlan() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
  }
  ~SpawnPlan() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  void pass(int fd, int as) { ::posix_spawn_file_actions_adddup2(&actions_, fd, as); }
  /// The child starts with no signal blocked and every disposition as at login.
  void reset_signals() {
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    sigset_t all;
    ::sigfillset(&all);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  [[nodiscard]] Result<pid_t> run(const std::string& program, const std::vector<std::string>& words) {
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    pid_t pid = 0;
    const int failed = ::posix_spawn(&pid, program.c_str(), &actions_, &attributes_, argv.data(), environ);
    if (failed != 0) return fail_errno(failed, fmt::format("start {}", program));
    return pid;
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

/// A copy of `fd` above the numbers the child is given, so that one dup2 cannot overwrite the
/// source of another.
Result<UniqueFd> high_copy(int fd) {
  constexpr int kAbove = 10;
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, kAbove));
  if (!copy) return fail_errno("F_DUPFD_CLOEXEC");
  return copy;
}

}  // namespace

Workers::Workers(EventLoop& loop, Log log, std::string program, std::vector<std::string> arguments,
                 Handlers handlers)
    : loop_(loop),
      log_(std::move(log)),
      program_(std::move(program)),
      arguments_(std::move(arguments)),
      handlers_(std::move(handlers)) {}

Workers::~Workers() {
  for (const Worker& worker : workers_) {
    ::kill(worker.pid, SIGKILL);
    ::waitpid(worker.pid, nullptr, 0);
  }
}

Result<void> Workers::start_generation(std::shared_ptr<const config::Settings> settings,
                                       unsigned count) {
  settings_ = std::move(settings);
  wanted_ = count;
  ++generation_;
  backoff_ = milliseconds(0);
  if (auto first = start_one(); !first) return first;
  for (unsigned i = 1; i < count; ++i) {
    if (auto started = start_one(); !started) {
      log_.error(started.error().detail);
      replace_later();
      break;
    }
  }
  std::vector<WorkerId> old;
  for (const Worker& worker : workers_) {
    if (worker.generation != generation_ && !worker.dismissed) old.push_back(worker.id);
  }
  for (const WorkerId id : old) handlers_.retire(id);
  return {};
}

Result<void> Workers::start_one() {
  auto memory = config::seal(*settings_);
  if (!memory) return tl::unexpected(memory.error());
  auto pair = transport::seqpacket_pair();
  if (!pair) return tl::unexpected(pair.error());
  auto channel = high_copy(pair->second.get());
  if (!channel) return tl::unexpected(channel.error());
  auto settings = high_copy(memory->get());
  if (!settings) return tl::unexpected(settings.error());

  SpawnPlan plan;
  plan.pass(channel->get(), kWorkerChannelFd);
  plan.pass(settings->get(), kWorkerSettingsFd);
  plan.reset_signals();
  const auto pid = plan.run(program_, arguments_);
  if (!pid) return tl::unexpected(pid.error());

  Worker worker;
  worker.id = next_id_++;
  worker.pid = *pid;
  worker.generation = generation_;
  worker.started = Clock::now();
  // glibc 2.36 declares pidfd_open() without C linkage.
  worker.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, *pid, 0)));
  const WorkerId id = worker.id;
  Result<EventLoop::Watch> watch;
  if (!worker.pidfd) {
    watch = fail_errno("pidfd_open");
  } else {
    watch = loop_.watch(worker.pidfd.get(), EPOLLIN, [this, id](std::uint32_t) { on_exit(id); });
  }
  if (!watch) {
    ::kill(*pid, SIGKILL);
    ::waitpid(*pid, nullptr, 0);
    return tl::unexpected(watch.error());
  }
  worker.watch = std::move(*watch);
  workers_.push_back(std::move(worker));
  log_.info(fmt::format("worker={} started", *pid));
  handlers_.started(id, *pid, std::move(pair->first));
  return {};
}

void Workers::on_exit(WorkerId id) {
  const auto found = std::find_if(workers_.begin(), workers_.end(),
                                  [id](const Worker& worker) { return worker.id == id; });
  if (found == workers_.end()) return;
  int status = 0;
  if (::waitpid(found->pid, &status, WNOHANG) == 0) return;
  const bool expected = found->dismissed || stopping_;
  const std::string how = WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status))
                                              : fmt::format("status {}", WEXITSTATUS(status));
  log_.write(expected ? LogLevel::kInfo : LogLevel::kError,
             fmt::format("worker={} ended {}", found->pid, log_field("how", how)));
  const bool current = found->generation == generation_;
  const bool healthy = Clock::now() - found->started >= kHealthy;
  workers_.erase(found);
  handlers_.ended(id);
  if (stopping_ || !current) return;
  if (healthy) {
    backoff_ = milliseconds(0);
  } else {
    backoff_ = std::clamp(backoff_ * 2, kFirstBackoff, kLongestBackoff);
  }
  replace_later();
}

void Workers::replace_later() {
  if (restart_) return;
  restart_ = loop_.after(backoff_, [this] {
    const auto running = [this] {
      return std::count_if(workers_.begin(), workers_.end(), [this](const Worker& worker) {
        return worker.generation == generation_ && !worker.dismissed;
      });
    };
    while (!stopping_ && running() < static_cast<std::ptrdiff_t>(wanted_)) {
      if (auto started = start_one(); !started) {
        log_.error(started.error().detail);
        backoff_ = std::clamp(backoff_ * 2, kFirstBackoff, kLongestBackoff);
        replace_later();
        return;
      }
    }
  });
}

void Workers::dismiss(WorkerId id) {
  for (Worker& worker : workers_) {
    if (worker.id != id || worker.dismissed) continue;
    worker.dismissed = true;
    ::kill(worker.pid, SIGTERM);
  }
}

void Workers::stop() {
  stopping_ = true;
  restart_.reset();
  for (const Worker& worker : workers_) dismiss(worker.id);
}

}  // namespace handshake::daemon
