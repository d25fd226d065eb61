// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/definitions.h"

namespace handshake::policy {

/// What a filter says. "Unknown" when the peer has no certificate (or no PSK) to look at, or when
/// what should be looked at cannot be read: then neither the filter nor its negation counts.
enum class Answer : std::uint8_t { kNo, kYes, kUnknown };

[[nodiscard]] constexpr Answer negation(Answer answer) noexcept {
  switch (answer) {
    case Answer::kNo: return Answer::kYes;
    case Answer::kYes: return Answer::kNo;
    case Answer::kUnknown: break;
  }
  return Answer::kUnknown;
}

/// Why a field says nothing, or not all.
enum class Gap : std::uint8_t { kNone, kNoCertificate, kNoPsk, kNotKnown, kUnreadable };

struct FieldValues {
  std::vector<Text> texts;
  Gap gap = Gap::kNone;
};

/// Filters against the facts of one session. Lives as short as that; both arguments outlive it. One
/// thread. Throws std::bad_alloc.
class Evaluator {
 public:
  /// kForget evaluates a filter anew each time it is asked, which only a benchmark wants.
  enum class Memory : std::uint8_t { kRemember, kForget };

  Evaluator(const Definitions& definitions, const PeerFacts& facts,
            Memory memory = Memory::kRemember);

  [[nodiscard]] Answer answer(FilterId filter);
  [[nodiscard]] Answer answer(const TagEntry& entry) {
    const Answer said = answer(entry.filter);
    return entry.negated ? negation(said) : said;
  }
  /// Whether every entry says yes. The peer's having proved an identity is the caller's to check.
  [[nodiscard]] bool fulfils(const Tag& tag);
  [[nodiscard]] const FieldValues& values(FieldId field);

  /// The facts are too large for this policy: no answer counts any more, those given before
  /// neither.
  [[nodiscard]] bool exhausted() const noexcept { return budget_.exhausted(); }

 private:
  [[nodiscard]] Answer evaluate(const TextCondition& condition);
  [[nodiscard]] Answer evaluate(const TimeCondition& condition) const;
  [[nodiscard]] Answer evaluate(const KeyUsageCondition& condition) const;
  [[nodiscard]] Answer evaluate(const PurposeCondition& condition);
  [[nodiscard]] Answer evaluate(const NetworkCondition& condition);
  [[nodiscard]] Answer evaluate(const KeyBitsCondition& condition) const;
  [[nodiscard]] Answer evaluate(const SelfSignedCondition& condition) const;
  [[nodiscard]] Answer evaluate(const Combination& condition);

  const Definitions& definitions_;
  const PeerFacts& facts_;
  const Memory memory_;
  WorkBudget budget_;
  std::vector<std::optional<Answer>> answers_;
  std::vector<std::optional<FieldValues>> values_;
};

/// What a field has in these facts.
[[nodiscard]] FieldValues values_of(const Field& field, const PeerFacts& facts);

/// The one form in which DNS names and the domains of mail addresses are compared.
[[nodiscard]] std::string lower_case(std::string_view text);
[[nodiscard]] std::string lower_case_domain(std::string_view address);

}  // namespace handshake::policy
