// SPDX-License-Identifier: Apache-2.0
//
// Every YAML block of docs/session-tags.md, against the certificate that the document describes.

#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <set>
#include <sstream>

#include "support/der.h"
#include "tls/peer_facts.h"
#include "unit/policy/facts.h"

namespace handshake::policy {
namespace {

using namespace std::string_literals;
using test_der::attribute;
using test_der::extension;
using test_der::oid;
using test_der::printable_string;
using test_der::sequence;
using test_der::tlv;
using test_der::utf8_string;

std::string mill_name(const std::string& most_specific) {
  return attribute("2.5.4.6", printable_string("NL")) +
         attribute("2.5.4.10", utf8_string("Example Mill")) + most_specific;
}

test_der::Certificate authority() {
  test_der::Certificate certificate;
  certificate.issuer = certificate.subject =
      mill_name(attribute("2.5.4.3", utf8_string("Mill CA")));
  return certificate;
}

test_der::Certificate node() {
  test_der::Certificate certificate;
  certificate.serial_number = "\0\xF1\xA2"s;
  certificate.issuer = authority().subject;
  certificate.subject = mill_name(attribute("2.5.4.11", utf8_string("Storage")) +
                                  attribute("2.5.4.3", utf8_string("node-7")));
  certificate.not_before = test_der::utc_time("260101000000Z");
  certificate.not_after = test_der::utc_time("261231235959Z");
  certificate.extensions =
      extension("2.5.29.15", test_der::bit_string("\x80", 7)) +
      extension("2.5.29.37", sequence(oid("1.3.6.1.5.5.7.3.2") + oid("1.3.6.1.4.1.99999.1"))) +
      extension("2.5.29.17", sequence(tlv(0x82, "node-7.mill.example") + tlv(0x87, "\xC0\0\2\7"s) +
                                      tlv(0x86, "spiffe://mill.example/storage/node-7") +
                                      tlv(0x81, "ops@mill.example")));
  return certificate;
}

PeerFacts peer() {
  auto facts = tls::read_peer_facts({"node-7", node().der()}, {{"CA", authority().der()}});
  if (!facts) throw std::runtime_error(facts.error().detail);
  facts->peer_address = IpAddress::parse("192.0.2.7");
  facts->local_address = IpAddress::parse("203.0.113.1");
  facts->local_port = std::uint16_t{2049};
  facts->role = Role::kServer;
  facts->handler_class = "tlshd";
  return *facts;
}

struct Example {
  std::size_t line = 0;
  std::string yaml;
  std::string claim;  // "Gives: `a`, `b`. Rule `r` allows."
};

/// The blocks, and the first line of text behind each.
std::vector<Example> examples() {
  std::ifstream file(HS_SOURCE_DIR "/docs/session-tags.md");
  std::vector<Example> found;
  std::optional<Example> open;
  bool awaits_claim = false;
  std::size_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    if (line == "```yaml") {
      open = Example{number, "", ""};
    } else if (open && line == "```") {
      found.push_back(*std::exchange(open, std::nullopt));
      awaits_claim = true;
    } else if (open) {
      open->yaml += line + "\n";
    } else if (awaits_claim && !line.empty()) {
      found.back().claim = line;
      awaits_claim = false;
    }
  }
  return found;
}

/// What stands between backquotes in `text`.
std::vector<std::string> backquoted(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t at = text.find('`'); at != std::string_view::npos; at = text.find('`', at + 1)) {
    const std::size_t end = text.find('`', at + 1);
    words.emplace_back(text.substr(at + 1, end - at - 1));
    at = end;
  }
  return words;
}

TEST(Documentation, ExamplesGiveWhatTheySay) {
  const PeerFacts facts = peer();
  ASSERT_GE(examples().size(), 20U);
  for (const Example& example : examples()) {
    SCOPED_TRACE("docs/session-tags.md:" + std::to_string(example.line));
    const Policy::Loaded loaded = test::load(example.yaml);
    ASSERT_TRUE(loaded.policy) << test::problems_of(loaded);
    EXPECT_TRUE(loaded.problems.empty()) << test::problems_of(loaded);
    const Outcome outcome = loaded.policy->evaluate(facts);

    ASSERT_TRUE(example.claim.starts_with("Gives")) << example.claim;
    const std::size_t rule_at = std::min(example.claim.find("Rule `"), example.claim.size());
    const std::vector<std::string> tags(outcome.tags.begin(), outcome.tags.end());
    EXPECT_EQ(tags, backquoted(std::string_view(example.claim).substr(0, rule_at)));

    const std::string rule_claim = example.claim.substr(rule_at);
    if (rule_claim.empty()) continue;
    EXPECT_EQ(outcome.verdict.rule, backquoted(rule_claim).at(0));
    const bool allows = outcome.verdict.kind == Verdict::Kind::kAllow;
    EXPECT_TRUE(rule_claim.ends_with(allows ? "allows." : "denies.")) << rule_claim;
  }
}

TEST(Documentation, HasAnExampleOfEveryTypeOfFilter) {
  std::string all;
  for (const Example& example : examples()) all += example.yaml;
  // The list that people get to see when they mistype one.
  const Policy::Loaded loaded = test::load("filters: {f: {type: nonsense}}\n");
  ASSERT_EQ(loaded.problems.size(), 1U);
  std::istringstream types(
      loaded.problems[0].reason.substr(loaded.problems[0].reason.find(": ") + 2));
  std::size_t count = 0;
  for (std::string type; std::getline(types, type, ',');) {
    type.erase(0, type.find_first_not_of(' '));
    if (const auto any_attribute = type.find("ATTRIBUTE"); any_attribute != std::string::npos) {
      type.resize(any_attribute);
    }
    EXPECT_NE(all.find("type: " + type), std::string::npos) << type;
    ++count;
  }
  EXPECT_EQ(count, 22U);
}

}  // namespace
}  // namespace handshake::policy
