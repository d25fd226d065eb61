// SPDX-License-Identifier: Apache-2.0
// For policy/*.cpp only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "policy/policy.h"

namespace handshake::policy {

/// What the rules need to know of an evaluation.
struct RuleInput {
  const Definitions& definitions;
  const PeerFacts& facts;
  const std::vector<bool>& given;  ///< by TagId
  bool exhausted = false;
};

/// Every rule and, last, the default: what each says, and which decides.
[[nodiscard]] std::vector<Explanation::RuleTrace> trace_rules(const RuleInput& input);

/// The same, only as far as the decision.
void decide(const RuleInput& input, Outcome& outcome);

}  // namespace handshake::policy
