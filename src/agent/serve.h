// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "base/log.h"
#include "config/settings.h"

namespace handshake::agent {

/// What a worker process does: loads the credentials, finds out what the kernel encrypts, warms
/// up, and serves the channel (a SEQPACKET socket, taken over) until it is closed. The exit code:
/// 0 when the service has closed the channel, 78 (EX_CONFIG) when a credential cannot be used,
/// 70 (EX_SOFTWARE) otherwise; the log says why.
[[nodiscard]] int run_worker(int channel_fd, const std::shared_ptr<const config::Settings>& settings,
                             const Log& log);

}  // namespace handshake::agent
