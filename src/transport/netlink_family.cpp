// SPDX-License-Identifier: Apache-2.0
#include "transport/netlink_family.h"

#include <linux/genetlink.h>

#include <algorithm>
#include <optional>

#include <fmt/format.h>

namespace handshake::transport {

namespace {

namespace nlctrl = protocol::nlctrl;

/// Every message of an answer as an M; the controller of a newer kernel may say more than we know.
template <class M>
Result<std::vector<M>> parse_all(const NetlinkSocket::Messages& messages) {
  std::vector<M> parsed;
  for (const auto& bytes : messages) {
    protocol::MessageReader reader(bytes);
    const auto view = reader.next();
    if (!view) return tl::unexpected(view.error());
    protocol::ExtAck problem;
    auto message = M::parse((*view)->attributes, protocol::Unknown::kSkip, problem);
    if (!message) return tl::unexpected(message.error());
    parsed.push_back(std::move(*message));
  }
  return parsed;
}

}  // namespace

Result<NetlinkFamily> resolve_family(NetlinkSocket& socket, std::string_view name) {
  nlctrl::GetfamilyRequest request;
  request.family_name = std::string(name);
  const auto messages = socket.request(GENL_ID_CTRL, nlctrl::kFamily.version, request,
                                       NetlinkSocket::Answer::kReply);
  if (!messages) return tl::unexpected(messages.error());
  const auto replies = parse_all<nlctrl::GetfamilyReply>(*messages);
  if (!replies) return tl::unexpected(replies.error());
  const nlctrl::GetfamilyReply& reply = replies->front();
  if (!reply.family_id || *reply.family_id < GENL_MIN_ID) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("family {}: the controller's answer has no family id", name));
  }
  NetlinkFamily family;
  family.id = *reply.family_id;
  family.version = static_cast<std::uint8_t>(reply.version.value_or(1));
  for (const nlctrl::Group& group : reply.mcast_groups) {
    if (group.name && group.id) family.groups.emplace(*group.name, *group.id);
  }
  return family;
}

KernelCapabilities capabilities_of(std::span<const nlctrl::GetpolicyReply> dump) noexcept {
  constexpr auto kTag = static_cast<std::uint16_t>(protocol::kernel::DoneAttribute::kTag);
  std::optional<std::uint32_t> done_policy;
  for (const nlctrl::GetpolicyReply& part : dump) {
    if (part.op_policy && part.op_policy->op_id == protocol::kernel::DoneRequest::kCommand) {
      done_policy = part.op_policy->value.do_;
    }
  }
  if (!done_policy) return {};
  const auto is_tag = [&](const nlctrl::GetpolicyReply& part) {
    if (!part.policy || part.policy->policy_id != *done_policy || part.policy->attr_id != kTag) {
      return false;
    }
    const auto type = static_cast<protocol::AttributeType>(part.policy->value.type.value_or(0));
    return type == protocol::AttributeType::kString || type == protocol::AttributeType::kNulString;
  };
  return KernelCapabilities{std::any_of(dump.begin(), dump.end(), is_tag)};
}

Result<KernelCapabilities> read_capabilities(NetlinkSocket& socket, std::uint16_t family) {
  nlctrl::GetpolicyRequest request;
  request.family_id = family;
  const auto messages = socket.request(GENL_ID_CTRL, nlctrl::kFamily.version, request,
                                       NetlinkSocket::Answer::kDump);
  if (!messages) return tl::unexpected(messages.error());
  const auto dump = parse_all<nlctrl::GetpolicyReply>(*messages);
  if (!dump) return tl::unexpected(dump.error());
  return capabilities_of(*dump);
}

}  // namespace handshake::transport
