// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "protocol/policy.h"

/// Generic netlink framing: the same bytes over AF_NETLINK and AF_UNIX SEQPACKET, in host byte
/// order. Everything here is a pure function of bytes; nothing blocks, nothing is shared.
namespace handshake::protocol {

/// What becomes of an attribute that this side does not know: a service refuses the message
/// (EINVAL, "Unknown attribute type"), an agent goes on without it and counts it.
enum class Unknown : std::uint8_t { kRefuse, kSkip };

/// The extended part of an acknowledgement: what was wrong with which attribute (NLMSGERR_ATTR_*).
struct ExtAck {
  std::string message;
  /// Of the offending attribute, from the start of the request's netlink header.
  std::optional<std::uint32_t> offset;
  /// Number of an attribute that should have been there, and the offset of the nest it belongs
  /// into (none: the message itself).
  std::optional<std::uint32_t> missing_type;
  std::optional<std::uint32_t> missing_nest;
  /// The policy that the attribute broke, as the controller's policy dump encodes it.
  std::vector<std::byte> policy;
  /// Not sent: how many attributes Unknown::kSkip skipped.
  std::size_t unknown_skipped = 0;

  friend bool operator==(const ExtAck&, const ExtAck&) = default;
};

/// Netlink and generic netlink header together: where a message's attributes begin.
inline constexpr std::uint32_t kAttributesOffset = 20;
/// The longest message that MessageBuilder makes: what nlattr.nla_len can count, and well below
/// what a SEQPACKET socket takes by default (212,960).
inline constexpr std::size_t kMaxMessageBytes = 65535;

/// One message, borrowed from the bytes that were read. NLMSG_ERROR, NLMSG_DONE and the other
/// control types (below 16) have no generic netlink header: `attributes` is their whole payload.
struct MessageView {
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::uint32_t sequence = 0;
  std::uint32_t port = 0;
  std::uint8_t command = 0;
  std::uint8_t version = 0;
  std::span<const std::byte> attributes;
  std::span<const std::byte> whole;

  /// A control message of netlink itself, without a generic netlink header.
  [[nodiscard]] bool is_control() const noexcept;
};

/// Walks the messages of one datagram. The bytes are borrowed and must be aligned to 4, as those
/// of a vector are.
class MessageReader {
 public:
  explicit MessageReader(std::span<const std::byte> bytes) : rest_(bytes) {}
  /// The next message; nullopt after the last. EINVAL: what follows is no whole message (nothing
  /// after it can be read either).
  [[nodiscard]] Result<std::optional<MessageView>> next();

 private:
  std::span<const std::byte> rest_;
};

/// One attribute, borrowed. Its typed getters need a payload that the policy check has passed.
struct Attribute {
  std::uint16_t type = 0;
  bool nested_flag = false;
  /// From the start of the netlink header.
  std::uint32_t offset = 0;
  std::span<const std::byte> payload;

  /// Precondition: the payload has exactly the size of T.
  template <class T>
  [[nodiscard]] T scalar() const noexcept {
    static_assert(std::is_arithmetic_v<T>);
    T value{};
    if (payload.size() == sizeof value) std::memcpy(&value, payload.data(), sizeof value);
    return value;
  }
  /// The payload without one trailing NUL, if it has one; NULs inside are kept.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::vector<std::byte> bytes() const { return {payload.begin(), payload.end()}; }
};

/// Walks the attributes of a message or a nest.
class AttributeReader {
 public:
  /// `offset` is where `bytes` begins, from the start of the netlink header.
  AttributeReader(std::span<const std::byte> bytes, std::uint32_t offset)
      : rest_(bytes), offset_(offset) {}
  /// The next attribute; nullopt after the last. EINVAL: what follows is no whole attribute.
  [[nodiscard]] Result<std::optional<Attribute>> next(ExtAck& ack);

 private:
  std::span<const std::byte> rest_;
  std::uint32_t offset_;
};

// --- Building ----------------------------------------------------------------------------------

struct MessageHeader {
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::uint32_t sequence = 0;
  std::uint32_t port = 0;
  std::uint8_t command = 0;
  std::uint8_t version = 1;
};

/// Builds one message; grows as needed. What does not fit into a message is noticed by finish().
class MessageBuilder {
 public:
  /// With the generic netlink header, unless `header.type` is a control type.
  explicit MessageBuilder(const MessageHeader& header);

  template <class T>
  void put(std::uint16_t number, T value) {
    static_assert(std::is_arithmetic_v<T>);
    put_bytes(number, std::as_bytes(std::span<const T, 1>(&value, 1)));
  }
  void put_u32(std::uint16_t number, std::uint32_t value) { put(number, value); }
  /// With a terminating NUL, as the kernel sends strings.
  void put_string(std::uint16_t number, std::string_view value);
  void put_flag(std::uint16_t number) { put_bytes(number, {}); }
  void put_bytes(std::uint16_t number, std::span<const std::byte> value);
  /// Payload bytes that are no attribute; only between the header and the first attribute.
  void put_raw(std::span<const std::byte> value);

  /// Attributes put until end_nest() are inside. The array attributes of the controller are older
  /// than NLA_F_NESTED and go without it.
  enum class NestFlag : std::uint8_t { kNested, kNone };
  [[nodiscard]] std::size_t begin_nest(std::uint16_t number, NestFlag flag = NestFlag::kNested);
  /// `nest` is what begin_nest() returned.
  void end_nest(std::size_t nest);

  /// The whole message. EINVAL: longer than kMaxMessageBytes.
  [[nodiscard]] Result<std::vector<std::byte>> finish() &&;

 private:
  [[nodiscard]] bool reserve(std::size_t payload_bytes);

  std::vector<std::byte> bytes_;
  std::size_t length_ = 0;
  bool too_long_ = false;
};

/// One whole message of a generated type, under the command of that type.
template <class M>
[[nodiscard]] Result<std::vector<std::byte>> build(const MessageHeader& header, const M& message) {
  MessageHeader own = header;
  own.command = M::kCommand;
  MessageBuilder builder(own);
  message.put(builder);
  return std::move(builder).finish();
}

// --- Acknowledgements --------------------------------------------------------------------------

/// What the sender of the request asked for; over AF_NETLINK socket options (NETLINK_CAP_ACK,
/// NETLINK_EXT_ACK), over AF_UNIX always both.
struct AckOptions {
  bool capped = true;
  bool extended = true;
  /// Port of the request's sender; absent: what the request's header says.
  std::optional<std::uint32_t> port;
};

/// NLMSG_ERROR for `request`; `error` is a positive errno, 0 for success. Never fails: an extended
/// ack that does not fit is left out.
[[nodiscard]] std::vector<std::byte> build_ack(const MessageView& request, int error,
                                               const ExtAck& ext, const AckOptions& options = {});

/// NLMSG_DONE, the end of a dump.
[[nodiscard]] std::vector<std::byte> build_dump_end(const MessageView& request);

struct Ack {
  /// Positive errno, 0 for success.
  int error = 0;
  ExtAck ext;
  /// Of the request that this answers.
  std::uint32_t sequence = 0;
  /// The request's header and, if the answer quotes it, the rest of it.
  std::vector<std::byte> request;
};

/// Reads NLMSG_ERROR. EINVAL: not one, or malformed (an error above 4095 counts as malformed).
[[nodiscard]] Result<Ack> parse_ack(const MessageView& message);

// --- Policy ------------------------------------------------------------------------------------

/// One attribute against its policy, its own bytes only; what is inside a nest is checked by
/// whoever reads that. Fails as the kernel's strict validation does and says so in `ack`.
[[nodiscard]] Result<void> check_attribute(const AttributePolicy& policy,
                                           const Attribute& attribute, Unknown unknown,
                                           ExtAck& ack);

/// All attributes in `bytes` and everything inside them against `table`.
[[nodiscard]] Result<void> check_attributes(const PolicyTable& table,
                                            std::span<const std::byte> bytes, std::uint32_t offset,
                                            Unknown unknown, ExtAck& ack);

/// What a service does with a request before it looks at it: is the command known (EOPNOTSUPP),
/// are the headers sane, does every attribute keep to the policy. Permission is not checked here.
[[nodiscard]] Result<void> check(const FamilyInfo& family, const MessageView& request,
                                 ExtAck& ack);

/// EINVAL for a request without attribute `number`, which it needs.
[[nodiscard]] tl::unexpected<Error> missing_attribute(std::string_view name, std::uint16_t number,
                                                      ExtAck& ack);
/// EINVAL for an attribute that `table` does not have.
[[nodiscard]] tl::unexpected<Error> unknown_attribute(const PolicyTable& table,
                                                      const Attribute& attribute, ExtAck& ack);

/// True if the request asks for all objects (both bits of NLM_F_DUMP).
[[nodiscard]] bool is_dump(const MessageView& request) noexcept;

// --- For generated code ------------------------------------------------------------------------

/// Calls `take` with every attribute in `bytes` that `table` knows and that keeps to its policy.
template <class Take>
[[nodiscard]] Result<void> for_each_attribute(const PolicyTable& table,
                                              std::span<const std::byte> bytes,
                                              std::uint32_t offset, Unknown unknown, ExtAck& ack,
                                              Take take) {
  AttributeReader reader(bytes, offset);
  while (true) {
    const Result<std::optional<Attribute>> next = reader.next(ack);
    if (!next) return tl::unexpected<Error>(next.error());
    if (!next->has_value()) return {};
    const Attribute& attribute = **next;
    const AttributePolicy* policy = table.find(attribute.type);
    if (policy == nullptr) {
      if (unknown == Unknown::kRefuse) return unknown_attribute(table, attribute, ack);
      ++ack.unknown_skipped;
      continue;
    }
    if (Result<void> ok = check_attribute(*policy, attribute, unknown, ack); !ok) return ok;
    if (Result<void> ok = take(attribute); !ok) return ok;
  }
}

/// Calls `take` with every element of a nested array, whatever its number.
template <class Take>
[[nodiscard]] Result<void> for_each_element(const Attribute& array, ExtAck& ack, Take take) {
  AttributeReader reader(array.payload, array.offset + 4);
  while (true) {
    const Result<std::optional<Attribute>> next = reader.next(ack);
    if (!next) return tl::unexpected<Error>(next.error());
    if (!next->has_value()) return {};
    if (Result<void> ok = take(**next); !ok) return ok;
  }
}

/// The only attribute inside `nest`, whose number is a value. EINVAL: none, or several.
[[nodiscard]] Result<Attribute> only_attribute(const Attribute& nest, ExtAck& ack);

}  // namespace handshake::protocol
