// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "base/result.h"
#include "base/unique_fd.h"
#include "config/settings.h"

namespace handshake::config {

/// Settings, keys included, in a memory file that nobody can change any more (memfd_create(2),
/// F_SEAL_*): how they reach a worker, which is the same program and so needs no versioning.
/// Errors: EMFILE, ENFILE, ENOMEM.
[[nodiscard]] Result<UniqueFd> seal(const Settings& settings);

/// Reads what seal() wrote. Errors: EINVAL when the file is not sealed or not ours.
[[nodiscard]] Result<std::shared_ptr<const Settings>> unseal(int fd);

}  // namespace handshake::config
