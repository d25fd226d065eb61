// SPDX-License-Identifier: Apache-2.0
#include "tls/asn1_text.h"

#include <algorithm>
#include <array>
#include <span>

#include "base/log.h"

namespace handshake::tls {
namespace {

using Bytes = std::span<const unsigned char>;

Bytes span_of(const ASN1_STRING* string) noexcept {
  const int size = ASN1_STRING_length(string);
  return {ASN1_STRING_get0_data(string), size > 0 ? static_cast<std::size_t>(size) : 0U};
}

bool is_surrogate(char32_t c) noexcept { return c >= 0xD800U && c <= 0xDFFFU; }

/// False: no Unicode character.
bool append_utf8(std::string& text, char32_t c) {
  const auto tail = [&](unsigned shift) {
    text += static_cast<char>(0x80U | (c >> shift & 0x3FU));
  };
  if (c > 0x10FFFFU || is_surrogate(c)) return false;
  if (c < 0x80U) {
    text += static_cast<char>(c);
  } else if (c < 0x800U) {
    text += static_cast<char>(0xC0U | c >> 6U);
    tail(0);
  } else if (c < 0x10000U) {
    text += static_cast<char>(0xE0U | c >> 12U);
    tail(6);
    tail(0);
  } else {
    text += static_cast<char>(0xF0U | c >> 18U);
    tail(12);
    tail(6);
    tail(0);
  }
  return true;
}

std::optional<std::string> from_utf8(Bytes bytes) {
  std::string text(bytes.begin(), bytes.end());
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_sequence(text, i);
    if (length == 0) return std::nullopt;
    i += length;
  }
  return text;
}

std::optional<std::string> from_ascii(Bytes bytes) {
  if (std::any_of(bytes.begin(), bytes.end(), [](unsigned char byte) { return byte >= 0x80U; })) {
    return std::nullopt;
  }
  return std::string(bytes.begin(), bytes.end());
}

std::optional<std::string> from_latin1(Bytes bytes) {
  std::string text;
  for (const unsigned char byte : bytes) append_utf8(text, byte);
  return text;
}

/// Two bytes a character by X.680; pairs of surrogates are what software writes for the others.
std::optional<std::string> from_utf16(Bytes bytes) {
  if (bytes.size() % 2 != 0) return std::nullopt;
  const auto unit = [&](std::size_t at) {
    return static_cast<char32_t>(bytes[at] << 8 | bytes[at + 1]);
  };
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    char32_t c = unit(i);
    if (is_surrogate(c)) {
      if (c >= 0xDC00U || i + 4 > bytes.size()) return std::nullopt;
      const char32_t low = unit(i + 2);
      if (low < 0xDC00U || low > 0xDFFFU) return std::nullopt;
      c = 0x10000U + ((c - 0xD800U) << 10U) + (low - 0xDC00U);
      i += 2;
    }
    if (!append_utf8(text, c)) return std::nullopt;
  }
  return text;
}

std::optional<std::string> from_utf32(Bytes bytes) {
  if (bytes.size() % 4 != 0) return std::nullopt;
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 4) {
    const char32_t c = char32_t{bytes[i]} << 24U | char32_t{bytes[i + 1]} << 16U |
                       char32_t{bytes[i + 2]} << 8U | char32_t{bytes[i + 3]};
    if (!append_utf8(text, c)) return std::nullopt;
  }
  return text;
}

std::string length_octets(std::size_t length) {
  if (length < 0x80U) return {static_cast<char>(length)};
  std::string octets;
  for (; length > 0; length >>= 8U)
    octets.insert(octets.begin(), static_cast<char>(length & 0xFFU));
  octets.insert(octets.begin(), static_cast<char>(0x80U | octets.size()));
  return octets;
}

}  // namespace

std::optional<std::string> utf8_text(const ASN1_STRING* string) {
  if (string == nullptr) return std::nullopt;
  const Bytes bytes = span_of(string);
  switch (ASN1_STRING_type(string)) {
    case V_ASN1_UTF8STRING: return from_utf8(bytes);
    case V_ASN1_PRINTABLESTRING:
    case V_ASN1_IA5STRING:
    case V_ASN1_NUMERICSTRING:
    case V_ASN1_VISIBLESTRING: return from_ascii(bytes);
    case V_ASN1_T61STRING: return from_latin1(bytes);
    case V_ASN1_BMPSTRING: return from_utf16(bytes);
    case V_ASN1_UNIVERSALSTRING: return from_utf32(bytes);
    default: return std::nullopt;
  }
}

std::string bytes_of(const ASN1_STRING* string) {
  if (string == nullptr) return {};
  const Bytes bytes = span_of(string);
  return {bytes.begin(), bytes.end()};
}

std::string der_of(const ASN1_STRING* string) {
  if (string == nullptr) return {};
  const int type = ASN1_STRING_type(string);
  std::string content = bytes_of(string);
  // What the library does not take apart it keeps with its tag.
  if (type == V_ASN1_SEQUENCE || type == V_ASN1_SET || type == V_ASN1_OTHER) return content;
  return static_cast<char>(type & V_ASN1_PRIMITIVE_TAG) + length_octets(content.size()) + content;
}

std::string oid_text(const ASN1_OBJECT* object) {
  // Turning a huge number into digits takes the square of its length (CVE-2023-2650).
  constexpr std::size_t kMaxOidBytes = 64;
  if (object == nullptr || OBJ_length(object) > kMaxOidBytes) return {};
  std::array<char, 256> text{};
  const int size = OBJ_obj2txt(text.data(), static_cast<int>(text.size()), object, 1);
  if (size <= 0 || static_cast<std::size_t>(size) >= text.size()) {
    drain_errors();
    return {};
  }
  return text.data();
}

}  // namespace handshake::tls
