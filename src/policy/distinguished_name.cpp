// SPDX-License-Identifier: Apache-2.0
#include "policy/distinguished_name.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace handshake::policy {
namespace {

struct AttributeName {
  std::string_view oid;
  std::string_view name;   // in name_text(), as the reference agent writes it
  std::string_view alias;  // how others call it
};

constexpr std::array<AttributeName, 34> kAttributeNames{{
    {"2.5.4.3", "CN", "commonName"},
    {"2.5.4.4", "surName", "SN"},
    {"2.5.4.5", "serialNumber", ""},
    {"2.5.4.6", "C", "countryName"},
    {"2.5.4.7", "L", "localityName"},
    {"2.5.4.8", "ST", "stateOrProvinceName"},
    {"2.5.4.9", "street", "streetAddress"},
    {"2.5.4.10", "O", "organizationName"},
    {"2.5.4.11", "OU", "organizationalUnitName"},
    {"2.5.4.12", "title", ""},
    {"2.5.4.13", "description", ""},
    {"2.5.4.15", "businessCategory", ""},
    {"2.5.4.17", "postalCode", ""},
    {"2.5.4.20", "telephoneNumber", ""},
    {"2.5.4.41", "name", ""},
    {"2.5.4.42", "givenName", "GN"},
    {"2.5.4.43", "initials", ""},
    {"2.5.4.44", "generationQualifier", ""},
    {"2.5.4.46", "dnQualifier", ""},
    {"2.5.4.65", "pseudonym", ""},
    {"0.9.2342.19200300.100.1.1", "UID", "userId"},
    {"0.9.2342.19200300.100.1.25", "DC", "domainComponent"},
    {"1.2.840.113549.1.9.1", "EMAIL", "emailAddress"},
    {"1.3.6.1.4.1.311.60.2.1.1", "jurisdictionOfIncorporationLocalityName", "jurisdictionL"},
    {"1.3.6.1.4.1.311.60.2.1.2", "jurisdictionOfIncorporationStateOrProvinceName",
     "jurisdictionST"},
    {"1.3.6.1.4.1.311.60.2.1.3", "jurisdictionOfIncorporationCountryName", "jurisdictionC"},
    // Below: attributes that name_text() writes as OID and hexadecimal, as the reference agent
    // does.
    {"2.5.4.16", "", "postalAddress"},
    {"2.5.4.45", "", "x500UniqueIdentifier"},
    {"2.5.4.51", "", "houseIdentifier"},
    {"2.5.4.54", "", "dmdName"},
    {"2.5.4.97", "", "organizationIdentifier"},
    {"1.2.840.113549.1.9.2", "", "unstructuredName"},
    {"1.2.840.113549.1.9.8", "", "unstructuredAddress"},
    {"1.3.6.1.4.1.311.20.2.3", "", "userPrincipalName"},
}};

char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool same_word(std::string_view a, std::string_view b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

int hex_digit(char c) noexcept {
  if (is_digit(c)) return c - '0';
  const char small = lower(c);
  return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

/// Written as an escape wherever it belongs to a value: what separates, what RFC 4514 escapes, the
/// two wildcards of patterns, and what would break a line.
bool is_special(char c) noexcept {
  constexpr std::string_view kSpecial = ",+=\"\\<>;*?";
  return kSpecial.find(c) != std::string_view::npos || static_cast<unsigned char>(c) < 0x20U ||
         c == '\x7F';
}

/// One character of a value. `first` and `last`: of the value; RFC 4514 guards blanks there.
void append_character(std::string& text, char c, bool first, bool last) {
  const bool guarded = (first && (c == ' ' || c == '#')) || (last && c == ' ');
  if (!is_special(c) && !guarded) {
    text += c;
    return;
  }
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(c);
  text += '\\';
  text += kDigits[byte >> 4U];
  text += kDigits[byte & 0xFU];
}

void append_value(std::string& text, std::string_view value) {
  for (std::size_t i = 0; i < value.size(); ++i) {
    append_character(text, value[i], i == 0, i + 1 == value.size());
  }
}

void append_der(std::string& text, std::string_view der) {
  text += '#';
  for (const char c : der)
    fmt::format_to(std::back_inserter(text), "{:02x}", static_cast<unsigned char>(c));
}

void append_attribute(std::string& text, const NameAttribute& attribute) {
  const auto known =
      std::find_if(kAttributeNames.begin(), kAttributeNames.end(),
                   [&](const AttributeName& name) { return name.oid == attribute.oid; });
  const bool named = known != kAttributeNames.end() && !known->name.empty();
  text += named ? known->name : std::string_view(attribute.oid);
  text += '=';
  if (named && attribute.readable) {
    append_value(text, attribute.value);
  } else {
    append_der(text, attribute.der);
  }
}

/// The character that a pattern starts with, and how it is written: as itself, "\\," or "\\2C".
struct Escape {
  char character = 0;
  bool escaped = false;
  std::size_t length = 1;
};

Escape leading_escape(std::string_view pattern) noexcept {
  if (pattern[0] != '\\') return {pattern[0], false, 1};
  if (pattern.size() == 1) return {'\\', true, 1};
  const int high = hex_digit(pattern[1]);
  const int low = pattern.size() > 2 ? hex_digit(pattern[2]) : -1;
  if (high < 0 || low < 0) return {pattern[1], true, 2};
  return {static_cast<char>(high * 16 + low), true, 3};
}

}  // namespace

std::string name_text(const DistinguishedName& name) {
  std::string text;
  for (auto part = name.rbegin(); part != name.rend(); ++part) {
    if (part != name.rbegin()) text += ',';
    for (std::size_t i = 0; i < part->size(); ++i) {
      if (i > 0) text += '+';
      append_attribute(text, (*part)[i]);
    }
  }
  return text;
}

std::string name_pattern(std::string_view pattern) {
  std::string made;
  bool in_value = false;      // behind an equals sign, and no separator or wildcard since
  bool value_starts = false;  // right behind it
  while (!pattern.empty()) {
    const Escape escape = leading_escape(pattern);
    pattern.remove_prefix(escape.length);
    const char c = escape.character;
    const bool separates = !escape.escaped && (c == ',' || c == '+' || c == '*' || c == '?');
    const bool opens = !escape.escaped && c == '=' && !in_value;
    const bool hexadecimal = !escape.escaped && c == '#' && value_starts;
    if (separates || opens || hexadecimal) {
      made += c;
    } else {
      const bool last = pattern.empty() || pattern.front() == ',' || pattern.front() == '+';
      append_character(made, c, in_value && value_starts, in_value && last);
    }
    value_starts = opens;
    in_value = opens || (in_value && !separates);
  }
  return made;
}

std::optional<std::string> attribute_oid(std::string_view name) {
  if (is_oid(name)) return std::string(name);
  if (name.empty()) return std::nullopt;
  for (const AttributeName& known : kAttributeNames) {
    if (same_word(known.name, name) || same_word(known.alias, name)) return std::string(known.oid);
  }
  return std::nullopt;
}

bool is_oid(std::string_view text) noexcept {
  if (text.size() < 3 || text[0] < '0' || text[0] > '2' || text[1] != '.') return false;
  for (std::size_t i = 2; i < text.size(); ++i) {
    if (text[i] == '.' ? text[i - 1] == '.' || i + 1 == text.size() : !is_digit(text[i]))
      return false;
  }
  return text[2] != '.';
}

bool has_unreadable(const DistinguishedName& name) noexcept {
  return std::any_of(name.begin(), name.end(), [](const RelativeName& part) {
    return std::any_of(part.begin(), part.end(),
                       [](const NameAttribute& attribute) { return !attribute.readable; });
  });
}

}  // namespace handshake::policy
