// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

namespace handshake::cli {

/// Writes one JSON document (RFC 8259). Strings that are not UTF-8 become valid: each byte that
/// belongs to no character is written as U+FFFD.
class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  /// Before a value, inside an object.
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  template <class T, std::enable_if_t<std::is_integral_v<T>, int> = 0>
  JsonWriter& value(T number) {
    separate();
    if constexpr (std::is_same_v<T, bool>) {
      text_ += number ? "true" : "false";
    } else {
      text_ += std::to_string(number);
    }
    return *this;
  }
  template <class T>
  JsonWriter& member(std::string_view name, const T& content) {
    return key(name).value(content);
  }
  /// Absent: left out.
  template <class T>
  JsonWriter& member(std::string_view name, const std::optional<T>& content) {
    if (content) key(name).value(*content);
    return *this;
  }
  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void separate();

  std::string text_;
  bool first_ = true;      ///< nothing stands yet in the innermost bracket
  bool after_key_ = false;
};

}  // namespace handshake::cli
