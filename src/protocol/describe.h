// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "protocol/messages.h"
#include "protocol/policy.h"

namespace handshake::protocol {

/// What the controller says about an attribute; without the index of a nested policy, which only
/// a dump of all policies has.
[[nodiscard]] nlctrl::PolicyDescription describe_policy(const AttributePolicy& policy);

/// The same as attributes, as NLMSGERR_ATTR_POLICY carries it.
[[nodiscard]] std::vector<std::byte> encode_policy(const AttributePolicy& policy);

}  // namespace handshake::protocol
