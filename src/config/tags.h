// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "base/problem.h"
#include "config/settings.h"
#include "policy/policy.h"

namespace handshake::config {

/// The files of a policy: `path` itself, or, when it is a directory, what lies in it and ends in
/// .yaml or .yml, in the order of the names (bytes). A path that is not there, or cannot be read,
/// is a problem.
[[nodiscard]] std::vector<FileContent> read_tags(const std::string& path,
                                                 std::vector<Problem>& problems);

/// Compiles what read_tags() has read, here or in the process that sealed the settings.
[[nodiscard]] policy::Policy::Loaded load_policy(const std::vector<FileContent>& files);

}  // namespace handshake::config
