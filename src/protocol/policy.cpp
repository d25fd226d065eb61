// SPDX-License-Identifier: Apache-2.0
#include "protocol/policy.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include <fmt/format.h>

#include "protocol/describe.h"
#include "protocol/message.h"

namespace handshake::protocol {
namespace {

/// Fails with the attribute, its policy and a sentence in the ack.
tl::unexpected<Error> break_policy(ErrorKind kind, const AttributePolicy& policy,
                                   const Attribute& attribute, std::string_view sentence,
                                   ExtAck& ack) {
  ack.message = sentence;
  ack.offset = attribute.offset;
  ack.policy = encode_policy(policy);
  return fail(kind, fmt::format("attribute {}: {}", policy.name, sentence));
}

constexpr std::string_view kFailed = "Attribute failed policy validation";

std::size_t scalar_bytes(AttributeType type) noexcept {
  switch (type) {
    case AttributeType::kU8:
    case AttributeType::kS8: return 1;
    case AttributeType::kU16:
    case AttributeType::kS16: return 2;
    case AttributeType::kU32:
    case AttributeType::kS32: return 4;
    case AttributeType::kU64:
    case AttributeType::kS64: return 8;
    case AttributeType::kInvalid:
    case AttributeType::kFlag:
    case AttributeType::kBinary:
    case AttributeType::kString:
    case AttributeType::kNulString:
    case AttributeType::kNested:
    case AttributeType::kNestedArray:
    case AttributeType::kBitfield32:
    case AttributeType::kSint:
    case AttributeType::kUint: return 0;
  }
  return 0;
}

bool is_nest(AttributeType type) noexcept {
  return type == AttributeType::kNested || type == AttributeType::kNestedArray;
}

bool in_range(const AttributePolicy& policy, const Attribute& attribute) noexcept {
  const auto within = [](auto value, auto low, auto high) { return value >= low && value <= high; };
  const auto is_unsigned = [&](auto value) {
    return within(std::uint64_t{value}, policy.min_unsigned, policy.max_unsigned);
  };
  const auto is_signed = [&](auto value) {
    return within(std::int64_t{value}, policy.min_signed, policy.max_signed);
  };
  switch (policy.type) {
    case AttributeType::kU8: return is_unsigned(attribute.scalar<std::uint8_t>());
    case AttributeType::kU16: return is_unsigned(attribute.scalar<std::uint16_t>());
    case AttributeType::kU32: return is_unsigned(attribute.scalar<std::uint32_t>());
    case AttributeType::kU64: return is_unsigned(attribute.scalar<std::uint64_t>());
    case AttributeType::kS8: return is_signed(attribute.scalar<std::int8_t>());
    case AttributeType::kS16: return is_signed(attribute.scalar<std::int16_t>());
    case AttributeType::kS32: return is_signed(attribute.scalar<std::int32_t>());
    case AttributeType::kS64: return is_signed(attribute.scalar<std::int64_t>());
    case AttributeType::kInvalid:
    case AttributeType::kFlag:
    case AttributeType::kBinary:
    case AttributeType::kString:
    case AttributeType::kNulString:
    case AttributeType::kNested:
    case AttributeType::kNestedArray:
    case AttributeType::kBitfield32:
    case AttributeType::kSint:
    case AttributeType::kUint: return false;
  }
  return false;
}

Result<void> check_bytes(const AttributePolicy& policy, const Attribute& attribute, ExtAck& ack) {
  const std::size_t size = attribute.payload.size();
  switch (policy.type) {
    case AttributeType::kFlag:
      if (size != 0) return break_policy(ErrorKind::kOutOfRange, policy, attribute, kFailed, ack);
      return {};
    case AttributeType::kString: {
      // EINVAL, as the kernel says to a string in which it does not find its end in time.
      const bool terminated = size != 0 && attribute.payload.back() == std::byte{0};
      if (policy.max_length != 0 && size - (terminated ? 1 : 0) > policy.max_length) {
        return break_policy(ErrorKind::kInvalidArgument, policy, attribute, kFailed, ack);
      }
      return {};
    }
    case AttributeType::kBinary:
      if (size < policy.min_length || (policy.max_length != 0 && size > policy.max_length)) {
        return break_policy(ErrorKind::kOutOfRange, policy, attribute,
                            "binary attribute size out of range", ack);
      }
      return {};
    case AttributeType::kNested:
    case AttributeType::kNestedArray:
      if (size != 0 && size < sizeof(nlattr)) {
        return break_policy(ErrorKind::kOutOfRange, policy, attribute, kFailed, ack);
      }
      return {};
    case AttributeType::kU8:
    case AttributeType::kU16:
    case AttributeType::kU32:
    case AttributeType::kU64:
    case AttributeType::kS8:
    case AttributeType::kS16:
    case AttributeType::kS32:
    case AttributeType::kS64:
      if (!in_range(policy, attribute)) {
        return break_policy(ErrorKind::kOutOfRange, policy, attribute, "integer out of range", ack);
      }
      return {};
    case AttributeType::kInvalid:
    case AttributeType::kNulString:
    case AttributeType::kBitfield32:
    case AttributeType::kSint:
    case AttributeType::kUint: break;
  }
  return break_policy(ErrorKind::kInvalidArgument, policy, attribute, kFailed, ack);
}

/// What is inside `attribute`: a set of attributes below `levels` nests whose numbers are values.
Result<void> check_inside(const AttributePolicy& policy, const Attribute& attribute, Unknown unknown,
                          ExtAck& ack) {
  if (policy.nested == nullptr) return {};
  if (policy.type == AttributeType::kNestedArray) {
    return for_each_element(attribute, ack, [&](const Attribute& element) {
      return check_attributes(*policy.nested, element.payload, element.offset + sizeof(nlattr),
                              unknown, ack);
    });
  }
  Attribute inner = attribute;
  for (std::uint8_t level = 0; level < policy.levels; ++level) {
    const Result<Attribute> next = only_attribute(inner, ack);
    if (!next) return tl::unexpected<Error>(next.error());
    inner = *next;
  }
  return check_attributes(*policy.nested, inner.payload, inner.offset + sizeof(nlattr), unknown,
                          ack);
}

}  // namespace

Result<void> check_attribute(const AttributePolicy& policy, const Attribute& attribute,
                             Unknown unknown, ExtAck& ack) {
  const std::size_t exact = scalar_bytes(policy.type);
  if (exact != 0 && attribute.payload.size() != exact) {
    return break_policy(ErrorKind::kInvalidArgument, policy, attribute, "invalid attribute length",
                        ack);
  }
  // Replies are read without this check: the kernel leaves the flag out of its older nests.
  if (unknown == Unknown::kRefuse) {
    if (policy.type == AttributeType::kNested && !attribute.nested_flag) {
      return break_policy(ErrorKind::kInvalidArgument, policy, attribute,
                          "NLA_F_NESTED is missing", ack);
    }
    if (!is_nest(policy.type) && attribute.nested_flag) {
      return break_policy(ErrorKind::kInvalidArgument, policy, attribute,
                          "NLA_F_NESTED not expected", ack);
    }
  }
  return check_bytes(policy, attribute, ack);
}

Result<void> check_attributes(const PolicyTable& table, std::span<const std::byte> bytes,
                              std::uint32_t offset, Unknown unknown, ExtAck& ack) {
  return for_each_attribute(table, bytes, offset, unknown, ack, [&](const Attribute& attribute) {
    return check_inside(*table.find(attribute.type), attribute, unknown, ack);
  });
}

bool is_dump(const MessageView& request) noexcept {
  return (request.flags & NLM_F_DUMP) == NLM_F_DUMP;
}

Result<void> check(const FamilyInfo& family, const MessageView& request, ExtAck& ack) {
  if (request.is_control() || request.whole.size() < kAttributesOffset) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{}: message without a generic netlink header", family.name));
  }
  const OperationInfo* operation = family.find(request.command);
  const bool dump = is_dump(request);
  const PolicyTable* table = operation == nullptr ? nullptr
                             : dump               ? operation->dump_request
                                                  : operation->do_request;
  if (table == nullptr) {
    return fail(ErrorKind::kNotSupported, fmt::format("{}: no {} of command {}", family.name,
                                                      dump ? "dump" : "request", request.command));
  }
  genlmsghdr generic{};
  std::memcpy(&generic, request.whole.data() + sizeof(nlmsghdr), sizeof generic);
  if (generic.reserved != 0) {
    ack.message = "genlmsghdr.reserved field is not 0";
    return fail(ErrorKind::kInvalidArgument, ack.message);
  }
  const unsigned flags = request.flags & ~(dump ? unsigned{NLM_F_DUMP} : 0U);
  if ((flags & ~unsigned{NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO}) != 0) {
    ack.message = "ambiguous or reserved bits set in nlmsg_flags";
    return fail(ErrorKind::kInvalidArgument, ack.message);
  }
  return check_attributes(*table, request.attributes, kAttributesOffset, Unknown::kRefuse, ack);
}

tl::unexpected<Error> missing_attribute(std::string_view name, std::uint16_t number, ExtAck& ack) {
  ack.missing_type = number;
  return fail(ErrorKind::kInvalidArgument, fmt::format("attribute {} is missing", name));
}

tl::unexpected<Error> unknown_attribute(const PolicyTable& table, const Attribute& attribute,
                                        ExtAck& ack) {
  // The kernel's words for a number above all it knows, and for a gap below.
  const bool beyond = attribute.type == 0 || attribute.type > table.max_type();
  ack.message = beyond ? "Unknown attribute type" : "Unsupported attribute";
  ack.offset = attribute.offset;
  return fail(ErrorKind::kInvalidArgument,
              fmt::format("{}: {} {}", table.name, ack.message, attribute.type));
}

}  // namespace handshake::protocol
