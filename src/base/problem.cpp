// SPDX-License-Identifier: Apache-2.0
#include "base/problem.h"

#include <fmt/format.h>

namespace handshake {

std::string Problem::text() const {
  std::string where = line == 0 ? file : fmt::format("{}:{}:{}", file, line, column);
  if (!key.empty()) where += fmt::format(": {}", key);
  return fmt::format("{}: {}{}", where, fatal ? "" : "warning: ", reason);
}

}  // namespace handshake
