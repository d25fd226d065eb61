// SPDX-License-Identifier: Apache-2.0
#include "protocol/describe.h"

#include <linux/netlink.h>

namespace handshake::protocol {

nlctrl::PolicyDescription describe_policy(const AttributePolicy& policy) {
  nlctrl::PolicyDescription description;
  description.type = static_cast<std::uint32_t>(policy.type);
  switch (policy.type) {
    case AttributeType::kU8:
    case AttributeType::kU16:
    case AttributeType::kU32:
    case AttributeType::kU64:
      description.min_value_u = policy.min_unsigned;
      description.max_value_u = policy.max_unsigned;
      break;
    case AttributeType::kS8:
    case AttributeType::kS16:
    case AttributeType::kS32:
    case AttributeType::kS64:
      description.min_value_s = policy.min_signed;
      description.max_value_s = policy.max_signed;
      break;
    case AttributeType::kBinary:
    case AttributeType::kString:
      if (policy.min_length != 0) description.min_length = policy.min_length;
      if (policy.max_length != 0) description.max_length = policy.max_length;
      break;
    case AttributeType::kInvalid:
    case AttributeType::kFlag:
    case AttributeType::kNulString:
    case AttributeType::kNested:
    case AttributeType::kNestedArray:
    case AttributeType::kBitfield32:
    case AttributeType::kSint:
    case AttributeType::kUint: break;
  }
  return description;
}

std::vector<std::byte> encode_policy(const AttributePolicy& policy) {
  MessageBuilder builder(MessageHeader{.type = NLMSG_DONE});   // a header without a family
  describe_policy(policy).put(builder);
  std::vector<std::byte> message = std::move(builder).finish().value_or(std::vector<std::byte>{});
  message.erase(message.begin(), message.begin() + NLMSG_HDRLEN);
  return message;
}

}  // namespace handshake::protocol
