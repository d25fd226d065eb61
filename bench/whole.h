// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "variant.h"

namespace handshake::bench {

/// What the whole path needs to run.
struct DaemonPlan {
  std::string program;        ///< path of handshaked
  std::string directory;      ///< for its configuration and sockets, made by the caller
  std::string pki;
  unsigned workers = 2;
  /// A library that answers the kTLS calls of every process in the kernel's stead (pretend_ktls.cpp),
  /// or empty.
  std::string preload;
};

/// A running handshaked with its workers. Ended by the destructor.
class Daemon {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> start(const DaemonPlan& plan);
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;
  ~Daemon();

  [[nodiscard]] std::string consumer_socket() const { return directory_ + "/run/consumer.sock"; }
  /// The daemon and its workers.
  [[nodiscard]] const std::vector<pid_t>& processes() const noexcept { return processes_; }

 private:
  Daemon() = default;
  std::string directory_;
  pid_t pid_ = 0;
  std::vector<pid_t> processes_;
};

/// The whole path: both ends submitted through libhandshake to `daemon`, which must outlive it.
[[nodiscard]] Result<std::unique_ptr<Variant>> whole_path(const Daemon& daemon, bool relay);

}  // namespace handshake::bench
