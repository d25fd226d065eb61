// SPDX-License-Identifier: Apache-2.0
#include "micro.h"

#include <algorithm>
#include <set>
#include <unordered_set>

#include <fmt/format.h>

#include <handshake/tagset.hpp>

namespace handshake::bench {

namespace {

std::vector<std::string> names(std::size_t count, const char* prefix) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(fmt::format("{}-{}", prefix, (i * 7919) % 100'003));
  return out;
}

/// Transparent, so that all three are asked with a string_view.
struct Hash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
};
using Ordered = std::set<std::string, std::less<>>;
using Unordered = std::unordered_set<std::string, Hash, std::equal_to<>>;

TagSet build(const std::vector<std::string>& tags, const TagSet* /*type*/) {
  TagSet::Builder builder;
  for (const std::string& tag : tags) builder.add(tag);
  return std::move(builder).finalize();
}
Ordered build(const std::vector<std::string>& tags, const Ordered* /*type*/) { return {tags.begin(), tags.end()}; }
Unordered build(const std::vector<std::string>& tags, const Unordered* /*type*/) {
  return {tags.begin(), tags.end()};
}

bool intersects(const TagSet& a, const TagSet& b) { return a.intersects(b); }
bool intersects(const Ordered& a, const Ordered& b) {
  auto mine = a.begin();
  auto theirs = b.begin();
  while (mine != a.end() && theirs != b.end()) {
    if (*mine < *theirs) {
      ++mine;
    } else if (*theirs < *mine) {
      ++theirs;
    } else {
      return true;
    }
  }
  return false;
}
bool intersects(const Unordered& a, const Unordered& b) {
  return std::any_of(a.begin(), a.end(), [&](const std::string& tag) { return b.find(tag) != b.end(); });
}
bool contains(const TagSet& set, std::string_view tag) { return set.contains(tag); }
bool contains(const Ordered& set, std::string_view tag) { return set.find(tag) != set.end(); }
bool contains(const Unordered& set, std::string_view tag) { return set.find(tag) != set.end(); }

template <class Set>
TagsetCosts measure(const char* container, std::size_t count) {
  const auto tags = names(count, "role/tag");
  const auto others = names(count, "role/other");
  const Set set = build(tags, static_cast<const Set*>(nullptr));
  const Set disjoint = build(others, static_cast<const Set*>(nullptr));
  std::size_t turn = 0;
  TagsetCosts costs{container, count};
  costs.build = nanoseconds_each([&] { keep(build(tags, static_cast<const Set*>(nullptr))); });
  costs.contains = nanoseconds_each([&] { keep(contains(set, tags[turn++ % count])); });
  costs.misses = nanoseconds_each([&] { keep(contains(set, others[turn++ % count])); });
  costs.intersects = nanoseconds_each([&] { keep(intersects(set, disjoint)); });
  costs.copy = nanoseconds_each([&] {
    const Set copy = set;
    keep(copy);
  });
  return costs;
}

}  // namespace

std::vector<TagsetCosts> measure_tagsets() {
  std::vector<TagsetCosts> rows;
  for (const std::size_t count : {4U, 64U}) {
    rows.push_back(measure<TagSet>("TagSet", count));
    rows.push_back(measure<Ordered>("std::set", count));
    rows.push_back(measure<Unordered>("std::unordered_set", count));
  }
  return rows;
}

}  // namespace handshake::bench
