// SPDX-License-Identifier: Apache-2.0
#include "service/done_report.h"

#include <algorithm>

namespace handshake::service {
bool is_valid_tag(std::string_view tag) noexcept {
  return !tag.empty() && tag.size() <= protocol::kMaxTagLen &&
         tag.find('\0') == std::string_view::npos;
}

std::optional<std::size_t> find_malformed_tag(std::span<const std::string> tags) noexcept {
  const auto bad = std::find_if_not(tags.begin(), tags.end(),
                                    [](const std::string& tag) { return is_valid_tag(tag); });
  if (bad == tags.end()) return std::nullopt;
  return static_cast<std::size_t>(bad - tags.begin());
}

TagSet collect_tags(std::span<const std::string> tags, std::pmr::memory_resource* memory) {
  TagSet::Builder builder(memory);
  for (const std::string& tag : tags.first(std::min(tags.size(), kMaxTags))) {
    builder.add(tag);
  }
  return std::move(builder).finalize();
}

}  // namespace handshake::service
