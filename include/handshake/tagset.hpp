// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <memory_resource>
#include <string_view>
#include <utility>
#include <vector>

namespace handshake {

/// A finalized set of session tags: opaque names that the agent gave a session because the
/// peer's certificate satisfied an administrator's policy. Consumers authorize by tag.
///
/// Immutable. Copies share storage, cost one reference count and may be used from any thread at
/// the same time. A default-constructed set is empty and answers every query. Tags are compared
/// as bytes. Made by TagSet::Builder.
class TagSet {
 public:
  class Builder;
  using value_type = std::string_view;
  /// Ascending order, no duplicates. Views stay valid as long as any copy of the set.
  using const_iterator = const std::string_view*;

  TagSet() noexcept = default;

  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return storage_ ? storage_->tags.size() : 0; }
  [[nodiscard]] const_iterator begin() const noexcept {
    return storage_ ? storage_->tags.data() : nullptr;
  }
  [[nodiscard]] const_iterator end() const noexcept {
    return storage_ ? storage_->tags.data() + storage_->tags.size() : nullptr;
  }

  /// O(log n) comparisons.
  [[nodiscard]] bool contains(std::string_view tag) const noexcept {
    return std::binary_search(begin(), end(), tag);
  }

  /// Whether the sets have a tag in common. O(n + m).
  [[nodiscard]] bool intersects(const TagSet& other) const noexcept {
    const_iterator mine = begin();
    const_iterator theirs = other.begin();
    while (mine != end() && theirs != other.end()) {
      const int order = mine->compare(*theirs);
      if (order == 0) return true;
      if (order < 0) {
        ++mine;
      } else {
        ++theirs;
      }
    }
    return false;
  }

  /// The tags that both have. O(n + m). Throws std::bad_alloc.
  [[nodiscard]] TagSet intersection(const TagSet& other) const;

  friend bool operator==(const TagSet& a, const TagSet& b) noexcept {
    return a.storage_ == b.storage_ || std::equal(a.begin(), a.end(), b.begin(), b.end());
  }

 private:
  struct Storage {
    std::pmr::vector<char> bytes;              // every tag, one after the other
    std::pmr::vector<std::string_view> tags;   // sorted views into bytes
  };

  explicit TagSet(std::shared_ptr<const Storage> storage) noexcept
      : storage_(std::move(storage)) {}

  std::shared_ptr<const Storage> storage_;
};

/// Collects tags in any order, duplicates included. One thread. Every member may throw
/// std::bad_alloc; the builder is then only fit to be destroyed.
class TagSet::Builder {
 public:
  /// `memory` must outlive every set that is made from it.
  explicit Builder(std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : memory_(memory), bytes_(memory), ends_(memory) {}

  void add(std::string_view tag) {
    bytes_.insert(bytes_.end(), tag.begin(), tag.end());
    ends_.push_back(bytes_.size());
  }

  /// How many were added, duplicates included.
  [[nodiscard]] std::size_t size() const noexcept { return ends_.size(); }

  /// Sorts, drops duplicates and makes the set. The builder is used up.
  [[nodiscard]] TagSet finalize() && {
    if (ends_.empty()) return TagSet();
    const std::pmr::polymorphic_allocator<Storage> allocator(memory_);
    const auto storage = std::allocate_shared<Storage>(
        allocator,
        Storage{std::move(bytes_), std::pmr::vector<std::string_view>(memory_)});
    // The views point into the vector's heap block, which stays where it is from here on.
    storage->tags.reserve(ends_.size());
    std::size_t begin = 0;
    for (const std::size_t end : ends_) {
      storage->tags.emplace_back(storage->bytes.data() + begin, end - begin);
      begin = end;
    }
    std::sort(storage->tags.begin(), storage->tags.end());
    storage->tags.erase(std::unique(storage->tags.begin(), storage->tags.end()),
                        storage->tags.end());
    return TagSet(storage);
  }

 private:
  std::pmr::memory_resource* memory_;
  std::pmr::vector<char> bytes_;
  std::pmr::vector<std::size_t> ends_;
};

inline TagSet TagSet::intersection(const TagSet& other) const {
  Builder builder;
  const_iterator mine = begin();
  const_iterator theirs = other.begin();
  while (mine != end() && theirs != other.end()) {
    const int order = mine->compare(*theirs);
    if (order == 0) builder.add(*mine);
    if (order <= 0) ++mine;
    if (order >= 0) ++theirs;
  }
  return std::move(builder).finalize();
}

}  // namespace handshake
