// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/problem.h"

namespace handshake::config {

using handshake::Problem;

/// One `key = value` line. Blanks around both are not part of them (a trailing blank in a path has
/// cost others hours).
struct IniEntry {
  std::string key;
  std::string value;
  std::size_t line = 0;
  std::size_t key_column = 0;
  std::size_t value_column = 0;
};

struct IniSection {
  std::string name;
  std::size_t line = 0;
  std::vector<IniEntry> entries;
};

/// A file in the key file syntax of tlshd.conf(5): `[section]`, `key = value`, comments from `#`
/// or `;` at the start of a line. Sections keep their order and may repeat; so may keys.
struct IniFile {
  std::string path;
  std::vector<IniSection> sections;
};

/// Parses all of `text`; what is malformed becomes a Problem and is left out. Never fails as a
/// whole. Lines of any length; a NUL byte is a problem, not an end.
[[nodiscard]] IniFile parse_ini(std::string path, std::string_view text,
                                std::vector<Problem>& problems);

}  // namespace handshake::config
