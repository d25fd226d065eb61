// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <limits>
#include <map>

#include "ynlgen/names.h"
#include "ynlgen/plan.h"
#include "ynlgen/problems.h"
#include "ynlgen/spec.h"

namespace handshake::ynlgen {
namespace {

bool same_meaning(const Definition& a, const Definition& b) {
  return a.kind == b.kind && a.value == b.value &&
         std::equal(a.entries.begin(), a.entries.end(), b.entries.begin(), b.entries.end(),
                    [](const Entry& left, const Entry& right) {
                      return left.name == right.name && left.value == right.value;
                    });
}

std::string where(const Source& source) { return fmt::format("{}:{}", source.file, source.line); }

/// Names and numbers that may occur once.
template <class Key>
class Seen {
 public:
  explicit Seen(Problems& problems) : problems_(problems) {}
  void add(const Key& key, const Source& source, std::string_view name, std::string_view what) {
    const auto [position, is_new] = seen_.emplace(key, source);
    if (is_new) return;
    problems_.add(source, name, fmt::format("{} {} came before at {}", what, key,
                                            where(position->second)));
  }

 private:
  Problems& problems_;
  std::map<Key, Source> seen_;
};

// --- Merging -----------------------------------------------------------------------------------

void append(std::vector<std::string>& into, const std::vector<std::string>& more) {
  for (const std::string& name : more) {
    if (std::find(into.begin(), into.end(), name) == into.end()) into.push_back(name);
  }
}

void extend_message(std::optional<Message>& base, const std::optional<Message>& more,
                    const Operation& operation, Problems& problems) {
  if (!more) return;
  if (!base) {
    base = more;
    return;
  }
  if (base->command != more->command) {
    problems.add(more->source, operation.name,
                 fmt::format("number {} differs from {} at {}", more->command, base->command,
                             where(base->source)));
  }
  append(base->attributes, more->attributes);
}

void extend_exchange(std::optional<Exchange>& base, const std::optional<Exchange>& more,
                     const Operation& operation, Problems& problems) {
  if (!more) return;
  if (!base) base.emplace();
  extend_message(base->request, more->request, operation, problems);
  extend_message(base->reply, more->reply, operation, problems);
}

void extend_operation(Operation& base, const Operation& more, Problems& problems) {
  if (base.attribute_set != more.attribute_set) {
    problems.add(more.source, more.name, fmt::format("attribute-set {} differs from {} at {}",
                                                     more.attribute_set, base.attribute_set,
                                                     where(base.source)));
  }
  extend_exchange(base.do_exchange, more.do_exchange, more, problems);
  extend_exchange(base.dump_exchange, more.dump_exchange, more, problems);
  extend_message(base.event, more.event, more, problems);
  base.admin = base.admin || more.admin;
  base.source = more.source;
  base.doc = more.doc;
  if (!more.group.empty()) base.group = more.group;
}

/// An attribute of the same name and number replaces the base's: an extension may widen what a
/// number means to it (a class outside the kernel's enum), never move it.
void extend_set(AttributeSet& base, const AttributeSet& more, Problems& problems) {
  for (const Attribute& attribute : more.attributes) {
    const auto same = std::find_if(
        base.attributes.begin(), base.attributes.end(),
        [&](const Attribute& candidate) { return candidate.name == attribute.name; });
    if (same == base.attributes.end()) {
      base.attributes.push_back(attribute);
      continue;
    }
    if (same->number != attribute.number || same->type != attribute.type ||
        same->multi != attribute.multi) {
      problems.add(attribute.source, attribute.name,
                   fmt::format("number, type or multi-attr differs from {}", where(same->source)));
    }
    *same = attribute;
  }
  if (!more.doc.empty()) base.doc = more.doc;
}

Spec merge(const Spec& base, Spec more, Problems& problems) {
  Spec result = base;
  result.file = more.file;
  result.name = more.name;
  result.doc = more.doc;
  result.version = more.version;
  for (Definition& definition : more.definitions) {
    if (const Definition* same = base.find_definition(definition.name);
        same == nullptr || !same_meaning(*same, definition)) {
      result.definitions.push_back(std::move(definition));   // the latter is refused later
    }
  }
  for (AttributeSet& set : more.sets) {
    const auto same = std::find_if(result.sets.begin(), result.sets.end(),
                                   [&](const AttributeSet& entry) { return entry.name == set.name; });
    if (same == result.sets.end()) {
      result.sets.push_back(std::move(set));
    } else {
      extend_set(*same, set, problems);
    }
  }
  for (Operation& operation : more.operations) {
    const auto same =
        std::find_if(result.operations.begin(), result.operations.end(),
                     [&](const Operation& entry) { return entry.name == operation.name; });
    if (same == result.operations.end()) {
      result.operations.push_back(std::move(operation));
    } else {
      extend_operation(*same, operation, problems);
    }
  }
  append(result.groups, more.groups);
  return result;
}

// --- Resolving ---------------------------------------------------------------------------------

class Resolver {
 public:
  Resolver(Spec& spec, Problems& problems) : spec_(spec), problems_(problems) {}

  void resolve() {
    unique_names();
    for (AttributeSet& set : spec_.sets) {
      for (Attribute& attribute : set.attributes) resolve(attribute);
    }
    for (const AttributeSet& set : spec_.sets) depth(set);
    for (const Operation& operation : spec_.operations) resolve(operation);
  }

 private:
  void unique_names() {
    Seen<std::string> definitions(problems_);
    for (const Definition& definition : spec_.definitions) {
      definitions.add(definition.name, definition.source, definition.name, "definition");
    }
    Seen<std::string> sets(problems_);
    for (const AttributeSet& set : spec_.sets) {
      sets.add(set.name, set.source, set.name, "attribute set");
      Seen<std::string> names(problems_);
      Seen<int> numbers(problems_);
      for (const Attribute& attribute : set.attributes) {
        names.add(attribute.name, attribute.source, attribute.name, "attribute");
        numbers.add(attribute.number, attribute.source, attribute.name, "number");
      }
    }
    Seen<std::string> operations(problems_);
    Seen<int> requests(problems_);
    Seen<int> replies(problems_);
    for (const Operation& operation : spec_.operations) {
      operations.add(operation.name, operation.source, operation.name, "operation");
      const int request = number_of(operation, &Exchange::request);
      const int reply = number_of(operation, &Exchange::reply);
      if (request != 0) requests.add(request, operation.source, operation.name, "number");
      if (reply != 0) replies.add(reply, operation.source, operation.name, "number");
      if (operation.event) {
        replies.add(operation.event->command, operation.source, operation.name, "number");
        // A command is one number space in both directions unless the spec says otherwise, and
        // then it has no events (load_spec refuses an event without a number).
        requests.add(operation.event->command, operation.source, operation.name, "number");
      }
    }
  }

  static int number_of(const Operation& operation, std::optional<Message> Exchange::*direction) {
    for (const auto* exchange : {&operation.do_exchange, &operation.dump_exchange}) {
      if (*exchange && (**exchange.*direction)) return (**exchange.*direction)->command;
    }
    return 0;
  }

  void resolve(Attribute& attribute) {
    if (!attribute.nested.empty() && spec_.find_set(attribute.nested) == nullptr) {
      problems_.add(attribute.source, attribute.name,
                    fmt::format("no attribute set {}", attribute.nested));
    }
    resolve(attribute, attribute.min);
    resolve(attribute, attribute.max);
    resolve(attribute, attribute.min_length);
    resolve(attribute, attribute.max_length);
    fit(attribute);
    if (attribute.enum_name.empty()) return;
    const Definition* definition = spec_.find_definition(attribute.enum_name);
    if (definition == nullptr || definition->kind == Definition::Kind::kConst) {
      problems_.add(attribute.source, attribute.name,
                    fmt::format("no enum {}", attribute.enum_name));
      return;
    }
    if (definition->kind == Definition::Kind::kFlags) attribute.enum_as_flags = true;
    if (attribute.min || attribute.max) {
      problems_.unsupported(attribute.source, attribute.name, "checks beside enum");
    } else if (attribute.enum_as_flags) {
      return;   // which bits are set is the reader's business, as in the kernel
    } else {
      enum_range(attribute, *definition);
    }
  }

  void resolve(const Attribute& attribute, std::optional<Limit>& limit) {
    if (!limit || limit->name.empty()) return;
    const Definition* definition = spec_.find_definition(limit->name);
    if (definition == nullptr || definition->kind != Definition::Kind::kConst) {
      problems_.add(attribute.source, attribute.name, fmt::format("no const {}", limit->name));
      return;
    }
    limit->value = static_cast<std::int64_t>(definition->value);
  }

  void fit(const Attribute& attribute) {
    std::int64_t lowest = 0;
    std::int64_t highest = 0xffff - 4;   // nlattr.nla_len counts its own header
    const bool number = is_unsigned(attribute.type) || is_signed(attribute.type);
    if (number) {
      lowest = is_unsigned(attribute.type) ? 0
               : attribute.type == Type::kS32 ? INT32_MIN : INT64_MIN;
      highest = attribute.type == Type::kU8    ? UINT8_MAX
                : attribute.type == Type::kU16 ? UINT16_MAX
                : attribute.type == Type::kU32 ? UINT32_MAX
                : attribute.type == Type::kS32 ? INT32_MAX : INT64_MAX;
    }
    for (const auto* limit :
         {&attribute.min, &attribute.max, &attribute.min_length, &attribute.max_length}) {
      if (*limit && ((*limit)->value < lowest || (*limit)->value > highest)) {
        problems_.add(attribute.source, attribute.name,
                      fmt::format("limit {} does not fit type {}", (*limit)->value,
                                  to_string(attribute.type)));
      }
    }
    const auto empty = [](const auto& low, const auto& high) {
      return low && high && low->value > high->value;
    };
    if (empty(attribute.min, attribute.max) || empty(attribute.min_length, attribute.max_length)) {
      problems_.add(attribute.source, attribute.name, "minimum above maximum");
    }
  }

  /// As in the kernel: what an enum attribute may carry is the range of its values.
  void enum_range(Attribute& attribute, const Definition& definition) {
    std::uint64_t lowest = UINT64_MAX;
    std::uint64_t highest = 0;
    for (const Entry& entry : definition.entries) {
      lowest = std::min(lowest, entry.value);
      highest = std::max(highest, entry.value);
    }
    if (highest - lowest + 1 != definition.entries.size()) {
      problems_.unsupported(attribute.source, attribute.name,
                            fmt::format("enum {} with gaps", definition.name));
    }
    attribute.min = Limit{static_cast<std::int64_t>(lowest), {}};
    attribute.max = Limit{static_cast<std::int64_t>(highest), {}};
    fit(attribute);
  }

  /// How many levels of nesting `set` has inside; a set that contains itself is refused.
  std::size_t depth(const AttributeSet& set) {
    constexpr std::size_t kMaxNesting = 8;
    constexpr std::size_t kUnderWay = SIZE_MAX;
    const auto [known, is_new] = depths_.emplace(set.name, kUnderWay);
    if (!is_new) {
      if (known->second != kUnderWay) return known->second;
      problems_.unsupported(set.source, set.name, "an attribute set that contains itself");
      return 0;
    }
    std::size_t deepest = 0;
    for (const Attribute& attribute : set.attributes) {
      if (attribute.nested.empty() || deepest > kMaxNesting) continue;
      const AttributeSet* inner = spec_.find_set(attribute.nested);
      if (inner != nullptr) deepest = std::max(deepest, depth(*inner) + 1);
    }
    if (deepest == kMaxNesting + 1) {
      problems_.unsupported(set.source, set.name, "attribute sets nested more than 8 deep");
    }
    depths_[set.name] = deepest;
    return deepest;
  }

  void resolve(const Operation& operation) {
    const AttributeSet* set = spec_.find_set(operation.attribute_set);
    if (set == nullptr) {
      problems_.add(operation.source, operation.name,
                    fmt::format("no attribute set {}", operation.attribute_set));
      return;
    }
    if (!operation.group.empty() && std::find(spec_.groups.begin(), spec_.groups.end(),
                                              operation.group) == spec_.groups.end()) {
      problems_.add(operation.source, operation.name,
                    fmt::format("no multicast group {}", operation.group));
    }
    for (const auto* exchange : {&operation.do_exchange, &operation.dump_exchange}) {
      if (!*exchange) continue;
      resolve(operation, *set, (*exchange)->request);
      resolve(operation, *set, (*exchange)->reply);
    }
    resolve(operation, *set, operation.event);
  }

  void resolve(const Operation& operation, const AttributeSet& set,
               const std::optional<Message>& message) {
    if (!message) return;
    for (const std::string& name : message->attributes) {
      const Attribute* attribute = set.find(name);
      if (attribute == nullptr) {
        problems_.add(message->source, operation.name,
                      fmt::format("no attribute {} in {}", name, set.name));
      } else if (attribute->type == Type::kPad) {
        problems_.unsupported(message->source, operation.name, "pad in a message");
      }
    }
  }

  Spec& spec_;
  Problems& problems_;
  std::map<std::string, std::size_t> depths_;
};

/// One meaning per definition name over all families.
void collect(const Spec& spec, std::vector<Definition>& definitions, Problems& problems) {
  for (const Definition& definition : spec.definitions) {
    const auto same =
        std::find_if(definitions.begin(), definitions.end(),
                     [&](const Definition& entry) { return entry.name == definition.name; });
    if (same == definitions.end()) {
      definitions.push_back(definition);
    } else if (!same_meaning(*same, definition)) {
      problems.add(definition.source, definition.name,
                   fmt::format("means something else at {}", where(same->source)));
    }
  }
}

// --- Names in C++ ------------------------------------------------------------------------------

/// Different names of the language can become one in C++ ("a-1" and "a1", or a nest called like a
/// message).
void unique_identifiers(const std::vector<Definition>& definitions, Problems& problems) {
  Seen<std::string> globals(problems);
  for (const Definition& definition : definitions) {
    const bool is_const = definition.kind == Definition::Kind::kConst;
    globals.add((is_const ? "k" : "") + pascal_case(definition.name), definition.source,
                definition.name, "C++ name");
    Seen<std::string> entries(problems);
    for (const Entry& entry : definition.entries) {
      entries.add("k" + pascal_case(entry.name), definition.source, entry.name, "C++ name");
    }
  }
}

void unique_identifiers(const Spec& spec, const std::vector<Definition>& definitions,
                        Problems& problems) {
  Seen<std::string> names(problems);
  for (const Definition& definition : definitions) {
    if (definition.kind == Definition::Kind::kConst) continue;
    names.add(pascal_case(definition.name), definition.source, definition.name, "C++ name");
  }
  for (const AttributeSet& set : spec.sets) {
    const std::string set_name = pascal_case(set.name);
    names.add(set_name + "Attribute", set.source, set.name, "C++ name");
    Seen<std::string> attributes(problems);
    for (const Attribute& attribute : set.attributes) {
      attributes.add(pascal_case(attribute.name), attribute.source, attribute.name, "C++ name");
      if (attribute.type == Type::kNestTypeValue) {
        names.add(type_value_struct(attribute), attribute.source, attribute.name, "C++ name");
      }
      Seen<std::string> levels(problems);
      levels.add("value", attribute.source, attribute.name, "C++ name");
      for (const std::string& level : attribute.type_value) {
        levels.add(snake_case(level), attribute.source, attribute.name, "C++ name");
      }
    }
  }
  for (const AttributeSet* set : nests_of(spec)) {
    names.add(pascal_case(set->name), set->source, set->name, "C++ name");
  }
  for (const PlannedMessage& message : messages_of(spec)) {
    names.add(message.struct_name, message.operation->source, message.operation->name, "C++ name");
  }
}

}  // namespace

Result<Model> assemble(std::vector<Input> inputs) {
  Model model;
  std::vector<Spec> unresolved;   // like model.families: what an extension builds on
  Problems problems;
  for (Input& input : inputs) {
    const Source source{input.spec.file, 1};
    const auto named = [&](const std::string& name) {
      return std::find_if(model.families.begin(), model.families.end(),
                          [&](const Family& family) { return family.cpp_namespace == name; });
    };
    if (!is_name(input.cpp_namespace) || named(input.cpp_namespace) != model.families.end()) {
      problems.add(source, input.cpp_namespace, "not a usable namespace, or given twice");
    }
    Spec spec = std::move(input.spec);
    if (!input.base.empty()) {
      const auto base = named(input.base);
      if (base == model.families.end()) {
        problems.add(source, input.cpp_namespace,
                     fmt::format("no spec {} before it to extend", input.base));
      } else {
        const auto index = static_cast<std::size_t>(base - model.families.begin());
        spec = merge(unresolved[index], std::move(spec), problems);
      }
    }
    unresolved.push_back(spec);
    Resolver(spec, problems).resolve();
    if (!problems.any()) collect(spec, model.definitions, problems);
    if (problems.any()) return tl::unexpected<Error>(problems.error());
    model.families.push_back(Family{input.cpp_namespace, input.base, std::move(spec)});
  }
  unique_identifiers(model.definitions, problems);
  for (const Family& family : model.families) {
    unique_identifiers(family.spec, model.definitions, problems);
  }
  if (problems.any()) return tl::unexpected<Error>(problems.error());
  return model;
}

}  // namespace handshake::ynlgen
