// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace handshake {

enum class LogLevel : std::uint8_t { kError, kWarning, kInfo, kDebug };

[[nodiscard]] std::string_view to_string(LogLevel level) noexcept;

/// Where a component's log lines go. A value that is passed in, never a global; callable from
/// any thread, must not block and must not throw. Keys and traffic secrets never reach it.
class Log {
 public:
  using Sink = std::function<void(LogLevel, std::string_view line)>;

  /// Discards everything.
  Log() = default;
  Log(LogLevel threshold, Sink sink) : threshold_(threshold), sink_(std::move(sink)) {}

  /// For building a line only when it would be written.
  [[nodiscard]] bool enabled(LogLevel level) const noexcept {
    return sink_ != nullptr && level <= threshold_;
  }
  void write(LogLevel level, std::string_view line) const {
    if (enabled(level)) sink_(level, line);
  }
  void error(std::string_view line) const { write(LogLevel::kError, line); }
  void warning(std::string_view line) const { write(LogLevel::kWarning, line); }
  void info(std::string_view line) const { write(LogLevel::kInfo, line); }
  void debug(std::string_view line) const { write(LogLevel::kDebug, line); }

 private:
  LogLevel threshold_ = LogLevel::kError;
  Sink sink_;
};

/// A log to standard error: one write(2) a line, with MSG_DONTWAIT semantics as far as the
/// descriptor allows; a line that cannot be written is dropped and counted in the next one.
/// `name` starts every line ("handshaked[123]").
[[nodiscard]] Log stderr_log(LogLevel threshold, std::string name);

/// Bytes of the well-formed UTF-8 sequence that starts at `at`; 0 where there is none (RFC 3629 §4).
[[nodiscard]] std::size_t utf8_sequence(std::string_view text, std::size_t at) noexcept;

/// `key=value` for log lines: the value is quoted when it has a space, a quote, an equals sign
/// or is empty; control bytes and invalid UTF-8 become \xNN, so that a peer's certificate cannot
/// forge a line.
[[nodiscard]] std::string log_field(std::string_view key, std::string_view value);

}  // namespace handshake
