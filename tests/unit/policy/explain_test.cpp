// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "unit/policy/facts.h"

namespace handshake::policy {
namespace {

using test::load;
using test::psk_peer;
using test::student;

const Explanation::FilterTrace& filter(const Explanation& explanation, std::string_view name) {
  for (const auto& trace : explanation.filters) {
    if (trace.name == name) return trace;
  }
  ADD_FAILURE() << "no filter " << name;
  return explanation.filters.front();
}

constexpr std::string_view kPolicy = R"(
filters:
  ror: {type: subject.OU, value: Roar Omega Roar}
  dates: {type: notAfter, pattern: 2026-12-31}
  names: {type: subjectAltName.dns, pattern: "*.example"}
  home: {type: peer.address, network: 10.0.0.0/8}
  key: {type: psk.identity, value: x}
  usage: {type: keyUsage, purpose: [cRLSign]}
  either: {any: [home, not usage, {type: version, pattern: 1}]}
tags:
  members: {filter: [ror, not home]}
  locals: {filter: [home, ror]}
rules:
  - {name: ssh, port: 22, verdict: deny}
  - {name: trial, require-any: [locals], dry-run: true}
  - {name: nfs, port: 2049, require-any: [members]}
  - {name: never, verdict: deny}
default: deny
)";

TEST(Explain, ShowsWhatEachFilterSawAndSaid) {
  const Policy::Loaded loaded = load(std::string(kPolicy));
  ASSERT_TRUE(loaded.policy) << test::problems_of(loaded);
  const Explanation explained = loaded.policy->explain(student());
  ASSERT_EQ(explained.filters.size(), 7U);
  EXPECT_EQ(filter(explained, "ror").condition, "x509.tbs.subject.OU value=\"Roar Omega Roar\"");
  EXPECT_EQ(filter(explained, "ror").seen, std::vector<std::string>{"Roar Omega Roar"});
  EXPECT_EQ(filter(explained, "ror").answer, Answer::kYes);
  EXPECT_EQ(filter(explained, "dates").seen, std::vector<std::string>{"2026-08-31 00:00:00 UTC"});
  EXPECT_EQ(filter(explained, "names").seen,
            (std::vector<std::string>{"johnny.mu.example", "*.lab.mu.example"}));
  EXPECT_EQ(filter(explained, "home").seen, std::vector<std::string>{"198.51.100.20"});
  EXPECT_EQ(filter(explained, "home").answer, Answer::kNo);
  EXPECT_EQ(filter(explained, "key").answer, Answer::kUnknown);
  EXPECT_EQ(filter(explained, "key").gap, Gap::kNoPsk);
  EXPECT_EQ(filter(explained, "usage").seen,
            std::vector<std::string>{"digitalSignature, nonRepudiation"});
  EXPECT_EQ(filter(explained, "either").condition,
            "any (home, not usage, x509.tbs.version pattern=1)");
  EXPECT_EQ(filter(explained, "either").answer, Answer::kYes);
}

TEST(Explain, ShowsWhatMadeATag) {
  const Policy::Loaded loaded = load(std::string(kPolicy));
  const Explanation explained = loaded.policy->explain(student());
  ASSERT_EQ(explained.tags.size(), 2U);
  EXPECT_EQ(explained.tags[0].name, "members");
  EXPECT_TRUE(explained.tags[0].given);
  ASSERT_EQ(explained.tags[0].entries.size(), 2U);
  EXPECT_EQ(explained.tags[0].entries[1].text, "not home");
  EXPECT_EQ(explained.tags[0].entries[1].answer, Answer::kYes);
  EXPECT_FALSE(explained.tags[1].given);
  EXPECT_EQ(explained.outcome.tags, std::vector<std::string_view>{"members"});
}

TEST(Explain, ShowsWhichRuleDecides) {
  using Speaks = Explanation::RuleTrace::Speaks;
  const Policy::Loaded loaded = load(std::string(kPolicy));
  const Explanation explained = loaded.policy->explain(student());
  ASSERT_EQ(explained.rules.size(), 5U) << "four, and the default";
  EXPECT_EQ(explained.rules[0].speaks, Speaks::kNo);
  EXPECT_TRUE(explained.rules[1].dry_run);
  EXPECT_EQ(explained.rules[1].would, Verdict::Kind::kDeny);
  EXPECT_EQ(explained.rules[2].name, "nfs");
  EXPECT_TRUE(explained.rules[2].decides);
  EXPECT_FALSE(explained.rules[3].decides);
  EXPECT_EQ(explained.rules[4].name, "");
  EXPECT_EQ(explained.rules[4].speaks, Speaks::kNo) << "a rule has spoken";
  EXPECT_EQ(explained.outcome.verdict.rule, "nfs");
  EXPECT_EQ(explained.outcome.dry_runs.size(), 1U);
}

TEST(Explain, AgreesWithEvaluate) {
  const Policy::Loaded loaded = load(std::string(kPolicy));
  for (const PeerFacts& facts : {student(), psk_peer("x"), test::anonymous()}) {
    const Outcome evaluated = loaded.policy->evaluate(facts);
    const Explanation explained = loaded.policy->explain(facts);
    EXPECT_EQ(explained.outcome.tags, evaluated.tags);
    EXPECT_EQ(explained.outcome.verdict.kind, evaluated.verdict.kind);
    EXPECT_EQ(explained.outcome.verdict.rule, evaluated.verdict.rule);
    for (const auto& rule : explained.rules) {
      if (rule.decides) {
        EXPECT_EQ(rule.name, evaluated.verdict.rule);
      }
    }
  }
}

TEST(Explain, ShowsTwentyOfManyNames) {
  PeerFacts facts = student();
  facts.certificate->alternative_names.dns.assign(1000, "x.example");
  const auto loaded = load(std::string(kPolicy));  // the explanation borrows its names
  const Explanation explained = loaded.policy->explain(facts);
  EXPECT_EQ(filter(explained, "names").seen.size(), 20U);
  EXPECT_EQ(filter(explained, "names").not_shown, 980U);
}

}  // namespace
}  // namespace handshake::policy
