// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/ini.h"
#include "config/settings.h"

namespace handshake::config {

struct Loaded {
  /// Null when a problem is fatal.
  std::shared_ptr<const Settings> settings;
  /// All problems of all files, in the order of the lines.
  std::vector<Problem> problems;
};

/// Reads the configuration file and every file it names. Relative paths are relative to the
/// configuration file's directory. Does not parse certificates (tls::load_credential does).
[[nodiscard]] Loaded load(const std::string& path);

/// Where the configuration is when nobody says: /etc/handshaked/config, then tlshd's
/// /etc/tlshd/config, then /etc/tlshd.conf; empty when there is none of them.
[[nodiscard]] std::string default_path();

}  // namespace handshake::config
