// SPDX-License-Identifier: Apache-2.0
#include "policy/rules.h"

#include <algorithm>

#include <fmt/format.h>

namespace handshake::policy {
namespace {

using Trace = Explanation::RuleTrace;
using Speaks = Trace::Speaks;

/// `matches` says whether a condition that asks for `wanted` fits the fact, if there is one.
template <class Wanted, class Fact, class Matches>
Speaks speaks(const std::vector<Wanted>& wanted, const std::optional<Fact>& fact, Matches matches) {
  if (wanted.empty()) return Speaks::kYes;
  if (!fact) return Speaks::kUnknown;
  const bool fits = std::any_of(wanted.begin(), wanted.end(),
                                [&](const Wanted& one) { return matches(one, *fact); });
  return fits ? Speaks::kYes : Speaks::kNo;
}

Speaks speaks_for(const Rule& rule, const PeerFacts& facts) {
  if (rule.role && *rule.role != facts.role) return Speaks::kNo;
  const Speaks by_class =
      speaks(rule.classes, std::optional(facts.handler_class), std::equal_to<>());
  const Speaks by_port =
      speaks(rule.ports, facts.local_port, [](const PortRange& range, std::uint16_t port) {
        return port >= range.first && port <= range.last;
      });
  const Speaks by_address = speaks(
      rule.addresses, facts.local_address,
      [](const Network& network, const IpAddress& address) { return network.contains(address); });
  for (const Speaks one : {by_class, by_port, by_address}) {
    if (one == Speaks::kNo) return Speaks::kNo;
  }
  for (const Speaks one : {by_class, by_port, by_address}) {
    if (one == Speaks::kUnknown) return Speaks::kUnknown;
  }
  return Speaks::kYes;
}

std::string names_of(const std::vector<TagId>& tags, const Definitions& definitions) {
  std::string text;
  for (const TagId tag : tags)
    text += fmt::format("{}{}", text.empty() ? "" : ", ", definitions.tags[tag].name);
  return text;
}

void weigh_requirement(const Rule& rule, const RuleInput& input, Trace& trace) {
  const auto given = [&](TagId tag) { return static_cast<bool>(input.given[tag]); };
  trace.would = Verdict::Kind::kDeny;
  // Without an identity there are no tags, and "none of these" would let in whoever hides.
  if (!input.facts.identity_proved) {
    trace.reason = "the peer has proved no identity";
    return;
  }
  if (!rule.any.empty() && std::none_of(rule.any.begin(), rule.any.end(), given)) {
    trace.reason = fmt::format("has none of: {}", names_of(rule.any, input.definitions));
    return;
  }
  if (const auto lacks = std::find_if_not(rule.all.begin(), rule.all.end(), given);
      lacks != rule.all.end()) {
    trace.reason = fmt::format("lacks {}", input.definitions.tags[*lacks].name);
    return;
  }
  if (const auto has = std::find_if(rule.none.begin(), rule.none.end(), given);
      has != rule.none.end()) {
    trace.reason = fmt::format("has {}", input.definitions.tags[*has].name);
    return;
  }
  trace.would = Verdict::Kind::kAllow;
  trace.reason = "has the tags that are required";
}

Trace weigh(const Rule& rule, const RuleInput& input) {
  Trace trace;
  trace.name = rule.name;
  trace.dry_run = rule.dry_run || input.definitions.dry_run;
  trace.speaks = speaks_for(rule, input.facts);
  switch (trace.speaks) {
    case Speaks::kNo: trace.reason = "is not about this session"; return trace;
    case Speaks::kUnknown:
      trace.would = Verdict::Kind::kUndecided;
      trace.reason = "asks for a local address or port, which is not known";
      return trace;
    case Speaks::kYes: break;
  }
  if (input.exhausted && rule.says != Rule::Says::kAllow) {
    trace.would = Verdict::Kind::kDeny;
    trace.reason = "the peer's certificate is too large to be evaluated";
    return trace;
  }
  switch (rule.says) {
    case Rule::Says::kAllow: trace.reason = "allows"; return trace;
    case Rule::Says::kDeny:
      trace.would = Verdict::Kind::kDeny;
      trace.reason = "denies";
      return trace;
    case Rule::Says::kRequire: weigh_requirement(rule, input, trace); return trace;
  }
  return trace;
}

Trace weigh_default(const Definitions& definitions) {
  Trace trace;
  trace.dry_run = definitions.dry_run;
  trace.would = definitions.default_allows ? Verdict::Kind::kAllow : Verdict::Kind::kDeny;
  trace.reason = definitions.default_allows ? "no rule is about this session; the default allows"
                                            : "no rule is about this session; the default denies";
  return trace;
}

/// The first trace that speaks and is meant decides; nothing else is left to do then.
bool decides(const Trace& trace) noexcept { return trace.speaks != Speaks::kNo && !trace.dry_run; }

}  // namespace

std::vector<Trace> trace_rules(const RuleInput& input) {
  std::vector<Trace> traces;
  for (const Rule& rule : input.definitions.rules) traces.push_back(weigh(rule, input));
  traces.push_back(weigh_default(input.definitions));
  const auto deciding = std::find_if(traces.begin(), traces.end(), decides);
  if (deciding != traces.end()) deciding->decides = true;
  if (deciding != traces.end() && deciding + 1 != traces.end()) {
    traces.back().speaks = Speaks::kNo;
    traces.back().reason = "is for sessions that no rule is about";
  }
  return traces;
}

void decide(const RuleInput& input, Outcome& outcome) {
  const auto take = [&](Trace trace) {
    if (decides(trace)) {
      outcome.verdict = Verdict{trace.would, trace.name, std::move(trace.reason)};
      return true;
    }
    if (trace.speaks != Speaks::kNo) {
      outcome.dry_runs.push_back(DryRun{trace.name, trace.would, std::move(trace.reason)});
    }
    return false;
  };
  for (const Rule& rule : input.definitions.rules) {
    if (take(weigh(rule, input))) return;
  }
  if (take(weigh_default(input.definitions))) return;
  outcome.verdict = Verdict{Verdict::Kind::kAllow, {}, "all rules are in dry-run mode"};
}

}  // namespace handshake::policy
