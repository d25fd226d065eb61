// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace handshake::client {

/// The service's socket when the program names none: $HANDSHAKED_SOCKET,
/// $HANDSHAKED_RUNTIME_DIR/consumer.sock, $XDG_RUNTIME_DIR/handshaked/consumer.sock if it exists,
/// /run/handshaked/consumer.sock. A set-user-ID program gets the last: its environment is a
/// stranger's.
[[nodiscard]] std::string default_service_path();

}  // namespace handshake::client
