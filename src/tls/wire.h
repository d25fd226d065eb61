// SPDX-License-Identifier: Apache-2.0
// For tls/*.cpp only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tls/cipher.h"
#include "tls/openssl.h"

namespace handshake::tls {

/// The socket below a session, as the TLS library sees it: a BIO over recv(2) and send(2) with
/// MSG_DONTWAIT, so that O_NONBLOCK, which belongs to everybody who holds the socket, plays no role.
///
/// During the handshake it follows the record framing (RFC 8446 §5.1) and hands out at most the
/// header, then at most the fragment: whatever the library asks for, no byte beyond the record
/// leaves the socket. It gathers what is written until the library flushes: one flight is one
/// send, which needs no TCP_NODELAY.
///
/// The library reserves the memory for a whole message when it has seen the message's header. A
/// ClientHello that claims to be unusually long is therefore held here until it is complete: a peer
/// makes us spend no more memory than it has sent bytes.
class Wire {
 public:
  enum class Trouble : std::uint8_t {
    kNone,
    kEndOfStream,  ///< the peer closed the connection
    kSocket,       ///< recv(2) failed: read_error()
    kNotTls,       ///< first_bytes() are not TLS
    kTooLong,      ///< more handshake than kMaxHandshakeBytes
    kNoMemory,
  };
  /// The longest ClientHello there can be and a long certificate chain.
  static constexpr std::size_t kMaxHandshakeBytes = 256 * 1024;

  /// `fd` is borrowed. Must not move while its BIO lives.
  Wire(int fd, Side side) noexcept : fd_(fd), side_(side) {}
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  /// Null: out of memory.
  [[nodiscard]] BioPtr make_bio();

  /// Forgets that an earlier call would have blocked.
  void begin_call() noexcept { blocked_read_ = blocked_write_ = false; }
  [[nodiscard]] bool blocked_read() const noexcept { return blocked_read_; }
  [[nodiscard]] bool blocked_write() const noexcept { return blocked_write_; }
  [[nodiscard]] Trouble trouble() const noexcept { return trouble_; }
  [[nodiscard]] int read_error() const noexcept { return read_error_; }
  /// errno of a send(2) that failed for good, or 0. What the peer has sent can still be read.
  [[nodiscard]] int write_error() const noexcept { return write_error_; }
  /// After kNotTls: what the peer sent, up to 24 bytes, the unprintable ones replaced.
  [[nodiscard]] std::string first_bytes() const;
  [[nodiscard]] bool received_nothing() const noexcept { return received_ == 0; }
  /// A handshake record came, not just an alert.
  [[nodiscard]] bool received_handshake() const noexcept { return received_handshake_; }

  /// No further byte is read until start_streaming().
  void finish_handshake() noexcept { phase_ = Phase::kFinished; }
  /// The session goes on as the record layer: read and write as asked.
  void start_streaming() noexcept { phase_ = Phase::kStreaming; }
  [[nodiscard]] bool streaming() const noexcept { return phase_ == Phase::kStreaming; }

  // What the BIO calls: bytes, or -1 with blocked or trouble set. Nothing is thrown.
  int read(std::span<char> buffer) noexcept;
  int write(std::span<const char> bytes) noexcept;
  bool flush() noexcept;

 private:
  enum class Phase : std::uint8_t { kHandshake, kFinished, kStreaming };

  int fail(Trouble trouble, int number = 0) noexcept;
  int receive(std::span<char> buffer) noexcept;
  int send(std::span<const char> bytes) noexcept;
  int read_handshake(std::span<char> buffer);
  int take_held(std::span<char> buffer) noexcept;
  int receive_framed(std::span<char> buffer) noexcept;
  [[nodiscard]] bool follow_header() noexcept;
  void follow_hello(std::span<const char> fragment) noexcept;

  static constexpr std::size_t kRecordHeader = 5;
  static constexpr std::size_t kMessageHeader = 4;
  static constexpr std::size_t kHoldHelloAbove = 16 * 1024;
  static constexpr std::size_t kMaxHello = 131396;  // both vectors of RFC 8446 §4.1.2 at their longest

  int fd_;
  Side side_;
  Phase phase_ = Phase::kHandshake;
  Trouble trouble_ = Trouble::kNone;
  bool blocked_read_ = false;
  bool blocked_write_ = false;
  bool first_record_ = true;
  bool received_handshake_ = false;
  bool holding_ = false;  // a long ClientHello is incomplete
  int read_error_ = 0;
  int write_error_ = 0;
  std::size_t received_ = 0;
  std::array<std::uint8_t, kRecordHeader> record_header_{};
  std::size_t record_header_size_ = 0;
  std::size_t fragment_left_ = 0;
  std::array<std::uint8_t, kMessageHeader> hello_header_{};
  std::size_t hello_header_size_ = 0;
  std::size_t hello_left_ = 0;
  std::vector<char> held_;  // received, not yet handed out
  std::size_t held_taken_ = 0;
  std::vector<char> gathered_;  // written, not yet sent
  std::size_t sent_ = 0;        // of gathered_
};

}  // namespace handshake::tls
