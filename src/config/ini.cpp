// SPDX-License-Identifier: Apache-2.0
#include "config/ini.h"

#include <fmt/format.h>

namespace handshake::config {

namespace {

constexpr std::string_view kBlanks = " \t\r\v\f";

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

}  // namespace

IniFile parse_ini(std::string path, std::string_view text, std::vector<Problem>& problems) {
  IniFile file{std::move(path), {}};
  std::size_t number = 0;
  const auto problem = [&](std::size_t column, std::string_view key, std::string reason) {
    problems.push_back(Problem{file.path, number, column, std::string(key), std::move(reason)});
  };
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  while (!text.empty()) {
    const auto end = text.find('\n');
    const std::string_view whole = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++number;
    const std::string_view line = trimmed(whole);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    const auto column_of = [&](std::string_view part) {
      return static_cast<std::size_t>(part.data() - whole.data()) + 1;
    };
    if (line.find('\0') != std::string_view::npos) {
      problem(column_of(line.substr(line.find('\0'))), "", "NUL byte");
      continue;
    }
    if (line.front() == '[') {
      if (line.back() != ']' || line.size() < 3) {
        problem(column_of(line), "", "malformed section header, expected [name]");
        continue;
      }
      file.sections.push_back(
          IniSection{std::string(trimmed(line.substr(1, line.size() - 2))), number, {}});
      continue;
    }
    const auto equals = line.find('=');
    const std::string_view key = trimmed(line.substr(0, equals));
    if (equals == std::string_view::npos || key.empty()) {
      problem(column_of(line), "", "expected [section], key=value or a comment");
      continue;
    }
    if (file.sections.empty()) {
      problem(column_of(line), key, "stands before the first [section]");
      continue;
    }
    std::string_view value = trimmed(line.substr(equals + 1));
    if (value.data() == nullptr) value = line.substr(line.size());
    file.sections.back().entries.push_back(IniEntry{std::string(key), std::string(value), number,
                                                    column_of(key), column_of(value)});
  }
  return file;
}

}  // namespace handshake::config
