// SPDX-License-Identifier: Apache-2.0
#include "service/dispatch.h"

#include <linux/netlink.h>

#include <cerrno>

#include "protocol/families.h"

namespace handshake::service {

bool dispatch(std::span<const std::byte> datagram, const protocol::Controller& families,
              const SendBytes& send, const Handler& handle) {
  protocol::MessageReader reader(datagram);
  for (;;) {
    const Result<std::optional<protocol::MessageView>> next = reader.next();
    if (!next) return false;
    if (!next->has_value()) return true;
    const protocol::MessageView& request = **next;
    Answer answer = 0;
    protocol::ExtAck ack;
    if ((request.flags & NLM_F_REQUEST) != 0 && !request.is_control()) {
      if (request.type == protocol::kControllerId) {
        for (std::vector<std::byte>& reply : families.answer(request)) send(std::move(reply));
        continue;
      }
      const protocol::Controller::Registration* const family = families.find(request.type);
      answer = family == nullptr ? ENOENT : handle(request, *family, ack);
    }
    if (auto bytes = acknowledgement(request, answer, ack)) send(*std::move(bytes));
  }
}

std::optional<std::vector<std::byte>> acknowledgement(const protocol::MessageView& request,
                                                      Answer answer,
                                                      const protocol::ExtAck& ack) {
  if (answer == kAnswersLater) return std::nullopt;
  if (answer == 0 && (request.flags & NLM_F_ACK) == 0) return std::nullopt;
  return protocol::build_ack(request, answer, ack);
}

Answer explain(const Error& error, protocol::ExtAck& ack) {
  if (ack.message.empty()) ack.message = error.detail;
  return error.number();
}

Answer descriptors_lost(protocol::ExtAck& ack) {
  ack.message = "the descriptors of this message were lost: the service has too many open";
  return EMFILE;
}

}  // namespace handshake::service
