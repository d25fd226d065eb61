// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <utility>

namespace handshake::service {

/// A callback whose owner can take it back: calls are made one at a time, and once revoke() has
/// returned none runs on another thread and none will begin. revoke() may be called from inside
/// the call. Whoever calls revoke() must hold no lock that the callback takes.
template <class... Args>
class Revocable {
 public:
  explicit Revocable(std::function<void(Args...)> function) : function_(std::move(function)) {}
  Revocable(const Revocable&) = delete;
  Revocable& operator=(const Revocable&) = delete;

  /// False when it had been revoked (or there never was one).
  bool call(Args... args) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    if (revoked_ || function_ == nullptr) return false;
    function_(std::move(args)...);
    return true;
  }

  void revoke() {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    revoked_ = true;
  }

 private:
  std::recursive_mutex mutex_;  // guards all below; recursive for revoke() from inside a call
  bool revoked_ = false;
  std::function<void(Args...)> function_;
};

}  // namespace handshake::service
