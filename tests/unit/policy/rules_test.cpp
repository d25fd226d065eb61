// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "unit/policy/facts.h"

namespace handshake::policy {
namespace {

using test::anonymous;
using test::student;

constexpr std::string_view kTags = R"(
filters:
  ror: {type: subject.OU, value: Roar Omega Roar}
  ok: {type: subject.OU, value: Oozma Kappa}
tags:
  ror: {filter: [ror]}
  ok: {filter: [ok]}
  mu: {filter: [{type: issuer.O, value: Monsters University}]}
)";

struct Decided {
  Verdict::Kind kind;
  std::string text;  // "rule: reason"
  std::string dry_runs;
};

Decided decide(const std::string& rules, const PeerFacts& facts) {
  const Policy::Loaded loaded = test::load(std::string(kTags) + rules);
  EXPECT_TRUE(loaded.policy) << test::problems_of(loaded);
  if (!loaded.policy) return {Verdict::Kind::kUndecided, "", ""};
  const Outcome outcome = loaded.policy->evaluate(facts);
  std::string dry_runs;
  for (const DryRun& dry_run : outcome.dry_runs) {
    dry_runs += std::string(dry_run.rule) +
                (dry_run.would == Verdict::Kind::kAllow ? " allows" : " denies") + ": " +
                dry_run.reason + "\n";
  }
  return {outcome.verdict.kind, std::string(outcome.verdict.rule) + ": " + outcome.verdict.reason,
          dry_runs};
}

bool allows(const std::string& rules, const PeerFacts& facts) {
  return decide(rules, facts).kind == Verdict::Kind::kAllow;
}

TEST(Rules, AllowEverythingWhereThereAreNone) {
  EXPECT_TRUE(allows("", student()));
  EXPECT_TRUE(allows("", anonymous()));
  EXPECT_FALSE(allows("default: deny\n", student()));
  EXPECT_TRUE(Policy().evaluate(anonymous()).tags.empty());
  EXPECT_EQ(Policy().evaluate(anonymous()).verdict.kind, Verdict::Kind::kAllow);
}

TEST(Rules, RequireAnyAllNone) {
  EXPECT_TRUE(allows("rules: [{name: r, require-any: [ok, ror]}]\n", student()));
  EXPECT_FALSE(allows("rules: [{name: r, require-any: [ok]}]\n", student()));
  EXPECT_TRUE(allows("rules: [{name: r, require-all: [ror, mu]}]\n", student()));
  EXPECT_FALSE(allows("rules: [{name: r, require-all: [ror, ok]}]\n", student()));
  EXPECT_TRUE(allows("rules: [{name: r, require-none: [ok]}]\n", student()));
  EXPECT_FALSE(allows("rules: [{name: r, require-none: [ok, mu]}]\n", student()));
  EXPECT_FALSE(allows("rules: [{name: r, require-any: [ror], require-none: [mu]}]\n", student()));
}

TEST(Rules, SayWhy) {
  EXPECT_EQ(decide("rules: [{name: r, require-any: [ok]}]\n", student()).text,
            "r: has none of: ok");
  EXPECT_EQ(decide("rules: [{name: r, require-all: [ror, ok]}]\n", student()).text, "r: lacks ok");
  EXPECT_EQ(decide("rules: [{name: r, require-none: [mu]}]\n", student()).text, "r: has mu");
  EXPECT_EQ(decide("rules: [{name: r, require-none: [ok]}]\n", student()).text,
            "r: has the tags that are required");
  EXPECT_EQ(decide("default: deny\n", student()).text,
            ": no rule is about this session; the default denies");
}

TEST(Rules, NeverLetInWhoProvedNothingWhenTheyRequireSomething) {
  EXPECT_EQ(decide("rules: [{name: r, require-none: [ok]}]\n", anonymous()).text,
            "r: the peer has proved no identity");
  EXPECT_FALSE(allows("rules: [{name: r, require-none: [ok]}]\n", anonymous()));
  EXPECT_TRUE(allows("rules: [{name: r, verdict: allow}]\n", anonymous()));
}

TEST(Rules, SpeakForARoleAPortAnAddressAClass) {
  // The student is a client of ours at 203.0.113.1:2049, class tlshd.
  const auto denies = [](const std::string& condition) {
    return !allows("rules: [{name: r, " + condition + ", verdict: deny}]\n", student());
  };
  EXPECT_TRUE(denies("role: server"));
  EXPECT_FALSE(denies("role: client"));
  EXPECT_TRUE(denies("port: 2049"));
  EXPECT_TRUE(denies("port: [80, 2000-3000]"));
  EXPECT_FALSE(denies("port: [80, 2050-3000]"));
  EXPECT_TRUE(denies("address: 203.0.113.0/24"));
  EXPECT_FALSE(denies("address: [203.0.113.2, \"::1\"]"));
  EXPECT_TRUE(denies("class: [other, tlshd]"));
  EXPECT_FALSE(denies("class: other"));
  EXPECT_FALSE(denies("role: server, port: 2049, class: other")) << "all of them must fit";
}

TEST(Rules, TheFirstThatSpeaksDecides) {
  const std::string rules =
      "rules:\n"
      "  - {name: other-port, port: 80, verdict: deny}\n"
      "  - {name: nfs, port: 2049, require-any: [ror]}\n"
      "  - {name: rest, verdict: deny}\n";
  EXPECT_EQ(decide(rules, student()).text, "nfs: has the tags that are required");
  PeerFacts elsewhere = student();
  elsewhere.local_port = std::uint16_t{22};
  EXPECT_EQ(decide(rules, elsewhere).text, "rest: denies");
}

TEST(Rules, InDryRunOnlyTell) {
  const Decided decided = decide(
      "rules:\n"
      "  - {name: new, require-any: [ok], dry-run: true}\n"
      "  - {name: old, require-any: [ror]}\n",
      student());
  EXPECT_EQ(decided.kind, Verdict::Kind::kAllow);
  EXPECT_EQ(decided.text, "old: has the tags that are required");
  EXPECT_EQ(decided.dry_runs, "new denies: has none of: ok\n");
}

TEST(Rules, DryRunForAllLetsEverythingPass) {
  const Decided decided = decide(
      "dry-run: true\n"
      "default: deny\n"
      "rules: [{name: r, port: 2049, require-any: [ok]}]\n",
      student());
  EXPECT_EQ(decided.kind, Verdict::Kind::kAllow);
  EXPECT_EQ(
      decided.dry_runs,
      "r denies: has none of: ok\n denies: no rule is about this session; the default denies\n");
}

TEST(Rules, DoNotGuessWhatTheyDoNotKnow) {
  PeerFacts nowhere = student();
  nowhere.local_port.reset();
  const Decided decided = decide("rules: [{name: r, port: 2049, verdict: allow}]\n", nowhere);
  EXPECT_EQ(decided.kind, Verdict::Kind::kUndecided);
  EXPECT_TRUE(allows("rules: [{name: r, port: 2049, role: client, verdict: deny}]\n", nowhere))
      << "the role says that it is about others";
}

TEST(Rules, KnowWhetherTheyCouldDeny) {
  const auto harmless = [](const std::string& rules) {
    return test::load(std::string(kTags) + rules).policy->allows_everything();
  };
  EXPECT_TRUE(Policy().allows_everything());
  EXPECT_TRUE(harmless(""));
  EXPECT_TRUE(harmless("rules: [{name: r, verdict: allow}]\n"));
  EXPECT_TRUE(harmless("rules: [{name: r, require-any: [ok], dry-run: true}]\n"));
  EXPECT_TRUE(harmless("default: deny\ndry-run: true\n"));
  EXPECT_FALSE(harmless("default: deny\n"));
  EXPECT_FALSE(harmless("rules: [{name: r, require-any: [ok]}]\n"));
}

}  // namespace
}  // namespace handshake::policy
