// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace handshake::policy {

/// "2026-01-31", "2026-01-31 12:00:00" or with 'T' between the two; UTC unless "Z", "UTC", "GMT" or
/// an offset ("+01:00") follows. Nothing for anything else, February 30 among it.
[[nodiscard]] std::optional<std::chrono::sys_seconds> parse_time(std::string_view text) noexcept;

/// "2026-01-31 12:00:00 UTC".
[[nodiscard]] std::string time_text(std::chrono::sys_seconds time);

}  // namespace handshake::policy
