// SPDX-License-Identifier: Apache-2.0
#include "daemon/journal.h"

#include <chrono>

#include <fmt/format.h>

#include "base/result.h"

namespace handshake::daemon {

namespace {

std::uint64_t microseconds_of(Clock::duration duration) {
  const auto count = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  return count < 0 ? 0 : static_cast<std::uint64_t>(count);
}

std::string status_text(int status) { return status == 0 ? "0" : errno_name(-status); }

}  // namespace

std::string summary_line(const service::SessionRecord& record) {
  const bool relay_over = record.mode == protocol::SessionMode::kRelay &&
                          record.state == protocol::SessionState::kEnded && record.status == 0;
  std::string line = fmt::format("{} id={} role={}", relay_over ? "relay" : "handshake",
                                 record.request_id, to_string(record.role));
  const auto field = [&line](std::string_view key, std::string_view value) {
    if (!value.empty()) line += ' ' + log_field(key, value);
  };
  field("peer", record.peer);
  field("peername", record.peername);
  field("credential", record.credential);
  line += fmt::format(" uid={}", record.uid);
  if (relay_over) {
    line += fmt::format(" bytes-to-peer={} bytes-from-peer={} status={}", record.bytes_to_peer,
                        record.bytes_from_peer, status_text(record.relay_status));
    field("reason", record.reason);
    return line;
  }
  if (record.agent_pid != 0) line += fmt::format(" worker={}", record.agent_pid);
  field("cipher", record.cipher);
  field("group", record.group);
  field("certificate", record.certificate_algorithm);
  field("peer-subject", record.peer_subject);
  line += fmt::format(" mode={} duration-us={} status={}", to_string(record.mode),
                      microseconds_of(record.duration()), status_text(record.status));
  std::string tags;
  for (const auto& tag : record.tags) {
    if (!tags.empty()) tags += ',';
    tags += tag;
  }
  field("tags", tags);
  if (record.alert) {
    line += fmt::format(" alert-{}={}", record.alert_sent ? "sent" : "received", *record.alert);
  }
  field("ending", record.status == 0 ? "" : to_string(record.ending));
  field("reason", record.reason);
  return line;
}

protocol::control::SessionsReply session_message(const service::SessionRecord& record) {
  const auto text = [](const std::string& value) {
    return value.empty() ? std::nullopt : std::optional(value);
  };
  protocol::control::SessionsReply reply;
  reply.request_id = record.request_id;
  reply.state = record.state;
  reply.role = record.role;
  reply.peer = text(record.peer);
  reply.peername = text(record.peername);
  reply.peer_subject = text(record.peer_subject);
  reply.credential = text(record.credential);
  reply.cipher = text(record.cipher);
  reply.group = text(record.group);
  reply.certificate_algorithm = text(record.certificate_algorithm);
  reply.session_mode = record.mode;
  reply.uid = record.uid;
  if (record.agent_pid != 0) reply.worker = record.agent_pid;
  if (record.ending == service::Ending::kNone) return reply;
  reply.duration = microseconds_of(record.duration());
  const int status = record.status != 0 ? record.status : record.relay_status;
  reply.status = static_cast<std::uint32_t>(-status);
  reply.reason = text(record.reason);
  for (const auto& tag : record.tags) reply.tag.emplace_back(tag);
  if (record.mode == protocol::SessionMode::kRelay &&
      record.state == protocol::SessionState::kEnded) {
    reply.bytes_to_peer = record.bytes_to_peer;
    reply.bytes_from_peer = record.bytes_from_peer;
  }
  return reply;
}

void Journal::add(const service::SessionRecord& record) {
  log_.info(summary_line(record));
  if (record.state != protocol::SessionState::kEnded) return;
  ended_.push_back(record);
  if (ended_.size() > kRemembered) ended_.pop_front();
}

}  // namespace handshake::daemon
