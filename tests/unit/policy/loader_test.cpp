// SPDX-License-Identifier: Apache-2.0
//
// Files of others, and every problem that a file can have.

#include <gtest/gtest.h>

#include "unit/policy/facts.h"

namespace handshake::policy {
namespace {

using namespace std::string_literals;
using test::load;
using test::problems_of;
using test::student;
using test::tags_of;

/// The problems of a text that must not load.
std::string refused(const std::string& content) {
  const Policy::Loaded loaded = load(content);
  EXPECT_EQ(loaded.policy, nullptr) << content;
  return problems_of(loaded);
}
#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

// Written after the description in tls-session-tags(7): quoted and plain words, "not", document
// start.
constexpr std::string_view kLikeTlshd = R"(---
filters:
  from-mu:
    type: "x509.tbs.issuer"
    pattern: "*,O=Monsters University,*"
  from-ft:
    type: "x509.tbs.issuer"
    pattern: "*,O=Fear Technology,*"
  ror:
    type: x509.tbs.subject
    pattern: "*,OU=Roar Omega Roar,*"
  signs:
    type: "x509.extension.keyUsage"
    purpose:
      - "digitalSignature"
      - "nonRepudiation"
  current:
    type: "x509.tbs.validity.notBefore"
    pattern: "2025-01-01 00:00:00"

tags:
  ror-at-mu:
    filter:
      - "from-mu"
      - ror
      - not from-ft
      - "signs"
  ror-at-ft:
    filter:
      - "from-ft"
      - "ror"
  recent:
    filter:
      - current
)";

TEST(Loader, ReadsTlshdsFiles) {
  EXPECT_EQ(tags_of(std::string(kLikeTlshd), student()), "ror-at-mu recent");
}

TEST(Loader, AcceptsEmptyFilesAndSections) {
  for (const char* text :
       {"", "# nothing yet\n", "---\n", "filters:\ntags:\n", "filters: {}\ntags: {}\n"}) {
    const Policy::Loaded loaded = load(text);
    EXPECT_TRUE(loaded.policy) << text << problems_of(loaded);
  }
  EXPECT_TRUE(Policy::load({}).policy) << "no files at all";
}

TEST(Loader, MakesOnePolicyOfAllFilesAndDocuments) {
  const std::vector<PolicyText> texts{
      {"10-tags.yaml", "tags:\n  b: {filter: [f]}\n---\ntags:\n  a: {filter: [g]}\n"},
      {"20-filters.yaml", "filters:\n  f: {all: [g]}\n"},
      {"30-filters.yaml", "filters:\n  g: {type: version, pattern: 3}\n"},
  };
  const Policy::Loaded loaded = Policy::load(texts);
  ASSERT_TRUE(loaded.policy) << problems_of(loaded);
  const std::vector<std::string_view> expected{"b", "a"};
  EXPECT_EQ(loaded.policy->evaluate(student()).tags, expected);
}

TEST(Loader, ReportsEveryProblemOfEveryFileInOrder) {
  const std::vector<PolicyText> texts{
      {"a.yaml",
       "filters:\n  f:\n    type: x509.tbs.subjet\n    pattern: x\n  g: {type: version}\n"},
      {"b.yaml", "tags:\n  t:\n    filter: [nosuch]\ntabs: 1\n"},
      {"c.yaml", "filters: [\n"},
  };
  const Policy::Loaded loaded = Policy::load(texts);
  EXPECT_EQ(loaded.policy, nullptr);
  const std::string text = problems_of(loaded);
  ASSERT_EQ(loaded.problems.size(), 5U) << text;
  EXPECT_CONTAINS(
      text,
      "a.yaml:3:11: filters.f.type: \"x509.tbs.subjet\" is not a filter type, expected one of: ");
  EXPECT_CONTAINS(text, "a.yaml:5:6: filters.g: expected a pattern for x509.tbs.version\n");
  EXPECT_CONTAINS(text, "b.yaml:3:14: tags.t.filter: there is no filter \"nosuch\"\n");
  EXPECT_CONTAINS(
      text,
      "b.yaml:4:1: tabs: unknown key, expected one of: default, dry-run, filters, rules, tags\n");
  EXPECT_CONTAINS(text, "c.yaml:2:1: not valid YAML: ");
}

TEST(Loader, RefusesAKeyThatStandsTwice) {
  EXPECT_CONTAINS(
      refused("filters:\n  f: {type: version, pattern: 3}\n  f: {type: version, pattern: 1}\n"),
      "policy.yaml:3:3: f: the key stands twice\n");
  EXPECT_CONTAINS(refused("tags: {}\ntags: {}\n"), "policy.yaml:2:1: tags: the key stands twice\n");
}

TEST(Loader, RefusesANameThatTwoFilesDefine) {
  const std::vector<PolicyText> texts{
      {"a.yaml", "filters:\n  f: {type: version, pattern: 3}\n"},
      {"b.yaml", "filters:\n  f: {type: version, pattern: 3}\n"},
  };
  EXPECT_CONTAINS(problems_of(Policy::load(texts)),
                  "b.yaml:2:3: filters.f: already defined at a.yaml:2:3\n");
}

TEST(Loader, RefusesCirclesOfFilters) {
  EXPECT_CONTAINS(
      refused("filters:\n  a: {any: [b]}\n  b: {not: c}\n  c: {all: [not a]}\n"),
      "policy.yaml:4:13: filters.c.all: the filter \"a\" refers to itself, by way of this\n");
  EXPECT_CONTAINS(refused("filters:\n  a: {not: a}\n"), "refers to itself");
}

TEST(Loader, BoundsTheNestingOfFilters) {
  const auto chain = [](int links, bool backwards) {
    std::string text = "filters:\n";
    for (int i = 0; i < links; ++i) {
      const int link = backwards ? links - 1 - i : i;
      text += "  f" + std::to_string(link) + ": ";
      text += link == 0 ? "{type: version, pattern: 3}\n"
                        : "{any: [f" + std::to_string(link - 1) + "]}\n";
    }
    return text;
  };
  EXPECT_TRUE(load(chain(16, false)).policy);
  EXPECT_TRUE(load(chain(16, true)).policy);
  EXPECT_CONTAINS(refused(chain(17, false)), "nested more than 16 deep");
  EXPECT_CONTAINS(refused(chain(100'000, false)), "nested more than 16 deep");
  EXPECT_CONTAINS(refused(chain(100'000, true)), "nested more than 16 deep");
}

TEST(Loader, BoundsTheNestingOfYaml) {
  EXPECT_CONTAINS(refused("filters: " + std::string(100'000, '[')), "nested more than 24 deep");
  std::string braces;
  for (int i = 0; i < 50'000; ++i) braces += "{a: ";
  EXPECT_CONTAINS(refused("filters: " + braces), "nested more than 24 deep");
}

TEST(Loader, RefusesABillionLaughs) {
  std::string text = "a: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i < 12; ++i) {
    text += "b" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) text += (j > 0 ? ", *a" : "*a") + std::to_string(i - 1);
    text += "]\n";
  }
  EXPECT_CONTAINS(refused(text), "more than a policy may contain");
}

TEST(Loader, RefusesAliasesThatGrowDeepInsteadOfWide) {
  std::string text = "a0: &a0 [[[[[[[[x]]]]]]]]\n";
  for (int i = 1; i < 1000; ++i) {
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [[[[[[[[*a" +
            std::to_string(i - 1) + "]]]]]]]]\n";
  }
  EXPECT_CONTAINS(refused(text), "nested more than 24 deep");
  EXPECT_CONTAINS(refused("a: &a [*a]\n"), "the alias stands inside what it names");
}

TEST(Loader, FollowsAnOrdinaryAlias) {
  EXPECT_EQ(tags_of("filters: {f: {type: version, pattern: 3}}\n"
                    "tags:\n  a: {filter: &both [f, not g]}\n  b: {filter: *both}\n"
                    "---\nfilters: {g: {type: version, pattern: 1}}\n",
                    student()),
            "a b");
}

TEST(Loader, RefusesBytesThatAreNotText) {
  EXPECT_CONTAINS(refused("tags: {}\n# caf\xE9\n"), "policy.yaml:2:6: neither a NUL byte");
  EXPECT_CONTAINS(refused("tags: {}\0filters: {}\n"s), "policy.yaml:1:9: neither a NUL byte");
  EXPECT_CONTAINS(refused("\xFF\xFEt\0a\0g\0s\0:\0"s), "policy.yaml:1:1: ");
  EXPECT_CONTAINS(refused("tags: {}\n" + std::string(17'000'000, '#')),
                  "longer than 16777216 bytes");
}

TEST(Loader, StopsCountingProblemsButNotRefusing) {
  std::string text = "filters:\n";
  for (int i = 0; i < 5000; ++i) text += "  f" + std::to_string(i) + ": {type: nonsense}\n";
  const Policy::Loaded loaded = load(text);
  EXPECT_EQ(loaded.policy, nullptr);
  EXPECT_EQ(loaded.problems.size(), 1000U);
}

TEST(Loader, RefusesWhatCannotBeATag) {
  const std::string filter = "filters: {f: {type: version, pattern: 3}}\n";
  EXPECT_TRUE(load(filter + "tags: {? " + std::string(255, 'x') + " : {filter: [f]}}\n").policy);
  for (const std::string& tag : {std::string(256, 'x'), "\"\""s, "\"a\\0b\""s, "\"a\\nb\""s}) {
    EXPECT_CONTAINS(refused(filter + "tags: {? " + tag + " : {filter: [f]}}\n"),
                    "expected a tag of 1 to 255 bytes without control characters");
  }
  EXPECT_CONTAINS(refused("tags: {? [a] : {filter: [f]}}\n"), "this key is not a word");
}

TEST(Loader, RefusesATagWithoutFilters) {
  for (const char* tag : {"{filter: []}", "{filter: }", "{}", "{filter: {}}", "[f]", "f"}) {
    EXPECT_CONTAINS(refused("filters: {f: {type: version, pattern: 3}}\ntags: {t: "s + tag + "}\n"),
                    "expected a list of filters");
  }
}

TEST(Loader, RefusesFiltersThatAreNone) {
  const auto problem = [](const std::string& filter) {
    return refused("filters: {f: " + filter + "}\n");
  };
  EXPECT_CONTAINS(problem("x"), "expected a filter: a map with a type, or with all, any or not");
  EXPECT_CONTAINS(problem("{pattern: x}"), "expected a type, or all, any or not");
  EXPECT_CONTAINS(problem("{type: [subject]}"), "expected a filter type");
  EXPECT_CONTAINS(problem("{type: subject, patern: x}"),
                  "filters.f.patern: unknown key, expected one of: maximum, ");
  EXPECT_CONTAINS(problem("{type: subject, pattern: }"), "expected text, or a list of them");
  EXPECT_CONTAINS(problem("{type: subject, pattern: []}"), "expected text, or a list of them");
  EXPECT_CONTAINS(problem("{type: subject, pattern: [[a]]}"), "expected text");
  EXPECT_CONTAINS(problem("{type: subject, value: x}"), "means nothing for x509.tbs.subject");
  EXPECT_CONTAINS(problem("{type: subject, pattern: " + std::string(4097, 'x') + "}"),
                  "longer than 4096 bytes");
  EXPECT_CONTAINS(problem("{type: subject.Organisation, value: x}"),
                  "\"Organisation\" is not an attribute");
  EXPECT_CONTAINS(problem("{type: notAfter, pattern: yesterday}"),
                  "pattern=yesterday, expected a date such as ");
  EXPECT_CONTAINS(problem("{type: notAfter, pattern: [2026-01-01, 2026-01-02]}"),
                  "expected one date");
  EXPECT_CONTAINS(problem("{type: fingerprint, pattern: abcd}"), "4 digits never match");
  EXPECT_CONTAINS(problem("{type: fingerprint, pattern: xy*}"), "expected hexadecimal digits");
  EXPECT_CONTAINS(problem("{type: keyUsage, purpose: [signing]}"),
                  "purpose=signing is unknown, expected one of: digital");
  EXPECT_CONTAINS(problem("{type: keyUsage}"), "expected a list of purposes");
  EXPECT_CONTAINS(problem("{type: extendedKeyUsage, purpose: [clientauth]}"),
                  "expected an OID or one of: serverAuth");
  EXPECT_CONTAINS(problem("{type: peer.address, network: example.com}"), "is not an address");
  EXPECT_CONTAINS(problem("{type: publicKey.bits}"), "expected a minimum or a maximum");
  EXPECT_CONTAINS(problem("{type: publicKey.bits, minimum: 3, maximum: 2}"),
                  "a minimum not above the maximum");
  EXPECT_CONTAINS(problem("{type: publicKey.bits, minimum: -1}"),
                  "expected a number from 0 to 1000000");
  EXPECT_CONTAINS(problem("{all: []}"), "expected a list of filters");
  EXPECT_CONTAINS(problem("{any: x}"), "expected a list of filters");
  EXPECT_CONTAINS(problem("{not: x}"), "there is no filter \"x\"");
  EXPECT_CONTAINS(problem("{all: [{type: selfSigned}], type: version}"),
                  "unknown key, expected one of: all");
  EXPECT_CONTAINS(problem("!custom {type: selfSigned}"), "the tag !custom means nothing here");
  EXPECT_CONTAINS(refused("filters: {not x: {type: selfSigned}}\n"), "cannot start with \"not \"");
  EXPECT_CONTAINS(refused("filters: {\"a\\nb\": {type: selfSigned}}\n"),
                  "filters.a\\x0ab: expected a name without");
}

TEST(Loader, OnlyWarnsOfWhatTlshdIgnores) {
  const Policy::Loaded loaded =
      load("filters:\n  f:\n    type: x509.tbs.version\n    pattern: 3\n    purpose: [cRLSign]\n");
  EXPECT_TRUE(loaded.policy);
  EXPECT_EQ(problems_of(loaded),
            "policy.yaml:5:5: filters.f.purpose: warning: means nothing for x509.tbs.version\n");
}

TEST(Loader, RefusesRulesThatAreNone) {
  const std::string tag = "tags: {t: {filter: [{type: version, pattern: 3}]}}\n";
  const auto problem = [&](const std::string& rule) {
    return refused(tag + "rules:\n  - " + rule + "\n");
  };
  EXPECT_CONTAINS(problem("x"), "expected a rule: a map with a name");
  EXPECT_CONTAINS(problem("{require-any: [t]}"), "expected the rule to have a name");
  EXPECT_CONTAINS(problem("{name: r}"), "rules.r: expected either what it requires");
  EXPECT_CONTAINS(problem("{name: r, verdict: deny, require-any: [t]}"),
                  "expected either what it requires");
  EXPECT_CONTAINS(problem("{name: r, require-any: [u]}"),
                  "policy.yaml:3:29: rules.r.require-any: there is no tag \"u\"");
  EXPECT_CONTAINS(problem("{name: r, require-any: []}"), "expected a tag, or a list of them");
  EXPECT_CONTAINS(problem("{name: r, verdict: maybe}"), "expected allow or deny");
  EXPECT_CONTAINS(problem("{name: r, verdict: deny, role: peer}"), "expected client or server");
  EXPECT_CONTAINS(problem("{name: r, verdict: deny, port: 65536}"),
                  "expected a local port or a range");
  EXPECT_CONTAINS(problem("{name: r, verdict: deny, port: 9-8}"),
                  "expected a local port or a range");
  EXPECT_CONTAINS(problem("{name: r, verdict: deny, address: 192.0.2.1/24}"),
                  "bits set behind its prefix");
  EXPECT_CONTAINS(problem("{name: r, verdict: deny, class: [[x]]}"), "expected a handler class");
  EXPECT_CONTAINS(problem("{name: r, verdict: deny, dry-run: yes}"), "expected true or false");
  EXPECT_CONTAINS(problem("{name: r, verdict: deny, peer: x}"), "rules.r.peer: unknown key");
  EXPECT_CONTAINS(refused(tag + "rules: {name: r}\n"), "expected a list of rules");
  EXPECT_CONTAINS(refused(tag + "rules: [{name: r, verdict: deny}, {name: r, verdict: allow}]\n"),
                  "already defined at");
  EXPECT_CONTAINS(refused("default: drop\n"), "expected allow or deny");
  EXPECT_CONTAINS(refused("default: allow\n---\ndefault: deny\n"),
                  "policy.yaml:3:1: default: already defined at policy.yaml:1:1");
}

}  // namespace
}  // namespace handshake::policy
