// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "policy/address.h"
#include "policy/pattern.h"
#include "policy/peer_facts.h"

namespace handshake::policy {

/// What a policy consists of once it is compiled. Filters, tags and fields are known by their
/// number; two filters that ask the same are one.
using FilterId = std::uint32_t;
using TagId = std::uint32_t;
using FieldId = std::uint32_t;

/// A part of the facts that patterns are compared with. It may have several values, of which one is
/// enough.
struct Field {
  enum class Kind : std::uint8_t {
    kSignatureAlgorithm,
    kVersion,
    kSerialNumber,
    kIssuer,
    kSubject,
    kFingerprint,
    kIssuerAttribute,
    kSubjectAttribute,
    kDnsName,
    kUri,
    kEmail,
    kPublicKeyAlgorithm,
    kChainFingerprint,
    kPskIdentity,
  };
  Kind kind = Kind::kSubject;
  std::string oid;  ///< of an attribute

  friend bool operator==(const Field&, const Field&) = default;
};

struct TextCondition {
  FieldId field = 0;
  std::vector<Pattern> patterns;  ///< any of them
};

/// notBefore: not earlier than `limit`; notAfter: not later.
struct TimeCondition {
  enum class Of : std::uint8_t { kNotBefore, kNotAfter };
  Of of = Of::kNotBefore;
  std::chrono::sys_seconds limit{};
};

struct KeyUsageCondition {
  std::uint16_t bits = 0;  ///< all of them
};

struct PurposeCondition {
  std::vector<std::string> oids;  ///< all of them
};

struct NetworkCondition {
  enum class Of : std::uint8_t { kPeer, kAlternativeNames };
  Of of = Of::kPeer;
  std::vector<Network> networks;  ///< any of them
};

struct KeyBitsCondition {
  unsigned minimum = 0;
  unsigned maximum = std::numeric_limits<unsigned>::max();
};

struct SelfSignedCondition {};

struct Combination {
  enum class Of : std::uint8_t { kAll, kAny, kNot };
  Of of = Of::kAll;
  std::vector<FilterId> filters;
};

using Condition =
    std::variant<TextCondition, TimeCondition, KeyUsageCondition, PurposeCondition,
                 NetworkCondition, KeyBitsCondition, SelfSignedCondition, Combination>;

struct Filter {
  Condition condition;
  std::string text;  ///< what it asks, for people; safe to print
};

struct NamedFilter {
  std::string name;
  FilterId filter = 0;
};

/// One line of a tag's list.
struct TagEntry {
  FilterId filter = 0;
  bool negated = false;
  std::string text;  ///< as written
};

/// As handshake.yaml's max-tag-len has it.
inline constexpr std::size_t kMaxTagBytes = 255;

/// Given when every entry says yes.
struct Tag {
  std::string name;  ///< 1 to kMaxTagBytes bytes without control characters
  std::vector<TagEntry> entries;
};

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 65535;

  friend bool operator==(const PortRange&, const PortRange&) = default;
};

/// One line of authorization: for which sessions it speaks, and what it says.
struct Rule {
  enum class Says : std::uint8_t { kAllow, kDeny, kRequire };

  std::string name;
  std::optional<Role> role;
  std::vector<PortRange> ports;      ///< empty: any local port
  std::vector<Network> addresses;    ///< empty: any local address
  std::vector<std::string> classes;  ///< empty: any handler class
  Says says = Says::kRequire;
  std::vector<TagId> any;   ///< kRequire: at least one of these, unless empty,
  std::vector<TagId> all;   ///< each of these,
  std::vector<TagId> none;  ///< and none of these
  bool dry_run = false;     ///< what it says is logged, and the next rule decides
};

struct Definitions {
  std::vector<Field> fields;
  std::vector<Filter> filters;
  std::vector<NamedFilter> names;  ///< in the order of definition, as are:
  std::vector<Tag> tags;
  std::vector<Rule> rules;
  bool default_allows = true;  ///< when no rule speaks for a session
  bool dry_run = false;        ///< all rules and the default
};

}  // namespace handshake::policy
