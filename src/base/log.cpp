// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <memory>

#include <fmt/format.h>

namespace handshake {

std::string_view to_string(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::kError: return "error";
    case LogLevel::kWarning: return "warning";
    case LogLevel::kInfo: return "info";
    case LogLevel::kDebug: return "debug";
  }
  return "error";
}

Log stderr_log(LogLevel threshold, std::string name) {
  auto dropped = std::make_shared<std::atomic<std::uint64_t>>(0);
  return Log(threshold, [name = std::move(name), dropped](LogLevel level, std::string_view line) {
    // The descriptor may be a pipe whose reader has stopped, shared with others whose flags are
    // not ours to change: ask before writing, and write no more than a pipe takes at once.
    pollfd writable{STDERR_FILENO, POLLOUT, 0};
    if (::poll(&writable, 1, 0) != 1 || (writable.revents & POLLOUT) == 0) {
      dropped->fetch_add(1, std::memory_order_relaxed);
      return;
    }
    const std::uint64_t lost = dropped->exchange(0, std::memory_order_relaxed);
    std::string text = lost == 0 ? fmt::format("{} {}: {}\n", name, to_string(level), line)
                                 : fmt::format("{} {}: {} log-lines-dropped={}\n", name,
                                               to_string(level), line, lost);
    constexpr std::size_t kPipeBuf = 4096;
    if (text.size() > kPipeBuf) {
      text.resize(kPipeBuf - 1);
      text += '\n';
    }
    if (::write(STDERR_FILENO, text.data(), text.size()) < 0) {
      dropped->fetch_add(lost + 1, std::memory_order_relaxed);
    }
  });
}

std::size_t utf8_sequence(std::string_view text, std::size_t at) noexcept {
  const auto byte = [&](std::size_t i) -> unsigned {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0U;
  };
  const auto tail = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  const unsigned lead = byte(0);
  if (lead < 0x80U) return 1;
  if (lead >= 0xC2U && lead <= 0xDFU) return tail(1) ? 2 : 0;
  if (lead >= 0xE0U && lead <= 0xEFU) {
    if (lead == 0xE0U && byte(1) < 0xA0U) return 0;
    if (lead == 0xEDU && byte(1) > 0x9FU) return 0;
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (lead >= 0xF0U && lead <= 0xF4U) {
    if (lead == 0xF0U && byte(1) < 0x90U) return 0;
    if (lead == 0xF4U && byte(1) > 0x8FU) return 0;
    return tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

std::string log_field(std::string_view key, std::string_view value) {
  std::string text;
  bool quote = value.empty();
  for (std::size_t i = 0; i < value.size();) {
    const auto c = static_cast<unsigned char>(value[i]);
    const std::size_t length = utf8_sequence(value, i);
    // U+0080..U+009F are control characters too (C1): a terminal would obey them.
    const bool c1 = length == 2 && c == 0xC2U && static_cast<unsigned char>(value[i + 1]) < 0xA0U;
    if (c < 0x20U || c == 0x7FU || length == 0 || c1) {
      text += fmt::format("\\x{:02x}", c);
      quote = true;
      ++i;
      continue;
    }
    if (c == '"' || c == '\\') {
      text += '\\';
      quote = true;
    }
    if (c == ' ' || c == '=') quote = true;
    text.append(value.substr(i, length));
    i += length;
  }
  return quote ? fmt::format("{}=\"{}\"", key, text) : fmt::format("{}={}", key, text);
}

}  // namespace handshake
