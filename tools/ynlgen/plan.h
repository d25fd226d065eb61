// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "ynlgen/spec.h"

namespace handshake::ynlgen {

/// A message as it will be called in C++; borrowed from the family it belongs to.
struct PlannedMessage {
  std::string struct_name;
  const Operation* operation = nullptr;
  const AttributeSet* set = nullptr;
  const Message* message = nullptr;
  /// "request", "reply", "dump request", ... for the documentation.
  std::string direction;
};

/// Every message of a family once, in the spec's order. A dump whose attributes are those of the
/// do of the same operation is the same message.
[[nodiscard]] std::vector<PlannedMessage> messages_of(const Spec& spec);
/// The message that `exchange` of `operation` uses for its requests; nullptr if there is none.
[[nodiscard]] const PlannedMessage* request_of(const std::vector<PlannedMessage>& messages,
                                               const std::optional<Exchange>& exchange);
/// The attribute sets that are nested somewhere, the inner before the outer.
[[nodiscard]] std::vector<const AttributeSet*> nests_of(const Spec& spec);
/// The family that `family` extends if the nest `set` is there too and is the same, with all that
/// is inside it: then both have one C++ type. Otherwise nullptr.
[[nodiscard]] const Family* inherits_nest(const Model& model, const Family& family,
                                          const AttributeSet& set);

/// The name of the struct that a nest-type-value attribute is read into.
[[nodiscard]] std::string type_value_struct(const Attribute& attribute);

}  // namespace handshake::ynlgen
