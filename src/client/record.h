// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "client/alert.h"

namespace handshake::client {

/// Content types of the TLS record layer (RFC 8446 §5.1).
enum class RecordType : std::uint8_t {
  kChangeCipherSpec = 20,
  kAlert = 21,
  kHandshake = 22,
  kApplicationData = 23,
};

enum class Role : std::uint8_t { kClient, kServer };

/// What to do after some bytes of a record.
struct RecordAction {
  enum class Kind : std::uint8_t {
    kData,        ///< they are the program's (none of them: an empty record)
    kContinue,    ///< nothing for the program; read on
    kEnd,         ///< close_notify
    kPeerAlert,   ///< the peer ended the session with `alert`
    kKeyUpdate,   ///< the peer's next record uses keys that this side does not have
    kViolation,   ///< the peer broke the protocol: answer with `alert` and end the session
  };
  Kind kind = Kind::kContinue;
  std::uint8_t alert = 0;
  const char* detail = "";  ///< of a violation; static

  friend bool operator==(const RecordAction& a, const RecordAction& b) {
    return a.kind == b.kind && a.alert == b.alert;
  }
};

/// Interprets the records that come after the handshake: data, alerts, session tickets and
/// KeyUpdate, everything else is a violation (RFC 8446 §4.6, §5.1, §6). Does no I/O and keeps no
/// bytes but the header of the handshake message under way; a ticket is counted, not stored.
///
/// Bytes may come in pieces: a message over several records, several messages in a record, a
/// record over several calls (a program's buffer may be one byte). Only what pieces hide goes
/// unnoticed: that two alerts, or a KeyUpdate and something after it, shared one record.
class RecordInterpreter {
 public:
  explicit RecordInterpreter(Role role) : role_(role) {}

  /// The next bytes, of a record of type `type` (as TLS_GET_RECORD_TYPE says). After kEnd,
  /// kPeerAlert, kKeyUpdate and kViolation the caller asks no more.
  [[nodiscard]] RecordAction take(std::uint8_t type, std::span<const std::byte> bytes);

  /// How many records without content a peer may send in a row (padding against traffic analysis,
  /// §5.4, has no use for more): each costs this side a decryption and the program nothing.
  static constexpr unsigned kMaxEmptyRecords = 32;

 private:
  [[nodiscard]] RecordAction take_alert(std::span<const std::byte> bytes);
  [[nodiscard]] RecordAction take_handshake(std::span<const std::byte> bytes);
  [[nodiscard]] RecordAction begin_message();
  [[nodiscard]] RecordAction count_empty(RecordAction action);

  Role role_;
  std::array<std::uint8_t, 4> header_{};  // type, length (24 bits)
  std::size_t header_bytes_ = 0;          // collected; 4 while the body is being read
  std::size_t body_left_ = 0;
  std::array<std::uint8_t, 2> alert_{};
  std::size_t alert_bytes_ = 0;
  unsigned empty_records_ = 0;  // in a row
};

}  // namespace handshake::client
