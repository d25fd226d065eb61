// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "base/result.h"

namespace handshake::daemon {

/// Where the daemon's sockets are: $HANDSHAKED_RUNTIME_DIR, else /run/handshaked for root and
/// $XDG_RUNTIME_DIR/handshaked for others. ENOENT: an ordinary user without XDG_RUNTIME_DIR.
[[nodiscard]] Result<std::string> default_runtime_dir();

/// Creates it (mode 0755, so that consumers can reach consumer.sock). EACCES when it exists and
/// belongs to somebody else or is writable by others: they could replace our sockets.
[[nodiscard]] Result<void> make_runtime_dir(const std::string& path);

}  // namespace handshake::daemon
