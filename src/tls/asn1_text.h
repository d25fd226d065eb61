// SPDX-License-Identifier: Apache-2.0
// For tls/*.cpp only.
#pragma once

#include <optional>
#include <string>

#include "tls/openssl.h"

namespace handshake::tls {

/// A string of any ASN.1 type as UTF-8, whole: a NUL is a character like others. Nothing when it is
/// no string, or not valid in its type (RFC 5280 §4.1.2.4): wrong UTF-8, half a surrogate pair, a
/// byte beyond ASCII in a PrintableString. T61String is read as Latin-1, as everybody does.
[[nodiscard]] std::optional<std::string> utf8_text(const ASN1_STRING* string);

/// The bytes as they are.
[[nodiscard]] std::string bytes_of(const ASN1_STRING* string);

/// The string's DER, tag and length included.
[[nodiscard]] std::string der_of(const ASN1_STRING* string);

/// "2.5.4.3"; empty for one that is longer than any in use.
[[nodiscard]] std::string oid_text(const ASN1_OBJECT* object);

}  // namespace handshake::tls
