// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "variant.h"

namespace handshake::bench {

/// One end of a handshake that is driven by hand.
class End {
 public:
  virtual ~End() = default;
  /// As far as it gets without waiting; true when it is finished.
  [[nodiscard]] virtual Result<bool> advance() = 0;
};

/// Makes both ends for a pair.
class Ends {
 public:
  virtual ~Ends() = default;
  [[nodiscard]] virtual Result<std::unique_ptr<End>> client(int fd, bool mutual) = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<End>> server(int fd, bool mutual) = 0;
};

/// Drives `load.concurrency` handshakes at a time, turn and turn about, on the calling thread. What
/// one end sends over the loopback device is there for the other at once: nothing needs waiting.
[[nodiscard]] Result<Round> run_in_one_process(Ends& ends, const Load& load, std::vector<TcpPair>& pairs);

}  // namespace handshake::bench
