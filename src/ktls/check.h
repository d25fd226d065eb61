// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

namespace handshake::ktls {

/// Asks the kernel itself: the upper layer is "tls" and both directions have keys of TLS 1.3.
/// Reads no key. EIO: it is not so, with what is missing; EBADF. Needs hs_ktls_check only.
[[nodiscard]] Result<void> verify(int fd);

}  // namespace handshake::ktls
