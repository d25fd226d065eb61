// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace handshake {

/// One thread's loop over epoll, timers and posted work. It never changes a descriptor's flags
/// (docs/decisions/001-own-event-loop.md): it only reports readiness.
///
/// Everything but post() and stop() belongs to the thread that calls run(). Handlers may create
/// and destroy watches and timers, their own included; the loop never calls a handler whose watch
/// or timer is gone. Watches and timers must not outlive the loop.
class EventLoop {
 public:
  /// Readiness as epoll reports it (EPOLLIN, EPOLLOUT, EPOLLHUP, ...).
  using ReadyHandler = std::function<void(std::uint32_t events)>;
  using Work = std::function<void()>;

  /// Registration of one descriptor. Destroy it before the descriptor is closed: epoll goes on
  /// reporting a description that another process still holds.
  class Watch {
   public:
    Watch() = default;
    Watch(Watch&& other) noexcept;
    Watch& operator=(Watch&& other) noexcept;
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    ~Watch();

    /// Replaces the events waited for; errors and hang-ups are always reported unless `events`
    /// is 0, which deregisters the descriptor until it is changed again.
    [[nodiscard]] Result<void> set_events(std::uint32_t events);
    [[nodiscard]] explicit operator bool() const noexcept { return loop_ != nullptr; }
    void reset() noexcept;

   private:
    friend class EventLoop;
    EventLoop* loop_ = nullptr;
    std::uint64_t id_ = 0;
  };

  /// A single shot at a deadline; destroying it cancels it.
  class Timer {
   public:
    Timer() = default;
    Timer(Timer&& other) noexcept;
    Timer& operator=(Timer&& other) noexcept;
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    ~Timer();
    /// True while it has not fired.
    [[nodiscard]] explicit operator bool() const noexcept;
    void reset() noexcept;

   private:
    friend class EventLoop;
    EventLoop* loop_ = nullptr;
    std::pair<TimePoint, std::uint64_t> key_;
  };

  /// Errors: EMFILE, ENFILE, ENOMEM from epoll_create1(2) and eventfd(2).
  [[nodiscard]] static Result<std::unique_ptr<EventLoop>> create();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop();

  /// Level-triggered. Borrows `fd`. Errors: EPERM (a regular file), ENOSPC, ENOMEM, EEXIST.
  [[nodiscard]] Result<Watch> watch(int fd, std::uint32_t events, ReadyHandler handler);
  [[nodiscard]] Timer at(TimePoint deadline, Work work);
  [[nodiscard]] Timer after(Clock::duration delay, Work work);

  /// Runs `work` on the loop's thread, in the order posted. Any thread.
  void post(Work work);
  /// Makes run() return after the handler under way. Any thread.
  void stop();
  /// Dispatches until stop(). Errors: those of epoll_wait(2) other than EINTR.
  [[nodiscard]] Result<void> run();

 private:
  struct Registration {
    int fd;
    std::uint32_t events;
    std::shared_ptr<ReadyHandler> handler;
  };
  using TimerKey = std::pair<TimePoint, std::uint64_t>;

  EventLoop(UniqueFd epoll, UniqueFd wake);
  void wake() const noexcept;
  void run_posted();
  void run_timers();
  [[nodiscard]] int wait_milliseconds() const;

  UniqueFd epoll_;
  UniqueFd wake_;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, Registration> watches_;
  std::map<TimerKey, Work> timers_;
  std::mutex mutex_;              // guards posted_ and stopping_
  std::vector<Work> posted_;
  bool stopping_ = false;
};

}  // namespace handshake
