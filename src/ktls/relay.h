// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "tls/session.h"

namespace handshake::ktls {

/// Carries a finished TLS session for a consumer that reads and writes plain bytes: what the
/// consumer writes to its end of a plain pair goes to the peer encrypted, and the other way round
/// (R3.5). Belongs to its loop's thread.
///
/// What one side does arrives at the other as it would with TLS in the consumer itself:
///   consumer shuts down writing      -> close_notify to the peer; reading goes on
///   peer sends close_notify          -> end of file for the consumer; writing goes on
///   either does not read             -> the other's writes block (kBufferBytes each way, and what
///                                       the kernel's socket buffers hold)
///   peer's stream is cut (RFC 8446 §6.1), fails or alerts
///                                    -> ECONNRESET for the consumer, after the last byte
///   consumer resets, or has closed and gets more data
///                                    -> the peer's connection is reset, without close_notify
class Relay {
 public:
  /// What is kept in user space for one direction, and only while it cannot be passed on.
  static constexpr std::size_t kBufferBytes = std::size_t{64} * 1024;

  struct Outcome {
    std::uint64_t bytes_to_peer = 0;
    std::uint64_t bytes_from_peer = 0;
    int status = 0;      ///< 0: closed cleanly in both directions; otherwise a positive errno
    std::string reason;  ///< one line when status is not 0
  };
  /// Called once, from the loop, when everything is closed; may destroy the relay. Not called for
  /// a relay that is destroyed before its end.
  using Ended = std::function<void(const Outcome&)>;

  /// Takes over a finished session, the socket it runs on, and the inner end of a plain pair.
  /// The socket is the relay's for good: the consumer goes on with the plain end.
  /// Errors: those of EventLoop::watch().
  [[nodiscard]] static Result<std::unique_ptr<Relay>> create(EventLoop& loop,
                                                             std::unique_ptr<tls::Session> session,
                                                             UniqueFd socket, UniqueFd inner);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  /// A relay under way is cut: both sides see a reset, neither a clean end.
  ~Relay();

  /// Begins to carry data. Until then nothing is read.
  void start(Ended ended);

 private:
  enum class Inbound : std::uint8_t {
    kOpen,
    kEnded,   ///< cleanly: end of file, or close_notify
    kBroken,  ///< the peer's side only: cut, failed, alert
  };
  enum class ToPeer : std::uint8_t {
    kOpen,
    kClosed,  ///< our close_notify is sent
    kBroken,  ///< nothing can be sent any more; what the consumer writes is dropped
  };
  enum class ToConsumer : std::uint8_t { kOpen, kClosed };
  /// What a step of pumping has come to. After kOver the relay may be gone.
  enum class Step : std::uint8_t { kBlocked, kMore, kOver };

  /// Bytes on their way, in memory that exists only while there are any.
  class Buffer {
   public:
    [[nodiscard]] bool empty() const noexcept { return begin_ == end_; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept;
    /// False: out of memory.
    [[nodiscard]] bool reserve() noexcept;
    /// What is free at the end, once reserved.
    [[nodiscard]] std::span<std::byte> room() noexcept;
    void filled(std::size_t count) noexcept { end_ += count; }
    void taken(std::size_t count) noexcept;
    void clear() noexcept;

   private:
    std::unique_ptr<std::byte[]> memory_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
  };

  Relay(EventLoop& loop, std::unique_ptr<tls::Session> session, UniqueFd socket, UniqueFd inner);
  void on_socket(std::uint32_t events);
  void on_inner(std::uint32_t events);
  void pump();
  [[nodiscard]] Step pump_to_peer();
  [[nodiscard]] Step pump_to_consumer();
  [[nodiscard]] Step read_consumer();
  [[nodiscard]] Step write_peer();
  [[nodiscard]] Step close_to_peer();
  [[nodiscard]] Step read_peer();
  [[nodiscard]] Step write_consumer();
  void settle();
  void wait_for_consumer();
  void update_interest();
  [[nodiscard]] std::uint32_t socket_interest() const noexcept;
  [[nodiscard]] std::uint32_t inner_interest() const noexcept;
  void cannot_write(Error error);
  void watch_for_vanished_consumer() noexcept;
  void release_socket() noexcept;
  void reset_socket() noexcept;
  /// Cuts both connections and ends.
  Step abandon(int status, std::string reason);
  Step consumer_gone(int error);
  void end(int status, std::string reason);

  EventLoop& loop_;
  UniqueFd socket_;
  std::unique_ptr<tls::Session> session_;
  UniqueFd inner_;
  Ended ended_;

  Inbound from_consumer_ = Inbound::kOpen;
  Inbound from_peer_ = Inbound::kOpen;
  ToPeer to_peer_ = ToPeer::kOpen;
  ToConsumer to_consumer_ = ToConsumer::kOpen;
  Buffer for_peer_;
  Buffer for_consumer_;
  // False after "nothing now", until epoll says otherwise: saves asking again.
  bool socket_readable_ = true;
  bool inner_readable_ = true;
  bool read_wants_write_ = false;  ///< the session's answer to a KeyUpdate waits for room
  bool socket_hung_up_ = false;  ///< epoll would report nothing but EPOLLHUP, again and again
  bool inner_hung_up_ = false;
  std::optional<Error> peer_error_;  ///< the first thing that went wrong on the peer's side
  std::uint64_t bytes_to_peer_ = 0;
  std::uint64_t bytes_from_peer_ = 0;

  EventLoop::Timer again_;  ///< work is left that no descriptor announces
  milliseconds patience_{1};
  // Declared after the descriptors: a watch goes before what it watches is closed.
  EventLoop::Watch socket_watch_;
  EventLoop::Watch inner_watch_;
};

}  // namespace handshake::ktls
