// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <pthread.h>

#include <chrono>
#include <ctime>
#include <functional>
#include <future>
#include <memory>
#include <thread>
#include <utility>

#include "base/event_loop.h"

namespace handshake::test {

/// An event loop on a thread of its own, so that tests can block.
class LoopThread {
 public:
  LoopThread()
      : loop_(std::move(EventLoop::create().value())),
        thread_([this] { EXPECT_TRUE(loop_->run().has_value()); }) {}
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;
  ~LoopThread() {
    loop_->stop();
    thread_.join();
  }

  [[nodiscard]] EventLoop& loop() noexcept { return *loop_; }

  /// Runs `work` on the loop's thread and waits for it.
  void run(const std::function<void()>& work) {
    const auto done = std::make_shared<std::promise<void>>();
    loop_->post([&work, done] {
      work();
      done->set_value();
    });
    done->get_future().wait();
  }

  [[nodiscard]] std::chrono::nanoseconds cpu_time() {
    clockid_t clock{};
    EXPECT_EQ(::pthread_getcpuclockid(thread_.native_handle(), &clock), 0);
    timespec used{};
    EXPECT_EQ(::clock_gettime(clock, &used), 0);
    return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
  }

 private:
  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
};

}  // namespace handshake::test
