// SPDX-License-Identifier: Apache-2.0
#include "client/session.h"

#include <linux/tls.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "client/failure.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

namespace handshake::client {

namespace {

constexpr std::uint8_t kWarning = 1;
constexpr std::uint8_t kFatal = 2;

ssize_t kernel_receive(int fd, std::span<std::byte> buffer, int flags,
                       std::optional<std::uint8_t>& type) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(std::uint8_t))> control;
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  type.reset();
  const ssize_t count = ::recvmsg(fd, &message, flags);
  if (count < 0) return -errno;
  for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
       item = CMSG_NXTHDR(&message, item)) {
    if (item->cmsg_level != SOL_TLS || item->cmsg_type != TLS_GET_RECORD_TYPE) continue;
    std::uint8_t value = 0;
    std::memcpy(&value, CMSG_DATA(item), sizeof value);
    type = value;
  }
  return count;
}

int kernel_send_alert(int fd, std::uint8_t level, Alert alert, int flags) {
  // A record that did not authenticate leaves its error on the socket, which would fail this send
  // instead of saying why: whoever asks for the error takes it away.
  int pending = 0;
  socklen_t length = sizeof pending;
  if (level == kFatal) ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &length);
  std::array<std::uint8_t, 2> content{level, static_cast<std::uint8_t>(alert)};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(std::uint8_t))> control{};
  iovec part{content.data(), content.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* item = CMSG_FIRSTHDR(&message);
  item->cmsg_level = SOL_TLS;
  item->cmsg_type = TLS_SET_RECORD_TYPE;
  item->cmsg_len = CMSG_LEN(sizeof(std::uint8_t));
  const auto type = static_cast<std::uint8_t>(RecordType::kAlert);
  std::memcpy(CMSG_DATA(item), &type, sizeof type);
  return ::sendmsg(fd, &message, flags | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

}  // namespace

const RecordIo kernel_record_io{kernel_receive, kernel_send_alert};

ssize_t Session::receive(std::span<std::byte> buffer, int flags) noexcept {
  if (received_end_) {
    if (*received_end_ == 0) return 0;
    return report(*received_end_, "the session has ended already");
  }
  return io_ != nullptr ? receive_records(buffer, flags) : receive_plain(buffer, flags);
}

ssize_t Session::receive_plain(std::span<std::byte> buffer, int flags) noexcept {
  const ssize_t count = ::recv(fd_.get(), buffer.data(), buffer.size(), flags);
  if (count > 0) return count;
  if (count == 0) {
    received_end_ = 0;
    return 0;
  }
  if (errno == EAGAIN || errno == EINTR) return report(errno, "recv: interrupted or nothing there");
  if (errno == ECONNRESET) {
    return end_receiving(ECONNRESET, "the connection ended without close_notify");
  }
  return end_receiving(errno, "recv failed");
}

ssize_t Session::receive_records(std::span<std::byte> buffer, int flags) noexcept {
  while (true) {
    std::optional<std::uint8_t> type;
    const ssize_t count = io_->receive(fd_.get(), buffer, flags, type);
    if (count < 0) {
      const auto number = static_cast<int>(-count);
      if (number == EAGAIN || number == EINTR) {
        return report(number, "recvmsg: interrupted or nothing there");
      }
      if (number == EBADMSG) {
        return break_off(Alert::kBadRecordMac, number, "a record failed authentication");
      }
      if (number == EMSGSIZE) {
        return break_off(Alert::kRecordOverflow, number, "a record is too long");
      }
      if (number == ECONNRESET) {
        return end_receiving(number, "the connection ended without close_notify");
      }
      // Newer kernels notice a KeyUpdate themselves.
      if (number == EKEYEXPIRED) return end_receiving(number, "the peer changed its keys (KeyUpdate)");
      return end_receiving(number, "recvmsg failed");
    }
    if (!type) {
      if (count == 0) {
        return end_receiving(ECONNRESET, "the connection ended without close_notify");
      }
      // Bytes that no record brought were never encrypted.
      return end_receiving(EIO, "the kernel does not decrypt this socket");
    }
    const auto bytes = buffer.first(static_cast<std::size_t>(count));
    const RecordAction action = interpreter_.take(*type, bytes);
    switch (action.kind) {
      case RecordAction::Kind::kData:
        if (count > 0) return count;
        continue;
      case RecordAction::Kind::kContinue: continue;
      case RecordAction::Kind::kEnd: received_end_ = 0; return 0;
      case RecordAction::Kind::kPeerAlert: {
        alert_.store(action.alert, std::memory_order_relaxed);
        sending_ended_.store(true, std::memory_order_relaxed);
        std::array<char, 96> text{};
        std::snprintf(text.data(), text.size(), "the peer ended the session with alert %s (%d)",
                      alert_name(action.alert), action.alert);
        return end_receiving(alert_errno(action.alert), text.data());
      }
      case RecordAction::Kind::kKeyUpdate:
        return end_receiving(EKEYEXPIRED, "the peer changed its keys (KeyUpdate)");
      case RecordAction::Kind::kViolation:
        return break_off(static_cast<Alert>(action.alert), EPROTO, action.detail);
    }
  }
}

ssize_t Session::end_receiving(int number, std::string_view detail) noexcept {
  received_end_ = number;
  return report(number, detail);
}

ssize_t Session::break_off(Alert alert, int number, std::string_view detail) noexcept {
  // Nothing may follow our own fatal alert. That it may find the send queue full changes nothing.
  if (!sending_ended_.exchange(true, std::memory_order_relaxed)) {
    static_cast<void>(io_->send_alert(fd_.get(), kFatal, alert, MSG_DONTWAIT));
  }
  return end_receiving(number, detail);
}

ssize_t Session::send(std::span<const std::byte> bytes, int flags) noexcept {
  if (sending_ended_.load(std::memory_order_relaxed)) {
    return report(EPIPE, "the sending direction has ended");
  }
  if (bytes.empty()) return 0;
  const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), flags | MSG_NOSIGNAL);
  return count >= 0 ? count : report(errno, "send failed");
}

int Session::shutdown() noexcept {
  if (sending_ended_.load(std::memory_order_relaxed)) return 0;
  int result = 0;
  if (io_ != nullptr) {
    result = io_->send_alert(fd_.get(), kWarning, Alert::kCloseNotify, 0);
  } else if (::shutdown(fd_.get(), SHUT_WR) != 0) {
    result = -errno;
  }
  if (result != 0) return report(-result, "close_notify could not be sent");
  sending_ended_.store(true, std::memory_order_relaxed);
  return 0;
}

int Session::close() noexcept {
  int result = shutdown();
  // A peer that has said its own close_notify and left does not miss ours.
  if (result != 0 && received_end_ == 0) result = 0;
  drain();
  fd_.reset();
  return result;
}

void Session::drain() noexcept {
  // Closing a TCP socket with unread bytes (session tickets, say) resets the connection, and the
  // reset may overtake what we sent last.
  if (received_end_ && *received_end_ != 0) return;
  std::array<std::byte, 4096> scratch;
  for (int reads = 0; reads < 16; ++reads) {
    std::optional<std::uint8_t> type;
    const ssize_t count = io_ != nullptr
                              ? io_->receive(fd_.get(), scratch, MSG_DONTWAIT, type)
                              : ::recv(fd_.get(), scratch.data(), scratch.size(), MSG_DONTWAIT);
    if (count < 0 || (count == 0 && !type)) return;
  }
}

}  // namespace handshake::client
