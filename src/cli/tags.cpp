// SPDX-License-Identifier: Apache-2.0
#include "cli/tags.h"

#include <algorithm>
#include <cstdio>
#include <string_view>

#include <fmt/format.h>

#include "base/log.h"
#include "cli/json.h"
#include "config/file.h"
#include "config/load.h"
#include "config/tags.h"
#include "policy/distinguished_name.h"
#include "policy/policy.h"
#include "tls/peer_facts.h"

namespace handshake::cli {
namespace {

using policy::Answer;
using policy::Explanation;
using policy::Gap;
using policy::Verdict;
using Speaks = Explanation::RuleTrace::Speaks;

constexpr std::string_view text_of(Answer answer) noexcept {
  switch (answer) {
    case Answer::kNo: return "no";
    case Answer::kYes: return "yes";
    case Answer::kUnknown: break;
  }
  return "unknown";
}

constexpr std::string_view text_of(Gap gap) noexcept {
  switch (gap) {
    case Gap::kNone: return "";
    case Gap::kNoCertificate: return "no certificate";
    case Gap::kNoPsk: return "no pre-shared key";
    case Gap::kNotKnown: return "not known";
    case Gap::kUnreadable: return "unreadable";
  }
  return "";
}

constexpr std::string_view text_of(Verdict::Kind kind) noexcept {
  switch (kind) {
    case Verdict::Kind::kAllow: return "allow";
    case Verdict::Kind::kDeny: return "deny";
    case Verdict::Kind::kUndecided: break;
  }
  return "undecided";
}

constexpr std::string_view text_of(Speaks speaks) noexcept {
  switch (speaks) {
    case Speaks::kYes: return "yes";
    case Speaks::kNo: return "no";
    case Speaks::kUnknown: break;
  }
  return "unknown";
}

std::string_view rule_name(std::string_view name) noexcept {
  return name.empty() ? "default" : name;
}

Result<tls::NamedBytes> read_named(const std::string& path) {
  auto content = config::read_file(path);
  if (!content) return fail(ErrorKind::kInvalidArgument, content.error().detail);
  return tls::NamedBytes{path, std::move(*content)};
}

Result<policy::IpAddress> address_of(std::string_view option, const std::string& text) {
  const auto address = policy::IpAddress::parse(text);
  if (address) return *address;
  return fail(ErrorKind::kInvalidArgument, fmt::format("{} {}: not an IP address", option, text));
}

Result<policy::PeerFacts> identity_of(const ExplainOptions& options) {
  if (options.certificate.empty()) {
    policy::PeerFacts facts;
    facts.psk_identity = options.psk_identity;
    facts.identity_proved = options.psk_identity.has_value();
    return facts;
  }
  const auto certificate = read_named(options.certificate);
  if (!certificate) return tl::unexpected(certificate.error());
  std::vector<tls::NamedBytes> chain;
  for (const std::string& path : options.chain) {
    auto file = read_named(path);
    if (!file) return tl::unexpected(file.error());
    chain.push_back(std::move(*file));
  }
  return tls::read_peer_facts(*certificate, chain);
}

Result<policy::PeerFacts> facts_of(const ExplainOptions& options) {
  auto facts = identity_of(options);
  if (!facts) return facts;
  if (options.peer) {
    const auto address = address_of("--peer", *options.peer);
    if (!address) return tl::unexpected(address.error());
    facts->peer_address = *address;
  }
  if (options.local_address) {
    const auto address = address_of("--address", *options.local_address);
    if (!address) return tl::unexpected(address.error());
    facts->local_address = *address;
  }
  facts->local_port = options.local_port;
  facts->role = options.role == "client" ? policy::Role::kClient : policy::Role::kServer;
  facts->handler_class = options.handler_class;
  return facts;
}

Result<std::shared_ptr<const policy::Policy>> policy_of(const ExplainOptions& options) {
  std::vector<Problem> problems;
  std::vector<config::FileContent> files;
  for (const std::string& path : options.tags) {
    for (auto& file : config::read_tags(path, problems)) files.push_back(std::move(file));
  }
  if (options.tags.empty()) {
    const std::string path = options.config.empty() ? config::default_path() : options.config;
    if (path.empty()) {
      return fail(ErrorKind::kInvalidArgument, "no configuration, and no --tags: which policy?");
    }
    const auto text = config::read_file(path);
    if (!text) return fail(ErrorKind::kInvalidArgument, text.error().detail);
    std::vector<Problem> elsewhere;  // what else is wrong with the configuration is not asked here
    files = config::read_tags_of(config::parse_ini(path, *text, elsewhere), problems);
  }
  policy::Policy::Loaded loaded = config::load_policy(files);
  problems.insert(problems.end(), loaded.problems.begin(), loaded.problems.end());
  for (const Problem& problem : problems) fmt::print(stderr, "{}\n", problem.text());
  const bool fatal = std::any_of(problems.begin(), problems.end(),
                                 [](const Problem& problem) { return problem.fatal; });
  if (fatal || !loaded.policy) return fail(ErrorKind::kInvalidArgument, "the policy has errors");
  return std::move(loaded.policy);
}

void print_filters(const Explanation& explanation) {
  fmt::print("filters:\n");
  for (const Explanation::FilterTrace& filter : explanation.filters) {
    fmt::print("  {:<8}{}: {}", text_of(filter.answer), filter.name, filter.condition);
    for (const std::string& value : filter.seen) fmt::print(" {}", log_field("saw", value));
    if (filter.not_shown > 0) fmt::print(" and {} more", filter.not_shown);
    if (filter.gap != Gap::kNone) fmt::print(" ({})", text_of(filter.gap));
    fmt::print("\n");
  }
}

void print_tags(const Explanation& explanation) {
  fmt::print("tags:\n");
  for (const Explanation::TagTrace& tag : explanation.tags) {
    std::string lacking;
    for (const Explanation::EntryTrace& entry : tag.entries) {
      if (entry.answer == Answer::kYes) continue;
      lacking += fmt::format("{}{} is {}", lacking.empty() ? ": " : ", ", entry.text,
                             text_of(entry.answer));
    }
    fmt::print("  {:<8}{}{}\n", tag.given ? "given" : "-", tag.name, lacking);
  }
}

void print_rules(const Explanation& explanation) {
  fmt::print("rules:\n");
  for (const Explanation::RuleTrace& rule : explanation.rules) {
    const std::string_view would = rule.speaks == Speaks::kNo ? "-" : text_of(rule.would);
    fmt::print("  {:<10}{}: {}{}{}\n", would, rule_name(rule.name), rule.reason,
               rule.dry_run ? " (dry run)" : "", rule.decides ? " <- decides" : "");
  }
}

void print(const policy::PeerFacts& facts, const Explanation& explanation) {
  if (facts.certificate) {
    fmt::print("{}\n", log_field("subject", policy::name_text(facts.certificate->subject)));
    fmt::print("{}\n", log_field("issuer", policy::name_text(facts.certificate->issuer)));
  } else if (facts.psk_identity) {
    fmt::print("{}\n", log_field("psk", *facts.psk_identity));
  } else {
    fmt::print("a peer that proves no identity: it gets no tags\n");
  }
  print_filters(explanation);
  print_tags(explanation);
  print_rules(explanation);
  const policy::Outcome& outcome = explanation.outcome;
  if (outcome.exhausted) fmt::print("too large for this policy: no tags\n");
  fmt::print("verdict: {} ({}: {})\n", text_of(outcome.verdict.kind),
             rule_name(outcome.verdict.rule), outcome.verdict.reason);
}

void write_filters(JsonWriter& json, const Explanation& explanation) {
  json.key("filters").begin_array();
  for (const Explanation::FilterTrace& filter : explanation.filters) {
    json.begin_object();
    json.member("name", filter.name).member("condition", filter.condition);
    json.member("answer", text_of(filter.answer));
    json.key("saw").begin_array();
    for (const std::string& value : filter.seen) json.value(value);
    json.end_array();
    json.member("not_shown", filter.not_shown);
    if (filter.gap != Gap::kNone) json.member("gap", text_of(filter.gap));
    json.end_object();
  }
  json.end_array();
}

void write_tags(JsonWriter& json, const Explanation& explanation) {
  json.key("tags").begin_array();
  for (const Explanation::TagTrace& tag : explanation.tags) {
    json.begin_object().member("name", tag.name).member("given", tag.given);
    json.key("filter").begin_array();
    for (const Explanation::EntryTrace& entry : tag.entries) {
      json.begin_object()
          .member("text", entry.text)
          .member("answer", text_of(entry.answer))
          .end_object();
    }
    json.end_array().end_object();
  }
  json.end_array();
}

void write_rules(JsonWriter& json, const Explanation& explanation) {
  json.key("rules").begin_array();
  for (const Explanation::RuleTrace& rule : explanation.rules) {
    json.begin_object().member("name", rule_name(rule.name)).member("speaks", text_of(rule.speaks));
    if (rule.speaks != Speaks::kNo) json.member("would", text_of(rule.would));
    json.member("dry_run", rule.dry_run)
        .member("decides", rule.decides)
        .member("reason", rule.reason);
    json.end_object();
  }
  json.end_array();
}

void print_json(const policy::PeerFacts& facts, const Explanation& explanation) {
  const policy::Outcome& outcome = explanation.outcome;
  JsonWriter json;
  json.begin_object();
  json.member("identity_proved", facts.identity_proved);
  if (facts.certificate) {
    json.member("subject", policy::name_text(facts.certificate->subject));
    json.member("issuer", policy::name_text(facts.certificate->issuer));
  }
  json.member("psk_identity", facts.psk_identity);
  write_filters(json, explanation);
  write_tags(json, explanation);
  write_rules(json, explanation);
  json.member("exhausted", outcome.exhausted);
  json.key("verdict").begin_object();
  json.member("verdict", text_of(outcome.verdict.kind))
      .member("rule", rule_name(outcome.verdict.rule));
  json.member("reason", outcome.verdict.reason).end_object().end_object();
  fmt::print("{}\n", json.text());
}

}  // namespace

Result<void> explain_command(const ExplainOptions& options) {
  const auto policy = policy_of(options);
  if (!policy) return tl::unexpected(policy.error());
  const auto facts = facts_of(options);
  if (!facts) return tl::unexpected(facts.error());
  const Explanation explanation = (*policy)->explain(*facts);
  options.json ? print_json(*facts, explanation) : print(*facts, explanation);
  return {};
}

}  // namespace handshake::cli
