// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace handshake {

/// Deadlines are points on the monotonic clock; wall clock steps move none of them. Code that
/// compares against "now" takes it as an argument, so that tests need no sleeping.
using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using std::chrono::milliseconds;

}  // namespace handshake
