// SPDX-License-Identifier: Apache-2.0
#include "base/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace handshake {

namespace {
constexpr std::uint64_t kWakeId = 0;
}

EventLoop::Watch::Watch(Watch&& other) noexcept
    : loop_(std::exchange(other.loop_, nullptr)), id_(other.id_) {}

EventLoop::Watch& EventLoop::Watch::operator=(Watch&& other) noexcept {
  if (this != &other) {
    reset();
    loop_ = std::exchange(other.loop_, nullptr);
    id_ = other.id_;
  }
  return *this;
}

EventLoop::Watch::~Watch() { reset(); }

void EventLoop::Watch::reset() noexcept {
  if (EventLoop* loop = std::exchange(loop_, nullptr)) {
    const auto found = loop->watches_.find(id_);
    if (found->second.events != 0) {
      ::epoll_ctl(loop->epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr);
    }
    loop->watches_.erase(found);
  }
}

Result<void> EventLoop::Watch::set_events(std::uint32_t events) {
  Registration& registration = loop_->watches_.at(id_);
  if (registration.events == events) return {};
  const int operation = events == 0                ? EPOLL_CTL_DEL
                        : registration.events == 0 ? EPOLL_CTL_ADD
                                                   : EPOLL_CTL_MOD;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id_;
  if (::epoll_ctl(loop_->epoll_.get(), operation, registration.fd, &event) != 0) {
    return fail_errno("epoll_ctl");
  }
  registration.events = events;
  return {};
}

EventLoop::Timer::Timer(Timer&& other) noexcept
    : loop_(std::exchange(other.loop_, nullptr)), key_(other.key_) {}

EventLoop::Timer& EventLoop::Timer::operator=(Timer&& other) noexcept {
  if (this != &other) {
    reset();
    loop_ = std::exchange(other.loop_, nullptr);
    key_ = other.key_;
  }
  return *this;
}

EventLoop::Timer::~Timer() { reset(); }

EventLoop::Timer::operator bool() const noexcept {
  return loop_ != nullptr && loop_->timers_.contains(key_);
}

void EventLoop::Timer::reset() noexcept {
  if (EventLoop* loop = std::exchange(loop_, nullptr)) loop->timers_.erase(key_);
}

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno("epoll_create1");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno("eventfd");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = kWakeId;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return fail_errno("epoll_ctl");
  }
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll), std::move(wake)));
}

EventLoop::EventLoop(UniqueFd epoll, UniqueFd wake)
    : epoll_(std::move(epoll)), wake_(std::move(wake)) {}

EventLoop::~EventLoop() = default;

Result<EventLoop::Watch> EventLoop::watch(int fd, std::uint32_t events, ReadyHandler handler) {
  const std::uint64_t id = next_id_++;
  if (events != 0) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = id;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno("epoll_ctl");
  }
  watches_.emplace(id, Registration{fd, events, std::make_shared<ReadyHandler>(std::move(handler))});
  Watch watch;
  watch.loop_ = this;
  watch.id_ = id;
  return watch;
}

EventLoop::Timer EventLoop::at(TimePoint deadline, Work work) {
  Timer timer;
  timer.loop_ = this;
  timer.key_ = TimerKey{deadline, next_id_++};
  timers_.emplace(timer.key_, std::move(work));
  return timer;
}

EventLoop::Timer EventLoop::after(Clock::duration delay, Work work) {
  return at(Clock::now() + delay, std::move(work));
}

void EventLoop::wake() const noexcept {
  const std::uint64_t one = 1;
  // The only failure is a counter that is already full, and then the loop is awake anyway.
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

void EventLoop::post(Work work) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(work));
  }
  wake();
}

void EventLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
}

void EventLoop::run_posted() {
  std::vector<Work> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(posted_);
  }
  for (Work& work : batch) work();
}

void EventLoop::run_timers() {
  // Only what is due now: a handler that rearms itself for the past must not starve the sockets.
  const TimerKey due{Clock::now(), std::numeric_limits<std::uint64_t>::max()};
  const std::uint64_t newest = next_id_;
  while (!timers_.empty() && timers_.begin()->first <= due &&
         timers_.begin()->first.second < newest) {
    Work work = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    work();
  }
}

int EventLoop::wait_milliseconds() const {
  if (timers_.empty()) return -1;
  const TimePoint deadline = timers_.begin()->first.first;
  const TimePoint now = Clock::now();
  // Compared first: the distance to TimePoint::min() does not fit.
  if (deadline <= now) return 0;
  const auto whole = std::chrono::ceil<milliseconds>(deadline - now).count();
  return static_cast<int>(std::min<decltype(whole)>(whole, std::numeric_limits<int>::max()));
}

Result<void> EventLoop::run() {
  std::array<epoll_event, 64> events;
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      if (std::exchange(stopping_, false)) return {};
    }
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   wait_milliseconds());
    if (count < 0 && errno != EINTR) return fail_errno("epoll_wait");
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (event.data.u64 == kWakeId) {
        std::uint64_t woken = 0;
        [[maybe_unused]] const auto got = ::read(wake_.get(), &woken, sizeof woken);
        run_posted();
        continue;
      }
      const auto found = watches_.find(event.data.u64);
      if (found == watches_.end()) continue;
      const std::shared_ptr<ReadyHandler> handler = found->second.handler;
      (*handler)(event.events);
    }
    run_timers();
  }
}

}  // namespace handshake
