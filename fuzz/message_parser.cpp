// SPDX-License-Identifier: Apache-2.0
// A datagram from a hostile peer: what parses builds again and parses to the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "protocol/controller.h"
#include "protocol/families.h"
#include "protocol/messages.h"

namespace {

using namespace handshake::protocol;

void require(bool condition) {
  if (!condition) std::abort();
}

template <class M>
void round_trip(const MessageView& view) {
  ExtAck ack;
  const auto message = M::parse(view.attributes, Unknown::kSkip, ack);
  if (!message) return;
  const auto bytes = build(MessageHeader{.type = view.type}, *message);
  if (!bytes) return;   // strings grow by their NUL: what just fitted may not fit again
  const auto again = MessageReader(*bytes).next();
  require(again && again->has_value());
  const auto read = M::parse((*again)->attributes, Unknown::kRefuse, ack);
  require(read && *read == *message);
}

template <class... Ms>
void round_trips(const MessageView& view) {
  ((view.command == Ms::kCommand ? round_trip<Ms>(view) : void()), ...);
}

/// What a service has checked, parsing as a service does not refuse.
template <class M>
void checked_parse(const FamilyInfo& family, const MessageView& view) {
  ExtAck ack;
  if (view.command != M::kCommand || is_dump(view)) return;
  const bool passes = check(family, view, ack).has_value();
  const bool parses = M::parse(view.attributes, Unknown::kRefuse, ack).has_value();
  require(!passes || parses);
}

void fuzz(std::span<const std::byte> bytes) {
  static const Controller controller({{kHandshakeId, &kernel::kFamily, kHandshakeGroups},
                                      {kWorkerId, &worker::kFamily, kWorkerGroups},
                                      {kControlId, &control::kFamily, 0}});
  MessageReader reader(bytes);
  while (true) {
    const auto next = reader.next();
    if (!next || !next->has_value()) return;
    const MessageView& view = **next;
    if (const auto ack = parse_ack(view)) {
      MessageView request;
      request.whole = ack->request;
      const auto again = build_ack(request, ack->error, ack->ext);
      const auto read = MessageReader(again).next();
      require(read && read->has_value() && parse_ack(**read)->error == ack->error);
    }
    for (const auto& answer : controller.answer(view)) {
      require(MessageReader(answer).next().has_value());
    }
    checked_parse<kernel::AcceptRequest>(kernel::kFamily, view);
    checked_parse<kernel::DoneRequest>(kernel::kFamily, view);
    checked_parse<worker::DoneRequest>(worker::kFamily, view);
    checked_parse<worker::SubscribeRequest>(worker::kFamily, view);
    checked_parse<consumer::SubmitRequest>(consumer::kFamily, view);
    round_trips<kernel::AcceptReply, kernel::DoneRequest, worker::AcceptReply, worker::DoneRequest,
                worker::SubscribeRequest, worker::RelayEndRequest, consumer::SubmitRequest,
                consumer::CancelReply, consumer::CompleteEvent, control::StatusReply,
                control::SessionsReply, nlctrl::GetfamilyRequest, nlctrl::GetfamilyReply,
                nlctrl::GetpolicyReply>(view);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  fuzz(std::vector<std::byte>(bytes, bytes + size));   // aligned, as a received datagram is
  return 0;
}
