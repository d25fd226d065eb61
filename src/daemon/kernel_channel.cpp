// SPDX-License-Identifier: Apache-2.0
#include "daemon/kernel_channel.h"

#include <fcntl.h>

#include <cstring>

#include <fmt/format.h>

#include "protocol/message.h"

namespace handshake::daemon {

namespace {

namespace kernel = protocol::kernel;
using transport::NetlinkSocket;

constexpr auto kSockfd = static_cast<std::uint16_t>(kernel::AcceptAttribute::kSockfd);
constexpr auto kMaxTags = static_cast<std::uint16_t>(kernel::AcceptAttribute::kMaxTags);

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

/// The descriptor that came with a reply, whatever else is wrong with it: it is open and ours.
UniqueFd take_socket(const protocol::MessageView& reply) {
  protocol::ExtAck ignored;
  protocol::AttributeReader reader(reply.attributes, protocol::kAttributesOffset);
  while (true) {
    const auto next = reader.next(ignored);
    if (!next || !next->has_value()) return UniqueFd();
    const protocol::Attribute& attribute = **next;
    if (attribute.type == kSockfd && attribute.payload.size() == sizeof(std::int32_t)) {
      return UniqueFd(attribute.scalar<std::int32_t>());
    }
  }
}

/// The attributes whose numbers mean one thing only. Without session tags, 10 and up may be of any
/// shape and must not make the rest unreadable.
std::vector<std::byte> uncontested(const protocol::MessageView& reply) {
  constexpr std::size_t kHeader = 4;
  std::vector<std::byte> kept;
  std::span<const std::byte> rest = reply.attributes;
  while (rest.size() >= kHeader) {
    std::uint16_t length = 0;
    std::uint16_t type = 0;
    std::memcpy(&length, rest.data(), sizeof length);
    std::memcpy(&type, rest.data() + sizeof length, sizeof type);
    const std::size_t padded = std::min((length + std::size_t{3}) & ~std::size_t{3}, rest.size());
    if (length < kHeader || length > rest.size()) break;
    constexpr unsigned kTypeBits = 0x3fff;  // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
    if ((type & kTypeBits) < kMaxTags) {
      const auto attribute = rest.first(padded);
      kept.insert(kept.end(), attribute.begin(), attribute.end());
    }
    rest = rest.subspan(padded);
  }
  return kept;
}

}  // namespace

Result<KernelChannel::Sockets> KernelChannel::open_sockets() {
  auto commands = NetlinkSocket::open();
  if (!commands) return tl::unexpected(commands.error());
  auto notifications = NetlinkSocket::open();
  if (!notifications) return tl::unexpected(notifications.error());
  return Sockets{std::move(*commands), std::move(*notifications)};
}

Result<std::unique_ptr<KernelChannel>> KernelChannel::open(Sockets sockets, Log log, bool trace) {
  std::unique_ptr<KernelChannel> channel(new KernelChannel(std::move(sockets), std::move(log)));
  if (trace) {
    for (NetlinkSocket* socket : {&channel->sockets_.commands, &channel->sockets_.notifications}) {
      socket->set_trace([log = channel->log_](std::string_view direction, auto bytes) {
        log.info(fmt::format("netlink {} kernel: {}", direction, hex(bytes)));
      });
    }
  }
  auto family = transport::resolve_family(channel->sockets_.commands, kernel::kFamily.name);
  if (!family) return tl::unexpected(family.error());
  const auto group = family->groups.find(kernel::kGroups[1]);
  if (group == family->groups.end()) {
    return fail(ErrorKind::kNotFound, "the kernel's family handshake has no group tlshd");
  }
  if (auto joined = channel->sockets_.notifications.join(group->second); !joined) {
    return tl::unexpected(joined.error());
  }
  // Nothing but what a policy says may be used; without one, nothing is.
  const auto capabilities = transport::read_capabilities(channel->sockets_.commands, family->id);
  if (capabilities) {
    channel->capabilities_ = *capabilities;
  } else {
    channel->log_.warning("no policy dump of the kernel's family handshake, no session tags: " +
                          capabilities.error().detail);
  }
  channel->family_ = std::move(*family);
  return channel;
}

Result<bool> KernelChannel::take_notifications() {
  bool ready = false;
  while (true) {
    const auto received = sockets_.notifications.receive();
    if (!received) return tl::unexpected(received.error());
    if (!*received) return ready;
    // What else is in this group is READY too, or lost.
    ready = ready || (*received)->overrun || !(*received)->bytes.empty();
  }
}

bool KernelChannel::reserve_descriptor() {
  if (!spare_) spare_.reset(::fcntl(sockets_.commands.fd(), F_DUPFD_CLOEXEC, 0));
  return static_cast<bool>(spare_);
}

Result<std::optional<KernelChannel::Request>> KernelChannel::accept() {
  if (!reserve_descriptor()) {
    return fail(ErrorKind::kTryAgain, "no descriptor is free for a kernel consumer's socket");
  }
  kernel::AcceptRequest request;
  request.handler_class = protocol::HandlerClass::kTlshd;
  spare_.reset();  // its number is the kernel's to take
  const auto messages = sockets_.commands.request(family_.id, family_.version, request,
                                                  NetlinkSocket::Answer::kReply);
  if (!messages) {
    if (messages.error().kind == ErrorKind::kTryAgain) return std::optional<Request>();
    return tl::unexpected(messages.error());
  }
  protocol::MessageReader reader(messages->front());
  const auto view = reader.next();
  if (!view) return tl::unexpected(view.error());
  Request accepted;
  accepted.socket = take_socket(**view);
  if (!accepted.socket) {
    return fail(ErrorKind::kInputOutput, "the kernel's ACCEPT reply has no descriptor");
  }
  // The kernel's are close-on-exec already; a worker must not inherit one, whatever the kernel.
  ::fcntl(accepted.socket.get(), F_SETFD, FD_CLOEXEC);
  const std::vector<std::byte> fewer = uncontested(**view);
  protocol::ExtAck problem;
  auto parsed = kernel::AcceptReply::parse(capabilities_.session_tags ? (*view)->attributes : fewer,
                                           protocol::Unknown::kSkip, problem);
  if (parsed) {
    accepted.parameters = std::move(*parsed);
  } else {
    accepted.problem = "the kernel asks for what this version does not know: " + parsed.error().detail;
  }
  return std::optional<Request>(std::move(accepted));
}

Result<void> KernelChannel::send_done(const kernel::DoneRequest& request) {
  const auto answer = sockets_.commands.request(family_.id, family_.version, request,
                                                NetlinkSocket::Answer::kAck);
  if (!answer) return tl::unexpected(answer.error());
  return {};
}

Result<void> KernelChannel::done(const Report& report) {
  kernel::DoneRequest request;
  request.status = static_cast<std::uint32_t>(report.status);
  request.sockfd = report.socket;
  request.remote_auth = report.remote_auth;
  if (capabilities_.session_tags) request.tag = report.tags;
  const Result<void> sent = send_done(request);
  if (sent || sent.error().kind != ErrorKind::kInvalidArgument) return sent;
  // Refused as a whole, so its consumer has not heard of it: it must not wait for nothing.
  kernel::DoneRequest plain;
  plain.status = EIO;
  plain.sockfd = report.socket;
  if (const Result<void> again = send_done(plain); !again) return again;
  return sent;
}

}  // namespace handshake::daemon
