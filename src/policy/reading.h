// SPDX-License-Identifier: Apache-2.0
// For policy/*.cpp only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/problem.h"
#include "policy/yaml.h"

namespace handshake::policy {

/// A place in a policy, with the way to it: what a problem is reported with.
struct Spot {
  const std::string* file;
  YamlPlace place;
  std::string path;  ///< "filters.admins.pattern"

  [[nodiscard]] Spot at(YamlPlace where) const { return {file, where, path}; }
  [[nodiscard]] Spot below(std::string_view key, YamlPlace where) const;
};

/// Where names of one kind are defined, for reporting the second definition.
using Places = std::map<std::string, std::string, std::less<>>;

/// What every value goes through on its way out of the YAML tree. Collects the problems.
class Reading {
 public:
  [[nodiscard]] std::vector<Problem>& problems() noexcept { return problems_; }
  [[nodiscard]] std::size_t fatal_problems() const noexcept { return fatal_; }
  void report(const Spot& spot, std::string reason, bool fatal = true);

  /// Whether the node is of that kind; reports that `what` was expected.
  bool expect(const Spot& spot, const YamlNode& node, YamlNode::Kind kind, std::string_view what);

  /// Calls `visit` for every entry of a map that may stand in it, reports the others.
  using Visit = std::function<void(const Spot&, const std::string& key, const YamlNode& value)>;
  void for_each_key(const Spot& spot, const YamlNode& map, const std::set<std::string_view>& known,
                    const Visit& visit);

  /// One word, or a list of words. Reports what is neither.
  [[nodiscard]] std::vector<const YamlNode*> words(const Spot& spot, const YamlNode& node,
                                                   std::string_view what);

  [[nodiscard]] std::optional<std::uint64_t> number(const Spot& spot, const YamlNode& node,
                                                    std::uint64_t largest);
  [[nodiscard]] bool boolean(const Spot& spot, const YamlNode& node);
  /// Whether it is "allow".
  [[nodiscard]] bool allow_or_deny(const Spot& spot, const YamlNode& node);

  /// Not empty, no control characters: it will stand in logs.
  [[nodiscard]] bool check_name(const Spot& spot, std::string_view name);
  /// False, and reported, when the name is taken.
  [[nodiscard]] bool claim(const Spot& spot, const std::string& name, Places& places);

 private:
  std::vector<Problem> problems_;
  std::size_t fatal_ = 0;  // found by report(), those beyond kMaxProblems too
};

[[nodiscard]] bool has_control_character(std::string_view text) noexcept;

/// For messages: control characters as \xNN.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace handshake::policy
