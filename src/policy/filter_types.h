// SPDX-License-Identifier: Apache-2.0
// For policy/*.cpp only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "policy/definitions.h"

namespace handshake::policy {

/// The `type` of a filter: what it looks at and what it must be given.
struct FilterType {
  enum class Asks : std::uint8_t {
    kText,         ///< pattern, or value
    kPattern,      ///< pattern only: what tlshd has
    kName,         ///< pattern of a distinguished name
    kHexadecimal,  ///< pattern of hexadecimal digits
    kTime,         ///< pattern, which is a date
    kKeyUsage,     ///< purpose
    kPurposes,     ///< purpose
    kNetworks,     ///< network
    kBits,         ///< minimum, maximum
    kNothing,
  };
  std::string name;  ///< in full
  Asks asks = Asks::kPattern;
  bool of_tlshd = false;  ///< then what tlshd ignores is a warning
  Field field;            ///< of those that ask for text
  TimeCondition::Of time_of = TimeCondition::Of::kNotBefore;
  NetworkCondition::Of networks_of = NetworkCondition::Of::kPeer;
};

/// The type that a file means: "x509.tbs.subject", or without its prefix "subject"; "subject.O" and
/// "x509.tbs.subject.2.5.4.10" for single attributes. Nothing for an unknown one; `problem` then
/// says what there is.
[[nodiscard]] std::optional<FilterType> filter_type(std::string_view name, std::string& problem);

}  // namespace handshake::policy
