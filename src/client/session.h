// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include <sys/types.h>

#include "base/unique_fd.h"
#include "client/alert.h"
#include "client/record.h"

namespace handshake::client {

/// How records are read from and written to a kTLS socket. The kernel's is kernel_record_io;
/// tests, on machines without kTLS, bring their own.
struct RecordIo {
  /// recvmsg(2) with MSG flags: bytes of one record and its type; 0 without a type is the end of
  /// the connection. Negative errno.
  ssize_t (*receive)(int fd, std::span<std::byte> buffer, int flags,
                     std::optional<std::uint8_t>& type);
  /// Sends one alert record. 0 or negative errno.
  int (*send_alert)(int fd, std::uint8_t level, Alert alert, int flags);
};
extern const RecordIo kernel_record_io;

/// hs_session: one socket with a session on it. One thread may receive while another sends;
/// anything else is the caller's to keep apart (handshake.h, convention 3). Functions return what
/// the C functions of the same name do and leave the sentence with report().
class Session {
 public:
  /// `io` is null for a relay: its socket carries plain bytes.
  Session(UniqueFd fd, Role role, const RecordIo* io) noexcept
      : fd_(std::move(fd)), io_(io), interpreter_(role) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] ssize_t receive(std::span<std::byte> buffer, int flags) noexcept;
  [[nodiscard]] ssize_t send(std::span<const std::byte> bytes, int flags) noexcept;
  [[nodiscard]] int shutdown() noexcept;
  /// After it only the destructor may be called.
  [[nodiscard]] int close() noexcept;

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  /// The alert with which the peer ended the session; -1 for none.
  [[nodiscard]] int alert() const noexcept { return alert_.load(std::memory_order_relaxed); }

 private:
  [[nodiscard]] ssize_t receive_records(std::span<std::byte> buffer, int flags) noexcept;
  [[nodiscard]] ssize_t receive_plain(std::span<std::byte> buffer, int flags) noexcept;
  [[nodiscard]] ssize_t end_receiving(int number, std::string_view detail) noexcept;
  [[nodiscard]] ssize_t break_off(Alert alert, int number, std::string_view detail) noexcept;
  void drain() noexcept;

  UniqueFd fd_;
  const RecordIo* io_;
  // The receiving thread's.
  RecordInterpreter interpreter_;
  std::optional<int> received_end_;  ///< 0 or positive errno: what every further receive() says
  // Either thread's.
  std::atomic<bool> sending_ended_ = false;  ///< close_notify sent, or an alert ended the session
  std::atomic<int> alert_ = -1;
};

}  // namespace handshake::client
