// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/peer_facts.h"

namespace handshake::policy {

/// The names of RFC 5280 §4.2.1.3 for the bits of keyUsage ("digitalSignature").
[[nodiscard]] std::optional<KeyUsage> key_usage_of(std::string_view name) noexcept;
/// "digitalSignature, keyAgreement"; "none" for 0.
[[nodiscard]] std::string key_usage_text(std::uint16_t bits);
/// All names, for messages.
[[nodiscard]] std::string key_usage_names();

/// The OID of an extended key usage, given by name ("serverAuth", RFC 5280 §4.2.1.12) or as OID.
[[nodiscard]] std::optional<std::string> purpose_oid(std::string_view name);
/// Its name, or the OID itself where it has none.
[[nodiscard]] std::string_view purpose_name(std::string_view oid) noexcept;
[[nodiscard]] std::string purpose_names();

}  // namespace handshake::policy
