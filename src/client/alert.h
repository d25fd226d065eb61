// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace handshake::client {

/// The alerts this side knows by number (RFC 8446 §6).
enum class Alert : std::uint8_t {
  kCloseNotify = 0,
  kUnexpectedMessage = 10,
  kBadRecordMac = 20,
  kRecordOverflow = 22,
  kIllegalParameter = 47,
  kDecodeError = 50,
  kUserCanceled = 90,
};

/// IANA name of an alert description, "unknown_alert" for what has none. Static.
[[nodiscard]] const char* alert_name(int alert) noexcept;

/// What an alert from the peer means to the caller, positive errno as in REQUIREMENTS.md R3.10:
/// EACCES for a certificate that was refused, EKEYREJECTED for an unknown PSK, EIO otherwise.
[[nodiscard]] int alert_errno(std::uint8_t alert) noexcept;

}  // namespace handshake::client
