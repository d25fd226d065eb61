// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

// Names for clang's thread-safety analysis (-Wthread-safety); nothing elsewhere.
#if defined(__clang__)
#define HS_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define HS_THREAD_ATTRIBUTE(x)
#endif
#define HS_CAPABILITY(name) HS_THREAD_ATTRIBUTE(capability(name))
#define HS_SCOPED_CAPABILITY HS_THREAD_ATTRIBUTE(scoped_lockable)
#define HS_GUARDED_BY(mutex) HS_THREAD_ATTRIBUTE(guarded_by(mutex))
#define HS_REQUIRES(...) HS_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define HS_EXCLUDES(...) HS_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define HS_ACQUIRE(...) HS_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define HS_RELEASE(...) HS_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))

namespace handshake {

/// std::mutex that the compiler checks the use of.
class HS_CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() HS_ACQUIRE() { mutex_.lock(); }
  void unlock() HS_RELEASE() { mutex_.unlock(); }

 private:
  friend class Condition;
  std::mutex mutex_;
};

/// Holds a Mutex for a scope; may be let go and taken again inside it.
class HS_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) HS_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() HS_RELEASE() {
    if (held_) mutex_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void lock() HS_ACQUIRE() {
    mutex_.lock();
    held_ = true;
  }
  void unlock() HS_RELEASE() {
    held_ = false;
    mutex_.unlock();
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

/// std::condition_variable over a Mutex. Waits may wake for no reason: ask again in a loop.
class Condition {
 public:
  void notify_one() noexcept { condition_.notify_one(); }
  void notify_all() noexcept { condition_.notify_all(); }

  void wait(Mutex& mutex) HS_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  /// False once `deadline` has passed.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point deadline)
      HS_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const std::cv_status status = condition_.wait_until(lock, deadline);
    lock.release();
    return status == std::cv_status::no_timeout;
  }

 private:
  std::condition_variable condition_;
};

}  // namespace handshake
