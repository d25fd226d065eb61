// SPDX-License-Identifier: Apache-2.0
#include "service/blocking_pool.h"

#include <pthread.h>
#include <signal.h>

#include <map>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "base/mutex.h"
#include "service/intrusive_list.h"

namespace handshake::service {

// Shared with the threads, so that one which is stuck can be left behind.
struct BlockingPool::State {
  /// One owner's jobs.
  struct Lane {
    Owner owner = 0;
    Job* first = nullptr;
    Job* last = nullptr;
    std::size_t waiting = 0;
    unsigned running = 0;
    bool listed = false;  ///< in `ready`
    Links<Lane> links;
  };
  using Lanes = std::map<Owner, Lane>;

  explicit State(Options given) : options(given) { static_cast<void>(lanes[kNobody]); }
  ~State() {
    for (auto& [owner, lane] : lanes) {
      while (lane.first != nullptr) {
        const std::unique_ptr<Job> unrun(std::exchange(lane.first, lane.first->next_));
      }
    }
  }

  /// What a thread does. It owns a reference: it may outlive the pool.
  static void run(const std::shared_ptr<State>& state);
  static bool start(const std::shared_ptr<State>& state) noexcept;

  void list_if_ready(Lane& lane) HS_REQUIRES(mutex) {
    if (lane.listed || lane.waiting == 0 || lane.running >= options.max_threads_per_owner) return;
    ready.push_back(lane);
    lane.listed = true;
  }
  void push(Job* job, Owner owner) HS_REQUIRES(mutex);
  std::unique_ptr<Job> pop(Lane& lane) HS_REQUIRES(mutex);
  void ended(Lane& lane) HS_REQUIRES(mutex);
  /// False: this thread is to end.
  bool wait_for_work() HS_REQUIRES(mutex);

  /// The lane that is always there, for jobs whose own could not be made.
  static constexpr Owner kNobody = 0;

  const Options options;
  Mutex mutex;
  Condition work;   // a lane became ready, or stopping
  Condition quiet;  // a job or a thread ended
  Lanes lanes HS_GUARDED_BY(mutex);
  /// Lanes with something to do that are below their share, the one whose turn is next first.
  IntrusiveList<Lane, &Lane::links> ready HS_GUARDED_BY(mutex);
  std::size_t waiting HS_GUARDED_BY(mutex) = 0;
  std::size_t running HS_GUARDED_BY(mutex) = 0;
  unsigned threads HS_GUARDED_BY(mutex) = 0;
  unsigned idle HS_GUARDED_BY(mutex) = 0;
  std::uint64_t done HS_GUARDED_BY(mutex) = 0;
  bool stopping HS_GUARDED_BY(mutex) = false;
};

void BlockingPool::State::push(Job* job, Owner owner) {
  Lane* lane = nullptr;
  try {
    lane = &lanes[owner];
    lane->owner = owner;
  } catch (const std::bad_alloc&) {
    lane = &lanes.find(kNobody)->second;
  }
  (lane->last != nullptr ? lane->last->next_ : lane->first) = job;
  lane->last = job;
  ++lane->waiting;
  ++waiting;
  list_if_ready(*lane);
}

std::unique_ptr<BlockingPool::Job> BlockingPool::State::pop(Lane& lane) {
  ready.remove(lane);
  lane.listed = false;
  std::unique_ptr<Job> job(lane.first);
  lane.first = job->next_;
  if (lane.first == nullptr) lane.last = nullptr;
  --lane.waiting;
  --waiting;
  ++lane.running;
  ++running;
  list_if_ready(lane);
  return job;
}

void BlockingPool::State::ended(Lane& lane) {
  --lane.running;
  --running;
  ++done;
  list_if_ready(lane);
  if (lane.waiting == 0 && lane.running == 0 && lane.owner != kNobody) lanes.erase(lane.owner);
}

bool BlockingPool::State::wait_for_work() {
  ++idle;
  const TimePoint until = Clock::now() + options.idle_time;
  bool on_time = true;
  while (ready.empty() && !stopping) {
    if (idle == 1) {
      work.wait(mutex);
    } else if (!on_time) {
      break;
    } else {
      on_time = work.wait_until(mutex, until);
    }
  }
  --idle;
  return !ready.empty();
}

void BlockingPool::State::run(const std::shared_ptr<State>& state) {
  // The program's signals are for its own threads.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);

  State& s = *state;
  MutexLock lock(s.mutex);
  while (s.wait_for_work()) {
    Lane& lane = *s.ready.front();
    std::unique_ptr<Job> job = s.pop(lane);
    const bool alone = s.idle == 0 && s.threads < s.options.max_threads;
    if (alone) ++s.threads;
    lock.unlock();
    // Should there be no thread to be had, this one comes back for what is queued.
    const bool started = !alone || start(state);
    job->run();
    job.reset();
    lock.lock();
    if (!started) --s.threads;
    s.ended(lane);
    s.quiet.notify_all();
  }
  --s.threads;
  s.quiet.notify_all();
}

bool BlockingPool::State::start(const std::shared_ptr<State>& state) noexcept {
  try {
    std::thread([state] { run(state); }).detach();
  } catch (...) {
    return false;
  }
  return true;
}

BlockingPool::BlockingPool(Options options) : state_(std::make_shared<State>(options)) {
  {
    const MutexLock lock(state_->mutex);
    state_->threads = 1;
  }
  if (!State::start(state_)) {
    throw std::system_error(EAGAIN, std::generic_category(), "start a thread for blocking calls");
  }
}

BlockingPool::~BlockingPool() {
  const TimePoint deadline = Clock::now() + state_->options.farewell;
  MutexLock lock(state_->mutex);
  state_->stopping = true;
  state_->work.notify_all();
  while (state_->threads > 0 && state_->quiet.wait_until(state_->mutex, deadline)) {
  }
}

void BlockingPool::submit(std::unique_ptr<Job> job, Owner owner) noexcept {
  {
    const MutexLock lock(state_->mutex);
    state_->push(job.release(), owner);
  }
  state_->work.notify_one();
}

BlockingPool::Counts BlockingPool::counts() const {
  const MutexLock lock(state_->mutex);
  return Counts{state_->done, state_->waiting, state_->running, state_->threads};
}

std::size_t BlockingPool::outstanding(Owner owner) const {
  const MutexLock lock(state_->mutex);
  const auto lane = state_->lanes.find(owner);
  return lane == state_->lanes.end() ? 0 : lane->second.waiting + lane->second.running;
}

bool BlockingPool::wait_idle(TimePoint deadline) const {
  const MutexLock lock(state_->mutex);
  while (state_->waiting > 0 || state_->running > 0) {
    if (!state_->quiet.wait_until(state_->mutex, deadline)) {
      return state_->waiting == 0 && state_->running == 0;
    }
  }
  return true;
}

}  // namespace handshake::service
