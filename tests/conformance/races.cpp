// SPDX-License-Identifier: Apache-2.0
// DONE x DONE x cancel x timeout x agent death over many requests: each must have exactly one
// winner, each winner must be the one the consumer heard of, and no descriptor may be left.
//
//   hs_races [HOW_MANY]      default: environment HS_RACES, else 1,000,000
#include <array>
#include <atomic>
#include <barrier>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "service/service.h"
#include "support.h"

namespace handshake {
namespace {

using service::AgentConnection;
using service::Completion;
using service::DoneReport;
using service::Reaper;
using service::Service;
using service::Submission;

constexpr std::size_t kBatch = 64;
constexpr std::uint32_t kClass = 1;
constexpr std::uint32_t kSecondStatus = EACCES;

/// One request and everything that was said about it.
struct Slot {
  UniqueFd socket;
  std::uint64_t id = 0;
  std::int32_t token = 0;
  std::atomic<int> completions{0};
  std::atomic<int> releases{0};
  std::atomic<int> status{1};
  std::atomic<int> first_done{-1};   // errno of the first DONE, 0 for success
  std::atomic<int> second_done{-1};
  std::atomic<bool> cancelled{false};
};

struct Wins {
  std::uint64_t first_done = 0;
  std::uint64_t second_done = 0;
  std::uint64_t cancel = 0;
  std::uint64_t timeout = 0;
  std::uint64_t death = 0;
};

class Races {
 public:
  Races() : service_({.default_timeout = std::chrono::hours(1)}, Log(), reaper_) {
    for (std::size_t i = 0; i < kBatch; i += 2) {
      testing::TcpPair pair = testing::tcp_pair();
      slots_[i].socket = std::move(pair.client);
      slots_[i + 1].socket = std::move(pair.server);
    }
  }

  /// Runs `count` races; the number of mistakes.
  std::uint64_t run(std::uint64_t count) {
    const std::uint64_t batches = (count + kBatch - 1) / kBatch;
    constexpr std::size_t kRacers = 5;
    std::barrier<> gate(kRacers + 1);
    std::atomic<bool> over{false};
    std::vector<std::thread> threads;
    const auto racer = [&](auto race) {
      threads.emplace_back([&gate, &over, race, seed = threads.size()]() mutable {
        std::minstd_rand random(static_cast<unsigned>(seed + 1));
        for (;;) {
          gate.arrive_and_wait();
          if (over) return;
          for (auto wait = random() % 512; wait > 0; --wait) spin_.fetch_add(1, kRelaxed);
          race(random);
          gate.arrive_and_wait();
        }
      });
    };
    racer([this](auto&) { done(&Slot::first_done, 0); });
    racer([this](auto&) { done(&Slot::second_done, kSecondStatus); });
    racer([this](auto&) {
      for (Slot& slot : slots_) slot.cancelled = service_.cancel(slot.id);
    });
    racer([this](auto&) {
      for (std::size_t i = 0; i < kBatch; ++i) {
        static_cast<void>(service_.expire(base_ + milliseconds(i + 1)));
      }
    });
    racer([this](auto& random) {
      // Dies somewhere in the middle of what the others do, or after it.
      const auto patience = random() % 60'000;
      for (auto wait = patience; wait > 0; --wait) spin_.fetch_add(1, kRelaxed);
      agent_->disconnect();
    });
    for (std::uint64_t batch = 0; batch < batches; ++batch) {
      prepare();
      gate.arrive_and_wait();
      gate.arrive_and_wait();
      for (Slot& slot : slots_) judge(slot);
    }
    over = true;
    gate.arrive_and_wait();
    for (std::thread& thread : threads) thread.join();
    agent_.reset();
    if (service_.live() != 0) mistake("a request is left");
    if (!reaper_.wait_idle(testing::soon())) mistake("a descriptor does not get closed");
    races_ = batches * kBatch;
    return mistakes_;
  }

  void report() const {
    std::printf("%llu races: first DONE %llu, second DONE %llu, cancel %llu, timeout %llu, "
                "agent death %llu; %llu mistakes\n",
                number(races_), number(wins_.first_done), number(wins_.second_done),
                number(wins_.cancel), number(wins_.timeout), number(wins_.death),
                number(mistakes_));
  }
  /// Everybody has won sometimes: they did race.
  bool everybody_won() const {
    return wins_.first_done && wins_.second_done && wins_.cancel && wins_.timeout && wins_.death;
  }

 private:
  static constexpr auto kRelaxed = std::memory_order_relaxed;
  static unsigned long long number(std::uint64_t value) { return value; }

  /// Submits and accepts every slot with a connection that lives for one batch.
  void prepare() {
    base_ += std::chrono::hours(2);
    agent_ = service_.connect_agent({.own_worker = true}, [](std::uint32_t) {});
    must_succeed(agent_->subscribe({.handler_classes = {kClass}, .every_netns = true}));
    for (std::size_t i = 0; i < kBatch; ++i) {
      Slot& slot = slots_[i];
      slot.completions = slot.releases = 0;
      slot.status = 1;
      slot.first_done = slot.second_done = -1;
      slot.cancelled = false;
      Submission one;
      one.socket = testing::duplicate(slot.socket.get());
      one.message_type = protocol::MessageType::kClienthello;
      one.auth_mode = protocol::Auth::kX509;
      one.timeout = milliseconds(i + 1);
      one.complete = [&slot](Completion completion) {
        slot.status = completion.status;
        ++slot.completions;
      };
      one.release = [&slot] { ++slot.releases; };
      auto id = service_.submit(std::move(one), base_);
      must_succeed(id);
      slot.id = *id;
      auto accepted = agent_->accept(kClass);
      must_succeed(accepted);
      slot.token = accepted->token();
      if (!accepted->hand_over()) throw std::runtime_error("nothing to hand over");
    }
  }

  void done(std::atomic<int> Slot::*result, std::uint32_t status) {
    for (Slot& slot : slots_) {
      DoneReport report;
      report.status = status;
      const auto done = agent_->done(slot.token, std::move(report));
      slot.*result = done ? 0 : done.error().number();
    }
  }

  void judge(const Slot& slot) {
    const bool first = slot.first_done == 0;
    const bool second = slot.second_done == 0;
    const bool cancelled = slot.cancelled;
    const int status = slot.status;
    if (slot.completions + (cancelled ? 1 : 0) != 1) return mistake("not exactly one end");
    if (slot.releases != 1) return mistake("not exactly one release");
    if (!first && slot.first_done != EBUSY) return mistake("a late DONE that is not EBUSY");
    if (!second && slot.second_done != EBUSY) return mistake("a late DONE that is not EBUSY");
    if (first + second + cancelled > 1) return mistake("two say that they have won");
    if (first && status != 0) return mistake("the first DONE won and another was heard");
    if (second && status != -static_cast<int>(kSecondStatus)) {
      return mistake("the second DONE won and another was heard");
    }
    if (first) {
      ++wins_.first_done;
    } else if (second) {
      ++wins_.second_done;
    } else if (cancelled) {
      ++wins_.cancel;
    } else if (status == -ETIMEDOUT) {
      ++wins_.timeout;
    } else if (status == -EIO) {
      ++wins_.death;
    } else {
      mistake("an end that nobody brought about");
    }
  }

  void mistake(const char* what) {
    if (++mistakes_ <= 10) std::fprintf(stderr, "hs_races: %s\n", what);
  }
  template <class T>
  static void must_succeed(const Result<T>& result) {
    if (!result) throw std::runtime_error(result.error().detail);
  }

  static inline std::atomic<unsigned> spin_{0};

  Reaper reaper_;
  Service service_;
  std::unique_ptr<AgentConnection> agent_;
  std::array<Slot, kBatch> slots_;
  TimePoint base_{std::chrono::hours(1)};
  Wins wins_;
  std::uint64_t races_ = 0;
  std::uint64_t mistakes_ = 0;
};

std::uint64_t how_many(int argc, char** argv) {
  if (argc > 1) return std::strtoull(argv[1], nullptr, 10);
  if (const char* given = std::getenv("HS_RACES")) return std::strtoull(given, nullptr, 10);
  return 1'000'000;
}

int race(int argc, char** argv) {
  const std::size_t before = testing::open_descriptors();
  bool fine = true;
  {
    const auto races = std::make_unique<Races>();
    fine = races->run(how_many(argc, argv)) == 0;
    races->report();
    if (!races->everybody_won()) {
      std::fprintf(stderr, "hs_races: somebody never won: this was no race\n");
      fine = false;
    }
  }
  const std::size_t after = testing::open_descriptors();
  std::printf("/proc/self/fd: %zu before, %zu after\n", before, after);
  return fine && before == after ? 0 : 1;
}

}  // namespace
}  // namespace handshake

int main(int argc, char** argv) { return handshake::race(argc, argv); }
