// SPDX-License-Identifier: Apache-2.0
#include "policy/evaluator.h"

#include <algorithm>

#include "policy/distinguished_name.h"

namespace handshake::policy {
namespace {

/// Some tens of milliseconds. A common certificate and two thousand patterns need a thousandth of
/// it.
constexpr std::uint64_t kBudgetBytes = 32'000'000;

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

Gap gap_of(Presence presence) noexcept {
  return presence == Presence::kUnreadable ? Gap::kUnreadable : Gap::kNone;
}

Answer answer_of(bool yes) noexcept { return yes ? Answer::kYes : Answer::kNo; }

void add(FieldValues& values, std::string text) { values.texts.emplace_back(std::move(text)); }

void add_fingerprint(FieldValues& values, const Fingerprint& fingerprint) {
  add(values, fingerprint.sha256);
  add(values, fingerprint.sha1);
}

void add_serial_number(FieldValues& values, const std::string& octets) {
  add(values, octets);
  // Tools print a number without the octet that only keeps it from being negative.
  if (octets.size() > 2 && octets.starts_with("00")) add(values, octets.substr(2));
}

void add_name(FieldValues& values, const DistinguishedName& name) {
  add(values, name_text(name));
  if (has_unreadable(name)) values.gap = Gap::kUnreadable;
}

void add_attributes(FieldValues& values, const DistinguishedName& name, std::string_view oid) {
  for (const RelativeName& part : name) {
    for (const NameAttribute& attribute : part) {
      if (attribute.oid != oid) continue;
      if (attribute.readable) {
        add(values, attribute.value);
      } else {
        values.gap = Gap::kUnreadable;
      }
    }
  }
}

void add_certificate_values(FieldValues& values, const Field& field,
                            const CertificateFacts& facts) {
  const AlternativeNames& names = facts.alternative_names;
  switch (field.kind) {
    case Field::Kind::kSignatureAlgorithm:
      if (!facts.signature_algorithm.empty()) add(values, facts.signature_algorithm);
      add(values, facts.signature_algorithm_oid);
      return;
    case Field::Kind::kVersion: return add(values, std::to_string(facts.version));
    case Field::Kind::kSerialNumber: return add_serial_number(values, facts.serial_number);
    case Field::Kind::kIssuer: return add_name(values, facts.issuer);
    case Field::Kind::kSubject: return add_name(values, facts.subject);
    case Field::Kind::kFingerprint: return add_fingerprint(values, facts.fingerprint);
    case Field::Kind::kIssuerAttribute: return add_attributes(values, facts.issuer, field.oid);
    case Field::Kind::kSubjectAttribute: return add_attributes(values, facts.subject, field.oid);
    case Field::Kind::kDnsName:
      values.gap = gap_of(names.presence);
      for (const std::string& name : names.dns) add(values, lower_case(name));
      return;
    case Field::Kind::kUri:
      values.gap = gap_of(names.presence);
      for (const std::string& name : names.uri) add(values, name);
      return;
    case Field::Kind::kEmail:
      values.gap = gap_of(names.presence);
      for (const std::string& name : names.email) add(values, lower_case_domain(name));
      return;
    case Field::Kind::kPublicKeyAlgorithm:
      if (facts.public_key_algorithm.empty()) {
        values.gap = Gap::kUnreadable;
      } else {
        add(values, facts.public_key_algorithm);
      }
      return;
    case Field::Kind::kChainFingerprint:
    case Field::Kind::kPskIdentity: return;  // not the certificate's own
  }
}

}  // namespace

std::string lower_case(std::string_view text) {
  std::string made(text);
  std::transform(made.begin(), made.end(), made.begin(), lower);
  return made;
}

std::string lower_case_domain(std::string_view address) {
  const auto at = address.rfind('@');
  if (at == std::string_view::npos) return lower_case(address);
  return std::string(address.substr(0, at)) + lower_case(address.substr(at));
}

FieldValues values_of(const Field& field, const PeerFacts& facts) {
  FieldValues values;
  if (field.kind == Field::Kind::kPskIdentity) {
    if (facts.psk_identity) {
      add(values, *facts.psk_identity);
    } else {
      values.gap = Gap::kNoPsk;
    }
    return values;
  }
  if (!facts.certificate) {
    values.gap = Gap::kNoCertificate;
    return values;
  }
  if (field.kind == Field::Kind::kChainFingerprint) {
    for (const Fingerprint& fingerprint : facts.chain) add_fingerprint(values, fingerprint);
    return values;
  }
  add_certificate_values(values, field, *facts.certificate);
  return values;
}

Evaluator::Evaluator(const Definitions& definitions, const PeerFacts& facts, Memory memory)
    : definitions_(definitions),
      facts_(facts),
      memory_(memory),
      budget_(kBudgetBytes),
      answers_(definitions.filters.size()),
      values_(definitions.fields.size()) {}

const FieldValues& Evaluator::values(FieldId field) {
  std::optional<FieldValues>& known = values_[field];
  if (!known) known = values_of(definitions_.fields[field], facts_);
  return *known;
}

Answer Evaluator::answer(FilterId filter) {
  std::optional<Answer>& known = answers_[filter];
  if (known && memory_ == Memory::kRemember) return *known;
  known = std::visit([this](const auto& condition) { return evaluate(condition); },
                     definitions_.filters[filter].condition);
  return *known;
}

bool Evaluator::fulfils(const Tag& tag) {
  return std::all_of(tag.entries.begin(), tag.entries.end(),
                     [this](const TagEntry& entry) { return answer(entry) == Answer::kYes; });
}

Answer Evaluator::evaluate(const TextCondition& condition) {
  const FieldValues& seen = values(condition.field);
  for (const Text& text : seen.texts) {
    for (const Pattern& pattern : condition.patterns) {
      if (pattern.matches(text, budget_)) return Answer::kYes;
    }
  }
  return seen.gap == Gap::kNone ? Answer::kNo : Answer::kUnknown;
}

Answer Evaluator::evaluate(const TimeCondition& condition) const {
  if (!facts_.certificate) return Answer::kUnknown;
  if (condition.of == TimeCondition::Of::kNotBefore) {
    const auto& time = facts_.certificate->not_before;
    return time ? answer_of(*time >= condition.limit) : Answer::kUnknown;
  }
  const auto& time = facts_.certificate->not_after;
  return time ? answer_of(*time <= condition.limit) : Answer::kUnknown;
}

Answer Evaluator::evaluate(const KeyUsageCondition& condition) const {
  if (!facts_.certificate) return Answer::kUnknown;
  if (facts_.certificate->key_usage_presence == Presence::kUnreadable) return Answer::kUnknown;
  return answer_of((facts_.certificate->key_usage & condition.bits) == condition.bits);
}

Answer Evaluator::evaluate(const PurposeCondition& condition) {
  if (!facts_.certificate) return Answer::kUnknown;
  if (facts_.certificate->extended_key_usage_presence == Presence::kUnreadable)
    return Answer::kUnknown;
  const auto& present = facts_.certificate->extended_key_usage;
  if (!budget_.spend(present.size() * condition.oids.size())) return Answer::kUnknown;
  return answer_of(
      std::all_of(condition.oids.begin(), condition.oids.end(), [&](const std::string& oid) {
        return std::find(present.begin(), present.end(), oid) != present.end();
      }));
}

Answer Evaluator::evaluate(const NetworkCondition& condition) {
  const auto inside = [&](const IpAddress& address) {
    return budget_.spend(condition.networks.size()) &&
           std::any_of(condition.networks.begin(), condition.networks.end(),
                       [&](const Network& network) { return network.contains(address); });
  };
  if (condition.of == NetworkCondition::Of::kPeer) {
    return facts_.peer_address ? answer_of(inside(*facts_.peer_address)) : Answer::kUnknown;
  }
  if (!facts_.certificate) return Answer::kUnknown;
  const AlternativeNames& names = facts_.certificate->alternative_names;
  if (std::any_of(names.ip.begin(), names.ip.end(), inside)) return Answer::kYes;
  return names.presence == Presence::kUnreadable ? Answer::kUnknown : Answer::kNo;
}

Answer Evaluator::evaluate(const KeyBitsCondition& condition) const {
  if (!facts_.certificate || facts_.certificate->public_key_bits == 0) return Answer::kUnknown;
  const unsigned bits = facts_.certificate->public_key_bits;
  return answer_of(bits >= condition.minimum && bits <= condition.maximum);
}

Answer Evaluator::evaluate(const SelfSignedCondition& /*condition*/) const {
  if (!facts_.certificate) return Answer::kUnknown;
  return answer_of(name_text(facts_.certificate->issuer) == name_text(facts_.certificate->subject));
}

Answer Evaluator::evaluate(const Combination& condition) {
  switch (condition.of) {
    case Combination::Of::kNot: return negation(answer(condition.filters.front()));
    case Combination::Of::kAll: {
      bool unknown = false;
      for (const FilterId filter : condition.filters) {
        const Answer said = answer(filter);
        if (said == Answer::kNo) return Answer::kNo;
        unknown = unknown || said == Answer::kUnknown;
      }
      return unknown ? Answer::kUnknown : Answer::kYes;
    }
    case Combination::Of::kAny: {
      bool unknown = false;
      for (const FilterId filter : condition.filters) {
        const Answer said = answer(filter);
        if (said == Answer::kYes) return Answer::kYes;
        unknown = unknown || said == Answer::kUnknown;
      }
      return unknown ? Answer::kUnknown : Answer::kNo;
    }
  }
  return Answer::kUnknown;
}

}  // namespace handshake::policy
