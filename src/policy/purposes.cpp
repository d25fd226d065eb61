// SPDX-License-Identifier: Apache-2.0
#include "policy/purposes.h"

#include <array>

#include <fmt/format.h>

#include "policy/distinguished_name.h"

namespace handshake::policy {
namespace {

constexpr std::array<std::string_view, 9> kKeyUsageNames{
    "digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement",
    "keyCertSign",      "cRLSign",        "encipherOnly",    "decipherOnly",
};

struct Purpose {
  std::string_view name;
  std::string_view oid;
};

constexpr std::array<Purpose, 16> kPurposes{{
    {"serverAuth", "1.3.6.1.5.5.7.3.1"},
    {"clientAuth", "1.3.6.1.5.5.7.3.2"},
    {"codeSigning", "1.3.6.1.5.5.7.3.3"},
    {"emailProtection", "1.3.6.1.5.5.7.3.4"},
    {"ipsecEndSystem", "1.3.6.1.5.5.7.3.5"},
    {"ipsecTunnel", "1.3.6.1.5.5.7.3.6"},
    {"ipsecUser", "1.3.6.1.5.5.7.3.7"},
    {"timeStamping", "1.3.6.1.5.5.7.3.8"},
    {"OCSPSigning", "1.3.6.1.5.5.7.3.9"},
    {"eapOverPPP", "1.3.6.1.5.5.7.3.13"},
    {"eapOverLAN", "1.3.6.1.5.5.7.3.14"},
    {"ipsecIKE", "1.3.6.1.5.5.7.3.17"},
    {"secureShellClient", "1.3.6.1.5.5.7.3.21"},
    {"secureShellServer", "1.3.6.1.5.5.7.3.22"},
    {"smartcardLogon", "1.3.6.1.4.1.311.20.2.2"},
    {"anyExtendedKeyUsage", "2.5.29.37.0"},
}};

template <class Range, class Name>
std::string joined(const Range& range, Name name_of) {
  std::string text;
  for (const auto& item : range)
    text += fmt::format("{}{}", text.empty() ? "" : ", ", name_of(item));
  return text;
}

}  // namespace

std::optional<KeyUsage> key_usage_of(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kKeyUsageNames.size(); ++i) {
    if (kKeyUsageNames.at(i) == name) return static_cast<KeyUsage>(i);
  }
  return std::nullopt;
}

std::string key_usage_text(std::uint16_t bits) {
  std::string text;
  for (std::size_t i = 0; i < kKeyUsageNames.size(); ++i) {
    if ((bits & key_usage_bit(static_cast<KeyUsage>(i))) == 0) continue;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", kKeyUsageNames.at(i));
  }
  return text.empty() ? "none" : text;
}

std::string key_usage_names() {
  return joined(kKeyUsageNames, [](std::string_view name) { return name; });
}

std::optional<std::string> purpose_oid(std::string_view name) {
  for (const Purpose& purpose : kPurposes) {
    if (purpose.name == name) return std::string(purpose.oid);
  }
  return is_oid(name) ? std::optional(std::string(name)) : std::nullopt;
}

std::string_view purpose_name(std::string_view oid) noexcept {
  for (const Purpose& purpose : kPurposes) {
    if (purpose.oid == oid) return purpose.name;
  }
  return oid;
}

std::string purpose_names() {
  return joined(kPurposes, [](const Purpose& purpose) { return purpose.name; });
}

}  // namespace handshake::policy
