// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "base/problem.h"
#include "config/ini.h"
#include "config/settings.h"
#include "policy/policy.h"

namespace handshake::config {

/// The files of a policy: `path` itself, or, when it is a directory, what lies in it and ends in
/// .yaml or .yml, in the order of the names (bytes). A path that is not there, or cannot be read,
/// is a problem.
[[nodiscard]] std::vector<FileContent> read_tags(const std::string& path,
                                                 std::vector<Problem>& problems);

/// The files of the policy that goes with a configuration: those of [service] tags, or else what
/// lies in tags.d beside it (for /etc/tlshd.conf: in /etc/tlshd/tags.d), if that is there. Reads
/// neither certificates nor keys, so that anybody may who may read the policy.
[[nodiscard]] std::vector<FileContent> read_tags_of(const IniFile& configuration,
                                                    std::vector<Problem>& problems);

/// Compiles what was read, here or in the process that sealed the settings.
[[nodiscard]] policy::Policy::Loaded load_policy(const std::vector<FileContent>& files);

}  // namespace handshake::config
