// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <iterator>
#include <limits>

#include "ynlgen/names.h"
#include "ynlgen/problems.h"
#include "ynlgen/spec.h"
#include "ynlgen/yaml_tree.h"

namespace handshake::ynlgen {
namespace {

struct TypeName {
  std::string_view name;
  Type type;
};

constexpr TypeName kTypes[] = {
    {"flag", Type::kFlag},     {"u8", Type::kU8},
    {"u16", Type::kU16},       {"u32", Type::kU32},
    {"u64", Type::kU64},       {"s32", Type::kS32},
    {"s64", Type::kS64},       {"string", Type::kString},
    {"binary", Type::kBinary}, {"nest", Type::kNest},
    {"pad", Type::kPad},       {"indexed-array", Type::kIndexedArray},
    {"nest-type-value", Type::kNestTypeValue}};

constexpr std::uint64_t kMaxAttributeNumber = 0x3fff;   // the two bits above are flags (NLA_F_*)
constexpr std::uint64_t kMaxCommand = 255;              // genlmsghdr.cmd is a byte
constexpr std::size_t kMaxFamilyName = 15;              // GENL_NAMSIZ counts the NUL

using Keys = std::initializer_list<std::string_view>;

class Loader {
 public:
  explicit Loader(const std::string& file) { spec_.file = file; }

  Result<Spec> load(const YamlNode& root) {
    top(root);
    if (problems_.any()) return tl::unexpected<Error>(problems_.error());
    return std::move(spec_);
  }

 private:
  [[nodiscard]] Source at(const YamlNode& node) const { return Source{spec_.file, node.line}; }

  /// A map with no key outside `supported`; false if it is no map at all.
  bool map(const YamlNode& node, std::string_view name, Keys supported) {
    if (node.kind != YamlNode::Kind::kMap) {
      problems_.add(at(node), name, "expected a map");
      return false;
    }
    for (const YamlNode& key : node.keys) {
      if (std::find(supported.begin(), supported.end(), key.scalar) == supported.end()) {
        problems_.unsupported(at(key), name, fmt::format("key {}", key.scalar));
      }
    }
    return true;
  }

  bool sequence(const YamlNode& node, std::string_view name) {
    if (node.kind == YamlNode::Kind::kSequence) return true;
    problems_.add(at(node), name, "expected a list");
    return false;
  }

  std::string text(const YamlNode& parent, std::string_view key, std::string_view name) {
    const YamlNode* node = parent.find(key);
    if (node == nullptr) return {};
    if (node->kind != YamlNode::Kind::kScalar || node->scalar.empty()) {
      problems_.add(at(*node), name, fmt::format("{}: expected text", key));
      return {};
    }
    return node->scalar;
  }

  /// The name of `parent` itself; "?" stands in for a missing one in later messages.
  std::string name_of(const YamlNode& parent, std::string_view what) {
    if (parent.kind != YamlNode::Kind::kMap) {
      problems_.add(at(parent), what, "expected a map");
      return "?";
    }
    const YamlNode* node = parent.find("name");
    if (node == nullptr) {
      problems_.add(at(parent), what, "no name");
      return "?";
    }
    return word(*node, what);
  }

  std::string word(const YamlNode& node, std::string_view context) {
    if (node.kind == YamlNode::Kind::kScalar && is_name(node.scalar)) return node.scalar;
    problems_.add(at(node), context,
                  fmt::format("'{}': a name is lower case words and digits joined by dashes",
                              node.kind == YamlNode::Kind::kScalar ? node.scalar : "?"));
    return "?";
  }

  std::string optional_word(const YamlNode& parent, std::string_view key,
                            std::string_view context) {
    const YamlNode* node = parent.find(key);
    return node == nullptr ? std::string{} : word(*node, context);
  }

  std::vector<std::string> words(const YamlNode& node, std::string_view context) {
    std::vector<std::string> result;
    if (!sequence(node, context)) return result;
    for (const YamlNode& item : node.items) {
      std::string name = word(item, context);
      if (std::find(result.begin(), result.end(), name) != result.end()) {
        problems_.add(at(item), context, fmt::format("{}: listed twice", name));
      }
      result.push_back(std::move(name));
    }
    return result;
  }

  bool boolean(const YamlNode& parent, std::string_view key, std::string_view name) {
    const YamlNode* node = parent.find(key);
    if (node == nullptr || node->scalar == "false") return false;
    if (node->scalar != "true") {
      problems_.add(at(*node), name, fmt::format("{}: expected true or false", key));
    }
    return true;
  }

  template <class Int>
  static std::optional<Int> parse_number(const YamlNode& node) {
    if (node.kind != YamlNode::Kind::kScalar || node.quoted) return std::nullopt;
    std::string_view digits = node.scalar;
    int base = 10;
    if (digits.starts_with("0x")) {
      digits.remove_prefix(2);
      base = 16;
    } else if (digits.size() > 1 && digits.front() == '0') {
      return std::nullopt;   // octal to one reader, decimal to another
    }
    Int value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    return value;
  }

  /// `min` in place of what is no number from `min` to `max`.
  std::uint64_t number(const YamlNode& node, std::string_view name, std::string_view key,
                       std::uint64_t min, std::uint64_t max) {
    const std::optional<std::uint64_t> value = parse_number<std::uint64_t>(node);
    if (value && *value >= min && *value <= max) return *value;
    problems_.add(at(node), name,
                  fmt::format("{}: expected a number from {} to {}", key, min, max));
    return min;
  }

  void top(const YamlNode& root) {
    if (!map(root, "spec", {"name", "protocol", "doc", "version", "definitions", "attribute-sets",
                            "operations", "mcast-groups"})) {
      return;
    }
    spec_.name = name_of(root, "spec");
    const std::string name = spec_.name;
    if (name.size() > kMaxFamilyName) {
      problems_.add(at(root), name, fmt::format("longer than {} characters", kMaxFamilyName));
    }
    spec_.doc = text(root, "doc", name);
    const std::string protocol = text(root, "protocol", name);
    const bool legacy = protocol == "genetlink-legacy";
    if (!legacy && !protocol.empty() && protocol != "genetlink") {
      problems_.unsupported(at(*root.find("protocol")), name, fmt::format("protocol {}", protocol));
    }
    if (const YamlNode* version = root.find("version")) {
      if (!legacy) problems_.unsupported(at(*version), name, "version outside genetlink-legacy");
      spec_.version = static_cast<std::uint8_t>(number(*version, name, "version", 1, 255));
    }
    for (const std::string_view key : {"doc", "attribute-sets", "operations"}) {
      if (root.find(key) == nullptr) problems_.add(at(root), name, fmt::format("no {}", key));
    }
    if (const YamlNode* node = root.find("definitions"); node && sequence(*node, "definitions")) {
      for (const YamlNode& item : node->items) definition(item);
    }
    if (const YamlNode* node = root.find("attribute-sets");
        node && sequence(*node, "attribute-sets")) {
      for (const YamlNode& item : node->items) attribute_set(item, legacy);
    }
    if (const YamlNode* node = root.find("operations")) operations(*node, legacy);
    if (const YamlNode* node = root.find("mcast-groups")) groups(*node);
  }

  void definition(const YamlNode& node) {
    Definition result;
    result.source = at(node);
    result.name = name_of(node, "definition");
    if (node.kind != YamlNode::Kind::kMap) return;
    const std::string type = text(node, "type", result.name);
    result.doc = text(node, "doc", result.name);
    if (type == "const") {
      map(node, result.name, {"type", "name", "doc", "value"});
      if (const YamlNode* value = node.find("value")) {
        result.value = number(*value, result.name, "value", 0, UINT32_MAX);
      } else {
        problems_.add(at(node), result.name, "no value");
      }
    } else if (type == "enum" || type == "flags") {
      result.kind = type == "enum" ? Definition::Kind::kEnum : Definition::Kind::kFlags;
      map(node, result.name, {"type", "name", "doc", "value-start", "entries"});
      entries(node, result);
    } else {
      problems_.unsupported(at(node), result.name, fmt::format("definition type '{}'", type));
    }
    spec_.definitions.push_back(std::move(result));
  }

  void entries(const YamlNode& node, Definition& result) {
    const std::uint64_t max = result.kind == Definition::Kind::kFlags ? 31 : UINT32_MAX;
    std::uint64_t next = 0;
    if (const YamlNode* start = node.find("value-start")) {
      next = number(*start, result.name, "value-start", 0, max);
    }
    const YamlNode* list = node.find("entries");
    if (list == nullptr || list->items.empty()) {
      problems_.add(at(node), result.name, "no entries");
      return;
    }
    for (const YamlNode& item : list->items) {
      Entry entry;
      if (item.kind == YamlNode::Kind::kScalar) {
        entry.name = word(item, result.name);
      } else {
        entry.name = name_of(item, result.name);
        if (!map(item, entry.name, {"name", "value", "doc"})) continue;
        entry.doc = text(item, "doc", entry.name);
        if (const YamlNode* value = item.find("value")) {
          next = number(*value, entry.name, "value", 0, max);
        }
      }
      if (next > max) {
        problems_.add(at(item), entry.name, fmt::format("value above {}", max));
      }
      entry.value = next++;
      for (const Entry& other : result.entries) {
        if (other.name == entry.name || other.value == entry.value) {
          problems_.add(at(item), result.name,
                        fmt::format("{} = {}: {} = {} came before", entry.name, entry.value,
                                    other.name, other.value));
        }
      }
      result.entries.push_back(std::move(entry));
    }
  }

  void attribute_set(const YamlNode& node, bool legacy) {
    AttributeSet set;
    set.source = at(node);
    set.name = name_of(node, "attribute set");
    if (!map(node, set.name, {"name", "doc", "attributes"})) return;
    set.doc = text(node, "doc", set.name);
    const YamlNode* list = node.find("attributes");
    if (list == nullptr) {
      problems_.add(at(node), set.name, "no attributes");
    } else if (sequence(*list, set.name)) {
      std::uint64_t next = 1;
      for (const YamlNode& item : list->items) attribute(item, legacy, set, next);
    }
    spec_.sets.push_back(std::move(set));
  }

  void attribute(const YamlNode& node, bool legacy, AttributeSet& set, std::uint64_t& next) {
    Attribute result;
    result.source = at(node);
    result.name = name_of(node, set.name);
    if (!map(node, result.name,
             {"name", "type", "doc", "value", "type-value", "multi-attr", "nested-attributes",
              "enum", "enum-as-flags", "checks", "sub-type"})) {
      return;
    }
    result.doc = text(node, "doc", result.name);
    if (const YamlNode* value = node.find("value")) {
      next = number(*value, result.name, "value", 1, kMaxAttributeNumber);
    }
    if (next > kMaxAttributeNumber) {
      problems_.add(at(node), result.name,
                    fmt::format("attribute numbers are 1 to {}", kMaxAttributeNumber));
    }
    result.number = static_cast<std::uint16_t>(next++);
    attribute_type(node, legacy, result);
    result.multi = boolean(node, "multi-attr", result.name);
    result.nested = optional_word(node, "nested-attributes", result.name);
    result.enum_name = optional_word(node, "enum", result.name);
    result.enum_as_flags = boolean(node, "enum-as-flags", result.name);
    if (const YamlNode* names = node.find("type-value")) {
      result.type_value = words(*names, result.name);
    }
    shape(result);
    if (const YamlNode* node_checks = node.find("checks")) checks(*node_checks, result);
    set.attributes.push_back(std::move(result));
  }

  void attribute_type(const YamlNode& node, bool legacy, Attribute& result) {
    const std::string type = text(node, "type", result.name);
    const auto known = std::find_if(std::begin(kTypes), std::end(kTypes),
                                    [&](const TypeName& entry) { return entry.name == type; });
    if (known == std::end(kTypes)) {
      problems_.unsupported(at(node), result.name, fmt::format("type '{}'", type));
      return;
    }
    result.type = known->type;
    const std::string sub_type = text(node, "sub-type", result.name);
    if (result.type == Type::kIndexedArray ? sub_type != "nest" : !sub_type.empty()) {
      problems_.unsupported(at(node), result.name,
                            fmt::format("type {} with sub-type '{}'", type, sub_type));
    }
    if (result.type == Type::kNestTypeValue && !legacy) {
      problems_.unsupported(at(node), result.name, "nest-type-value outside genetlink-legacy");
    }
  }

  /// Which properties go with which types.
  void shape(const Attribute& attribute) {
    const bool nests = attribute.type == Type::kNest || attribute.type == Type::kIndexedArray ||
                       attribute.type == Type::kNestTypeValue;
    const std::string_view type = to_string(attribute.type);
    const auto refuse = [&](std::string_view property) {
      problems_.unsupported(attribute.source, attribute.name,
                            fmt::format("{} with type {}", property, type));
    };
    if (nests && attribute.nested.empty()) {
      refuse("no nested-attributes");
    }
    if (!nests && !attribute.nested.empty()) refuse("nested-attributes");
    if (!attribute.enum_name.empty() && !is_unsigned(attribute.type)) refuse("enum");
    if (attribute.enum_as_flags && attribute.enum_name.empty()) refuse("enum-as-flags, no enum,");
    if ((attribute.type == Type::kNestTypeValue) == attribute.type_value.empty()) {
      refuse(attribute.type_value.empty() ? "no type-value" : "type-value");
    }
    if (attribute.multi &&
        (attribute.type == Type::kFlag || attribute.type == Type::kIndexedArray ||
         attribute.type == Type::kNestTypeValue || attribute.type == Type::kPad)) {
      refuse("multi-attr");
    }
  }

  void checks(const YamlNode& node, Attribute& result) {
    if (!map(node, result.name, {"min", "max", "min-len", "max-len"})) return;
    const bool number_type = is_unsigned(result.type) || is_signed(result.type);
    const bool bytes_type = result.type == Type::kString || result.type == Type::kBinary;
    const auto take = [&](std::string_view key, bool fits, std::optional<Limit>& into) {
      const YamlNode* value = node.find(key);
      if (value == nullptr) return;
      if (!fits) {
        problems_.unsupported(at(*value), result.name,
                              fmt::format("check {} with type {}", key, to_string(result.type)));
      }
      into = limit(*value, result.name, key);
    };
    take("min", number_type, result.min);
    take("max", number_type, result.max);
    take("min-len", result.type == Type::kBinary, result.min_length);
    take("max-len", bytes_type, result.max_length);
  }

  std::optional<Limit> limit(const YamlNode& node, std::string_view name, std::string_view key) {
    if (const auto value = parse_number<std::int64_t>(node)) return Limit{*value, {}};
    if (node.kind == YamlNode::Kind::kScalar && is_name(node.scalar)) {
      return Limit{0, node.scalar};
    }
    problems_.add(at(node), name, fmt::format("{}: expected a number or the name of a const", key));
    return std::nullopt;
  }

  void operations(const YamlNode& node, bool legacy) {
    if (!map(node, "operations", {"enum-model", "list"})) return;
    const std::string model = text(node, "enum-model", "operations");
    const bool directional = model == "directional";
    if ((directional && !legacy) || (!directional && !model.empty() && model != "unified")) {
      problems_.unsupported(at(node), "operations", fmt::format("enum-model {}", model));
    }
    const YamlNode* list = node.find("list");
    if (list == nullptr) {
      problems_.add(at(node), "operations", "no list");
      return;
    }
    if (!sequence(*list, "operations")) return;
    std::uint64_t next = 1;
    for (const YamlNode& item : list->items) operation(item, directional, next);
  }

  void operation(const YamlNode& node, bool directional, std::uint64_t& next) {
    Operation result;
    result.source = at(node);
    result.name = name_of(node, "operation");
    if (!map(node, result.name, {"name", "doc", "value", "attribute-set", "flags", "do", "dump",
                                 "event", "mcgrp"})) {
      return;
    }
    result.doc = text(node, "doc", result.name);
    if (result.doc.empty()) problems_.add(at(node), result.name, "no doc");
    result.attribute_set = optional_word(node, "attribute-set", result.name);
    if (result.attribute_set.empty()) problems_.add(at(node), result.name, "no attribute-set");
    result.group = optional_word(node, "mcgrp", result.name);
    if (const YamlNode* flags = node.find("flags"); flags && sequence(*flags, result.name)) {
      for (const YamlNode& flag : flags->items) {
        if (flag.scalar == "admin-perm") {
          result.admin = true;
        } else {
          problems_.unsupported(at(flag), result.name, fmt::format("flag '{}'", flag.scalar));
        }
      }
    }
    if (const YamlNode* value = node.find("value")) {
      if (directional) {
        problems_.unsupported(at(*value), result.name, "value beside enum-model directional");
      }
      next = number(*value, result.name, "value", 1, kMaxCommand);
    }
    if (next > kMaxCommand) {
      problems_.add(at(node), result.name, fmt::format("commands are 1 to {}", kMaxCommand));
    }
    std::optional<std::uint8_t> command;
    if (!directional) command = static_cast<std::uint8_t>(next++);
    result.do_exchange = exchange(node, "do", result.name, command);
    result.dump_exchange = exchange(node, "dump", result.name, command);
    if (const YamlNode* event = node.find("event")) {
      result.event = message(*event, result.name, command);
    }
    if (!result.do_exchange && !result.dump_exchange && !result.event) {
      problems_.add(at(node), result.name, "neither do, dump nor event");
    }
    if (result.event && (result.do_exchange || result.dump_exchange)) {
      problems_.unsupported(at(node), result.name, "event beside do or dump");
    }
    if (!result.group.empty() && !result.event) {
      problems_.unsupported(at(node), result.name, "mcgrp without event");
    }
    spec_.operations.push_back(std::move(result));
  }

  std::optional<Exchange> exchange(const YamlNode& parent, std::string_view key,
                                   std::string_view name, std::optional<std::uint8_t> command) {
    const YamlNode* node = parent.find(key);
    if (node == nullptr) return std::nullopt;
    Exchange result;
    if (!map(*node, name, {"request", "reply"})) return std::nullopt;
    if (const YamlNode* request = node->find("request")) {
      result.request = message(*request, name, command);
    }
    if (const YamlNode* reply = node->find("reply")) {
      result.reply = message(*reply, name, command);
    }
    if (!result.request) {
      problems_.unsupported(at(*node), name, fmt::format("{} without request", key));
    }
    return result;
  }

  std::optional<Message> message(const YamlNode& node, std::string_view name,
                                 std::optional<std::uint8_t> command) {
    if (!map(node, name, {"value", "attributes"})) return std::nullopt;
    Message result;
    result.source = at(node);
    result.command = command.value_or(0);
    if (const YamlNode* value = node.find("value")) {
      if (command) {
        problems_.unsupported(at(*value), name, "value without enum-model directional");
      }
      result.command = static_cast<std::uint8_t>(number(*value, name, "value", 1, kMaxCommand));
    }
    if (result.command == 0) problems_.add(at(node), name, "no value");
    if (const YamlNode* attributes = node.find("attributes")) {
      result.attributes = words(*attributes, name);
    }
    return result;
  }

  void groups(const YamlNode& node) {
    if (!map(node, "mcast-groups", {"list"})) return;
    const YamlNode* list = node.find("list");
    if (list == nullptr) {
      problems_.add(at(node), "mcast-groups", "no list");
      return;
    }
    if (!sequence(*list, "mcast-groups")) return;
    for (const YamlNode& item : list->items) {
      std::string name = name_of(item, "multicast group");
      map(item, name, {"name"});
      if (std::find(spec_.groups.begin(), spec_.groups.end(), name) != spec_.groups.end()) {
        problems_.add(at(item), name, "group given twice");
      }
      spec_.groups.push_back(std::move(name));
    }
  }

  Spec spec_;
  Problems problems_;
};

}  // namespace

std::string_view to_string(Type type) noexcept {
  const auto known = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const TypeName& entry) { return entry.type == type; });
  return known->name;
}

bool is_unsigned(Type type) noexcept {
  return type == Type::kU8 || type == Type::kU16 || type == Type::kU32 || type == Type::kU64;
}

bool is_signed(Type type) noexcept { return type == Type::kS32 || type == Type::kS64; }

const Attribute* AttributeSet::find(std::string_view attribute) const noexcept {
  const auto found = std::find_if(attributes.begin(), attributes.end(),
                                  [&](const Attribute& entry) { return entry.name == attribute; });
  return found == attributes.end() ? nullptr : &*found;
}

const AttributeSet* Spec::find_set(std::string_view set) const noexcept {
  const auto found = std::find_if(sets.begin(), sets.end(),
                                  [&](const AttributeSet& entry) { return entry.name == set; });
  return found == sets.end() ? nullptr : &*found;
}

const Definition* Spec::find_definition(std::string_view definition) const noexcept {
  const auto found =
      std::find_if(definitions.begin(), definitions.end(),
                   [&](const Definition& entry) { return entry.name == definition; });
  return found == definitions.end() ? nullptr : &*found;
}

Result<Spec> load_spec(std::string_view text, const std::string& file) {
  Result<YamlNode> root = parse_yaml(text, file);
  if (!root) return tl::unexpected<Error>(root.error());
  return Loader(file).load(*root);
}

}  // namespace handshake::ynlgen
