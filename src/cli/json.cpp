// SPDX-License-Identifier: Apache-2.0
#include "cli/json.h"

#include <fmt/format.h>

#include "base/log.h"

namespace handshake::cli {

JsonWriter& JsonWriter::open(char bracket) {
  separate();
  text_ += bracket;
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  text_ += bracket;
  first_ = false;
  return *this;
}

void JsonWriter::separate() {
  if (!after_key_ && !first_) text_ += ',';
  after_key_ = false;
  first_ = false;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  value(name);
  text_ += ':';
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  separate();
  text_ += '"';
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const std::size_t length = utf8_sequence(text, i);
    if (length == 0) {
      text_ += "\\ufffd";
      ++i;
    } else if (c < 0x20U || c == 0x7FU) {
      text_ += fmt::format("\\u{:04x}", c);
      ++i;
    } else {
      if (c == '"' || c == '\\') text_ += '\\';
      text_ += text.substr(i, length);
      i += length;
    }
  }
  text_ += '"';
  return *this;
}

}  // namespace handshake::cli
