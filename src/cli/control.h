// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "base/result.h"

namespace handshake::cli {

struct ControlOptions {
  std::string runtime_dir;  ///< empty: the default (daemon::default_runtime_dir)
  bool json = false;
};

/// `handshakectl status`, `sessions`, `reload`. Errors: ENOENT (no daemon), EACCES (not root and
/// not the daemon's user), and what the daemon answers.
[[nodiscard]] Result<void> status_command(const ControlOptions& options);
[[nodiscard]] Result<void> sessions_command(const ControlOptions& options);
[[nodiscard]] Result<void> reload_command(const ControlOptions& options);

}  // namespace handshake::cli
