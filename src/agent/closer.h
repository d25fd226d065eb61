// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "base/event_loop.h"
#include "base/unique_fd.h"

namespace handshake::agent {

/// Closes sockets of consumers without ever waiting on the loop's thread. close(2) waits when it
/// takes the last copy of a socket whose owner has set SO_LINGER; usually the service and the
/// consumer hold others, but a request that was cancelled or timed out meanwhile may leave ours
/// alone. Such sockets, which are rare, are closed on a thread of their own. Belongs to the loop's
/// thread.
class Closer {
 public:
  explicit Closer(EventLoop& loop);
  Closer(const Closer&) = delete;
  Closer& operator=(const Closer&) = delete;
  /// Waits for nothing: no `closed` is called after this.
  ~Closer();

  /// `closed` is called when the descriptor is closed: from here, or later from the loop.
  void close(UniqueFd socket, std::function<void()> closed = {});

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace handshake::agent
