// SPDX-License-Identifier: Apache-2.0
#include "cli/control.h"

#include <linux/netlink.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include <fmt/format.h>

#include "base/log.h"
#include "cli/json.h"
#include "daemon/runtime_dir.h"
#include "protocol/message.h"
#include "protocol/messages.h"
#include "transport/connect_family.h"
#include "transport/seqpacket.h"

namespace handshake::cli {

namespace {

namespace control = protocol::control;

constexpr milliseconds kPatience{10'000};

/// Sends one request and calls `take` with every message of the answer, to its end.
template <class Request>
Result<void> ask(const ControlOptions& options, std::uint16_t flags,
                 const std::function<Result<void>(const protocol::MessageView&)>& take) {
  std::string directory = options.runtime_dir;
  if (directory.empty()) {
    auto found = daemon::default_runtime_dir();
    if (!found) return tl::unexpected(found.error());
    directory = std::move(*found);
  }
  const auto connection = transport::connect_family(directory + "/control.sock", control::kFamily.name, kPatience);
  if (!connection) {
    return fail(connection.error().kind,
                fmt::format("is handshaked running? {}", connection.error().detail));
  }
  const int socket = connection->socket.get();
  protocol::MessageHeader header;
  header.type = connection->family;
  header.flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  header.sequence = 1;
  const auto request = protocol::build(header, Request{});
  if (!request) return tl::unexpected(request.error());
  const auto sent = transport::send_packet(socket, *request, {});
  if (!sent) return tl::unexpected(sent.error());
  const bool dump = (flags & NLM_F_DUMP) == NLM_F_DUMP;
  while (true) {
    pollfd ready{socket, POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(kPatience.count())) == 0) {
      return fail(ErrorKind::kTimedOut, "handshaked does not answer");
    }
    const auto packet = transport::receive_packet(socket);
    if (!packet) return tl::unexpected(packet.error());
    if (!packet->has_value()) continue;
    protocol::MessageReader reader((*packet)->bytes);
    while (true) {
      const auto message = reader.next();
      if (!message) return tl::unexpected(message.error());
      if (!message->has_value()) break;
      const protocol::MessageView& view = **message;
      if (view.type == NLMSG_ERROR) {
        const auto ack = protocol::parse_ack(view);
        if (!ack) return tl::unexpected(ack.error());
        if (ack->error == 0) return {};
        return fail(kind_of_errno(ack->error),
                    fmt::format("{}: {}", errno_name(ack->error), ack->ext.message));
      }
      if (view.type == NLMSG_DONE) return {};
      if (auto taken = take(view); !taken) return taken;
      if (!dump) return {};
    }
  }
}

std::string text_or_dash(const std::optional<std::string>& text) { return text ? *text : "-"; }

/// Columns as wide as their widest cell.
void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += i + 1 == row.size() ? row[i] : fmt::format("{:<{}}  ", row[i], widths[i]);
    }
    fmt::print("{}\n", line);
  }
}

void print_status(const control::StatusReply& status) {
  fmt::print("handshaked {}, pid {}, up {:.1f} s\n", text_or_dash(status.version), status.pid.value_or(0),
             static_cast<double>(status.uptime.value_or(0)) / 1000.0);
  fmt::print("configuration: {}\n", text_or_dash(status.config));
  std::vector<std::vector<std::string>> rows{{"WORKER", "HANDSHAKES", "RELAYS", "SERVED"}};
  for (const control::Worker& worker : status.worker) {
    rows.push_back({std::to_string(worker.pid.value_or(0)), std::to_string(worker.accepted.value_or(0)),
                    std::to_string(worker.relays.value_or(0)), std::to_string(worker.served.value_or(0))});
  }
  print_table(rows);
  rows.assign({{"COUNTER", "VALUE"}});
  for (const control::Counter& counter : status.counter) {
    rows.push_back({text_or_dash(counter.name), std::to_string(counter.value.value_or(0))});
  }
  print_table(rows);
}

void print_status_json(const control::StatusReply& status) {
  JsonWriter json;
  json.begin_object();
  json.member("version", status.version);
  json.member("pid", status.pid);
  json.member("uptime_ms", status.uptime);
  json.member("config", status.config);
  json.key("workers").begin_array();
  for (const control::Worker& worker : status.worker) {
    json.begin_object();
    json.member("pid", worker.pid);
    json.member("accepted", worker.accepted);
    json.member("relays", worker.relays);
    json.member("served", worker.served);
    json.end_object();
  }
  json.end_array();
  json.key("counters").begin_object();
  for (const control::Counter& counter : status.counter) {
    json.member(counter.name.value_or(""), counter.value);
  }
  json.end_object();
  json.end_object();
  fmt::print("{}\n", json.text());
}

std::string role_text(const control::SessionsReply& session) {
  if (session.role == protocol::MessageType::kServerhello) return "server";
  return session.role == protocol::MessageType::kClienthello ? "client" : "-";
}

std::string status_text(const control::SessionsReply& session) {
  if (!session.status) return "-";
  return *session.status == 0 ? "0" : errno_name(static_cast<int>(*session.status));
}

void print_sessions(const std::vector<control::SessionsReply>& sessions) {
  std::vector<std::vector<std::string>> rows{{"ID", "STATE", "ROLE", "PEER", "NAME", "CIPHER", "GROUP",
                                              "CERTIFICATE", "MODE", "MS", "SENT", "RECEIVED", "STATUS",
                                              "REASON"}};
  const auto number = [](const auto& value) { return value ? std::to_string(*value) : std::string("-"); };
  for (const control::SessionsReply& session : sessions) {
    // What came from a peer is shown as log lines show it, so that it cannot drive the terminal.
    const std::string reason = session.reason ? log_field("", *session.reason).substr(1) : "";
    rows.push_back({number(session.request_id),
                    session.state ? std::string(to_string(*session.state)) : "-", role_text(session),
                    text_or_dash(session.peer),
                    session.peername ? log_field("", *session.peername).substr(1) : "-",
                    text_or_dash(session.cipher), text_or_dash(session.group),
                    text_or_dash(session.certificate_algorithm),
                    session.session_mode ? std::string(to_string(*session.session_mode)) : "-",
                    session.duration ? fmt::format("{:.1f}", static_cast<double>(*session.duration) / 1000.0) : "-",
                    number(session.bytes_to_peer), number(session.bytes_from_peer), status_text(session),
                    reason});
  }
  print_table(rows);
}

void print_sessions_json(const std::vector<control::SessionsReply>& sessions) {
  JsonWriter json;
  json.begin_array();
  for (const control::SessionsReply& session : sessions) {
    json.begin_object();
    json.member("id", session.request_id);
    if (session.state) json.member("state", to_string(*session.state));
    json.member("role", role_text(session));
    json.member("peer", session.peer);
    json.member("peername", session.peername);
    json.member("peer_subject", session.peer_subject);
    json.member("credential", session.credential);
    json.member("cipher", session.cipher);
    json.member("group", session.group);
    json.member("certificate_algorithm", session.certificate_algorithm);
    if (session.session_mode) json.member("mode", to_string(*session.session_mode));
    json.member("duration_us", session.duration);
    json.member("bytes_to_peer", session.bytes_to_peer);
    json.member("bytes_from_peer", session.bytes_from_peer);
    if (session.status) {
      json.member("status", session.status);
      json.member("errno", status_text(session));
    }
    json.member("reason", session.reason);
    json.key("tags").begin_array();
    for (const std::string& tag : session.tag) json.value(tag);
    json.end_array();
    json.member("uid", session.uid);
    json.member("worker", session.worker);
    json.end_object();
  }
  json.end_array();
  fmt::print("{}\n", json.text());
}

}  // namespace

Result<void> status_command(const ControlOptions& options) {
  return ask<control::StatusRequest>(options, 0, [&](const protocol::MessageView& view) -> Result<void> {
    protocol::ExtAck ack;
    const auto status = control::StatusReply::parse(view.attributes, protocol::Unknown::kSkip, ack);
    if (!status) return tl::unexpected(status.error());
    options.json ? print_status_json(*status) : print_status(*status);
    return {};
  });
}

Result<void> sessions_command(const ControlOptions& options) {
  std::vector<control::SessionsReply> sessions;
  auto asked = ask<control::SessionsRequest>(
      options, NLM_F_DUMP, [&](const protocol::MessageView& view) -> Result<void> {
        protocol::ExtAck ack;
        auto session = control::SessionsReply::parse(view.attributes, protocol::Unknown::kSkip, ack);
        if (!session) return tl::unexpected(session.error());
        sessions.push_back(std::move(*session));
        return {};
      });
  if (!asked) return asked;
  options.json ? print_sessions_json(sessions) : print_sessions(sessions);
  return {};
}

Result<void> reload_command(const ControlOptions& options) {
  return ask<control::ReloadRequest>(
      options, NLM_F_ACK, [](const protocol::MessageView&) -> Result<void> { return {}; });
}

}  // namespace handshake::cli
