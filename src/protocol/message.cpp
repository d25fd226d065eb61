// SPDX-License-Identifier: Apache-2.0
#include "protocol/message.h"

#include <libmnl/libmnl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace handshake::protocol {
namespace {

static_assert(kAttributesOffset == NLMSG_HDRLEN + GENL_HDRLEN);

constexpr std::size_t kHeaderBytes = sizeof(nlmsghdr);
constexpr std::size_t kAttributeHeaderBytes = sizeof(nlattr);
constexpr std::size_t kErrorBytes = sizeof(int);

/// libmnl reads headers in place, which is only defined where they are aligned.
bool is_aligned(std::span<const std::byte> bytes) noexcept {
  return reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(nlmsghdr) == 0;
}

/// Messages and attributes begin at multiples of four. (libmnl's MNL_ALIGN is signed.)
constexpr std::size_t align(std::size_t bytes) noexcept { return (bytes + 3U) & ~std::size_t{3}; }

std::span<const std::byte> drop(std::span<const std::byte> bytes, std::size_t count) noexcept {
  return bytes.subspan(std::min(count, bytes.size()));
}

}  // namespace

// --- Reading -----------------------------------------------------------------------------------

bool MessageView::is_control() const noexcept { return type < NLMSG_MIN_TYPE; }

Result<std::optional<MessageView>> MessageReader::next() {
  if (rest_.empty()) return std::nullopt;
  const std::span<const std::byte> bytes = std::exchange(rest_, {});
  const auto* header = reinterpret_cast<const nlmsghdr*>(bytes.data());
  // mnl_nlmsg_ok() compares lengths as signed numbers: 2^31 and more would pass it.
  if (!is_aligned(bytes) || bytes.size() > INT32_MAX ||
      !mnl_nlmsg_ok(header, static_cast<int>(bytes.size())) ||
      header->nlmsg_len > bytes.size()) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("netlink message: {} bytes are no whole message", bytes.size()));
  }
  MessageView view;
  view.type = header->nlmsg_type;
  view.flags = header->nlmsg_flags;
  view.sequence = header->nlmsg_seq;
  view.port = header->nlmsg_pid;
  view.whole = bytes.first(header->nlmsg_len);
  view.attributes = drop(view.whole, kHeaderBytes);
  if (!view.is_control()) {
    // Shorter than its generic header: command 0, which check() refuses.
    if (view.whole.size() >= kAttributesOffset) {
      genlmsghdr generic{};
      std::memcpy(&generic, view.attributes.data(), sizeof generic);
      view.command = generic.cmd;
      view.version = generic.version;
    }
    view.attributes = drop(view.whole, kAttributesOffset);
  }
  rest_ = drop(bytes, align(header->nlmsg_len));
  return view;
}

std::string Attribute::text() const {
  std::span<const std::byte> characters = payload;
  if (!characters.empty() && characters.back() == std::byte{0}) {
    characters = characters.first(characters.size() - 1);
  }
  return {reinterpret_cast<const char*>(characters.data()), characters.size()};
}

Result<std::optional<Attribute>> AttributeReader::next(ExtAck& ack) {
  if (rest_.empty()) return std::nullopt;
  const std::span<const std::byte> bytes = std::exchange(rest_, {});
  const auto* header = reinterpret_cast<const nlattr*>(bytes.data());
  if (!is_aligned(bytes) || bytes.size() > INT32_MAX ||
      !mnl_attr_ok(header, static_cast<int>(bytes.size()))) {
    ack.message = "bytes leftover after parsing attributes";
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{} bytes leftover after parsing attributes", bytes.size()));
  }
  Attribute attribute;
  attribute.type = mnl_attr_get_type(header);
  attribute.nested_flag = (header->nla_type & NLA_F_NESTED) != 0;
  attribute.offset = offset_;
  attribute.payload = bytes.subspan(kAttributeHeaderBytes, mnl_attr_get_payload_len(header));
  const std::size_t step = align(mnl_attr_get_len(header));
  rest_ = drop(bytes, step);
  offset_ += static_cast<std::uint32_t>(step);
  return attribute;
}

Result<Attribute> only_attribute(const Attribute& nest, ExtAck& ack) {
  AttributeReader reader(nest.payload, nest.offset + sizeof(nlattr));
  const Result<std::optional<Attribute>> first = reader.next(ack);
  if (!first) return tl::unexpected<Error>(first.error());
  const Result<std::optional<Attribute>> second = reader.next(ack);
  if (!second) return tl::unexpected<Error>(second.error());
  if (!first->has_value() || second->has_value()) {
    ack.message = "expected one attribute inside";
    ack.offset = nest.offset;
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("attribute {}: expected one attribute inside", nest.type));
  }
  return **first;
}

// --- Building ----------------------------------------------------------------------------------

MessageBuilder::MessageBuilder(const MessageHeader& header) {
  bytes_.resize(256);
  nlmsghdr* netlink = mnl_nlmsg_put_header(bytes_.data());
  netlink->nlmsg_type = header.type;
  netlink->nlmsg_flags = header.flags;
  netlink->nlmsg_seq = header.sequence;
  netlink->nlmsg_pid = header.port;
  if (header.type >= NLMSG_MIN_TYPE) {
    auto* generic =
        static_cast<genlmsghdr*>(mnl_nlmsg_put_extra_header(netlink, sizeof(genlmsghdr)));
    generic->cmd = header.command;
    generic->version = header.version;
  }
  length_ = netlink->nlmsg_len;
}

bool MessageBuilder::reserve(std::size_t payload_bytes) {
  const std::size_t needed = length_ + kAttributeHeaderBytes + align(payload_bytes);
  if (too_long_ || payload_bytes > kMaxMessageBytes || needed > kMaxMessageBytes) {
    too_long_ = true;
    return false;
  }
  if (needed > bytes_.size()) bytes_.resize(std::max(needed, 2 * bytes_.size()));
  return true;
}

void MessageBuilder::put_bytes(std::uint16_t number, std::span<const std::byte> value) {
  if (!reserve(value.size())) return;
  auto* header = reinterpret_cast<nlmsghdr*>(bytes_.data());
  mnl_attr_put(header, number, value.size(), value.data());
  length_ = header->nlmsg_len;
}

void MessageBuilder::put_string(std::uint16_t number, std::string_view value) {
  if (!reserve(value.size() + 1)) return;
  auto* header = reinterpret_cast<nlmsghdr*>(bytes_.data());
  std::string terminated(value);   // c_str() has the NUL that goes with it
  mnl_attr_put(header, number, terminated.size() + 1, terminated.c_str());
  length_ = header->nlmsg_len;
}

void MessageBuilder::put_raw(std::span<const std::byte> value) {
  if (!reserve(value.size())) return;
  auto* header = reinterpret_cast<nlmsghdr*>(bytes_.data());
  auto* payload = static_cast<std::byte*>(mnl_nlmsg_put_extra_header(header, value.size()));
  std::copy(value.begin(), value.end(), payload);
  length_ = header->nlmsg_len;
}

std::size_t MessageBuilder::begin_nest(std::uint16_t number, NestFlag flag) {
  const std::size_t begin = length_;
  const std::uint16_t marked =
      flag == NestFlag::kNested ? static_cast<std::uint16_t>(number | NLA_F_NESTED) : number;
  put_bytes(marked, {});
  return begin;
}

void MessageBuilder::end_nest(std::size_t nest) {
  if (too_long_ || nest >= length_) return;
  auto* header = reinterpret_cast<nlmsghdr*>(bytes_.data());
  mnl_attr_nest_end(header, reinterpret_cast<nlattr*>(bytes_.data() + nest));
}

Result<std::vector<std::byte>> MessageBuilder::finish() && {
  if (too_long_) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("netlink message: longer than {} bytes", kMaxMessageBytes));
  }
  bytes_.resize(length_);
  return std::move(bytes_);
}

// --- Acknowledgements --------------------------------------------------------------------------

namespace {

void put_ext(MessageBuilder& builder, int error, const ExtAck& ext) {
  if (!ext.message.empty()) builder.put_string(NLMSGERR_ATTR_MSG, ext.message);
  if (error == 0) return;
  if (ext.offset) builder.put_u32(NLMSGERR_ATTR_OFFS, *ext.offset);
  if (!ext.policy.empty()) {
    builder.put_bytes(NLMSGERR_ATTR_POLICY | NLA_F_NESTED, ext.policy);
  }
  if (ext.missing_type) builder.put_u32(NLMSGERR_ATTR_MISS_TYPE, *ext.missing_type);
  if (ext.missing_nest) builder.put_u32(NLMSGERR_ATTR_MISS_NEST, *ext.missing_nest);
}

bool has_ext(int error, const ExtAck& ext) {
  return !ext.message.empty() || (error != 0 && (ext.offset || !ext.policy.empty() ||
                                                 ext.missing_type || ext.missing_nest));
}

Result<void> read_ext(std::span<const std::byte> bytes, ExtAck& ext) {
  ExtAck ignored;
  AttributeReader reader(bytes, 0);
  while (true) {
    const Result<std::optional<Attribute>> next = reader.next(ignored);
    if (!next) return tl::unexpected<Error>(next.error());
    if (!next->has_value()) return {};
    const Attribute& attribute = **next;
    const bool number = attribute.payload.size() == sizeof(std::uint32_t);
    switch (attribute.type) {
      case NLMSGERR_ATTR_MSG: ext.message = attribute.text(); break;
      case NLMSGERR_ATTR_POLICY: ext.policy = attribute.bytes(); break;
      case NLMSGERR_ATTR_OFFS:
        if (number) ext.offset = attribute.scalar<std::uint32_t>();
        break;
      case NLMSGERR_ATTR_MISS_TYPE:
        if (number) ext.missing_type = attribute.scalar<std::uint32_t>();
        break;
      case NLMSGERR_ATTR_MISS_NEST:
        if (number) ext.missing_nest = attribute.scalar<std::uint32_t>();
        break;
      default: ++ext.unknown_skipped;
    }
  }
}

}  // namespace

std::vector<std::byte> build_ack(const MessageView& request, int error, const ExtAck& ext,
                                 const AckOptions& options) {
  const bool quote_all = error != 0 && !options.capped;
  const auto build = [&](bool with_ext, bool all) -> Result<std::vector<std::byte>> {
    MessageHeader header;
    header.type = NLMSG_ERROR;
    header.flags = static_cast<std::uint16_t>((all ? 0 : NLM_F_CAPPED) |
                                              (with_ext ? NLM_F_ACK_TLVS : 0));
    header.sequence = request.sequence;
    header.port = options.port.value_or(request.port);
    MessageBuilder builder(header);
    const int negative = -error;
    builder.put_raw(std::as_bytes(std::span<const int, 1>(&negative, 1)));
    builder.put_raw(all ? request.whole
                        : request.whole.first(std::min(kHeaderBytes, request.whole.size())));
    if (with_ext) put_ext(builder, error, ext);
    return std::move(builder).finish();
  };
  if (auto ack = build(options.extended && has_ext(error, ext), quote_all)) {
    return std::move(*ack);
  }
  return build(false, false).value_or(std::vector<std::byte>{});   // 36 bytes always fit
}

std::vector<std::byte> build_dump_end(const MessageView& request) {
  MessageHeader header;
  header.type = NLMSG_DONE;
  header.flags = NLM_F_MULTI;
  header.sequence = request.sequence;
  header.port = request.port;
  MessageBuilder builder(header);
  const int result = 0;
  builder.put_raw(std::as_bytes(std::span<const int, 1>(&result, 1)));
  return std::move(builder).finish().value_or(std::vector<std::byte>{});
}

Result<Ack> parse_ack(const MessageView& message) {
  constexpr int kMaxError = static_cast<int>(kMaxErrno);
  if (message.type != NLMSG_ERROR || message.attributes.size() < kErrorBytes + kHeaderBytes) {
    return fail(ErrorKind::kInvalidArgument, "netlink message: not an acknowledgement");
  }
  int error = 0;
  std::memcpy(&error, message.attributes.data(), sizeof error);
  nlmsghdr header{};
  std::memcpy(&header, message.attributes.data() + kErrorBytes, sizeof header);
  if (error > 0 || error < -kMaxError) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("netlink acknowledgement: error {} is no errno", error));
  }
  const bool quotes_all = error != 0 && (message.flags & NLM_F_CAPPED) == 0;
  const std::span<const std::byte> after = message.attributes.subspan(kErrorBytes);
  const std::size_t quoted = quotes_all ? header.nlmsg_len : kHeaderBytes;
  if (quoted < kHeaderBytes || quoted > after.size()) {
    return fail(ErrorKind::kInvalidArgument, "netlink acknowledgement: request cut short");
  }
  Ack ack;
  ack.error = -error;
  ack.sequence = header.nlmsg_seq;
  ack.request.assign(after.begin(), after.begin() + static_cast<std::ptrdiff_t>(quoted));
  if ((message.flags & NLM_F_ACK_TLVS) != 0) {
    const Result<void> ok = read_ext(drop(after, align(quoted)), ack.ext);
    if (!ok) return tl::unexpected<Error>(ok.error());
  }
  return ack;
}

}  // namespace handshake::protocol
