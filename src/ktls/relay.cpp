// SPDX-License-Identifier: Apache-2.0
#include "ktls/relay.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <new>
#include <utility>

namespace handshake::ktls {

namespace {

// The most plaintext that one record carries (RFC 8446 §5.1).
constexpr std::size_t kRecordBytes = std::size_t{16} * 1024;
// Steps in each direction before other sessions of the loop get their turn.
constexpr int kStepsPerTurn = 16;
// How often a consumer that does not read is asked whether it has everything.
constexpr milliseconds kMaxPatience{250};
// After the consumer has closed, or half-closed, its end. The kernel answers probes for a socket
// without owner for net.ipv4.tcp_fin_timeout, and resets after that.
constexpr int kKeepaliveIdleSeconds = 60;
constexpr int kKeepaliveIntervalSeconds = 15;
constexpr int kKeepaliveProbes = 4;

void set_option(int fd, int level, int name, int value) noexcept {
  ::setsockopt(fd, level, name, &value, sizeof value);
}

int take_socket_error(int fd) noexcept {
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

// The consumer may have asked for a close() that waits, and a loop must not. What it may do to
// its own copy between this and the close() is not prevented, but it takes winning a race, with a
// peer that plays along, to delay this worker.
void close_without_waiting(UniqueFd fd) noexcept {
  const linger off{0, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &off, sizeof off);
  fd.reset();
}

}  // namespace

std::span<const std::byte> Relay::Buffer::bytes() const noexcept {
  return {memory_.get() + begin_, end_ - begin_};
}

bool Relay::Buffer::reserve() noexcept {
  if (memory_ == nullptr) memory_.reset(new (std::nothrow) std::byte[kBufferBytes]);
  return memory_ != nullptr;
}

std::span<std::byte> Relay::Buffer::room() noexcept {
  return {memory_.get() + end_, kBufferBytes - end_};
}

void Relay::Buffer::taken(std::size_t count) noexcept {
  begin_ += count;
  if (empty()) begin_ = end_ = 0;
}

void Relay::Buffer::clear() noexcept {
  memory_.reset();
  begin_ = end_ = 0;
}

Result<std::unique_ptr<Relay>> Relay::create(EventLoop& loop, std::unique_ptr<tls::Session> session,
                                             UniqueFd socket, UniqueFd inner) {
  std::unique_ptr<Relay> relay(
      new Relay(loop, std::move(session), std::move(socket), std::move(inner)));
  Relay* const self = relay.get();
  auto watch = loop.watch(self->socket_.get(), 0, [self](std::uint32_t e) { self->on_socket(e); });
  if (!watch) return tl::unexpected(watch.error());
  self->socket_watch_ = std::move(*watch);
  watch = loop.watch(self->inner_.get(), 0, [self](std::uint32_t e) { self->on_inner(e); });
  if (!watch) return tl::unexpected(watch.error());
  self->inner_watch_ = std::move(*watch);
  return relay;
}

Relay::Relay(EventLoop& loop, std::unique_ptr<tls::Session> session, UniqueFd socket,
             UniqueFd inner)
    : loop_(loop),
      socket_(std::move(socket)),
      session_(std::move(session)),
      inner_(std::move(inner)) {
  // What arrives here has been through the consumer's own choice of TCP_NODELAY or not already.
  set_option(socket_.get(), IPPROTO_TCP, TCP_NODELAY, 1);
}

Relay::~Relay() {
  reset_socket();
  inner_watch_.reset();
}

void Relay::start(Ended ended) {
  ended_ = std::move(ended);
  again_ = loop_.after(Clock::duration::zero(), [this] { pump(); });
}

void Relay::on_socket(std::uint32_t events) {
  const bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
  if (broken && socket_interest() == EPOLLERR) {
    if (const int error = take_socket_error(socket_.get()); error != 0) {
      cannot_write(fail_errno(error, "peer").value());
    } else {
      socket_hung_up_ = true;
    }
  }
  if (broken || (events & EPOLLIN) != 0) socket_readable_ = true;
  if (broken || (events & EPOLLOUT) != 0) read_wants_write_ = false;
  pump();
}

void Relay::on_inner(std::uint32_t events) {
  const bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
  if (broken && inner_interest() == EPOLLERR) {
    if (const int error = take_socket_error(inner_.get()); error != 0) {
      consumer_gone(error);
      return;
    }
    inner_hung_up_ = true;
  }
  if (broken || (events & EPOLLIN) != 0) inner_readable_ = true;
  pump();
}

void Relay::pump() {
  for (int i = 0; i < kStepsPerTurn; ++i) {
    const Step to_peer = pump_to_peer();
    if (to_peer == Step::kOver) return;
    const Step to_consumer = pump_to_consumer();
    if (to_consumer == Step::kOver) return;
    if (to_peer == Step::kBlocked && to_consumer == Step::kBlocked) {
      settle();
      return;
    }
  }
  again_ = loop_.after(Clock::duration::zero(), [this] { pump(); });
}

Relay::Step Relay::pump_to_peer() {
  if (!for_peer_.empty()) return write_peer();
  if (from_consumer_ == Inbound::kOpen) return read_consumer();
  if (to_peer_ == ToPeer::kOpen) return close_to_peer();
  return Step::kBlocked;
}

Relay::Step Relay::pump_to_consumer() {
  if (!for_consumer_.empty()) return write_consumer();
  if (from_peer_ == Inbound::kOpen) return read_peer();
  if (from_peer_ == Inbound::kEnded && to_consumer_ == ToConsumer::kOpen) {
    // A failure means that the consumer has gone, which reading will tell.
    ::shutdown(inner_.get(), SHUT_WR);
    to_consumer_ = ToConsumer::kClosed;
    return Step::kMore;
  }
  return Step::kBlocked;
}

Relay::Step Relay::read_consumer() {
  if (!inner_readable_) return Step::kBlocked;
  if (!for_peer_.reserve()) return abandon(ENOMEM, "out of memory");
  const std::span<std::byte> room = for_peer_.room();
  const ssize_t got = ::recv(inner_.get(), room.data(), room.size(), MSG_DONTWAIT);
  if (got > 0) {
    for_peer_.filled(static_cast<std::size_t>(got));
    if (to_peer_ == ToPeer::kBroken) for_peer_.clear();
    return Step::kMore;
  }
  const int error = errno;
  for_peer_.clear();
  if (got == 0) {
    from_consumer_ = Inbound::kEnded;
    watch_for_vanished_consumer();
    return Step::kMore;
  }
  if (error == EINTR) return Step::kMore;
  if (error != EAGAIN) return consumer_gone(error);
  inner_readable_ = false;
  return Step::kBlocked;
}

Relay::Step Relay::write_peer() {
  const auto written = session_->write(for_peer_.bytes());
  if (!written) {
    cannot_write(written.error().error);
    return Step::kMore;
  }
  if (written->state != tls::Session::Io::State::kOk) return Step::kBlocked;
  for_peer_.taken(written->bytes);
  bytes_to_peer_ += written->bytes;
  return Step::kMore;
}

Relay::Step Relay::close_to_peer() {
  const auto closed = session_->close_notify();
  if (closed && *closed != tls::Session::Progress::kFinished) return Step::kBlocked;
  if (!closed && from_peer_ != Inbound::kEnded) {
    cannot_write(closed.error().error);
    return Step::kMore;
  }
  // A peer that has said goodbye need not wait for ours: all the consumer's data was sent.
  to_peer_ = ToPeer::kClosed;
  return Step::kMore;
}

Relay::Step Relay::read_peer() {
  if (!socket_readable_ || read_wants_write_) return Step::kBlocked;
  if (!for_consumer_.reserve()) return abandon(ENOMEM, "out of memory");
  while (true) {
    const std::span<std::byte> room = for_consumer_.room();
    if (room.size() < kRecordBytes) return Step::kMore;
    const auto got = session_->read(room);
    if (!got) {
      cannot_write(got.error().error);
      from_peer_ = Inbound::kBroken;
      release_socket();
      break;
    }
    for_consumer_.filled(got->bytes);
    if (got->state == tls::Session::Io::State::kOk && got->bytes > 0) continue;
    if (got->state == tls::Session::Io::State::kClosed) from_peer_ = Inbound::kEnded;
    if (got->state == tls::Session::Io::State::kWantRead) socket_readable_ = false;
    if (got->state == tls::Session::Io::State::kWantWrite) read_wants_write_ = true;
    break;
  }
  if (!for_consumer_.empty()) return Step::kMore;
  for_consumer_.clear();
  return from_peer_ == Inbound::kOpen ? Step::kBlocked : Step::kMore;
}

Relay::Step Relay::write_consumer() {
  const std::span<const std::byte> bytes = for_consumer_.bytes();
  const ssize_t sent = ::send(inner_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent >= 0) {
    for_consumer_.taken(static_cast<std::size_t>(sent));
    bytes_from_peer_ += static_cast<std::uint64_t>(sent);
    if (for_consumer_.empty()) for_consumer_.clear();
    return Step::kMore;
  }
  if (errno == EINTR) return Step::kMore;
  if (errno == EAGAIN) return Step::kBlocked;
  return consumer_gone(errno);
}

void Relay::settle() {
  const bool all_passed_on =
      for_consumer_.empty() && (from_peer_ == Inbound::kBroken || to_consumer_ == ToConsumer::kClosed);
  if (all_passed_on && to_peer_ == ToPeer::kClosed) {
    end(0, {});
  } else if (all_passed_on && to_peer_ == ToPeer::kBroken) {
    wait_for_consumer();
  } else {
    update_interest();
  }
}

// A reset overtakes what the consumer's kernel has not taken yet, so it waits until all is
// acknowledged. Nothing reports that, and a consumer may leave its receive queue full for ever.
void Relay::wait_for_consumer() {
  int unacknowledged = 0;
  if (::ioctl(inner_.get(), SIOCOUTQ, &unacknowledged) != 0) unacknowledged = 0;
  if (unacknowledged == 0) {
    const Error error = peer_error_.value_or(Error{ErrorKind::kConnectionReset, "peer"});
    end(error.number(), error.detail);
    return;
  }
  again_ = loop_.after(patience_, [this] { pump(); });
  patience_ = std::min(patience_ * 2, kMaxPatience);
  update_interest();
}

void Relay::update_interest() {
  Result<void> set;
  if (socket_) set = socket_watch_.set_events(socket_interest());
  if (set) set = inner_watch_.set_events(inner_interest());
  if (!set) abandon(set.error().number(), set.error().detail);
}

// EPOLLERR alone asks for nothing that epoll does not report anyway: it keeps the descriptor
// registered while no data is wanted. A plain hang-up says nothing new and would be reported
// again and again.
std::uint32_t Relay::socket_interest() const noexcept {
  std::uint32_t events = 0;
  const bool reads = from_peer_ == Inbound::kOpen && for_consumer_.empty();
  const bool closes = from_consumer_ == Inbound::kEnded && to_peer_ == ToPeer::kOpen;
  if (reads && !read_wants_write_) events |= EPOLLIN;
  if (read_wants_write_ || !for_peer_.empty() || closes) events |= EPOLLOUT;
  if (events != 0) return events;
  // A peer that has sent everything can still reset what we send.
  const bool waits = from_peer_ == Inbound::kEnded && to_peer_ == ToPeer::kOpen;
  return waits && !socket_hung_up_ ? EPOLLERR : 0U;
}

std::uint32_t Relay::inner_interest() const noexcept {
  std::uint32_t events = 0;
  if (from_consumer_ == Inbound::kOpen && for_peer_.empty()) events |= EPOLLIN;
  if (!for_consumer_.empty()) events |= EPOLLOUT;
  if (events != 0) return events;
  return inner_hung_up_ ? 0U : EPOLLERR;
}

void Relay::cannot_write(Error error) {
  if (to_peer_ == ToPeer::kOpen) to_peer_ = ToPeer::kBroken;
  for_peer_.clear();
  if (!peer_error_) peer_error_ = std::move(error);
}

// A consumer that has closed its end and one that has only stopped writing look the same. Without
// this, a peer that stays connected and silent would keep the relay of the former for ever.
void Relay::watch_for_vanished_consumer() noexcept {
  set_option(inner_.get(), IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  set_option(inner_.get(), IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  set_option(inner_.get(), IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
  set_option(inner_.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
}

// Closes so that what was sent last, close_notify or an alert, arrives: unread data would turn
// the close into a reset. The consumer may still hold the socket, so the end of the stream is
// said explicitly.
void Relay::release_socket() noexcept {
  if (!socket_) return;
  socket_watch_.reset();
  session_.reset();
  ::shutdown(socket_.get(), SHUT_WR);
  // MSG_TRUNC: discards.
  [[maybe_unused]] const auto discarded =
      ::recv(socket_.get(), nullptr, kBufferBytes, MSG_DONTWAIT | MSG_TRUNC);
  close_without_waiting(std::move(socket_));
}

// Resets the connection whoever else holds the socket: connecting it to nowhere does that.
void Relay::reset_socket() noexcept {
  if (!socket_) return;
  socket_watch_.reset();
  session_.reset();
  const sockaddr nowhere{AF_UNSPEC, {}};
  ::connect(socket_.get(), &nowhere, sizeof nowhere);
  close_without_waiting(std::move(socket_));
}

Relay::Step Relay::abandon(int status, std::string reason) {
  reset_socket();
  end(status, std::move(reason));
  return Step::kOver;
}

Relay::Step Relay::consumer_gone(int error) {
  if (peer_error_) return abandon(peer_error_->number(), peer_error_->detail);
  return abandon(ECONNABORTED, fail_errno(error, "consumer").value().detail);
}

void Relay::end(int status, std::string reason) {
  again_.reset();
  release_socket();
  inner_watch_.reset();
  if (inner_ && status == 0) {
    close_without_waiting(std::move(inner_));
  } else {
    inner_.reset();
  }
  for_peer_.clear();
  for_consumer_.clear();
  const Outcome outcome{bytes_to_peer_, bytes_from_peer_, status, std::move(reason)};
  const Ended ended = std::move(ended_);
  if (ended) ended(outcome);
}

}  // namespace handshake::ktls
