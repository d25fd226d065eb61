// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace handshake::ynlgen {

/// What the language calls a name: lower case words and digits joined by single dashes.
[[nodiscard]] bool is_name(std::string_view text) noexcept;
/// "max-tags" to "MaxTags".
[[nodiscard]] std::string pascal_case(std::string_view name);
/// "max-tags" to "max_tags"; a C++ keyword gets a trailing underscore.
[[nodiscard]] std::string snake_case(std::string_view name);

}  // namespace handshake::ynlgen
