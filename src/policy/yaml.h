// SPDX-License-Identifier: Apache-2.0
// For policy/*.cpp only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/problem.h"

namespace handshake::policy {

/// A place in a file, from 1; columns in bytes.
struct YamlPlace {
  std::size_t line = 1;
  std::size_t column = 1;
};

/// One YAML value and where it starts. Keys are words, each at most once in a map.
struct YamlNode {
  enum class Kind : std::uint8_t { kNull, kScalar, kSequence, kMap };
  struct Key {
    std::string name;
    YamlPlace place;
  };

  Kind kind = Kind::kNull;
  YamlPlace place;
  std::string scalar;
  std::vector<YamlNode> items;  ///< of a sequence, or the values of a map, in the file's order
  std::vector<Key> keys;        ///< of a map; keys[i] belongs to items[i]

  [[nodiscard]] const YamlNode* find(std::string_view key) const noexcept;
};

/// Every text of one policy draws on the same budget, so that neither many files nor few anchors
/// used many times ("billion laughs") cost unbounded memory. In bytes.
struct YamlBudget {
  std::size_t left = std::size_t{64} << 20U;
};

/// Enough for people; a hostile file could have millions.
inline constexpr std::size_t kMaxProblems = 1000;
inline constexpr std::size_t kMaxYamlBytes = std::size_t{16} << 20U;
inline constexpr std::size_t kMaxYamlDepth = 24;

/// The documents in `text`. Malformed YAML, wrong UTF-8, NUL bytes, keys that stand twice or are
/// not words, tags, nesting beyond kMaxYamlDepth and what exceeds the budget become problems; what
/// was read before a syntax error is returned all the same. Aliases are replaced by copies of what
/// they name.
[[nodiscard]] std::vector<YamlNode> parse_yaml(const std::string& file, std::string_view text,
                                               YamlBudget& budget, std::vector<Problem>& problems);

}  // namespace handshake::policy
