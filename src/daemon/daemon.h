// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/ini.h"
#include "config/settings.h"

namespace handshake::daemon {

/// Of the whole product, as CMakeLists.txt gives it.
extern const char* const kVersion;

struct Checked {
  std::shared_ptr<const config::Settings> settings;  ///< null when a problem is fatal
  std::vector<config::Problem> problems;
};

/// config::load(), and then what only the TLS library can tell: certificates that do not parse, keys
/// that do not match. What --check, start and reload have in common.
[[nodiscard]] Checked load_checked(const std::string& path);

struct Options {
  std::string config_path;
  std::shared_ptr<const config::Settings> settings;
  std::string runtime_dir;
  unsigned workers = 0;  ///< 0: what the settings say, and one per core if they say nothing
};

/// Runs the daemon until SIGTERM or SIGINT: then pending requests end with ETIMEDOUT and accepted
/// ones get some seconds to finish. SIGHUP reloads. Errors: what keeps it from starting (a runtime
/// directory that cannot be made, another daemon there, no process to be had).
[[nodiscard]] Result<void> run(Options options);

}  // namespace handshake::daemon
