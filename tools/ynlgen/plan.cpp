// SPDX-License-Identifier: Apache-2.0
#include "ynlgen/plan.h"

#include <algorithm>

#include "ynlgen/names.h"

namespace handshake::ynlgen {
namespace {

bool same(const std::optional<Message>& a, const std::optional<Message>& b) {
  return a && b && a->command == b->command && a->attributes == b->attributes;
}

void collect(const Spec& spec, const AttributeSet& set, std::vector<const AttributeSet*>& result) {
  for (const Attribute& attribute : set.attributes) {
    if (attribute.nested.empty()) continue;
    const AttributeSet* inner = spec.find_set(attribute.nested);
    if (inner == nullptr || std::find(result.begin(), result.end(), inner) != result.end()) continue;
    collect(spec, *inner, result);
    result.push_back(inner);
  }
}

bool same_limit(const std::optional<Limit>& a, const std::optional<Limit>& b) {
  return a.has_value() == b.has_value() && (!a || a->value == b->value);
}

bool same_attribute(const Attribute& a, const Attribute& b) {
  return a.name == b.name && a.number == b.number && a.type == b.type && a.multi == b.multi &&
         a.nested == b.nested && a.enum_name == b.enum_name &&
         a.enum_as_flags == b.enum_as_flags && a.type_value == b.type_value &&
         same_limit(a.min, b.min) && same_limit(a.max, b.max) &&
         same_limit(a.min_length, b.min_length) && same_limit(a.max_length, b.max_length);
}

/// The depth of nesting is bounded: assemble() has refused what is not.
bool same_set(const Spec& a, const Spec& b, std::string_view name) {
  const AttributeSet* left = a.find_set(name);
  const AttributeSet* right = b.find_set(name);
  if (left == nullptr || right == nullptr) return false;
  return std::equal(left->attributes.begin(), left->attributes.end(), right->attributes.begin(),
                    right->attributes.end(), [&](const Attribute& x, const Attribute& y) {
                      return same_attribute(x, y) && (x.nested.empty() || same_set(a, b, x.nested));
                    });
}

bool is_nest(const Spec& spec, std::string_view name) {
  const std::vector<const AttributeSet*> nests = nests_of(spec);
  return std::any_of(nests.begin(), nests.end(),
                     [&](const AttributeSet* set) { return set->name == name; });
}

}  // namespace

const Family* inherits_nest(const Model& model, const Family& family, const AttributeSet& set) {
  for (const Family& base : model.families) {
    if (base.cpp_namespace != family.base) continue;
    return is_nest(base.spec, set.name) && same_set(base.spec, family.spec, set.name) ? &base
                                                                                      : nullptr;
  }
  return nullptr;
}

std::vector<PlannedMessage> messages_of(const Spec& spec) {
  std::vector<PlannedMessage> result;
  for (const Operation& operation : spec.operations) {
    const std::string name = pascal_case(operation.name);
    const AttributeSet* set = spec.find_set(operation.attribute_set);
    const auto add = [&](std::string_view suffix, const std::optional<Message>& message,
                         std::string_view direction) {
      if (!message) return;
      result.push_back({name + std::string(suffix), &operation, set, &*message,
                        std::string(direction)});
    };
    const auto& single = operation.do_exchange;
    const auto& dump = operation.dump_exchange;
    if (single) {
      add("Request", single->request, "request");
      add("Reply", single->reply, "reply");
    }
    if (dump) {
      const std::string prefix = single ? "Dump" : "";
      if (!single || !same(single->request, dump->request)) {
        add(prefix + "Request", dump->request, "dump request");
      }
      if (!single || !same(single->reply, dump->reply)) {
        add(prefix + "Reply", dump->reply, "dump reply");
      }
    }
    add("Event", operation.event, "event");
  }
  return result;
}

const PlannedMessage* request_of(const std::vector<PlannedMessage>& messages,
                                 const std::optional<Exchange>& exchange) {
  if (!exchange || !exchange->request) return nullptr;
  for (const PlannedMessage& message : messages) {
    const auto& single = message.operation->do_exchange;
    const auto& dump = message.operation->dump_exchange;
    if (message.message == &*exchange->request) return &message;
    if (dump && &*dump == &*exchange && single && same(single->request, dump->request) &&
        message.message == &*single->request) {
      return &message;
    }
  }
  return nullptr;
}

std::vector<const AttributeSet*> nests_of(const Spec& spec) {
  std::vector<const AttributeSet*> result;
  for (const AttributeSet& set : spec.sets) collect(spec, set, result);
  return result;
}

std::string type_value_struct(const Attribute& attribute) {
  return pascal_case(attribute.name) + "Entry";
}

}  // namespace handshake::ynlgen
