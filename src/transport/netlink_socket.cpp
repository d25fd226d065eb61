// SPDX-License-Identifier: Apache-2.0
#include "transport/netlink_socket.h"

#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>

#include <fmt/format.h>

namespace handshake::transport {

namespace {

/// The kernel's dumps come in parts of at most 32 KiB.
constexpr std::size_t kMaxAnswer = std::size_t{64} * 1024;
constexpr milliseconds kPatience{2000};

Result<void> set_option(int fd, int option, int value, const char* name) {
  if (::setsockopt(fd, SOL_NETLINK, option, &value, sizeof value) == 0) return {};
  return fail_errno(name);
}

/// The negative errno in NLMSG_DONE: a dump that failed halfway.
int dump_error(const protocol::MessageView& end) noexcept {
  std::int32_t value = 0;
  if (end.attributes.size() >= sizeof value) std::memcpy(&value, end.attributes.data(), sizeof value);
  return value < 0 ? -value : 0;
}

}  // namespace

Result<NetlinkSocket> NetlinkSocket::open() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
  if (!fd) return fail_errno("netlink socket");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail_errno("bind netlink socket");
  }
  // Without the first an error is only a number, without the second it quotes the whole request:
  // neither is worth failing for on a kernel that has them not.
  [[maybe_unused]] const auto extended = set_option(fd.get(), NETLINK_EXT_ACK, 1, "NETLINK_EXT_ACK");
  [[maybe_unused]] const auto capped = set_option(fd.get(), NETLINK_CAP_ACK, 1, "NETLINK_CAP_ACK");
  return NetlinkSocket(std::move(fd));
}

Result<void> NetlinkSocket::join(std::uint32_t group) {
  return set_option(fd(), NETLINK_ADD_MEMBERSHIP, static_cast<int>(group), "NETLINK_ADD_MEMBERSHIP");
}

Result<std::optional<NetlinkSocket::Received>> NetlinkSocket::receive() {
  static thread_local const auto buffer = std::make_unique<std::byte[]>(kMaxAnswer);
  sockaddr_nl sender{};
  iovec part{buffer.get(), kMaxAnswer};
  msghdr message{};
  message.msg_name = &sender;
  message.msg_namelen = sizeof sender;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  ssize_t count = 0;
  do {
    count = ::recvmsg(fd(), &message, MSG_DONTWAIT);
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    if (errno == EAGAIN) return std::optional<Received>();
    if (errno == ENOBUFS) return std::optional<Received>(Received{true, {}});
    return fail_errno("receive from netlink");
  }
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("a netlink message longer than {} bytes", kMaxAnswer));
  }
  if (count == 0) return fail(ErrorKind::kConnectionReset, "the netlink socket's other end has gone");
  // Whoever administers this network namespace can send us messages; the kernel has port 0.
  const bool from_netlink = message.msg_namelen >= sizeof sender && sender.nl_family == AF_NETLINK;
  if (from_netlink && sender.nl_pid != 0) return std::optional<Received>(Received{});
  return std::optional<Received>(Received{false, {buffer.get(), buffer.get() + count}});
}

protocol::MessageHeader NetlinkSocket::next_header(std::uint16_t family, std::uint8_t version,
                                                   Answer answer) noexcept {
  protocol::MessageHeader header;
  header.type = family;
  header.version = version;
  header.sequence = ++sequence_;
  header.flags = NLM_F_REQUEST;
  switch (answer) {
    case Answer::kReply: break;
    case Answer::kAck: header.flags |= NLM_F_ACK; break;
    case Answer::kDump: header.flags |= NLM_F_DUMP; break;
  }
  return header;
}

Result<NetlinkSocket::Messages> NetlinkSocket::transact(std::span<const std::byte> bytes,
                                                        std::uint32_t sequence, Answer answer,
                                                        std::string_view what) {
  ssize_t sent = 0;
  do {
    sent = ::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return fail_errno(fmt::format("send {}", what));

  const TimePoint deadline = Clock::now() + kPatience;
  Messages messages;
  while (true) {
    const auto received = receive();
    if (!received) return tl::unexpected(received.error());
    if (!*received) {
      const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
      if (left <= 0) return fail(ErrorKind::kTimedOut, fmt::format("{}: no answer", what));
      pollfd readable{fd(), POLLIN, 0};
      static_cast<void>(::poll(&readable, 1, static_cast<int>(left)));
      continue;
    }
    if ((*received)->overrun) return fail(ErrorKind::kInputOutput, fmt::format("{}: the answer was lost", what));
    protocol::MessageReader reader((*received)->bytes);
    while (true) {
      const auto next = reader.next();
      if (!next) return fail(next.error().kind, fmt::format("{}: {}", what, next.error().detail));
      if (!*next) break;
      const protocol::MessageView& view = **next;
      if (view.sequence != sequence) continue;
      if (view.type == NLMSG_ERROR) {
        const auto ack = protocol::parse_ack(view);
        if (!ack) return tl::unexpected(ack.error());
        if (ack->error == 0) return messages;
        const std::string reason = ack->ext.message.empty() ? std::strerror(ack->error) : ack->ext.message;
        return fail(kind_of_errno(ack->error), fmt::format("{}: {}", what, reason));
      }
      if (view.type == NLMSG_DONE) {
        if (const int failed = dump_error(view); failed != 0) return fail_errno(failed, std::string(what));
        return messages;
      }
      if (view.is_control()) continue;
      messages.emplace_back(view.whole.begin(), view.whole.end());
      if (answer == Answer::kReply) return messages;
    }
  }
}

}  // namespace handshake::transport
