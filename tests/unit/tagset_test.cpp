// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <handshake/tagset.hpp>
#include <initializer_list>
#include <memory_resource>
#include <new>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace handshake {
namespace {

TagSet make(std::initializer_list<std::string_view> tags) {
  TagSet::Builder builder;
  for (const std::string_view tag : tags) builder.add(tag);
  return std::move(builder).finalize();
}

std::vector<std::string> listed(const TagSet& set) { return {set.begin(), set.end()}; }

/// Hands out memory until a limit of allocations, then throws as malloc would.
class FailingMemory : public std::pmr::memory_resource {
 public:
  explicit FailingMemory(int allowed) : allowed_(allowed) {}
  int live = 0;

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (allowed_-- <= 0) throw std::bad_alloc();
    ++live;
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, std::size_t bytes, std::size_t alignment) override {
    --live;
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
  int allowed_;
};

TEST(TagSet, FinalizeSortsAndDropsDuplicates) {
  const TagSet set = make({"staff", "admin", "staff", "zebra", "admin"});
  EXPECT_EQ(listed(set), (std::vector<std::string>{"admin", "staff", "zebra"}));
  EXPECT_EQ(set.size(), 3u);
  EXPECT_FALSE(set.empty());
}

TEST(TagSet, BuilderCountsTagsAsAddedDuplicatesIncluded) {
  TagSet::Builder builder;
  builder.add("a");
  builder.add("a");
  EXPECT_EQ(builder.size(), 2u);
}

TEST(TagSet, ContainsWhatWasAddedAndNothingElse) {
  const TagSet set = make({"b", "d", "f"});
  for (const char* tag : {"b", "d", "f"}) EXPECT_TRUE(set.contains(tag)) << tag;
  for (const char* tag : {"", "a", "c", "e", "g", "bb", "B"}) EXPECT_FALSE(set.contains(tag)) << tag;
}

TEST(TagSet, PrefixesAreDifferentTags) {
  const TagSet set = make({"nfs"});
  EXPECT_FALSE(set.contains("nf"));
  EXPECT_FALSE(set.contains("nfsd"));
}

TEST(TagSet, BytesAboveAsciiAreOrderedAsBytes) {
  const TagSet set = make({"\xff", "z", "\x7f"});
  EXPECT_EQ(listed(set), (std::vector<std::string>{"z", "\x7f", "\xff"}));
  EXPECT_TRUE(set.contains("\xff"));
}

TEST(TagSet, AnEmptySetAnswersEveryQuery) {
  const TagSet empty;
  const TagSet some = make({"a"});
  EXPECT_TRUE(empty.empty());
  EXPECT_EQ(empty.size(), 0u);
  EXPECT_EQ(empty.begin(), empty.end());
  EXPECT_FALSE(empty.contains(""));
  EXPECT_FALSE(empty.contains("a"));
  EXPECT_FALSE(empty.intersects(some));
  EXPECT_FALSE(some.intersects(empty));
  EXPECT_TRUE(empty.intersection(some).empty());
  EXPECT_EQ(empty, make({}));
  EXPECT_NE(empty, some);
}

TEST(TagSet, IntersectionHoldsWhatBothHave) {
  const TagSet a = make({"a", "b", "c", "e"});
  const TagSet b = make({"b", "d", "e", "f"});
  EXPECT_TRUE(a.intersects(b));
  EXPECT_TRUE(b.intersects(a));
  EXPECT_EQ(a.intersection(b), make({"b", "e"}));
  EXPECT_EQ(b.intersection(a), make({"b", "e"}));
  EXPECT_FALSE(a.intersects(make({"x", "aa"})));
  EXPECT_TRUE(a.intersection(make({"x", "aa"})).empty());
}

TEST(TagSet, AgreesWithStdSetOnRandomInput) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::set<std::string> reference[2];
    TagSet sets[2];
    for (int side = 0; side < 2; ++side) {
      TagSet::Builder builder;
      const auto count = random() % 70;
      for (auto i = count; i > 0; --i) {
        const std::string tag = std::to_string(random() % 90);
        reference[side].insert(tag);
        builder.add(tag);
      }
      sets[side] = std::move(builder).finalize();
      EXPECT_EQ(listed(sets[side]),
                std::vector<std::string>(reference[side].begin(), reference[side].end()));
    }
    std::vector<std::string> common;
    std::set_intersection(reference[0].begin(), reference[0].end(), reference[1].begin(),
                          reference[1].end(), std::back_inserter(common));
    EXPECT_EQ(listed(sets[0].intersection(sets[1])), common);
    EXPECT_EQ(sets[0].intersects(sets[1]), !common.empty());
    for (int i = 0; i < 90; ++i) {
      EXPECT_EQ(sets[0].contains(std::to_string(i)), reference[0].count(std::to_string(i)) == 1);
    }
  }
}

TEST(TagSet, ACopySharesStorageAndOutlivesTheOriginal) {
  TagSet copy;
  const std::string_view* first = nullptr;
  {
    const TagSet original = make({"one", "two"});
    copy = original;
    first = original.begin();
  }
  EXPECT_EQ(copy.begin(), first);
  EXPECT_TRUE(copy.contains("two"));
}

TEST(TagSet, OneSetIsReadFromManyThreads) {
  const TagSet set = make({"a", "b", "c"});
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([set] {
      for (int round = 0; round < 1000; ++round) {
        const TagSet mine = set;
        ASSERT_TRUE(mine.contains("b"));
        ASSERT_TRUE(mine.intersects(set));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(TagSet, RunningOutOfMemoryThrowsAndLeaksNothing) {
  bool succeeded = false;
  for (int allowed = 0; !succeeded; ++allowed) {
    ASSERT_LT(allowed, 100);
    FailingMemory memory(allowed);
    try {
      TagSet::Builder builder(&memory);
      for (int i = 0; i < 10; ++i) builder.add("tag " + std::to_string(i));
      const TagSet set = std::move(builder).finalize();
      EXPECT_EQ(set.size(), 10u);
      succeeded = true;
    } catch (const std::bad_alloc&) {
    }
    EXPECT_EQ(memory.live, 0);
  }
}

}  // namespace
}  // namespace handshake
