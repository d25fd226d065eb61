// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/clock.h"
#include "measure.h"

namespace handshake::bench {

/// The compiler must believe that `value` is used.
template <class T>
inline void keep(const T& value) {
  asm volatile("" : : "r"(&value) : "memory");
}

/// Nanoseconds that one call of `operation` takes: the median of several batches.
template <class Operation>
[[nodiscard]] double nanoseconds_each(Operation operation) {
  constexpr std::chrono::milliseconds kBatch{10};
  std::size_t calls = 1;
  std::vector<double> batches;
  while (batches.size() < 7) {
    const TimePoint start = Clock::now();
    for (std::size_t i = 0; i < calls; ++i) operation();
    const auto took = Clock::now() - start;
    if (took < kBatch) {
      calls *= 2;
      continue;
    }
    batches.push_back(std::chrono::duration<double, std::nano>(took).count() / static_cast<double>(calls));
  }
  return median(batches);
}

/// What one container takes for each operation, nanoseconds.
struct TagsetCosts {
  std::string container;
  std::size_t tags = 0;
  double build = 0;
  double contains = 0;
  double misses = 0;
  double intersects = 0;
  double copy = 0;
};
[[nodiscard]] std::vector<TagsetCosts> measure_tagsets();

/// What the service's operations take while `pending` other requests wait, nanoseconds.
struct QueueCosts {
  std::size_t pending = 0;
  double submit = 0;
  double accept = 0;
  double done = 0;
  double cancel = 0;
};
[[nodiscard]] Result<QueueCosts> measure_queue(std::size_t pending);

/// What a message of ours costs on its way over AF_UNIX SOCK_SEQPACKET, microseconds.
struct MessageCosts {
  double plain = 0;      ///< processor: sent and received, nothing else
  double with_fd = 0;    ///< the same with a descriptor beside it
  double switched = 0;   ///< processor, both processes: the receiver is another process and waits for it
  double latency = 0;    ///< wall clock: until that process has it
};
[[nodiscard]] Result<MessageCosts> measure_messages();

/// What setting up one relay takes, microseconds of processor: its loopback pair, and everything
/// that is closed again.
[[nodiscard]] Result<double> measure_plain_pair();

}  // namespace handshake::bench
