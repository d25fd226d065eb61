// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "service/blocking_pool.h"

namespace handshake::service {

/// Closes descriptors that somebody else chose. close(2) of a socket with SO_LINGER and a full
/// send queue, or of a file on FUSE, blocks for as long as its maker likes (REQUIREMENTS.md
/// R1.15); here it blocks a thread that has nothing else to do, and no other close.
///
/// Any thread may call every member. Must outlive every service that uses it.
class Reaper {
 public:
  using Options = BlockingPool::Options;
  /// Whose descriptor it is: a user id. One owner's blocked closes delay at most his own.
  using Owner = BlockingPool::Owner;

  struct Counts {
    std::uint64_t closed = 0;         ///< descriptors closed so far
    std::size_t waiting = 0;          ///< queued, nobody at it yet
    std::size_t closing = 0;          ///< inside close(2) now
    unsigned threads = 0;             ///< alive now
    std::uint64_t closed_inline = 0;  ///< closed on the caller's thread, memory being out
  };

  /// Room for one close, so that it needs no memory when its time comes.
  class Ticket {
   public:
    Ticket() = default;

   private:
    friend class Reaper;
    struct Close;
    struct Delete {
      void operator()(Close* job) const noexcept;
    };
    std::unique_ptr<Close, Delete> job_;
  };

  /// Starts the first thread. Throws std::system_error when there can be none.
  explicit Reaper(const Options& options = Options{}) : pool_(options) {}

  /// Takes `fd` and returns at once; nothing happens for an empty one. Never fails: should memory
  /// be out, it closes in place.
  void close(UniqueFd fd, Owner owner = 0) noexcept;

  /// Throws std::bad_alloc.
  [[nodiscard]] Ticket prepare();
  /// The same as close(), and never in place. Precondition: `ticket` is from prepare() and unused.
  void close(UniqueFd fd, Owner owner, Ticket ticket) noexcept;

  [[nodiscard]] Counts counts() const;
  /// Descriptors of one owner that are not closed yet. Many mean that he makes closes block:
  /// whoever takes descriptors from him had better stop.
  [[nodiscard]] std::size_t outstanding(Owner owner) const { return pool_.outstanding(owner); }
  /// Waits until nothing is queued or being closed. False when `deadline` came first.
  [[nodiscard]] bool wait_idle(TimePoint deadline) const { return pool_.wait_idle(deadline); }

 private:
  BlockingPool pool_;
  std::atomic<std::uint64_t> closed_inline_{0};
};

/// Owns a descriptor that a stranger chose and, unless somebody takes it, leaves it to the reaper.
class ReapedFd {
 public:
  ReapedFd(Reaper& reaper, UniqueFd fd, Reaper::Owner owner = 0) noexcept
      : reaper_(&reaper), fd_(std::move(fd)), owner_(owner) {}
  ReapedFd(ReapedFd&&) noexcept = default;
  ReapedFd& operator=(ReapedFd&&) = delete;
  ~ReapedFd() { reaper_->close(std::move(fd_), owner_); }

  [[nodiscard]] int get() const noexcept { return fd_.get(); }
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  [[nodiscard]] UniqueFd take() noexcept { return std::move(fd_); }

 private:
  Reaper* reaper_;
  UniqueFd fd_;
  Reaper::Owner owner_;
};

}  // namespace handshake::service
