// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "policy/peer_facts.h"

namespace handshake::policy {

/// The name as one line (RFC 4514): the most specific part first, "CN=a,OU=b+O=c". A character that
/// separates parts is written as a backslash and two hexadecimal digits wherever it belongs to a
/// value
/// ("O=ACME\2C Inc."): a comma or an equals sign in this text always separates. What is not text
/// becomes '#' and its DER in hexadecimal.
[[nodiscard]] std::string name_text(const DistinguishedName& name);

/// A pattern for such a text, with the escapes of RFC 4514 that people write ("\,", "\2c") in the
/// one form that name_text() uses, as are equals signs that can only belong to a value.
[[nodiscard]] std::string name_pattern(std::string_view pattern);

/// The OID of an attribute given by name ("O", "emailAddress", any case) or as an OID itself.
[[nodiscard]] std::optional<std::string> attribute_oid(std::string_view name);

/// "1.2.840": at least two numbers, the first 0 to 2.
[[nodiscard]] bool is_oid(std::string_view text) noexcept;

/// Whether some attribute of the name could not be read.
[[nodiscard]] bool has_unreadable(const DistinguishedName& name) noexcept;

}  // namespace handshake::policy
