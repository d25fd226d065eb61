// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "policy/policy.h"

/// Facts and policies for tests, written by hand.
namespace handshake::policy::test {

inline NameAttribute attribute(std::string oid, std::string value) {
  return {std::move(oid), value, true,
          "\x0C" + std::string(1, static_cast<char>(value.size())) + value};
}
inline NameAttribute country(std::string value) { return attribute("2.5.4.6", std::move(value)); }
inline NameAttribute organization(std::string value) {
  return attribute("2.5.4.10", std::move(value));
}
inline NameAttribute unit(std::string value) { return attribute("2.5.4.11", std::move(value)); }
inline NameAttribute common_name(std::string value) {
  return attribute("2.5.4.3", std::move(value));
}

inline DistinguishedName name(const std::vector<NameAttribute>& attributes) {
  DistinguishedName made;
  for (const NameAttribute& each : attributes) made.push_back({each});
  return made;
}

inline std::chrono::sys_seconds day(int year, unsigned month, unsigned day_of_month) {
  return std::chrono::sys_days{std::chrono::year_month_day{
      std::chrono::year{year}, std::chrono::month{month}, std::chrono::day{day_of_month}}};
}

/// A student of Roar Omega Roar at Monsters University.
inline PeerFacts student() {
  PeerFacts facts;
  facts.identity_proved = true;
  CertificateFacts certificate;
  certificate.version = 3;
  certificate.serial_number = "00f1a2";
  certificate.signature_algorithm = "ECDSA-SHA256";
  certificate.signature_algorithm_oid = "1.2.840.10045.4.3.2";
  certificate.issuer =
      name({country("US"), organization("Monsters University"), common_name("MU CA")});
  certificate.subject = name({country("US"), organization("Monsters University"),
                              unit("Roar Omega Roar"), common_name("Johnny Worthington")});
  certificate.not_before = day(2025, 9, 1);
  certificate.not_after = day(2026, 8, 31);
  certificate.public_key_algorithm = "ECDSA";
  certificate.public_key_bits = 256;
  certificate.key_usage_presence = Presence::kPresent;
  certificate.key_usage =
      key_usage_bit(KeyUsage::kDigitalSignature) | key_usage_bit(KeyUsage::kNonRepudiation);
  certificate.extended_key_usage_presence = Presence::kPresent;
  certificate.extended_key_usage = {"1.3.6.1.5.5.7.3.2", "1.3.6.1.4.1.99999.1"};
  certificate.alternative_names.presence = Presence::kPresent;
  certificate.alternative_names.dns = {"Johnny.MU.example", "*.lab.mu.example"};
  certificate.alternative_names.uri = {"spiffe://mu.example/student/johnny"};
  certificate.alternative_names.email = {"Johnny@MU.Example"};
  certificate.alternative_names.ip = {*IpAddress::parse("192.0.2.7"),
                                      *IpAddress::parse("2001:db8::7")};
  certificate.fingerprint = {std::string(40, 'a'), std::string(64, 'b')};
  facts.chain = {certificate.fingerprint, {std::string(40, 'c'), std::string(64, 'd')}};
  facts.certificate = std::move(certificate);
  facts.peer_address = IpAddress::parse("198.51.100.20");
  facts.local_address = IpAddress::parse("203.0.113.1");
  facts.local_port = std::uint16_t{2049};
  facts.role = Role::kServer;
  facts.handler_class = "tlshd";
  return facts;
}

inline PeerFacts psk_peer(std::string identity) {
  PeerFacts facts = student();
  facts.certificate.reset();
  facts.chain.clear();
  facts.psk_identity = std::move(identity);
  return facts;
}

inline PeerFacts anonymous() {
  PeerFacts facts = student();
  facts.certificate.reset();
  facts.chain.clear();
  facts.identity_proved = false;
  return facts;
}

inline Policy::Loaded load(std::string content) {
  const std::vector<PolicyText> texts{{"policy.yaml", std::move(content)}};
  return Policy::load(texts);
}

/// Every problem as people see it, a line each.
inline std::string problems_of(const Policy::Loaded& loaded) {
  std::string text;
  for (const Problem& problem : loaded.problems) text += problem.text() + "\n";
  return text;
}

/// The tags that `facts` get, separated by blanks. "problems: ..." when the policy does not load.
inline std::string tags_of(std::string content, const PeerFacts& facts) {
  const Policy::Loaded loaded = load(std::move(content));
  if (!loaded.policy) return "problems: " + problems_of(loaded);
  std::string text;
  for (const std::string_view tag : loaded.policy->evaluate(facts).tags) {
    text += (text.empty() ? "" : " ") + std::string(tag);
  }
  return text;
}

/// Whether a filter, written in YAML's flow style ("{type: ..., pattern: ...}"), matches: "yes",
/// "no", "unknown", or the problems.
inline std::string ask(const std::string& filter, const PeerFacts& facts) {
  const Policy::Loaded loaded = load("filters: {f: " + filter + "}\n");
  if (!loaded.policy) return problems_of(loaded);
  Evaluator evaluator(loaded.policy->definitions(), facts);
  switch (evaluator.answer(loaded.policy->definitions().names.at(0).filter)) {
    case Answer::kNo: return "no";
    case Answer::kYes: return "yes";
    case Answer::kUnknown: return "unknown";
  }
  return "";
}

}  // namespace handshake::policy::test
