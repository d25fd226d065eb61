// SPDX-License-Identifier: Apache-2.0
// For policy/*.cpp only.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/definitions.h"
#include "policy/filter_types.h"
#include "policy/reading.h"

namespace handshake::policy {

/// What is written beside a filter's type, checked and compiled.
class FilterArguments {
 public:
  FilterArguments(Reading& reading, const FilterType& type) noexcept
      : reading_(reading), type_(type) {}

  /// Reads one of pattern, value, purpose, network, minimum, maximum. Reports what does not fit.
  void take(const Spot& spot, const std::string& key, const YamlNode& value);

  /// The condition, once everything is taken; reports what is missing at `spot`. `number` gives a
  /// field its number.
  [[nodiscard]] std::optional<Condition> condition(
      const Spot& spot, const std::function<FieldId(const Field&)>& number);

  /// The filter as text, for people and for telling filters apart.
  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  void take_word(const Spot& spot, const std::string& key, const std::string& word);
  void take_time(const Spot& spot, const std::string& word);
  void take_hexadecimal(const Spot& spot, const std::string& word);
  void take_key_usage(const Spot& spot, const std::string& word);
  void take_purpose(const Spot& spot, const std::string& word);
  void take_network(const Spot& spot, const std::string& word);
  [[nodiscard]] std::string_view missing() const noexcept;

  Reading& reading_;
  const FilterType& type_;
  std::string text_ = type_.name;
  std::vector<Pattern> patterns_;
  std::optional<std::chrono::sys_seconds> time_;
  std::uint16_t key_usage_ = 0;
  std::vector<std::string> purposes_;
  std::vector<Network> networks_;
  std::optional<unsigned> minimum_;
  std::optional<unsigned> maximum_;
};

}  // namespace handshake::policy
