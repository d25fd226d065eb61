// SPDX-License-Identifier: Apache-2.0
// Many threads on one context. Also run under ThreadSanitizer.
#include <atomic>
#include <cerrno>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "fake_service.h"
#include "handshake/handshake.h"

namespace handshake {
namespace {

using protocol::consumer::CompleteEvent;
using test::FakeService;
using test::Submitted;

CompleteEvent failed(std::uint32_t number) {
  CompleteEvent event;
  event.status = number;
  return event;
}

/// Completes each request with the status that its timeout names, a few at a time and in another
/// order than they came.
FakeService::Behaviour shuffling(std::vector<Submitted>& waiting) {
  FakeService::Behaviour behaviour;
  behaviour.submitted = [&waiting](FakeService& service, Submitted submitted) {
    waiting.push_back(std::move(submitted));
    if (waiting.size() < 3 && waiting.back().request.timeout.value() % 5 != 0) return;
    for (auto one = waiting.rbegin(); one != waiting.rend(); ++one) {
      service.complete(*one, failed(one->request.timeout.value()));
    }
    waiting.clear();
  };
  return behaviour;
}

TEST(Threads, ManyBlockOnOneContextAndEachGetsItsOwnResult) {
  std::vector<Submitted> waiting;
  FakeService service(shuffling(waiting));
  hs_context* context = nullptr;
  ASSERT_EQ(hs_context_create(service.path().c_str(), &context), 0);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (std::uint32_t number = 1; number <= 8; ++number) {
    threads.emplace_back([&, number] {
      const test::TcpPair pair = test::tcp_pair();
      hs_options options = HS_OPTIONS_INIT;
      for (std::uint32_t round = 0; round < 100; ++round) {
        // The status to be reported; every fifth makes the service answer everybody.
        options.timeout_ms = number * 100 + round + 1;
        if (round == 99) options.timeout_ms = 1005;
        std::uint64_t request = 0;
        if (hs_client_hello_x509(context, pair.mine.get(), &options, nullptr, nullptr, nullptr,
                                 &request) != 0) {
          ++wrong;
          continue;
        }
        int status = 0;
        // A request may be left waiting for company: then this thread provides it.
        while ((status = hs_wait(context, request, 20, nullptr)) == -EAGAIN) {
          hs_options nudge = HS_OPTIONS_INIT;
          nudge.timeout_ms = 5;
          std::uint64_t other = 0;
          if (hs_client_hello_x509(context, pair.mine.get(), &nudge, nullptr, nullptr, nullptr,
                                   &other) != 0 ||
              hs_wait(context, other, -1, nullptr) != -5) {
            ++wrong;
          }
        }
        if (status != -static_cast<int>(options.timeout_ms)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  hs_context_destroy(context);
  EXPECT_EQ(wrong, 0);
}

TEST(Threads, BlockingCallsAndAnEventLoopShareAContext) {
  FakeService::Behaviour behaviour;
  behaviour.submitted = [](FakeService& fake, Submitted submitted) {
    fake.complete(submitted, failed(EACCES));
  };
  FakeService service(behaviour);
  hs_context* context = nullptr;
  ASSERT_EQ(hs_context_create(service.path().c_str(), &context), 0);
  constexpr int kRounds = 200;
  std::atomic<int> completions = 0;
  std::atomic<int> releases = 0;
  struct Cookie {
    std::atomic<int>* completions;
    std::atomic<int>* releases;
  } cookie{&completions, &releases};
  std::thread loop([&] {
    while (completions < 2 * kRounds && test::readable(hs_fd(context))) hs_dispatch(context);
  });
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      const test::TcpPair pair = test::tcp_pair();
      for (int round = 0; round < kRounds; ++round) {
        if (hs_server_hello_x509(
                context, pair.mine.get(), nullptr,
                [](void* given, const hs_result* result) {
                  if (hs_result_status(result) == -EACCES) {
                    ++*static_cast<Cookie*>(given)->completions;
                  }
                },
                &cookie, [](void* given) { ++*static_cast<Cookie*>(given)->releases; },
                nullptr) != 0) {
          ++wrong;
        }
        std::uint64_t request = 0;
        if (hs_client_hello_anon(context, pair.mine.get(), nullptr, nullptr, nullptr, nullptr,
                                 &request) != 0 ||
            hs_wait(context, request, -1, nullptr) != -EACCES) {
          ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  loop.join();
  EXPECT_EQ(completions, 2 * kRounds);
  EXPECT_EQ(releases, 2 * kRounds);
  EXPECT_EQ(wrong, 0);
  hs_context_destroy(context);
}

TEST(Threads, CancelRacesCompletionAndExactlyOneWins) {
  // As the real service does: whichever comes first decides, and says so.
  std::mutex mutex;
  std::set<std::uint64_t> live;
  FakeService::Behaviour behaviour;
  std::vector<Submitted> waiting;
  behaviour.submitted = [&](FakeService& fake, Submitted submitted) {
    {
      const std::lock_guard lock(mutex);
      live.insert(submitted.request.id.value());
    }
    waiting.push_back(std::move(submitted));
    if (waiting.size() < 2) return;
    const Submitted one = std::move(waiting.front());
    waiting.erase(waiting.begin());
    const std::lock_guard lock(mutex);
    if (live.erase(one.request.id.value()) == 1) fake.complete(one, failed(EIO));
  };
  behaviour.cancel = [&](std::uint64_t id) {
    const std::lock_guard lock(mutex);
    return std::optional<bool>(live.erase(id) == 1);
  };
  FakeService service(behaviour);
  hs_context* context = nullptr;
  ASSERT_EQ(hs_context_create(service.path().c_str(), &context), 0);

  constexpr int kThreads = 4;
  constexpr int kRounds = 150;
  struct Cookie {
    std::atomic<int> completions = 0;
    std::atomic<int> releases = 0;
    std::atomic<int> cancels = 0;
  };
  std::vector<Cookie> cookies(static_cast<std::size_t>(kThreads) * kRounds);
  std::atomic<bool> stop = false;
  std::thread loop([&] {
    while (!stop) {
      static_cast<void>(test::readable(hs_fd(context), 5));
      hs_dispatch(context);
    }
  });
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const test::TcpPair pair = test::tcp_pair();
      for (std::size_t round = 0; round < kRounds; ++round) {
        Cookie& cookie = cookies[t * kRounds + round];
        std::uint64_t request = 0;
        ASSERT_EQ(hs_client_hello_x509(
                      context, pair.mine.get(), nullptr,
                      [](void* given, const hs_result*) {
                        ++static_cast<Cookie*>(given)->completions;
                      },
                      &cookie, [](void* given) { ++static_cast<Cookie*>(given)->releases; },
                      &request),
                  0);
        const int first = hs_cancel(context, request);
        const int second = hs_cancel(context, request);
        ASSERT_GE(first, 0);
        ASSERT_GE(second, 0);
        cookie.cancels += first + second;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (Cookie& cookie : cookies) {
    while (cookie.releases == 0) std::this_thread::yield();
  }
  stop = true;
  loop.join();
  hs_context_destroy(context);
  for (const Cookie& cookie : cookies) {
    EXPECT_EQ(cookie.completions + cookie.cancels, 1);
    EXPECT_EQ(cookie.releases, 1);
  }
}

TEST(Threads, AServiceThatKeepsDyingLosesNobody) {
  std::atomic<int> count = 0;
  FakeService::Behaviour behaviour;
  behaviour.submitted = [&](FakeService& fake, Submitted submitted) {
    if (++count % 7 == 0) {
      fake.hang_up();
    } else {
      fake.complete(submitted, failed(EACCES));
    }
  };
  FakeService service(behaviour);
  hs_context* context = nullptr;
  ASSERT_EQ(hs_context_create(service.path().c_str(), &context), 0);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  std::atomic<int> good = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      const test::TcpPair pair = test::tcp_pair();
      for (int round = 0; round < 100; ++round) {
        std::uint64_t request = 0;
        const int submitted = hs_client_hello_x509(context, pair.mine.get(), nullptr, nullptr,
                                                   nullptr, nullptr, &request);
        if (submitted != 0) {
          // Lost while the ack was on its way.
          if (submitted != -EIO) ++wrong;
          continue;
        }
        const int status = hs_wait(context, request, 20'000, nullptr);
        if (status != -EACCES && status != -EIO) ++wrong;
        if (status == -EACCES) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  hs_context_destroy(context);
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(good, 0);
  EXPECT_GT(service.connections_seen(), 1);
}

}  // namespace
}  // namespace handshake
