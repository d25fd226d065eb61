// SPDX-License-Identifier: Apache-2.0
#include "tls/wire.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <new>

namespace handshake::tls {
namespace {

constexpr std::uint8_t kAlertRecord = 21;
constexpr std::uint8_t kHandshakeRecord = 22;
constexpr std::uint8_t kMajorVersion = 3;  // legacy_record_version is 0x03xx
constexpr std::uint8_t kClientHello = 1;

Wire& wire_of(BIO* bio) noexcept { return *static_cast<Wire*>(BIO_get_data(bio)); }

void report_blocking(BIO* bio, const Wire& wire) noexcept {
  BIO_clear_retry_flags(bio);
  if (wire.blocked_read()) BIO_set_retry_read(bio);
  if (wire.blocked_write()) BIO_set_retry_write(bio);
}

int bio_read(BIO* bio, char* data, int size) noexcept {
  Wire& wire = wire_of(bio);
  wire.begin_call();
  const int got = size > 0 ? wire.read({data, static_cast<std::size_t>(size)}) : 0;
  report_blocking(bio, wire);
  return got;
}

int bio_write(BIO* bio, const char* data, int size) noexcept {
  Wire& wire = wire_of(bio);
  wire.begin_call();
  const int written = size > 0 ? wire.write({data, static_cast<std::size_t>(size)}) : 0;
  report_blocking(bio, wire);
  return written;
}

// An end of the stream is not reported (BIO_CTRL_EOF): the library would answer it with an alert to
// somebody who is not listening any more. trouble() tells.
long bio_control(BIO* bio, int command, long /*number*/, void* /*pointer*/) noexcept {
  if (command != BIO_CTRL_FLUSH) return 0;
  Wire& wire = wire_of(bio);
  wire.begin_call();
  const bool flushed = wire.flush();
  report_blocking(bio, wire);
  return flushed ? 1 : -1;
}

BIO_METHOD* wire_method() {
  static const BioMethodPtr method = [] {
    BioMethodPtr made(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "handshake wire"));
    if (made) {
      BIO_meth_set_read(made.get(), bio_read);
      BIO_meth_set_write(made.get(), bio_write);
      BIO_meth_set_ctrl(made.get(), bio_control);
    }
    return made;
  }();
  return method.get();
}

}  // namespace

BioPtr Wire::make_bio() {
  BIO_METHOD* method = wire_method();
  BioPtr bio(method != nullptr ? BIO_new(method) : nullptr);
  if (bio) {
    BIO_set_data(bio.get(), this);
    BIO_set_init(bio.get(), 1);
  }
  return bio;
}

std::string Wire::first_bytes() const {
  std::array<char, 24> bytes{};
  std::copy_n(record_header_.begin(), record_header_size_, bytes.begin());
  const ssize_t more = ::recv(fd_, bytes.data() + record_header_size_,
                              bytes.size() - record_header_size_, MSG_DONTWAIT | MSG_PEEK);
  const std::size_t size = record_header_size_ + (more > 0 ? static_cast<std::size_t>(more) : 0);
  std::string text(bytes.data(), size);
  for (char& c : text) {
    if (c < ' ' || c > '~' || c == '\'') c = '.';
  }
  return text;
}

int Wire::fail(Trouble trouble, int number) noexcept {
  if (trouble_ == Trouble::kNone) {
    trouble_ = trouble;
    read_error_ = number;
  }
  return -1;
}

int Wire::receive(std::span<char> buffer) noexcept {
  ssize_t got = 0;
  do {
    got = ::recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    received_ += static_cast<std::size_t>(got);
    return static_cast<int>(got);
  }
  if (got == 0) return fail(Trouble::kEndOfStream);
  if (errno == EAGAIN || errno == EWOULDBLOCK) {
    blocked_read_ = true;
    return -1;
  }
  return fail(Trouble::kSocket, errno);
}

int Wire::send(std::span<const char> bytes) noexcept {
  ssize_t sent = 0;
  do {
    sent = ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return static_cast<int>(sent);
  if (errno == EAGAIN || errno == EWOULDBLOCK) {
    blocked_write_ = true;
    return -1;
  }
  // Not a trouble for reading: what the peer sent before it went away, an alert perhaps, is there.
  write_error_ = errno;
  return -1;
}

bool Wire::follow_header() noexcept {
  if (record_header_size_ > 0 && first_record_) {
    const std::uint8_t type = record_header_[0];
    const bool is_tls = (type == kHandshakeRecord || type == kAlertRecord) &&
                        (record_header_size_ < 2 || record_header_[1] == kMajorVersion);
    if (!is_tls) return false;
  }
  if (record_header_size_ == kRecordHeader) {
    first_record_ = false;
    received_handshake_ |= record_header_[0] == kHandshakeRecord;
    fragment_left_ = static_cast<std::size_t>(record_header_[3]) << 8U | record_header_[4];
    if (fragment_left_ == 0) record_header_size_ = 0;
  }
  return true;
}

void Wire::follow_hello(std::span<const char> fragment) noexcept {
  while (!fragment.empty()) {
    if (hello_header_size_ < kMessageHeader) {
      hello_header_[hello_header_size_++] = static_cast<std::uint8_t>(fragment.front());
      fragment = fragment.subspan(1);
      if (hello_header_size_ < kMessageHeader) continue;
      hello_left_ = static_cast<std::size_t>(hello_header_[1]) << 16U |
                    static_cast<std::size_t>(hello_header_[2]) << 8U | hello_header_[3];
      // Anything longer, or not a hello, the library refuses at once.
      holding_ = hello_header_[0] == kClientHello && hello_left_ > kHoldHelloAbove &&
                 hello_left_ <= kMaxHello;
    } else {
      const std::size_t part = std::min(fragment.size(), hello_left_);
      hello_left_ -= part;
      fragment = fragment.subspan(part);
    }
    if (hello_left_ == 0) {
      hello_header_size_ = 0;
      holding_ = false;
    }
  }
}

/// Receives no byte beyond the record under way, and keeps track of where in it we are.
int Wire::receive_framed(std::span<char> buffer) noexcept {
  const std::size_t wanted =
      fragment_left_ > 0 ? fragment_left_ : kRecordHeader - record_header_size_;
  const int got = receive(buffer.first(std::min(buffer.size(), wanted)));
  if (got <= 0) return got;
  if (received_ > kMaxHandshakeBytes) return fail(Trouble::kTooLong);
  const std::span<const char> bytes = buffer.first(static_cast<std::size_t>(got));
  if (fragment_left_ == 0) {
    for (const char byte : bytes) {
      record_header_[record_header_size_++] = static_cast<std::uint8_t>(byte);
    }
    if (!follow_header()) return fail(Trouble::kNotTls);
    return got;
  }
  // Only a client's hello travels in a plaintext handshake record to a server.
  if (side_ == Side::kServer && record_header_[0] == kHandshakeRecord) follow_hello(bytes);
  fragment_left_ -= bytes.size();
  if (fragment_left_ == 0) record_header_size_ = 0;
  return got;
}

int Wire::take_held(std::span<char> buffer) noexcept {
  const std::size_t size = std::min(buffer.size(), held_.size() - held_taken_);
  std::copy_n(held_.begin() + static_cast<std::ptrdiff_t>(held_taken_), size, buffer.begin());
  held_taken_ += size;
  if (held_taken_ == held_.size()) {
    std::vector<char>().swap(held_);
    held_taken_ = 0;
  }
  return static_cast<int>(size);
}

int Wire::read_handshake(std::span<char> buffer) {
  if (!holding_) {
    if (!held_.empty()) return take_held(buffer);
    const int got = receive_framed(buffer);
    if (got <= 0 || !holding_) return got;
    held_.assign(buffer.begin(), buffer.begin() + got);
  }
  while (holding_) {
    std::array<char, 4096> part{};
    const int got = receive_framed(part);
    if (got <= 0) return got;
    held_.insert(held_.end(), part.begin(), part.begin() + got);
  }
  return take_held(buffer);
}

int Wire::read(std::span<char> buffer) noexcept {
  if (trouble_ != Trouble::kNone) return -1;
  switch (phase_) {
    case Phase::kHandshake: break;
    case Phase::kFinished: blocked_read_ = true; return -1;
    case Phase::kStreaming: return receive(buffer);
  }
  try {
    return read_handshake(buffer);
  } catch (const std::bad_alloc&) {
    return fail(Trouble::kNoMemory);
  }
}

int Wire::write(std::span<const char> bytes) noexcept {
  if (phase_ != Phase::kHandshake) return send(bytes);
  try {
    gathered_.insert(gathered_.end(), bytes.begin(), bytes.end());
  } catch (const std::bad_alloc&) {
    return fail(Trouble::kNoMemory);
  }
  return static_cast<int>(bytes.size());
}

bool Wire::flush() noexcept {
  while (sent_ < gathered_.size()) {
    const int sent = send(std::span<const char>(gathered_).subspan(sent_));
    if (sent < 0) return false;
    sent_ += static_cast<std::size_t>(sent);
  }
  std::vector<char>().swap(gathered_);
  sent_ = 0;
  return true;
}

}  // namespace handshake::tls
