// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "service/blocking_pool.h"
#include "service/reaper.h"
#include "service/socket_facts.h"

namespace handshake::service {

/// Reads the facts of strangers' sockets on threads of its own. getpeername(2) waits for the
/// socket's lock, and the socket's owner can hold that for as long as he likes: a send() whose
/// buffer is a mapped file on FUSE is enough. On the service's thread this would stop the service
/// (REQUIREMENTS.md R1.15).
///
/// Any thread may call every member.
class FactsReader {
 public:
  using Owner = BlockingPool::Owner;
  using Done = std::function<void(ReapedFd socket, Result<SocketFacts> facts)>;

  /// Starts the first thread. Throws std::system_error when there can be none.
  explicit FactsReader(const BlockingPool::Options& options = BlockingPool::Options{})
      : max_per_owner_(options.max_threads_per_owner), pool_(options) {}

  /// Calls `done` on one of the reader's threads. Errors, after which it is not called: EAGAIN
  /// (this owner's sockets keep too many threads waiting), ENOMEM.
  [[nodiscard]] Result<void> read(ReapedFd socket, Owner owner, Done done);

 private:
  const unsigned max_per_owner_;
  BlockingPool pool_;
};

}  // namespace handshake::service
