// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "ynlgen/emit.h"
#include "ynlgen/plan.h"

namespace handshake::ynlgen {
namespace {

/// Text for a table cell or a paragraph: on one line, and no character that ends a cell.
std::string plain(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '|') {
      result += "\\|";
    } else if (byte <= 0x20 || byte == 0x7f) {
      if (!result.empty() && result.back() != ' ') result += ' ';
    } else {
      result += c;
    }
  }
  while (!result.empty() && result.back() == ' ') result.pop_back();
  return result;
}

class Markdown {
 public:
  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

std::string join(const std::vector<std::string>& words) {
  std::string result;
  for (const std::string& word : words) result += (result.empty() ? "" : ", ") + word;
  return result;
}

std::string type_text(const Attribute& attribute) {
  std::string result(to_string(attribute.type));
  if (!attribute.nested.empty()) result += fmt::format(" of {}", attribute.nested);
  if (!attribute.type_value.empty()) {
    result += fmt::format(" (numbers: {})", join(attribute.type_value));
  }
  if (!attribute.enum_name.empty()) result += fmt::format(", {}", attribute.enum_name);
  const auto limit = [&](std::string_view name, const std::optional<Limit>& value) {
    if (value && attribute.enum_name.empty()) result += fmt::format(", {} {}", name, value->value);
  };
  limit("min", attribute.min);
  limit("max", attribute.max);
  limit("at least", attribute.min_length);
  limit("at most", attribute.max_length);
  if (attribute.min_length || attribute.max_length) result += " bytes";
  if (attribute.multi) result += ", repeated";
  return result;
}

std::vector<const Attribute*> by_number(const AttributeSet& set) {
  std::vector<const Attribute*> result;
  for (const Attribute& attribute : set.attributes) result.push_back(&attribute);
  std::sort(result.begin(), result.end(),
            [](const Attribute* a, const Attribute* b) { return a->number < b->number; });
  return result;
}

void emit_definitions(Markdown& out, const Model& model) {
  out.line("## Values\n");
  out.line("| name | kind | values | meaning |\n|---|---|---|---|");
  for (const Definition& definition : model.definitions) {
    if (definition.kind == Definition::Kind::kConst) {
      out.line("| {} | const | {} | {} |", definition.name, definition.value,
               plain(definition.doc));
      continue;
    }
    const bool flags = definition.kind == Definition::Kind::kFlags;
    std::string values;
    for (const Entry& entry : definition.entries) {
      values += fmt::format("{}{} {}", values.empty() ? "" : ", ", entry.name,
                            flags ? 1ULL << entry.value : entry.value);
      if (!entry.doc.empty()) values += fmt::format(" ({})", plain(entry.doc));
    }
    out.line("| {} | {} | {} | {} |", definition.name, flags ? "flags" : "enum", values,
             plain(definition.doc));
  }
  out.line("");
}

void emit_family(Markdown& out, const Model& model, const Family& family) {
  const Spec& spec = family.spec;
  out.line("## Family {}\n", spec.name);
  out.line("{}\n", plain(spec.doc));
  out.line("Version {}. C++ namespace `protocol::{}`.{}", spec.version, family.cpp_namespace,
           spec.groups.empty() ? "" : fmt::format(" Multicast groups: {}.", join(spec.groups)));
  for (const Family& other : model.families) {
    if (other.cpp_namespace == family.base) {
      out.line("Extends `{}`; everything of that family is repeated here.", other.spec.name);
    }
  }
  out.line("\n| command | no. | message | attributes, in the order built | privileged |\n"
           "|---|---|---|---|---|");
  for (const PlannedMessage& message : messages_of(spec)) {
    out.line("| {} | {} | {} | {} | {} |", message.operation->name, message.message->command,
             message.direction,
             message.message->attributes.empty() ? "none" : join(message.message->attributes),
             message.operation->admin ? "yes" : "");
  }
  out.line("");
  for (const Operation& operation : spec.operations) {
    out.line("- **{}**: {}", operation.name, plain(operation.doc));
  }
  out.line("");
  for (const AttributeSet& set : spec.sets) {
    out.line("### {}: attribute set {}\n", spec.name, set.name);
    if (!set.doc.empty()) out.line("{}\n", plain(set.doc));
    out.line("| attribute | no. | type | meaning |\n|---|---|---|---|");
    for (const Attribute* attribute : by_number(set)) {
      out.line("| {} | {} | {} | {} |", attribute->name, attribute->number, type_text(*attribute),
               plain(attribute->doc));
    }
    out.line("");
  }
}

}  // namespace

std::string emit_markdown(const Model& model) {
  Markdown out;
  out.line("<!-- Generated by tools/ynlgen from spec/*.yaml: change those, then build the target\n"
           "     protocol-doc. -->\n# The protocol\n");
  out.line("Generic netlink messages in host byte order, over AF_NETLINK to the kernel and over\n"
           "AF_UNIX SOCK_SEQPACKET to our service. A string's terminating NUL is always sent and\n"
           "may be missing; its length limit does not count it.\n");
  out.line("A family's number is asked of the controller (family nlctrl, number 16) by GETFAMILY;\n"
           "what its requests may carry, by GETPOLICY. Every request is checked against that policy\n"
           "before anything looks at it; a refusal is an NLMSG_ERROR whose extended ack has a\n"
           "sentence, the offset of the attribute and the policy that it broke. A service refuses\n"
           "attributes it does not know; an agent skips them.\n");
  for (const Family& family : model.families) emit_family(out, model, family);
  emit_definitions(out, model);
  return out.take();
}

}  // namespace handshake::ynlgen
