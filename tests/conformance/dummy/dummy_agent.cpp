// SPDX-License-Identifier: Apache-2.0
#include "dummy_agent.h"

#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>
#include <utility>

#include "dummy/messages.h"
#include "protocol/families.h"
#include "protocol/messages.h"
#include "transport/seqpacket.h"

namespace handshake::dummy {
namespace {

constexpr auto kClass = HandlerClass::kDummy;

}  // namespace

Result<void> DummyAgent::run() {
  if (Result<void> ok = resolve(); !ok) return ok;
  if (Result<void> ok = subscribe(); !ok) return ok;
  for (;;) {
    while (std::exchange(ready_, false)) {
      const Result<void> ok = drain();
      // Closed while an answer was due: the service's end all the same.
      if (!ok && ok.error().kind == ErrorKind::kConnectionReset) return {};
      if (!ok) return ok;
    }
    Result<std::optional<protocol::Packet>> packet = receive();
    if (!packet) return tl::unexpected<Error>(packet.error());
    if (!packet->has_value()) return {};
    // Whatever comes unasked is READY.
    ready_ = true;
  }
}

Result<void> DummyAgent::resolve() {
  protocol::nlctrl::GetfamilyRequest request;
  request.family_name = std::string(agent::kFamily.name);
  const Result<Answer> answer = ask(protocol::kControllerId, request, 0);
  if (!answer) return tl::unexpected<Error>(answer.error());
  protocol::ExtAck ignored;
  const auto reply = protocol::nlctrl::GetfamilyReply::parse(answer->view.attributes,
                                                             protocol::Unknown::kSkip, ignored);
  if (!reply || !reply->family_id) return fail(ErrorKind::kInvalidArgument, "GETFAMILY reply");
  family_ = *reply->family_id;
  return {};
}

Result<void> DummyAgent::subscribe() {
  agent::SubscribeRequest request;
  request.handler_class = {kClass};
  const Result<Answer> answer = ask(family_, request, NLM_F_ACK);
  if (!answer) return tl::unexpected<Error>(answer.error());
  return {};
}

Result<void> DummyAgent::drain() {
  for (;;) {
    agent::AcceptRequest request;
    request.handler_class = kClass;
    Result<Answer> answer = ask(family_, request, 0);
    if (!answer && answer.error().kind == ErrorKind::kTryAgain) return {};
    if (!answer) return tl::unexpected<Error>(answer.error());
    protocol::ExtAck ignored;
    const auto accepted = agent::AcceptReply::parse(answer->view.attributes,
                                                    protocol::Unknown::kSkip, ignored);
    if (!accepted || !accepted->sockfd || answer->packet.fds.size() != 1) {
      return fail(ErrorKind::kInvalidArgument, "ACCEPT reply");
    }
    answer->packet.fds.clear();  // closed before the end is reported
    agent::DoneRequest done;
    done.sockfd = accepted->sockfd;
    done.status = accepted->peername == "refuse.test" ? EACCES : 0;
    done.tag = {"dummy"};
    ++served_;
    const Result<Answer> ack = ask(family_, done, NLM_F_ACK);
    // EBUSY: it has ended meanwhile.
    if (!ack && ack.error().kind != ErrorKind::kBusy) return tl::unexpected<Error>(ack.error());
  }
}

template <class M>
Result<DummyAgent::Answer> DummyAgent::ask(std::uint16_t family, const M& message,
                                           std::uint16_t flags) {
  const std::uint32_t sequence = ++sequence_;
  const auto bytes =
      protocol::build({.type = family,
                       .flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags),
                       .sequence = sequence},
                      message);
  if (!bytes) return tl::unexpected<Error>(bytes.error());
  if (::send(socket_.get(), bytes->data(), bytes->size(), MSG_NOSIGNAL) < 0) {
    return fail_errno("send to the service");
  }
  for (;;) {
    Result<std::optional<protocol::Packet>> packet = receive();
    if (!packet) return tl::unexpected<Error>(packet.error());
    if (!packet->has_value()) return fail(ErrorKind::kConnectionReset, "the service is gone");
    Answer answer{std::move(**packet), {}};
    const auto view = protocol::MessageReader(answer.packet.bytes).next();
    if (!view || !view->has_value()) return fail(ErrorKind::kInvalidArgument, "no netlink");
    answer.view = **view;
    if (answer.view.sequence != sequence) {
      ready_ = true;  // READY comes whenever it likes
      continue;
    }
    if (answer.view.type != NLMSG_ERROR) return answer;
    const auto ack = protocol::parse_ack(answer.view);
    if (!ack) return tl::unexpected<Error>(ack.error());
    if (ack->error != 0) return fail(kind_of_errno(ack->error), std::string(M::kName));
    return answer;
  }
}

Result<std::optional<protocol::Packet>> DummyAgent::receive() {
  for (;;) {
    pollfd ready{socket_.get(), POLLIN, 0};
    if (::poll(&ready, 1, -1) < 0 && errno != EINTR) return fail_errno("poll");
    Result<std::optional<protocol::Packet>> packet = transport::receive_packet(socket_.get());
    if (!packet && packet.error().kind == ErrorKind::kConnectionReset) return std::nullopt;
    if (!packet || packet->has_value()) return packet;
  }
}

}  // namespace handshake::dummy
