// SPDX-License-Identifier: Apache-2.0
#include "service/reaper.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "../conformance/support.h"
#include "service/blocking_pool.h"

namespace handshake::service {
namespace {

using testing::duplicate;
using testing::open_descriptors;
using testing::soon;

/// Something that jobs block on until it is opened.
class Door {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  [[nodiscard]] bool wait_for_waiters(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, soon(), [&] { return waiting_ >= count; });
  }
  [[nodiscard]] int waiters() {
    const std::lock_guard lock(mutex_);
    return waiting_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

struct Blocks final : BlockingPool::Job {
  explicit Blocks(std::shared_ptr<Door> given) : door(std::move(given)) {}
  void run() noexcept override { door->pass(); }
  std::shared_ptr<Door> door;
};

/// Says so when it has run.
struct Runs final : BlockingPool::Job {
  explicit Runs(std::shared_ptr<Door> given) : door(std::move(given)) {}
  void run() noexcept override { door->open(); }
  std::shared_ptr<Door> door;
};

bool wait_for(const std::shared_ptr<Door>& door) {
  door->pass();
  return true;
}

TEST(BlockingPool, AJobThatBlocksDelaysNoOther) {
  BlockingPool pool({});
  const auto stuck = std::make_shared<Door>();
  pool.submit(std::make_unique<Blocks>(stuck), 1);
  ASSERT_TRUE(stuck->wait_for_waiters(1));
  const auto other = std::make_shared<Door>();
  pool.submit(std::make_unique<Runs>(other), 1);
  EXPECT_TRUE(wait_for(other));
  EXPECT_EQ(pool.counts().running, 1u);
  stuck->open();
  EXPECT_TRUE(pool.wait_idle(soon()));
  EXPECT_EQ(pool.counts().done, 2u);
}

TEST(BlockingPool, OneOwnersBlockedJobsLeaveThreadsToOthers) {
  BlockingPool pool({.max_threads = 4, .max_threads_per_owner = 2});
  const auto stuck = std::make_shared<Door>();
  for (int i = 0; i < 10; ++i) pool.submit(std::make_unique<Blocks>(stuck), 1);
  ASSERT_TRUE(stuck->wait_for_waiters(2));
  const auto other = std::make_shared<Door>();
  pool.submit(std::make_unique<Runs>(other), 2);
  EXPECT_TRUE(wait_for(other));
  EXPECT_EQ(stuck->waiters(), 2);
  EXPECT_EQ(pool.outstanding(1), 10u);
  stuck->open();
  EXPECT_TRUE(pool.wait_idle(soon()));
  EXPECT_EQ(pool.counts().done, 11u);
  EXPECT_EQ(pool.outstanding(1), 0u);
}

TEST(BlockingPool, ThreadsAreBoundedAndWhatWaitsRunsLater) {
  BlockingPool pool({.max_threads = 3, .max_threads_per_owner = 100});
  const auto stuck = std::make_shared<Door>();
  for (int i = 0; i < 20; ++i) pool.submit(std::make_unique<Blocks>(stuck), 1);
  ASSERT_TRUE(stuck->wait_for_waiters(3));
  EXPECT_EQ(pool.counts().threads, 3u);
  EXPECT_EQ(pool.counts().waiting, 17u);
  stuck->open();
  EXPECT_TRUE(pool.wait_idle(soon()));
  EXPECT_EQ(pool.counts().done, 20u);
}

TEST(BlockingPool, IdleThreadsEnd) {
  BlockingPool pool({.idle_time = milliseconds(0)});
  const auto stuck = std::make_shared<Door>();
  for (int i = 0; i < 8; ++i) pool.submit(std::make_unique<Blocks>(stuck), 1);
  ASSERT_TRUE(stuck->wait_for_waiters(8));
  EXPECT_GE(pool.counts().threads, 8u);
  stuck->open();
  const TimePoint deadline = soon();
  while (pool.counts().threads > 1 && Clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(pool.counts().threads, 1u);
}

TEST(BlockingPool, AStuckJobDoesNotHoldUpDestruction) {
  const auto stuck = std::make_shared<Door>();
  const TimePoint before = Clock::now();
  {
    BlockingPool pool({.farewell = milliseconds(1)});
    pool.submit(std::make_unique<Blocks>(stuck), 1);
    ASSERT_TRUE(stuck->wait_for_waiters(1));
  }
  EXPECT_LT(Clock::now() - before, std::chrono::seconds(30));
  stuck->open();
}

TEST(BlockingPool, WhatIsQueuedRunsBeforeDestructionIsOver) {
  const auto other = std::make_shared<Door>();
  {
    BlockingPool pool({.farewell = std::chrono::seconds(60)});
    for (int i = 0; i < 100; ++i) pool.submit(std::make_unique<Runs>(other), 1);
  }
  EXPECT_TRUE(wait_for(other));
}

TEST(Reaper, ClosesWhatItIsGiven) {
  Reaper reaper;
  const auto pair = testing::tcp_pair();
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 100; ++i) reaper.close(duplicate(pair.client.get()));
  ASSERT_TRUE(reaper.wait_idle(soon()));
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_EQ(reaper.counts().closed, 100u);
  EXPECT_EQ(reaper.counts().closed_inline, 0u);
}

TEST(Reaper, AnEmptyDescriptorIsNothing) {
  Reaper reaper;
  reaper.close(UniqueFd());
  EXPECT_TRUE(reaper.wait_idle(soon()));
  EXPECT_EQ(reaper.counts().closed, 0u);
}

TEST(Reaper, APreparedCloseNeedsNothingMore) {
  Reaper reaper;
  const auto pair = testing::tcp_pair();
  const std::size_t before = open_descriptors();
  Reaper::Ticket ticket = reaper.prepare();
  reaper.close(duplicate(pair.client.get()), 5, std::move(ticket));
  ASSERT_TRUE(reaper.wait_idle(soon()));
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Reaper, AnUnusedTicketIsNoLeak) {
  Reaper reaper;
  const Reaper::Ticket ticket = reaper.prepare();
  EXPECT_TRUE(reaper.wait_idle(soon()));
}

TEST(ReapedFd, IsClosedUnlessTaken) {
  Reaper reaper;
  const auto pair = testing::tcp_pair();
  const std::size_t before = open_descriptors();
  UniqueFd taken;
  {
    ReapedFd dropped(reaper, duplicate(pair.client.get()));
    ReapedFd kept(reaper, duplicate(pair.client.get()));
    ReapedFd moved(std::move(kept));
    taken = moved.take();
  }
  ASSERT_TRUE(reaper.wait_idle(soon()));
  EXPECT_TRUE(taken);
  taken.reset();
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace handshake::service
