// SPDX-License-Identifier: Apache-2.0
#include "client/record.h"

#include <algorithm>

namespace handshake::client {

namespace {

constexpr std::uint8_t kNewSessionTicket = 4;
constexpr std::uint8_t kKeyUpdate = 24;

// NewSessionTicket (RFC 8446 §4.6.1): lifetime 4, age_add 4, nonce <0..255>, ticket <1..2^16-1>,
// extensions <0..2^16-2>.
constexpr std::size_t kShortestTicket = 4 + 4 + 1 + (2 + 1) + 2;
constexpr std::size_t kLongestTicket = 4 + 4 + (1 + 255) + (2 + 65535) + (2 + 65534);

RecordAction violation(Alert alert, const char* detail) {
  return {RecordAction::Kind::kViolation, static_cast<std::uint8_t>(alert), detail};
}

}  // namespace

RecordAction RecordInterpreter::take(std::uint8_t type, std::span<const std::byte> bytes) {
  const bool inside_message = header_bytes_ != 0;
  const bool inside_alert = alert_bytes_ != 0;
  switch (type) {
    case static_cast<std::uint8_t>(RecordType::kApplicationData):
      if (inside_message || inside_alert) break;
      if (bytes.empty()) return count_empty({RecordAction::Kind::kData, 0, ""});
      empty_records_ = 0;
      return {RecordAction::Kind::kData, 0, ""};
    case static_cast<std::uint8_t>(RecordType::kAlert):
      if (inside_message) break;
      return take_alert(bytes);
    case static_cast<std::uint8_t>(RecordType::kHandshake):
      if (inside_alert) break;
      return take_handshake(bytes);
    case static_cast<std::uint8_t>(RecordType::kChangeCipherSpec):
      return violation(Alert::kUnexpectedMessage, "change_cipher_spec after the handshake");
    default: return violation(Alert::kUnexpectedMessage, "a record of unknown type");
  }
  return violation(Alert::kUnexpectedMessage, "another record inside a message");
}

RecordAction RecordInterpreter::count_empty(RecordAction action) {
  if (++empty_records_ <= kMaxEmptyRecords) return action;
  return violation(Alert::kUnexpectedMessage, "too many empty records");
}

RecordAction RecordInterpreter::take_alert(std::span<const std::byte> bytes) {
  if (bytes.empty()) return violation(Alert::kUnexpectedMessage, "an empty alert record");
  if (bytes.size() > alert_.size() - alert_bytes_) {
    return violation(Alert::kDecodeError, "an alert of more than two bytes");
  }
  for (const std::byte byte : bytes) alert_[alert_bytes_++] = static_cast<std::uint8_t>(byte);
  if (alert_bytes_ < alert_.size()) return {};
  alert_bytes_ = 0;
  // The level says nothing in TLS 1.3: all but two alerts end the session (§6).
  const std::uint8_t description = alert_[1];
  if (description == static_cast<std::uint8_t>(Alert::kCloseNotify)) {
    return {RecordAction::Kind::kEnd, 0, ""};
  }
  if (description == static_cast<std::uint8_t>(Alert::kUserCanceled)) return count_empty({});
  return {RecordAction::Kind::kPeerAlert, description, ""};
}

RecordAction RecordInterpreter::take_handshake(std::span<const std::byte> bytes) {
  if (bytes.empty()) return violation(Alert::kUnexpectedMessage, "an empty handshake record");
  while (!bytes.empty()) {
    if (header_bytes_ < header_.size()) {
      header_[header_bytes_++] = static_cast<std::uint8_t>(bytes.front());
      bytes = bytes.subspan(1);
      if (header_bytes_ < header_.size()) continue;
      const RecordAction action = begin_message();
      if (action.kind != RecordAction::Kind::kContinue) return action;
      continue;
    }
    if (header_[0] == kKeyUpdate) {
      if (static_cast<std::uint8_t>(bytes.front()) > 1) {
        return violation(Alert::kIllegalParameter, "a KeyUpdate that is neither 0 nor 1");
      }
      if (bytes.size() > 1) {
        return violation(Alert::kUnexpectedMessage, "a KeyUpdate that does not end its record");
      }
      return {RecordAction::Kind::kKeyUpdate, 0, ""};
    }
    const std::size_t skipped = std::min(body_left_, bytes.size());
    bytes = bytes.subspan(skipped);
    body_left_ -= skipped;
    if (body_left_ == 0) header_bytes_ = 0;
  }
  return {};
}

RecordAction RecordInterpreter::begin_message() {
  const std::size_t length = std::size_t{header_[1]} << 16U | std::size_t{header_[2]} << 8U |
                             std::size_t{header_[3]};
  if (header_[0] == kKeyUpdate) {
    if (length != 1) return violation(Alert::kDecodeError, "a KeyUpdate of the wrong length");
    body_left_ = length;
    return {};
  }
  if (header_[0] == kNewSessionTicket) {
    if (role_ == Role::kServer) {
      return violation(Alert::kUnexpectedMessage, "a session ticket from a client");
    }
    if (length < kShortestTicket || length > kLongestTicket) {
      return violation(Alert::kDecodeError, "a session ticket of impossible length");
    }
    body_left_ = length;
    return {};
  }
  return violation(Alert::kUnexpectedMessage, "a handshake message after the handshake");
}

}  // namespace handshake::client
