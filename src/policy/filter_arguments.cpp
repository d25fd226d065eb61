// SPDX-License-Identifier: Apache-2.0
#include "policy/filter_arguments.h"

#include <limits>

#include <fmt/format.h>

#include "base/log.h"
#include "policy/distinguished_name.h"
#include "policy/evaluator.h"
#include "policy/purposes.h"
#include "policy/time.h"

namespace handshake::policy {
namespace {

using Asks = FilterType::Asks;

constexpr std::size_t kMaxWordBytes = 4096;
constexpr std::uint64_t kMaxKeyBits = 1'000'000;

bool takes(const FilterType& type, std::string_view key) noexcept {
  switch (type.asks) {
    case Asks::kText: return key == "pattern" || key == "value";
    case Asks::kPattern:
    case Asks::kName:
    case Asks::kHexadecimal:
    case Asks::kTime: return key == "pattern";
    case Asks::kKeyUsage:
    case Asks::kPurposes: return key == "purpose";
    case Asks::kNetworks: return key == "network";
    case Asks::kBits: return key == "minimum" || key == "maximum";
    case Asks::kNothing: return false;
  }
  return false;
}

std::string_view expected_word(const FilterType& type) noexcept {
  switch (type.asks) {
    case Asks::kText:
    case Asks::kPattern:
    case Asks::kName: return "text";
    case Asks::kHexadecimal: return "hexadecimal digits, of which * and ? may stand for some";
    case Asks::kTime:
      return "a date such as \"2026-01-31\" or \"2026-01-31 12:00:00\" (UTC), or \"... +01:00\"";
    case Asks::kKeyUsage: return "a key usage such as digitalSignature";
    case Asks::kPurposes: return "an extended key usage such as clientAuth, or an OID";
    case Asks::kNetworks: return "a network such as 192.0.2.0/24";
    case Asks::kBits: return "a number";
    case Asks::kNothing: return "nothing";
  }
  return "nothing";
}

/// As values_of() gives the values of the field.
std::string normalized(const Field& field, const std::string& word) {
  if (field.kind == Field::Kind::kDnsName) return lower_case(word);
  if (field.kind == Field::Kind::kEmail) return lower_case_domain(word);
  return word;
}

}  // namespace

void FilterArguments::take(const Spot& spot, const std::string& key, const YamlNode& value) {
  if (!takes(type_, key)) {
    const bool tolerated = type_.of_tlshd && (key == "pattern" || key == "purpose");
    return reading_.report(spot, fmt::format("means nothing for {}", type_.name), !tolerated);
  }
  if (type_.asks == Asks::kBits) {
    const auto bits = reading_.number(spot, value, kMaxKeyBits);
    if (!bits) return;
    (key == "minimum" ? minimum_ : maximum_) = static_cast<unsigned>(*bits);
    text_ += fmt::format(" {}={}", key, *bits);
    return;
  }
  for (const YamlNode* word : reading_.words(spot, value, expected_word(type_))) {
    const Spot here = spot.at(word->place);
    if (word->scalar.size() > kMaxWordBytes) {
      reading_.report(here, fmt::format("longer than {} bytes", kMaxWordBytes));
      continue;
    }
    take_word(here, key, word->scalar);
    text_ += " " + log_field(key, word->scalar);
  }
}

void FilterArguments::take_word(const Spot& spot, const std::string& key, const std::string& word) {
  switch (type_.asks) {
    case Asks::kText:
    case Asks::kPattern: {
      std::string text = normalized(type_.field, word);
      patterns_.push_back(key == "value" ? Pattern::exact(std::move(text))
                                         : Pattern::wildcard(text));
      return;
    }
    case Asks::kName: patterns_.push_back(Pattern::wildcard(name_pattern(word))); return;
    case Asks::kHexadecimal: return take_hexadecimal(spot, word);
    case Asks::kTime: return take_time(spot, word);
    case Asks::kKeyUsage: return take_key_usage(spot, word);
    case Asks::kPurposes: return take_purpose(spot, word);
    case Asks::kNetworks: return take_network(spot, word);
    case Asks::kBits:
    case Asks::kNothing: return;
  }
}

void FilterArguments::take_time(const Spot& spot, const std::string& word) {
  if (time_) return reading_.report(spot, "expected one date");
  time_ = parse_time(word);
  if (!time_) {
    reading_.report(
        spot, fmt::format("{}, expected {}", log_field("pattern", word), expected_word(type_)));
  }
}

void FilterArguments::take_hexadecimal(const Spot& spot, const std::string& word) {
  std::string digits;
  for (const char c : lower_case(word)) {
    if (c == ':') continue;
    if (std::string_view("0123456789abcdef*?").find(c) == std::string_view::npos) {
      return reading_.report(
          spot, fmt::format("{}, expected {}", log_field("pattern", word), expected_word(type_)));
    }
    digits += c;
  }
  constexpr std::size_t kSha1Digits = 40;
  constexpr std::size_t kSha256Digits = 64;
  const bool whole = digits.find('*') == std::string::npos;
  if (type_.field.kind != Field::Kind::kSerialNumber && whole && digits.size() != kSha1Digits &&
      digits.size() != kSha256Digits) {
    return reading_.report(
        spot, fmt::format("{} digits never match, expected 40 (SHA-1) or 64 (SHA-256), or a "
                          "* among them",
                          digits.size()));
  }
  patterns_.push_back(Pattern::wildcard(digits));
}

void FilterArguments::take_key_usage(const Spot& spot, const std::string& word) {
  const auto usage = key_usage_of(word);
  if (!usage) {
    return reading_.report(spot, fmt::format("{} is unknown, expected one of: {}",
                                             log_field("purpose", word), key_usage_names()));
  }
  key_usage_ = static_cast<std::uint16_t>(key_usage_ | key_usage_bit(*usage));
}

void FilterArguments::take_purpose(const Spot& spot, const std::string& word) {
  auto oid = purpose_oid(word);
  if (!oid) {
    return reading_.report(spot, fmt::format("{} is unknown, expected an OID or one of: {}",
                                             log_field("purpose", word), purpose_names()));
  }
  purposes_.push_back(std::move(*oid));
}

void FilterArguments::take_network(const Spot& spot, const std::string& word) {
  std::string problem;
  const auto network = Network::parse(word, problem);
  if (!network) return reading_.report(spot, std::move(problem));
  networks_.push_back(*network);
}

std::optional<Condition> FilterArguments::condition(
    const Spot& spot, const std::function<FieldId(const Field&)>& number) {
  const unsigned minimum = minimum_.value_or(0);
  const unsigned maximum = maximum_.value_or(std::numeric_limits<unsigned>::max());
  switch (type_.asks) {
    case Asks::kText:
    case Asks::kPattern:
    case Asks::kName:
    case Asks::kHexadecimal:
      if (!patterns_.empty()) return TextCondition{number(type_.field), std::move(patterns_)};
      break;
    case Asks::kTime:
      if (time_) return TimeCondition{type_.time_of, *time_};
      break;
    case Asks::kKeyUsage:
      if (key_usage_ != 0) return KeyUsageCondition{key_usage_};
      break;
    case Asks::kPurposes:
      if (!purposes_.empty()) return PurposeCondition{std::move(purposes_)};
      break;
    case Asks::kNetworks:
      if (!networks_.empty()) return NetworkCondition{type_.networks_of, std::move(networks_)};
      break;
    case Asks::kBits:
      if ((minimum_ || maximum_) && minimum <= maximum) return KeyBitsCondition{minimum, maximum};
      break;
    case Asks::kNothing: return SelfSignedCondition{};
  }
  reading_.report(spot, fmt::format("expected {} for {}", missing(), type_.name));
  return std::nullopt;
}

std::string_view FilterArguments::missing() const noexcept {
  switch (type_.asks) {
    case Asks::kText: return "a pattern or a value";
    case Asks::kPattern:
    case Asks::kName:
    case Asks::kHexadecimal: return "a pattern";
    case Asks::kTime: return "a date as pattern";
    case Asks::kKeyUsage:
    case Asks::kPurposes: return "a list of purposes (purpose: [...])";
    case Asks::kNetworks: return "a network";
    case Asks::kBits: return "a minimum or a maximum, or a minimum not above the maximum";
    case Asks::kNothing: break;
  }
  return "nothing";
}

}  // namespace handshake::policy
