// SPDX-License-Identifier: Apache-2.0
// For policy/*.cpp only.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "policy/definitions.h"
#include "policy/reading.h"

namespace handshake::policy {

/// A tag that is defined, if in vain, has a number here.
using TagIds = std::map<std::string, TagId, std::less<>>;

/// One entry of `rules`. Problems are reported; what could be read is returned all the same.
[[nodiscard]] Rule read_rule(Reading& reading, const Spot& spot, const YamlNode& node,
                             const TagIds& tags);

}  // namespace handshake::policy
