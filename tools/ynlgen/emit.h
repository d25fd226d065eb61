// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "ynlgen/spec.h"

namespace handshake::ynlgen {

struct CppFiles {
  std::string numbers_h;    ///< enums and consts; needs nothing else
  std::string messages_h;   ///< policies, families and message types
  std::string messages_cpp;
};

struct CppOptions {
  /// What the families' namespaces are in.
  std::string outer_namespace = "handshake::protocol";
  /// Directory in front of the generated headers' names, as in #include "<prefix>/numbers.h".
  std::string include_prefix = "protocol";
};

/// C++20 on top of src/protocol/message.h. The text depends on nothing but its arguments.
[[nodiscard]] CppFiles emit_cpp(const Model& model, const CppOptions& options);

/// The documentation tables (docs/protocol.md).
[[nodiscard]] std::string emit_markdown(const Model& model);

}  // namespace handshake::ynlgen
