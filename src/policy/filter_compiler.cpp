// SPDX-License-Identifier: Apache-2.0
#include "policy/filter_compiler.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "policy/filter_arguments.h"
#include "policy/filter_types.h"

namespace handshake::policy {
namespace {

/// Filters inside filters, by name or in place. Compiling and evaluating recurse that deep.
constexpr std::size_t kMaxNesting = 16;
constexpr std::string_view kNot = "not ";

using Kind = YamlNode::Kind;

/// "not NAME" or "NAME".
std::pair<bool, std::string> split_negation(std::string_view text) {
  if (!text.starts_with(kNot)) return {false, std::string(text)};
  text.remove_prefix(kNot.size());
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return {true, std::string(text)};
}

Combination::Of combination_of(std::string_view key) noexcept {
  if (key == "all") return Combination::Of::kAll;
  return key == "any" ? Combination::Of::kAny : Combination::Of::kNot;
}

}  // namespace

void FilterCompiler::define(const Spot& spot, const std::string& name, const YamlNode& node) {
  if (!reading_.claim(spot, name, places_)) return;
  order_.push_back(name);
  named_.emplace(name, Named{spot, &node, Named::State::kNew, {}});
}

void FilterCompiler::compile_all() {
  for (const std::string& name : order_) {
    Named& named = named_.find(name)->second;
    resolve(name, named, 1);
    if (named.state == Named::State::kDone)
      made_.names.push_back(NamedFilter{name, named.compiled.id});
  }
}

std::optional<TagEntry> FilterCompiler::tag_entry(const Spot& spot, const YamlNode& node) {
  if (node.kind != Kind::kScalar) {
    const auto compiled = entry(spot, node, 1);
    if (!compiled) return std::nullopt;
    return TagEntry{compiled->id, false, compiled->text};
  }
  const auto [negated, name] = split_negation(node.scalar);
  const auto compiled = by_name(spot.at(node.place), name, 1);
  if (!compiled) return std::nullopt;
  return TagEntry{compiled->id, negated, node.scalar};
}

void FilterCompiler::resolve(const std::string& name, Named& named, std::size_t nesting) {
  if (named.state != Named::State::kNew) return;
  named.state = Named::State::kUnderWay;
  std::optional<Compiled> compiled;
  if (name.starts_with(kNot)) {
    reading_.report(named.spot, "a filter's name cannot start with \"not \"");
  } else if (reading_.check_name(named.spot, name)) {
    compiled = filter(named.spot, *named.node, nesting);
  }
  named.state = compiled ? Named::State::kDone : Named::State::kBroken;
  if (compiled) named.compiled = *compiled;
}

std::optional<FilterCompiler::Compiled> FilterCompiler::by_name(const Spot& spot,
                                                                const std::string& name,
                                                                std::size_t nesting) {
  const auto found = named_.find(name);
  if (found == named_.end()) {
    reading_.report(spot, fmt::format("there is no filter \"{}\"", printable(name)));
    return std::nullopt;
  }
  Named& named = found->second;
  if (named.state == Named::State::kUnderWay) {
    reading_.report(
        spot, fmt::format("the filter \"{}\" refers to itself, by way of this", printable(name)));
    return std::nullopt;
  }
  if (nesting > kMaxNesting) return too_deep(spot);
  resolve(name, named, nesting);
  if (named.state != Named::State::kDone) return std::nullopt;  // reported where it is defined
  Compiled compiled = named.compiled;
  compiled.text = name;
  return compiled;
}

std::optional<FilterCompiler::Compiled> FilterCompiler::entry(const Spot& spot,
                                                              const YamlNode& node,
                                                              std::size_t nesting) {
  const Spot here = spot.at(node.place);
  if (nesting > kMaxNesting) return too_deep(here);
  if (node.kind != Kind::kScalar) return filter(here, node, nesting);
  const auto [negated, name] = split_negation(node.scalar);
  auto compiled = by_name(here, name, nesting);
  if (!compiled || !negated) return compiled;
  const FilterId id =
      intern(fmt::format("not {}", compiled->id),
             Filter{Combination{Combination::Of::kNot, {compiled->id}}, node.scalar});
  return Compiled{id, compiled->depth + 1, node.scalar};
}

std::optional<FilterCompiler::Compiled> FilterCompiler::filter(const Spot& spot,
                                                               const YamlNode& node,
                                                               std::size_t nesting) {
  if (!reading_.expect(spot, node, Kind::kMap,
                       "a filter: a map with a type, or with all, any or not")) {
    return std::nullopt;
  }
  for (const std::string_view key : {"all", "any", "not"}) {
    if (node.find(key) != nullptr) return combination(spot, node, key, nesting);
  }
  if (const YamlNode* type = node.find("type")) return typed(spot, node, *type);
  reading_.report(spot.at(node.place), "expected a type, or all, any or not");
  return std::nullopt;
}

std::optional<FilterCompiler::Compiled> FilterCompiler::combination(const Spot& spot,
                                                                    const YamlNode& node,
                                                                    std::string_view key,
                                                                    std::size_t nesting) {
  const std::size_t problems_before = reading_.fatal_problems();
  reading_.for_each_key(spot, node, {key}, [](const Spot&, const std::string&, const YamlNode&) {});
  const YamlNode& value = *node.find(key);
  const Spot here = spot.below(key, value.place);
  Combination made;
  made.of = combination_of(key);
  std::string text;
  std::size_t depth = 0;
  bool complete = true;
  const auto take = [&](const YamlNode& item) {
    const auto compiled = entry(here, item, nesting + 1);
    if (!compiled) {
      complete = false;
      return;
    }
    depth = std::max(depth, compiled->depth);
    made.filters.push_back(compiled->id);
    text += fmt::format("{}{}", text.empty() ? "" : ", ", compiled->text);
  };
  if (made.of == Combination::Of::kNot) {
    take(value);
  } else if (value.kind != Kind::kSequence || value.items.empty()) {
    reading_.report(here, "expected a list of filters");
  } else {
    std::for_each(value.items.begin(), value.items.end(), take);
  }
  if (!complete || reading_.fatal_problems() != problems_before) return std::nullopt;
  if (depth + 1 > kMaxNesting) return too_deep(here);
  text = fmt::format("{} ({})", key, text);
  const std::string identity = fmt::format("{} {}", key, fmt::join(made.filters, " "));
  return Compiled{intern(identity, Filter{std::move(made), text}), depth + 1, text};
}

std::optional<FilterCompiler::Compiled> FilterCompiler::typed(const Spot& spot,
                                                              const YamlNode& node,
                                                              const YamlNode& type_node) {
  const Spot type_spot = spot.below("type", type_node.place);
  if (!reading_.expect(type_spot, type_node, Kind::kScalar, "a filter type")) return std::nullopt;
  std::string problem;
  const auto type = filter_type(type_node.scalar, problem);
  if (!type) {
    reading_.report(type_spot, std::move(problem));
    return std::nullopt;
  }
  const std::size_t problems_before = reading_.fatal_problems();
  FilterArguments arguments(reading_, *type);
  static const std::set<std::string_view> kKeys{"type",    "pattern", "value",  "purpose",
                                                "network", "minimum", "maximum"};
  reading_.for_each_key(spot, node, kKeys,
                        [&](const Spot& here, const std::string& key, const YamlNode& value) {
                          if (key != "type") arguments.take(here, key, value);
                        });
  if (reading_.fatal_problems() != problems_before) return std::nullopt;
  auto condition = arguments.condition(spot.at(node.place),
                                       [this](const Field& wanted) { return field(wanted); });
  if (!condition) return std::nullopt;
  const std::string identity = fmt::format("type {} {}", type->field.oid, arguments.text());
  return Compiled{intern(identity, Filter{std::move(*condition), arguments.text()}), 1,
                  arguments.text()};
}

std::optional<FilterCompiler::Compiled> FilterCompiler::too_deep(const Spot& spot) {
  reading_.report(spot, fmt::format("filters are nested more than {} deep here", kMaxNesting));
  return std::nullopt;
}

/// Filters that ask the same share a number, whatever they are called.
FilterId FilterCompiler::intern(const std::string& identity, Filter filter) {
  const auto [found, added] =
      identities_.emplace(identity, static_cast<FilterId>(made_.filters.size()));
  if (added) made_.filters.push_back(std::move(filter));
  return found->second;
}

FieldId FilterCompiler::field(const Field& wanted) {
  const auto [found, added] = fields_.emplace(std::pair(wanted.kind, wanted.oid),
                                              static_cast<FieldId>(made_.fields.size()));
  if (added) made_.fields.push_back(wanted);
  return found->second;
}

}  // namespace handshake::policy
