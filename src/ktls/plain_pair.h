// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace handshake::ktls {

/// The two ends of a loopback TCP connection, close-on-exec, TCP_NODELAY. TCP and not a
/// socketpair, because only TCP can end with ECONNRESET after the last byte (R3.5).
struct PlainPair {
  /// The relay's end: O_NONBLOCK, and set to reset the connection when it is closed, which is also
  /// what happens when the worker crashes: the consumer never takes that for a clean end.
  UniqueFd inner;
  /// The consumer's end: blocking, as a fresh socket is.
  UniqueFd outer;
};

/// Connects a pair on 127.0.0.1, or on ::1 where there is no IPv4. Other local processes may
/// connect to the port while it is open: they are recognised and their connections closed.
/// Errors: EMFILE, ENFILE, ENOMEM as kInputOutput or kNoMemory; kTimedOut when strangers keep the
/// port busy for kPairDeadline; kInputOutput when the loopback interface is down.
[[nodiscard]] Result<PlainPair> make_plain_pair();

/// Takes connections off a nonblocking `listener` until the other end of `connected` comes; every
/// other one is a stranger's and is closed. kTimedOut at the deadline. Part of make_plain_pair().
[[nodiscard]] Result<UniqueFd> accept_other_end(int listener, int connected, TimePoint deadline);

}  // namespace handshake::ktls
