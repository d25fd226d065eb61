// SPDX-License-Identifier: Apache-2.0
#include "policy/pattern.h"

#include <gtest/gtest.h>

#include <random>

namespace handshake::policy {
namespace {

using namespace std::string_literals;

bool matches(const Pattern& pattern, const std::string& text) {
  WorkBudget budget(1'000'000'000);
  const bool matched = pattern.matches(Text(text), budget);
  EXPECT_FALSE(budget.exhausted());
  return matched;
}
bool wildcard(const std::string& pattern, const std::string& text) {
  return matches(Pattern::wildcard(pattern), text);
}

/// The definition, in exponential time: what both matchers are compared with. ASCII only.
bool by_definition(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*') {
    for (std::size_t i = 0; i <= text.size(); ++i) {
      if (by_definition(pattern.substr(1), text.substr(i))) return true;
    }
    return false;
  }
  return !text.empty() && (pattern[0] == '?' || pattern[0] == text[0]) &&
         by_definition(pattern.substr(1), text.substr(1));
}

TEST(Pattern, WithoutWildcardMatchesOnlyItself) {
  EXPECT_TRUE(wildcard("abc", "abc"));
  EXPECT_FALSE(wildcard("abc", "abcd"));
  EXPECT_FALSE(wildcard("abc", "ab"));
  EXPECT_FALSE(wildcard("abc", "ABC"));
  EXPECT_TRUE(wildcard("", ""));
  EXPECT_FALSE(wildcard("", "a"));
}

TEST(Pattern, StarStandsForAnyBytesAndForNone) {
  EXPECT_TRUE(wildcard("*", ""));
  EXPECT_TRUE(wildcard("**", "x"));
  EXPECT_TRUE(wildcard("a*c", "ac"));
  EXPECT_TRUE(wildcard("a*c", "abbbc"));
  EXPECT_FALSE(wildcard("a*c", "abbb"));
  EXPECT_TRUE(wildcard("*,O=Monsters University,*", "CN=x,O=Monsters University,C=US"));
  EXPECT_FALSE(wildcard("*,O=Monsters University,*", "CN=x,O=Monsters University"));
}

TEST(Pattern, AnchoredEndsDoNotOverlap) {
  EXPECT_FALSE(wildcard("aba*aba", "aba"));
  EXPECT_FALSE(wildcard("ab*ba", "aba"));
  EXPECT_TRUE(wildcard("ab*ba", "abba"));
}

TEST(Pattern, QuestionMarkIsOneCharacterNotOneByte) {
  EXPECT_TRUE(wildcard("M?ller", "M\xC3\xBCller"));
  EXPECT_FALSE(wildcard("M??ller", "M\xC3\xBCller"));
  EXPECT_TRUE(wildcard("?", "\xF0\x9F\x91\xBE"));
  EXPECT_TRUE(wildcard("a?b", "a\xFF"s + "b"))
      << "a byte that belongs to no character counts as one";
  EXPECT_FALSE(wildcard("?", ""));
}

TEST(Pattern, ComparesBehindANul) {
  EXPECT_FALSE(wildcard("good.example", "good.example\0.evil.example"s));
  EXPECT_FALSE(wildcard("*good.example", "good.example\0.evil.example"s));
  EXPECT_TRUE(wildcard("good*evil.example", "good.example\0.evil.example"s));
  EXPECT_FALSE(matches(Pattern::exact("good"), "good\0"s));
  EXPECT_TRUE(matches(Pattern::exact("a\0b"s), "a\0b"s));
}

TEST(Pattern, ExactTakesStarsAsThemselves) {
  EXPECT_TRUE(matches(Pattern::exact("*.example"), "*.example"));
  EXPECT_FALSE(matches(Pattern::exact("*.example"), "a.example"));
}

TEST(Pattern, AgreesWithItsDefinitionOnRandomInput) {
  std::mt19937 random(1);
  const auto word = [&](std::string_view letters, std::size_t longest) {
    std::string made(random() % (longest + 1), ' ');
    for (char& c : made) c = letters[random() % letters.size()];
    return made;
  };
  for (int round = 0; round < 200'000; ++round) {
    const std::string pattern = word(round % 2 == 0 ? "ab*" : "ab*?", 7);
    const std::string text = word("ab", 9);
    ASSERT_EQ(wildcard(pattern, text), by_definition(pattern, text)) << pattern << " on " << text;
  }
}

TEST(Pattern, EndsWithItsBudget) {
  WorkBudget budget(1000);
  const Text text(std::string(2000, 'a'));
  EXPECT_FALSE(Pattern::wildcard("*a*a*").matches(text, budget));
  EXPECT_TRUE(budget.exhausted());
  EXPECT_FALSE(Pattern::exact("a").matches(Text("a"), budget))
      << "once used up, nothing matches any more";
}

TEST(Pattern, CostsWhatTheBudgetSaysHoweverItIsBuilt) {
  // A million times a, and a pattern that fits everywhere but at its end.
  const Text text(std::string(1'000'000, 'a'));
  WorkBudget budget(32'000'000);
  EXPECT_FALSE(Pattern::wildcard("*" + std::string(500, 'a') + "b*").matches(text, budget));
  EXPECT_FALSE(Pattern::wildcard("*?" + std::string(500, 'a') + "?aab").matches(text, budget));
  EXPECT_FALSE(budget.exhausted()) << "the trigrams have no b: nothing was compared";
}

}  // namespace
}  // namespace handshake::policy
