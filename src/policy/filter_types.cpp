// SPDX-License-Identifier: Apache-2.0
#include "policy/filter_types.h"

#include <array>

#include <fmt/format.h>

#include "policy/distinguished_name.h"
#include "policy/reading.h"

namespace handshake::policy {
namespace {

using Asks = FilterType::Asks;
using Kind = Field::Kind;

struct Entry {
  std::string_view prefix;  // may be left out
  std::string_view name;
  Asks asks;
  bool of_tlshd;
  Kind field = Kind::kSubject;  // where text is asked for
};

constexpr std::array<Entry, 20> kEntries{{
    {"x509.cert.", "signatureAlgorithm", Asks::kPattern, true, Kind::kSignatureAlgorithm},
    {"x509.tbs.", "version", Asks::kPattern, true, Kind::kVersion},
    {"x509.tbs.", "serialNumber", Asks::kHexadecimal, true, Kind::kSerialNumber},
    {"x509.tbs.", "issuer", Asks::kName, true, Kind::kIssuer},
    {"x509.tbs.", "subject", Asks::kName, true, Kind::kSubject},
    {"x509.tbs.validity.", "notBefore", Asks::kTime, true},
    {"x509.tbs.validity.", "notAfter", Asks::kTime, true},
    {"x509.extension.", "keyUsage", Asks::kKeyUsage, true},
    {"x509.derived.", "fingerprint", Asks::kHexadecimal, true, Kind::kFingerprint},
    {"x509.derived.", "selfSigned", Asks::kNothing, true},
    {"x509.extension.", "extendedKeyUsage", Asks::kPurposes, false},
    {"x509.extension.", "subjectAltName.dns", Asks::kText, false, Kind::kDnsName},
    {"x509.extension.", "subjectAltName.ip", Asks::kNetworks, false},
    {"x509.extension.", "subjectAltName.uri", Asks::kText, false, Kind::kUri},
    {"x509.extension.", "subjectAltName.email", Asks::kText, false, Kind::kEmail},
    {"x509.tbs.", "publicKey.algorithm", Asks::kText, false, Kind::kPublicKeyAlgorithm},
    {"x509.tbs.", "publicKey.bits", Asks::kBits, false},
    {"x509.derived.", "chain.fingerprint", Asks::kHexadecimal, false, Kind::kChainFingerprint},
    {"", "psk.identity", Asks::kText, false, Kind::kPskIdentity},
    {"", "peer.address", Asks::kNetworks, false},
}};

std::string full_name(const Entry& entry) { return fmt::format("{}{}", entry.prefix, entry.name); }

FilterType type_of(const Entry& entry) {
  FilterType type;
  type.name = full_name(entry);
  type.asks = entry.asks;
  type.of_tlshd = entry.of_tlshd;
  type.field.kind = entry.field;
  if (entry.name == "notAfter") type.time_of = TimeCondition::Of::kNotAfter;
  if (entry.name == "subjectAltName.ip") type.networks_of = NetworkCondition::Of::kAlternativeNames;
  return type;
}

std::string known_types() {
  std::string text;
  for (const Entry& entry : kEntries) text += full_name(entry) + ", ";
  return text + "x509.tbs.subject.ATTRIBUTE, x509.tbs.issuer.ATTRIBUTE";
}

std::optional<FilterType> attribute_type(std::string_view of, Kind kind, std::string_view name,
                                         std::string& problem) {
  const auto oid = attribute_oid(name);
  if (!oid) {
    problem = fmt::format(
        "\"{}\" is not an attribute, expected one like O, OU, CN, emailAddress or an OID",
        printable(name));
    return std::nullopt;
  }
  FilterType type;
  type.name = fmt::format("x509.tbs.{}.{}", of, name);
  type.asks = Asks::kText;
  type.field = Field{kind, *oid};
  return type;
}

}  // namespace

std::optional<FilterType> filter_type(std::string_view name, std::string& problem) {
  for (const Entry& entry : kEntries) {
    if (name == entry.name || name == full_name(entry)) return type_of(entry);
  }
  std::string_view attribute = name;
  constexpr std::string_view kPrefix = "x509.tbs.";
  if (attribute.starts_with(kPrefix)) attribute.remove_prefix(kPrefix.size());
  constexpr std::string_view kSubject = "subject.";
  constexpr std::string_view kIssuer = "issuer.";
  if (attribute.starts_with(kSubject)) {
    return attribute_type("subject", Kind::kSubjectAttribute, attribute.substr(kSubject.size()),
                          problem);
  }
  if (attribute.starts_with(kIssuer)) {
    return attribute_type("issuer", Kind::kIssuerAttribute, attribute.substr(kIssuer.size()),
                          problem);
  }
  problem = fmt::format("\"{}\" is not a filter type, expected one of: {}", printable(name),
                        known_types());
  return std::nullopt;
}

}  // namespace handshake::policy
