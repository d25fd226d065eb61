// SPDX-License-Identifier: Apache-2.0
#include "policy/policy.h"

#include <algorithm>

#include "policy/purposes.h"
#include "policy/rules.h"
#include "policy/time.h"

namespace handshake::policy {
namespace {

using FilterTrace = Explanation::FilterTrace;

/// More are counted, not shown: a certificate may have ten thousand names.
constexpr std::size_t kMaxShown = 20;

void show(FilterTrace& trace, std::string value) {
  if (trace.seen.size() < kMaxShown) {
    trace.seen.push_back(std::move(value));
  } else {
    ++trace.not_shown;
  }
}

/// Fills in what a filter looked at.
class Showing {
 public:
  Showing(const PeerFacts& facts, Evaluator& evaluator, FilterTrace& trace)
      : facts_(facts), evaluator_(evaluator), trace_(trace) {}

  void operator()(const TextCondition& condition) {
    const FieldValues& values = evaluator_.values(condition.field);
    trace_.gap = values.gap;
    for (const Text& text : values.texts) show(trace_, std::string(text.bytes()));
  }
  void operator()(const TimeCondition& condition) {
    if (!certificate()) return;
    const auto& time = condition.of == TimeCondition::Of::kNotBefore
                           ? facts_.certificate->not_before
                           : facts_.certificate->not_after;
    if (!time) {
      trace_.gap = Gap::kUnreadable;
    } else {
      show(trace_, time_text(*time));
    }
  }
  void operator()(const KeyUsageCondition&) {
    if (!certificate() || !readable(facts_.certificate->key_usage_presence)) return;
    show(trace_, key_usage_text(facts_.certificate->key_usage));
  }
  void operator()(const PurposeCondition&) {
    if (!certificate() || !readable(facts_.certificate->extended_key_usage_presence)) return;
    for (const std::string& oid : facts_.certificate->extended_key_usage) {
      show(trace_, std::string(purpose_name(oid)));
    }
  }
  void operator()(const NetworkCondition& condition) {
    if (condition.of == NetworkCondition::Of::kPeer) {
      if (!facts_.peer_address) {
        trace_.gap = Gap::kNotKnown;
      } else {
        show(trace_, facts_.peer_address->text());
      }
      return;
    }
    if (!certificate()) return;
    static_cast<void>(readable(facts_.certificate->alternative_names.presence));
    for (const IpAddress& address : facts_.certificate->alternative_names.ip)
      show(trace_, address.text());
  }
  void operator()(const KeyBitsCondition&) {
    if (!certificate()) return;
    if (facts_.certificate->public_key_bits == 0) {
      trace_.gap = Gap::kUnreadable;
    } else {
      show(trace_, std::to_string(facts_.certificate->public_key_bits));
    }
  }
  void operator()(const SelfSignedCondition&) { static_cast<void>(certificate()); }
  void operator()(const Combination&) {}

 private:
  [[nodiscard]] bool certificate() {
    if (!facts_.certificate) trace_.gap = Gap::kNoCertificate;
    return facts_.certificate.has_value();
  }
  [[nodiscard]] bool readable(Presence presence) {
    if (presence == Presence::kUnreadable) trace_.gap = Gap::kUnreadable;
    return presence != Presence::kUnreadable;
  }

  const PeerFacts& facts_;
  Evaluator& evaluator_;
  FilterTrace& trace_;
};

/// By TagId. No identity, no tags, also for a tag that consists of negations.
std::vector<bool> given_tags(const Definitions& definitions, const PeerFacts& facts,
                             Evaluator& evaluator) {
  std::vector<bool> given(definitions.tags.size());
  if (!facts.identity_proved) return given;
  for (std::size_t tag = 0; tag < given.size(); ++tag)
    given[tag] = evaluator.fulfils(definitions.tags[tag]);
  if (evaluator.exhausted()) given.assign(given.size(), false);
  return given;
}

Outcome outcome_of(const Definitions& definitions, const PeerFacts& facts, Evaluator& evaluator,
                   const std::vector<bool>& given) {
  Outcome outcome;
  outcome.exhausted = evaluator.exhausted();
  for (std::size_t tag = 0; tag < given.size(); ++tag) {
    if (given[tag]) outcome.tags.emplace_back(definitions.tags[tag].name);
  }
  decide(RuleInput{definitions, facts, given, outcome.exhausted}, outcome);
  return outcome;
}

}  // namespace

Outcome Policy::evaluate(const PeerFacts& facts) const {
  Evaluator evaluator(definitions_, facts);
  return outcome_of(definitions_, facts, evaluator, given_tags(definitions_, facts, evaluator));
}

Explanation Policy::explain(const PeerFacts& facts) const {
  Evaluator evaluator(definitions_, facts);
  Explanation explanation;
  // The tags first: what they leave of the budget is for filters that no tag uses.
  const std::vector<bool> given = given_tags(definitions_, facts, evaluator);
  explanation.outcome = outcome_of(definitions_, facts, evaluator, given);
  explanation.rules =
      trace_rules(RuleInput{definitions_, facts, given, explanation.outcome.exhausted});

  Evaluator shown(definitions_, facts);
  for (const NamedFilter& named : definitions_.names) {
    const Filter& filter = definitions_.filters[named.filter];
    FilterTrace trace;
    trace.name = named.name;
    trace.condition = filter.text;
    std::visit(Showing(facts, shown, trace), filter.condition);
    trace.answer = shown.answer(named.filter);
    explanation.filters.push_back(std::move(trace));
  }
  for (std::size_t tag = 0; tag < given.size(); ++tag) {
    Explanation::TagTrace trace;
    trace.name = definitions_.tags[tag].name;
    trace.given = given[tag];
    for (const TagEntry& entry : definitions_.tags[tag].entries) {
      trace.entries.push_back({entry.text, shown.answer(entry)});
    }
    explanation.tags.push_back(std::move(trace));
  }
  return explanation;
}

bool Policy::allows_everything() const noexcept {
  if (definitions_.dry_run) return true;
  return definitions_.default_allows &&
         std::all_of(definitions_.rules.begin(), definitions_.rules.end(), [](const Rule& rule) {
           return rule.dry_run || rule.says == Rule::Says::kAllow;
         });
}

}  // namespace handshake::policy
