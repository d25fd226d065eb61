// SPDX-License-Identifier: Apache-2.0
#include "client/connection.h"

#include <linux/netlink.h>
#include <poll.h>

#include <cstring>
#include <utility>

#include "protocol/families.h"
#include "protocol/message.h"
#include "protocol/messages.h"
#include "transport/seqpacket.h"

namespace handshake::client {

namespace {

Expected<std::uint16_t> read_family(const protocol::Packet& packet, const std::string& path) {
  protocol::MessageReader reader(packet.bytes);
  const auto message = reader.next();
  if (!message) return refuse(message.error());
  if (!*message) return refuse(EIO, path + ": an empty answer from the controller");
  const protocol::MessageView& view = **message;
  if (view.type == NLMSG_ERROR) {
    const auto ack = protocol::parse_ack(view);
    if (!ack) return refuse(EIO, path + ": " + ack.error().detail);
    return refuse(EIO, path + ": " + std::string(protocol::consumer::kFamily.name) + ": " +
                           (ack->ext.message.empty() ? std::strerror(ack->error)
                                                     : ack->ext.message));
  }
  if (view.type != protocol::kControllerId) {
    return refuse(EIO, path + ": an answer that is not the controller's");
  }
  protocol::ExtAck problem;
  const auto reply = protocol::nlctrl::GetfamilyReply::parse(view.attributes,
                                                             protocol::Unknown::kSkip, problem);
  if (!reply) return refuse(EIO, path + ": " + reply.error().detail);
  // Ids below 16 are netlink's own message types.
  if (!reply->family_id || *reply->family_id < NLMSG_MIN_TYPE) {
    return refuse(EIO, path + ": the controller's answer has no family id");
  }
  return *reply->family_id;
}

}  // namespace

Expected<Connection> connect_service(const std::string& path, milliseconds patience) {
  auto socket = transport::connect_seqpacket(path, patience);
  if (!socket) return refuse(std::move(socket.error()));

  protocol::nlctrl::GetfamilyRequest request;
  request.family_name = std::string(protocol::consumer::kFamily.name);
  protocol::MessageHeader header;
  header.type = protocol::kControllerId;
  header.flags = NLM_F_REQUEST;
  const auto bytes = protocol::build(header, request);
  if (!bytes) return refuse(bytes.error());
  // A fresh connection takes a short message.
  const auto sent = transport::send_packet(socket->get(), *bytes, {});
  if (!sent) return refuse(EIO, path + ": " + sent.error().detail);

  const TimePoint deadline = Clock::now() + patience;
  while (true) {
    auto packet = transport::receive_packet(socket->get());
    if (!packet) return refuse(EIO, path + ": " + packet.error().detail);
    if (*packet) {
      const auto family = read_family(**packet, path);
      if (!family) return tl::unexpected(family.error());
      return Connection{std::move(*socket), *family};
    }
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return refuse(EIO, path + ": the service does not answer");
    pollfd readable{socket->get(), POLLIN, 0};
    static_cast<void>(::poll(&readable, 1, static_cast<int>(left)));
  }
}

}  // namespace handshake::client
