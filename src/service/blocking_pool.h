// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/clock.h"

namespace handshake::service {

/// Threads for system calls that may block for as long as a stranger likes (REQUIREMENTS.md
/// R1.15). Before a thread enters a job it makes sure that another one is ready for what comes
/// next, so that a job which blocks delays no other. Jobs belong to owners (user ids, say): one
/// owner's blocked jobs occupy a bounded share of the threads and leave the rest to others.
///
/// Any thread may call every member.
class BlockingPool {
 public:
  using Owner = std::uint32_t;

  struct Options {
    /// How many jobs may block at the same time, of everybody and of one owner, before others
    /// have to wait for one to end.
    unsigned max_threads = 128;
    unsigned max_threads_per_owner = 32;
    /// A thread beyond the first that had nothing to do for this long ends.
    milliseconds idle_time{10'000};
    /// How long the destructor waits for what is queued and under way. What blocks longer is left
    /// to its thread, which touches nothing of the program's but its job.
    milliseconds farewell{1'000};
  };

  struct Counts {
    std::uint64_t done = 0;
    std::size_t waiting = 0;  ///< queued, nobody at it yet
    std::size_t running = 0;  ///< some of them blocked, perhaps
    unsigned threads = 0;
  };

  /// Run once on one of the pool's threads and destroyed there.
  struct Job {
    virtual ~Job() = default;
    virtual void run() noexcept = 0;

   private:
    friend class BlockingPool;
    Job* next_ = nullptr;
  };

  /// Starts the first thread. Throws std::system_error when there can be none.
  explicit BlockingPool(Options options);
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  /// Returns at once and never fails. First in, first out for one owner; owners take turns.
  void submit(std::unique_ptr<Job> job, Owner owner) noexcept;

  [[nodiscard]] Counts counts() const;
  /// Jobs of one owner that have not ended.
  [[nodiscard]] std::size_t outstanding(Owner owner) const;
  /// Waits until nothing is queued or running. False when `deadline` came first.
  [[nodiscard]] bool wait_idle(TimePoint deadline) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace handshake::service
