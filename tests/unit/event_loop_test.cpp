// SPDX-License-Identifier: Apache-2.0
#include "base/event_loop.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace handshake {
namespace {

struct Pair {
  Pair() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    near.reset(fds[0]);
    far.reset(fds[1]);
  }
  UniqueFd near;
  UniqueFd far;
};

class EventLoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    loop_ = std::move(EventLoop::create().value());
    // Nothing here waits for this: it ends a test that would otherwise hang.
    guard_ = loop_->after(std::chrono::seconds(20), [this] {
      ADD_FAILURE() << "the loop was never stopped";
      loop_->stop();
    });
  }
  std::unique_ptr<EventLoop> loop_;
  EventLoop::Timer guard_;
};

TEST_F(EventLoopTest, ReportsReadinessAndLeavesTheFlagsAlone) {
  Pair pair;
  const int before = ::fcntl(pair.near.get(), F_GETFL);
  bool readable = false;
  auto watch = loop_->watch(pair.near.get(), EPOLLIN, [&](std::uint32_t events) {
    readable = (events & EPOLLIN) != 0;
    loop_->stop();
  });
  ASSERT_TRUE(watch);
  ASSERT_EQ(::write(pair.far.get(), "x", 1), 1);
  ASSERT_TRUE(loop_->run());
  EXPECT_TRUE(readable);
  EXPECT_EQ(::fcntl(pair.near.get(), F_GETFL), before);
}

TEST_F(EventLoopTest, AWatchDestroyedByAnotherHandlerOfTheSameBatchIsNotCalled) {
  Pair first;
  Pair second;
  std::array<EventLoop::Watch, 2> watches;
  int calls = 0;
  const auto handler = [&](std::size_t other) {
    return [&, other](std::uint32_t) {
      ++calls;
      watches[other].reset();
      loop_->post([&] { loop_->stop(); });
    };
  };
  watches[0] = std::move(loop_->watch(first.near.get(), EPOLLIN, handler(1)).value());
  watches[1] = std::move(loop_->watch(second.near.get(), EPOLLIN, handler(0)).value());
  ASSERT_EQ(::write(first.far.get(), "x", 1), 1);
  ASSERT_EQ(::write(second.far.get(), "x", 1), 1);
  ASSERT_TRUE(loop_->run());
  EXPECT_GE(calls, 1);
  EXPECT_NE(static_cast<bool>(watches[0]), static_cast<bool>(watches[1]));
}

TEST_F(EventLoopTest, AHandlerMayDestroyItsOwnWatch) {
  Pair pair;
  EventLoop::Watch watch;
  auto alive = std::make_shared<int>(1);
  watch = std::move(loop_->watch(pair.near.get(), EPOLLIN, [&, alive](std::uint32_t) {
                          watch.reset();
                          EXPECT_EQ(*alive, 1);
                          loop_->stop();
                        }).value());
  ASSERT_EQ(::write(pair.far.get(), "x", 1), 1);
  ASSERT_TRUE(loop_->run());
  EXPECT_FALSE(watch);
}

TEST_F(EventLoopTest, WaitingForNothingHearsNoHangUp) {
  Pair pair;
  int calls = 0;
  auto watch = std::move(loop_->watch(pair.near.get(), 0, [&](std::uint32_t) {
                                 ++calls;
                                 loop_->stop();
                               }).value());
  pair.far.reset();
  auto timer = loop_->after(milliseconds(1), [&] { loop_->stop(); });
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(calls, 0);
  ASSERT_TRUE(watch.set_events(EPOLLIN));
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(calls, 1);
}

TEST_F(EventLoopTest, TimersFireInTheOrderOfTheirDeadlines) {
  std::vector<int> order;
  const TimePoint now = Clock::now();
  auto last = loop_->at(now + milliseconds(2), [&] {
    order.push_back(3);
    loop_->stop();
  });
  auto middle = loop_->at(now + milliseconds(1), [&] { order.push_back(2); });
  auto first = loop_->at(now, [&] { order.push_back(1); });
  auto cancelled = loop_->at(now, [&] { order.push_back(99); });
  cancelled.reset();
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  EXPECT_FALSE(first);
}

TEST_F(EventLoopTest, ATimerThatRearmsForThePastStarvesNobody) {
  Pair pair;
  EventLoop::Timer timer;
  std::function<void()> rearm = [&] { timer = loop_->at(TimePoint::min(), rearm); };
  rearm();
  auto watch = std::move(
      loop_->watch(pair.near.get(), EPOLLIN, [&](std::uint32_t) { loop_->stop(); }).value());
  ASSERT_EQ(::write(pair.far.get(), "x", 1), 1);
  ASSERT_TRUE(loop_->run());
}

TEST_F(EventLoopTest, PostedWorkRunsInOrderFromAnyThread) {
  std::vector<int> order;
  std::thread poster([&] {
    for (int i = 0; i < 100; ++i) loop_->post([&, i] { order.push_back(i); });
    loop_->post([&] { loop_->stop(); });
  });
  ASSERT_TRUE(loop_->run());
  poster.join();
  ASSERT_EQ(order.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST_F(EventLoopTest, ARegularFileCannotBeWatched) {
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const auto watch = loop_->watch(file.get(), EPOLLIN, [](std::uint32_t) {});
  ASSERT_FALSE(watch);
  EXPECT_EQ(watch.error().kind, ErrorKind::kNotPermitted);
}

}  // namespace
}  // namespace handshake
