// SPDX-License-Identifier: Apache-2.0
#include "policy/reading.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace handshake::policy {
namespace {

bool is_control(char c) noexcept { return static_cast<unsigned char>(c) < 0x20U || c == '\x7F'; }

}  // namespace

using Kind = YamlNode::Kind;

Spot Spot::below(std::string_view key, YamlPlace where) const {
  return {file, where, path.empty() ? printable(key) : fmt::format("{}.{}", path, printable(key))};
}

void Reading::report(const Spot& spot, std::string reason, bool fatal) {
  if (fatal) ++fatal_;
  if (problems_.size() >= kMaxProblems) return;
  problems_.push_back(
      Problem{*spot.file, spot.place.line, spot.place.column, spot.path, std::move(reason), fatal});
}

bool Reading::expect(const Spot& spot, const YamlNode& node, Kind kind, std::string_view what) {
  if (node.kind == kind) return true;
  report(spot.at(node.place), fmt::format("expected {}", what));
  return false;
}

void Reading::for_each_key(const Spot& spot, const YamlNode& map,
                           const std::set<std::string_view>& known, const Visit& visit) {
  for (std::size_t i = 0; i < map.keys.size(); ++i) {
    const YamlNode::Key& key = map.keys[i];
    const Spot here = spot.below(key.name, key.place);
    if (known.contains(key.name)) {
      visit(here, key.name, map.items[i]);
    } else {
      report(here, fmt::format("unknown key, expected one of: {}", fmt::join(known, ", ")));
    }
  }
}

std::vector<const YamlNode*> Reading::words(const Spot& spot, const YamlNode& node,
                                            std::string_view what) {
  if (node.kind == Kind::kScalar) return {&node};
  std::vector<const YamlNode*> found;
  if (node.kind != Kind::kSequence || node.items.empty()) {
    report(spot.at(node.place), fmt::format("expected {}, or a list of them", what));
    return found;
  }
  for (const YamlNode& item : node.items) {
    if (expect(spot, item, Kind::kScalar, what)) found.push_back(&item);
  }
  return found;
}

std::optional<std::uint64_t> Reading::number(const Spot& spot, const YamlNode& node,
                                             std::uint64_t largest) {
  std::uint64_t value = 0;
  const std::string& text = node.scalar;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (node.kind == Kind::kScalar && whole && value <= largest) return value;
  report(spot.at(node.place), fmt::format("expected a number from 0 to {}", largest));
  return std::nullopt;
}

bool Reading::boolean(const Spot& spot, const YamlNode& node) {
  const bool fits = node.kind == Kind::kScalar && (node.scalar == "true" || node.scalar == "false");
  if (!fits) report(spot.at(node.place), "expected true or false");
  return node.scalar == "true";
}

bool Reading::allow_or_deny(const Spot& spot, const YamlNode& node) {
  const bool fits = node.kind == Kind::kScalar && (node.scalar == "allow" || node.scalar == "deny");
  if (!fits) report(spot.at(node.place), "expected allow or deny");
  return node.scalar == "allow";
}

bool Reading::check_name(const Spot& spot, std::string_view name) {
  if (!name.empty() && !has_control_character(name)) return true;
  report(spot, "expected a name without control characters");
  return false;
}

bool Reading::claim(const Spot& spot, const std::string& name, Places& places) {
  const auto [first, added] =
      places.emplace(name, fmt::format("{}:{}:{}", *spot.file, spot.place.line, spot.place.column));
  if (!added) report(spot, fmt::format("already defined at {}", first->second));
  return added;
}

bool has_control_character(std::string_view text) noexcept {
  return std::any_of(text.begin(), text.end(), is_control);
}

std::string printable(std::string_view text) {
  std::string made;
  for (const char c : text) {
    if (is_control(c)) {
      made += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      made += c;
    }
  }
  return made;
}

}  // namespace handshake::policy
