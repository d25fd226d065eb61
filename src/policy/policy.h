// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/problem.h"
#include "policy/definitions.h"
#include "policy/evaluator.h"
#include "policy/peer_facts.h"

namespace handshake::policy {

/// A file of a policy, already read: this room opens nothing.
struct PolicyText {
  std::string path;
  std::string content;
};

/// What the rules say about a session.
struct Verdict {
  enum class Kind : std::uint8_t {
    kAllow,
    kDeny,
    kUndecided,  ///< a rule asks for something that the facts do not have; never allow on this
  };
  Kind kind = Kind::kAllow;
  std::string_view rule;  ///< the one that decided; empty: the default, or no rule at all
  std::string reason;     ///< in words, for the log
};

/// What a rule in dry-run mode would have said.
struct DryRun {
  std::string_view rule;  ///< empty: the default
  Verdict::Kind would = Verdict::Kind::kAllow;
  std::string reason;
};

/// The views point into the policy.
struct Outcome {
  /// In the order of their definition: files in the order given, tags from top to bottom. Whoever
  /// may send only some of them keeps the first ones.
  std::vector<std::string_view> tags;
  Verdict verdict;
  std::vector<DryRun> dry_runs;
  /// The peer's certificate is too large for this policy to be evaluated in bounded time: no tags,
  /// and a session that any rule speaks for is denied.
  bool exhausted = false;
};

/// How a policy comes to its outcome.
struct Explanation {
  struct FilterTrace {
    std::string_view name;
    std::string_view condition;
    std::vector<std::string> seen;  ///< the peer's bytes: escape before printing
    std::size_t not_shown = 0;      ///< further values
    Answer answer = Answer::kUnknown;
    Gap gap = Gap::kNone;  ///< why the answer is unknown
  };
  struct EntryTrace {
    std::string_view text;
    Answer answer = Answer::kUnknown;
  };
  struct TagTrace {
    std::string_view name;
    bool given = false;
    std::vector<EntryTrace> entries;
  };
  struct RuleTrace {
    enum class Speaks : std::uint8_t { kYes, kNo, kUnknown };
    std::string_view name;  ///< empty: the default
    Speaks speaks = Speaks::kYes;
    Verdict::Kind would = Verdict::Kind::kAllow;  ///< where it speaks
    bool dry_run = false;
    bool decides = false;
    std::string reason;
  };

  std::vector<FilterTrace> filters;  ///< those that have a name
  std::vector<TagTrace> tags;
  std::vector<RuleTrace> rules;
  Outcome outcome;
};

/// Filters, tags and rules, compiled. Immutable; shared as std::shared_ptr<const Policy> and usable
/// from any thread.
class Policy {
 public:
  struct Loaded {
    /// Null when a problem is fatal: a policy never applies in part.
    std::shared_ptr<const Policy> policy;
    /// Of all texts, in their order and that of the lines.
    std::vector<Problem> problems;
  };

  /// Nothing in it: no tags, everything allowed.
  Policy() = default;
  explicit Policy(Definitions definitions) : definitions_(std::move(definitions)) {}

  /// The texts make one policy together: a filter of one may be used in another. Throws
  /// std::bad_alloc.
  [[nodiscard]] static Loaded load(std::span<const PolicyText> texts);

  /// Throws std::bad_alloc; a caller that catches it gives no tags and, unless
  /// `allows_everything()`, denies.
  [[nodiscard]] Outcome evaluate(const PeerFacts& facts) const;
  [[nodiscard]] Explanation explain(const PeerFacts& facts) const;

  /// There is nothing that could deny a session.
  [[nodiscard]] bool allows_everything() const noexcept;
  [[nodiscard]] bool has_tags() const noexcept { return !definitions_.tags.empty(); }
  [[nodiscard]] const Definitions& definitions() const noexcept { return definitions_; }

 private:
  Definitions definitions_;
};

}  // namespace handshake::policy
