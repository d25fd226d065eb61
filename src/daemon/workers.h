// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "config/settings.h"

namespace handshake::daemon {

/// Descriptors that a worker finds open when it starts, besides standard error.
inline constexpr int kWorkerChannelFd = 3;
inline constexpr int kWorkerSettingsFd = 4;

/// Starts, watches and replaces the worker processes (fork and exec of this program). Belongs to
/// the loop's thread.
///
/// A generation is one settings snapshot: start_generation() starts new workers and tells `retire`
/// for each old one; who retires it decides when it has nothing left and calls dismiss().
class Workers {
 public:
  using WorkerId = std::uint64_t;
  struct Handlers {
    /// A worker runs; `channel` is our end of its SEQPACKET pair.
    std::function<void(WorkerId, pid_t, UniqueFd channel)> started;
    /// It should get no new requests.
    std::function<void(WorkerId)> retire;
    /// It is gone, however that came.
    std::function<void(WorkerId)> ended;
  };

  /// `program` is executed with `arguments`.
  Workers(EventLoop& loop, Log log, std::string program, std::vector<std::string> arguments,
          Handlers handlers);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// Retires the present workers and starts `count` with these settings. Errors: those of
  /// posix_spawn(3), memfd_create(2), socketpair(2) for the first; later failures are retried.
  [[nodiscard]] Result<void> start_generation(std::shared_ptr<const config::Settings> settings,
                                              unsigned count);
  /// Ends a worker that has nothing left to do (SIGTERM).
  void dismiss(WorkerId id);
  /// No more replacements; every worker is ended.
  void stop();
  [[nodiscard]] bool empty() const noexcept { return workers_.empty(); }

 private:
  struct Worker {
    WorkerId id = 0;
    pid_t pid = 0;
    std::uint64_t generation = 0;
    TimePoint started;
    bool dismissed = false;
    UniqueFd pidfd;
    EventLoop::Watch watch;
  };
  [[nodiscard]] Result<void> start_one();
  void replace_later();
  void on_exit(WorkerId id);

  EventLoop& loop_;
  Log log_;
  std::string program_;
  std::vector<std::string> arguments_;
  Handlers handlers_;
  std::list<Worker> workers_;
  std::shared_ptr<const config::Settings> settings_;
  std::uint64_t generation_ = 0;
  unsigned wanted_ = 0;
  WorkerId next_id_ = 1;
  bool stopping_ = false;
  milliseconds backoff_{0};
  EventLoop::Timer restart_;
};

}  // namespace handshake::daemon
