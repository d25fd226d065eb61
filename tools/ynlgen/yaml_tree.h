// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace handshake::ynlgen {

/// One YAML value with the line it starts on. Built from yaml-cpp's events rather than from its
/// nodes: that way duplicate keys, aliases and deep nesting are refused while they are read.
struct YamlNode {
  enum class Kind { kScalar, kSequence, kMap };
  Kind kind = Kind::kScalar;
  int line = 1;
  std::string scalar;
  bool quoted = false;            ///< a quoted scalar is never a number
  std::vector<YamlNode> items;    ///< of a sequence, or the values of a map, in the file's order
  std::vector<YamlNode> keys;     ///< of a map; keys[i] belongs to items[i]

  [[nodiscard]] const YamlNode* find(std::string_view key) const noexcept;
};

inline constexpr std::size_t kMaxSpecBytes = 1U << 20U;
inline constexpr std::size_t kMaxYamlDepth = 16;
/// Bounds the quadratic searches for duplicates.
inline constexpr std::size_t kMaxYamlItems = 1000;

/// Reads the one document in `text`. Every failure is kInvalidArgument or kNotSupported and reads
/// "<file>:<line>: <what>".
[[nodiscard]] Result<YamlNode> parse_yaml(std::string_view text, const std::string& file);

}  // namespace handshake::ynlgen
