// SPDX-License-Identifier: Apache-2.0
#include "daemon/control.h"

#include <linux/netlink.h>

#include "protocol/controller.h"
#include "protocol/families.h"
#include "protocol/message.h"

namespace handshake::daemon {

namespace {

protocol::MessageHeader header_for(const protocol::MessageView& request, std::uint16_t flags) {
  protocol::MessageHeader header;
  header.type = request.type;
  header.flags = flags;
  header.sequence = request.sequence;
  header.port = request.port;
  header.version = protocol::control::kFamily.version;
  return header;
}

/// What may be asked for on this socket.
const protocol::Controller& controller() {
  static const protocol::Controller controller(
      {{protocol::kControlId, &protocol::control::kFamily, 0}});
  return controller;
}

}  // namespace

ControlEndpoint::ControlEndpoint(const ControlSource& source, Sink sink)
    : source_(source), sink_(std::move(sink)) {}

Result<void> ControlEndpoint::receive(const protocol::Packet& packet) {
  protocol::MessageReader reader(packet.bytes);
  while (true) {
    const auto message = reader.next();
    if (!message) return tl::unexpected(message.error());
    if (!message->has_value()) return {};
    answer(**message);
  }
}

void ControlEndpoint::answer(const protocol::MessageView& request) {
  protocol::ExtAck ack;
  const auto refuse = [&](const Error& error) {
    if (ack.message.empty()) ack.message = error.detail;
    sink_(protocol::build_ack(request, error.number(), ack));
  };
  const auto reply = [&](const auto& message, std::uint16_t flags) {
    auto bytes = protocol::build(header_for(request, flags), message);
    if (bytes) sink_(std::move(*bytes));
    return bytes.has_value();
  };
  if (request.type == protocol::kControllerId) {
    for (auto& answer : controller().answer(request)) sink_(std::move(answer));
    return;
  }
  if (request.type != protocol::kControlId) {
    return refuse(Error{ErrorKind::kNotFound, "no such family here"});
  }
  if (auto checked = protocol::check(protocol::control::kFamily, request, ack); !checked) {
    return refuse(checked.error());
  }
  switch (request.command) {
    case protocol::control::StatusRequest::kCommand:
      if (!reply(source_.status(), 0)) refuse(Error{ErrorKind::kOutOfRange, "the status does not fit"});
      return;
    case protocol::control::SessionsRequest::kCommand:
      for (const auto& session : source_.sessions()) {
        if (!reply(session, NLM_F_MULTI)) {
          return refuse(Error{ErrorKind::kOutOfRange, "a session does not fit"});
        }
      }
      return sink_(protocol::build_dump_end(request));
    case protocol::control::ReloadRequest::kCommand: {
      const auto reloaded = source_.reload();
      if (!reloaded) return refuse(reloaded.error());
      return sink_(protocol::build_ack(request, 0, ack));
    }
    default: return refuse(Error{ErrorKind::kNotSupported, "no such command"});
  }
}

}  // namespace handshake::daemon
