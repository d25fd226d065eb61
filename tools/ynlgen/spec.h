// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace handshake::ynlgen {

/// Where a thing was written, for messages: "<file>:<line>".
struct Source {
  std::string file;
  int line = 1;
};

/// An enum's entry; the value of a flag is its bit number.
struct Entry {
  std::string name;
  std::string doc;
  std::uint64_t value = 0;
};

struct Definition {
  enum class Kind { kConst, kEnum, kFlags };
  Source source;
  Kind kind = Kind::kConst;
  std::string name;
  std::string doc;
  std::uint64_t value = 0;       ///< of a const
  std::vector<Entry> entries;    ///< of an enum or of flags
};

enum class Type {
  kFlag, kU8, kU16, kU32, kU64, kS32, kS64, kString, kBinary, kNest, kIndexedArray,
  kNestTypeValue, kPad,
};

[[nodiscard]] std::string_view to_string(Type type) noexcept;
[[nodiscard]] bool is_unsigned(Type type) noexcept;
[[nodiscard]] bool is_signed(Type type) noexcept;

/// A limit in `checks`: a number or the name of a const; assemble() turns the latter into numbers.
struct Limit {
  std::int64_t value = 0;
  std::string name;
};

struct Attribute {
  Source source;
  std::string name;
  std::string doc;
  Type type = Type::kFlag;
  std::uint16_t number = 0;
  bool multi = false;
  std::string nested;                      ///< attribute set inside, for the nesting types
  std::string enum_name;
  bool enum_as_flags = false;
  std::vector<std::string> type_value;     ///< names of the levels of a nest-type-value
  std::optional<Limit> min, max, min_length, max_length;
};

struct AttributeSet {
  Source source;
  std::string name;
  std::string doc;
  std::vector<Attribute> attributes;

  [[nodiscard]] const Attribute* find(std::string_view attribute) const noexcept;
};

/// One direction of an operation: the attributes it may carry, in the order they are built.
struct Message {
  Source source;
  std::uint8_t command = 0;
  std::vector<std::string> attributes;
};

struct Exchange {
  std::optional<Message> request;
  std::optional<Message> reply;
};

struct Operation {
  Source source;
  std::string name;
  std::string doc;
  std::string attribute_set;
  bool admin = false;
  std::optional<Exchange> do_exchange;
  std::optional<Exchange> dump_exchange;
  std::optional<Message> event;
  std::string group;
};

struct Spec {
  std::string file;
  std::string name;
  std::string doc;
  std::uint8_t version = 1;
  std::vector<Definition> definitions;
  std::vector<AttributeSet> sets;
  std::vector<Operation> operations;
  std::vector<std::string> groups;

  [[nodiscard]] const AttributeSet* find_set(std::string_view set) const noexcept;
  [[nodiscard]] const Definition* find_definition(std::string_view definition) const noexcept;
};

/// Reads one spec in the kernel's netlink spec language. What this generator has no support for,
/// and whatever is malformed by itself, is refused as "<file>:<line>: <name>: <what>". References
/// are resolved by assemble(), because a spec may extend another.
[[nodiscard]] Result<Spec> load_spec(std::string_view text, const std::string& file);

/// A spec on its way into a C++ namespace, on top of another's attribute sets and operations if
/// `base` names that one's namespace.
struct Input {
  std::string cpp_namespace;
  std::string base;
  Spec spec;
};

struct Family {
  std::string cpp_namespace;
  std::string base;
  Spec spec;       ///< merged, every reference and limit resolved
};

/// Everything that goes into one set of generated files.
struct Model {
  std::vector<Definition> definitions;   ///< of all families, each once
  std::vector<Family> families;
};

/// Merges, resolves and checks: duplicate names and numbers, dangling references, limits that do
/// not fit their type, one definition with two meanings. A base comes before what extends it.
[[nodiscard]] Result<Model> assemble(std::vector<Input> inputs);

}  // namespace handshake::ynlgen
