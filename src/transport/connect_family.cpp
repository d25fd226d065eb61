// SPDX-License-Identifier: Apache-2.0
#include "transport/connect_family.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <poll.h>

#include <fmt/format.h>

#include "protocol/message.h"
#include "protocol/messages.h"
#include "transport/seqpacket.h"

namespace handshake::transport {

namespace {

Result<std::uint16_t> read_family(const protocol::Packet& packet, std::string_view family) {
  protocol::MessageReader reader(packet.bytes);
  const auto message = reader.next();
  if (!message) return tl::unexpected(message.error());
  if (!*message) return fail(ErrorKind::kInputOutput, "an empty answer from the controller");
  const protocol::MessageView& view = **message;
  if (view.type == NLMSG_ERROR) {
    const auto ack = protocol::parse_ack(view);
    if (!ack) return tl::unexpected(ack.error());
    return fail(ErrorKind::kInputOutput,
                fmt::format("no family {}: {}", family, errno_name(ack->error)));
  }
  if (view.type != GENL_ID_CTRL) {
    return fail(ErrorKind::kInputOutput, "an answer that is not the controller's");
  }
  protocol::ExtAck problem;
  const auto reply = protocol::nlctrl::GetfamilyReply::parse(view.attributes,
                                                             protocol::Unknown::kSkip, problem);
  if (!reply) return tl::unexpected(reply.error());
  // Ids below 16 are netlink's own message types.
  if (!reply->family_id || *reply->family_id < NLMSG_MIN_TYPE) {
    return fail(ErrorKind::kInputOutput, "the controller's answer has no family id");
  }
  return *reply->family_id;
}

Result<std::uint16_t> resolve(int fd, std::string_view family, TimePoint deadline) {
  protocol::nlctrl::GetfamilyRequest request;
  request.family_name = std::string(family);
  protocol::MessageHeader header;
  header.type = GENL_ID_CTRL;
  header.flags = NLM_F_REQUEST;
  const auto bytes = protocol::build(header, request);
  if (!bytes) return tl::unexpected(bytes.error());
  // A fresh connection takes a short message.
  if (const auto sent = send_packet(fd, *bytes, {}); !sent) return tl::unexpected(sent.error());
  while (true) {
    const auto packet = receive_packet(fd);
    if (!packet) return tl::unexpected(packet.error());
    if (*packet) return read_family(**packet, family);
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return fail(ErrorKind::kTimedOut, "the service does not answer");
    pollfd readable{fd, POLLIN, 0};
    static_cast<void>(::poll(&readable, 1, static_cast<int>(left)));
  }
}

}  // namespace

Result<FamilyConnection> connect_family(const std::string& path, std::string_view family,
                                        milliseconds patience) {
  const TimePoint deadline = Clock::now() + patience;
  auto socket = connect_seqpacket(path, patience);
  if (!socket) return tl::unexpected(socket.error());
  const auto number = resolve(socket->get(), family, deadline);
  if (!number) {
    return fail(number.error().kind, fmt::format("{}: {}", path, number.error().detail));
  }
  return FamilyConnection{std::move(*socket), *number};
}

}  // namespace handshake::transport
