// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace handshake {

/// One thing wrong with a file that an administrator wrote, for people:
/// "file:line:column: key: reason". Loaders collect all of them instead of stopping at the first.
struct Problem {
  std::string file;
  std::size_t line = 0;    ///< from 1; 0 when the file as a whole is meant
  std::size_t column = 0;  ///< from 1, in bytes
  std::string key;         ///< may be empty
  std::string reason;
  bool fatal = true;       ///< false: a warning

  [[nodiscard]] std::string text() const;
  friend bool operator==(const Problem&, const Problem&) = default;
};

}  // namespace handshake
