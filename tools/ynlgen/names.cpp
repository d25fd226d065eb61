// SPDX-License-Identifier: Apache-2.0
#include "ynlgen/names.h"

#include <algorithm>
#include <array>

namespace handshake::ynlgen {
namespace {

// Those that match is_name(); alternative tokens included.
constexpr std::array kKeywords = std::to_array<std::string_view>(
    {"alignas",  "alignof",   "and",      "asm",       "auto",     "bitand",   "bitor",
     "bool",     "break",     "case",     "catch",     "char",     "class",    "compl",
     "concept",  "const",     "constexpr", "continue", "decltype", "default",  "delete",
     "do",       "double",    "else",     "enum",      "explicit", "export",   "extern",
     "false",    "float",     "for",      "friend",    "goto",     "if",       "inline",
     "int",      "long",      "mutable",  "namespace", "new",      "noexcept", "not",
     "nullptr",  "operator",  "or",       "private",   "protected", "public",  "register",
     "requires", "return",    "short",    "signed",    "sizeof",   "static",   "struct",
     "switch",   "template",  "this",     "throw",     "true",     "try",      "typedef",
     "typeid",   "typename",  "union",    "unsigned",  "using",    "virtual",  "void",
     "volatile", "while",     "xor",      "parse",     "put"});

bool is_lower(char c) noexcept { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

}  // namespace

bool is_name(std::string_view text) noexcept {
  if (text.empty() || text.size() > 64 || !is_lower(text.front()) || text.back() == '-') {
    return false;
  }
  char previous = 'a';
  for (const char c : text) {
    if (!is_lower(c) && !is_digit(c) && (c != '-' || previous == '-')) return false;
    previous = c;
  }
  return true;
}

std::string pascal_case(std::string_view name) {
  std::string result;
  bool upper = true;
  for (const char c : name) {
    if (c == '-') {
      upper = true;
      continue;
    }
    result += upper && is_lower(c) ? static_cast<char>(c - 'a' + 'A') : c;
    upper = false;
  }
  return result;
}

std::string snake_case(std::string_view name) {
  std::string result(name);
  std::replace(result.begin(), result.end(), '-', '_');
  if (std::find(kKeywords.begin(), kKeywords.end(), result) != kKeywords.end()) result += '_';
  return result;
}

}  // namespace handshake::ynlgen
