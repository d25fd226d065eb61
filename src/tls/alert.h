// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/result.h"

namespace handshake::tls {

/// What a peer's alert (RFC 8446 §6.2) means to whoever wanted the session: EACCES, it does not
/// accept our certificate; EOPNOTSUPP, it has no TLS 1.3; EKEYREJECTED; EIO.
[[nodiscard]] ErrorKind kind_of_received_alert(std::uint8_t alert) noexcept;

}  // namespace handshake::tls
