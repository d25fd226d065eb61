// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "transport/seqpacket.h"

namespace handshake::daemon {

/// Accepts connections on one socket file. Belongs to the loop's thread. When the process is out
/// of descriptors it pauses instead of spinning: the waiting connection stays queued.
class Listener {
 public:
  using Accepted = std::function<void(UniqueFd, transport::PeerCredentials)>;

  [[nodiscard]] static Result<std::unique_ptr<Listener>> open(EventLoop& loop, Log log,
                                                              std::string path, mode_t mode,
                                                              Accepted accepted);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

 private:
  Listener(EventLoop& loop, Log log, std::string path, UniqueFd socket, Accepted accepted);
  void on_readable();

  EventLoop& loop_;
  Log log_;
  std::string path_;
  UniqueFd socket_;
  Accepted accepted_;
  EventLoop::Watch watch_;
  EventLoop::Timer pause_;
};

}  // namespace handshake::daemon
