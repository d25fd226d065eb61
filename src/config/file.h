// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <string>

#include "base/result.h"

namespace handshake::config {

/// The whole of a regular file; nothing else is opened for long enough to block. `file` becomes
/// what fstat() says of it. ERANGE: it is larger than 16 MiB. Errors name the path.
[[nodiscard]] Result<std::string> read_file(const std::string& path, struct stat& file);
[[nodiscard]] Result<std::string> read_file(const std::string& path);

}  // namespace handshake::config
