// SPDX-License-Identifier: Apache-2.0
#include "transport/packet_stream.h"

#include <string.h>
#include <sys/epoll.h>

#include <utility>

#include "transport/seqpacket.h"

namespace handshake::transport {

namespace {
/// Datagrams taken before other connections get their turn.
constexpr int kBatch = 16;
constexpr milliseconds kTooManyFdsRetry{5};
}  // namespace

Result<std::unique_ptr<PacketStream>> PacketStream::open(EventLoop& loop, UniqueFd socket,
                                                         Options options, Handlers handlers) {
  std::unique_ptr<PacketStream> stream(
      new PacketStream(loop, std::move(socket), std::move(options), std::move(handlers)));
  PacketStream* raw = stream.get();
  auto watch = loop.watch(raw->socket_.get(), EPOLLIN,
                          [raw](std::uint32_t events) { raw->on_ready(events); });
  if (!watch) return tl::unexpected(watch.error());
  raw->watch_ = std::move(*watch);
  return stream;
}

PacketStream::PacketStream(EventLoop& loop, UniqueFd socket, Options options, Handlers handlers)
    : loop_(loop),
      socket_(std::move(socket)),
      options_(std::move(options)),
      handlers_(std::make_shared<const Handlers>(std::move(handlers))) {}

PacketStream::~PacketStream() {
  *alive_ = false;
  close();
}

void PacketStream::close() {
  failed_ = true;
  failure_.reset();
  retry_.reset();
  watch_.reset();
  socket_.reset();
  for (Outgoing& outgoing : std::exchange(queue_, {})) discard(std::move(outgoing.fds));
  queued_bytes_ = 0;
}

void PacketStream::discard(std::vector<UniqueFd> fds) {
  if (!options_.discard) return;
  for (UniqueFd& fd : fds) options_.discard(std::move(fd));
}

void PacketStream::fail_later(Error error) {
  if (std::exchange(failed_, true)) return;
  watch_.reset();
  failure_ = loop_.at(TimePoint::min(), [this, error = std::move(error)] {
    // The handler may destroy this stream, and with it the closure that is running.
    const auto handlers = handlers_;
    const Error reason = error;
    close();
    if (handlers->closed) handlers->closed(reason);
  });
}

void PacketStream::send(std::vector<std::byte> bytes, std::vector<UniqueFd> fds) {
  if (failed_) {
    discard(std::move(fds));
    return;
  }
  if (queued_bytes_ + bytes.size() > options_.max_queued_bytes) {
    discard(std::move(fds));
    fail_later(Error{ErrorKind::kTryAgain, "the other end does not read its messages"});
    return;
  }
  queued_bytes_ += bytes.size();
  queue_.push_back(Outgoing{std::move(bytes), std::move(fds)});
  if (queue_.size() == 1) flush();
}

void PacketStream::flush() {
  while (!queue_.empty()) {
    Outgoing& next = queue_.front();
    const auto sent = send_packet(socket_.get(), next.bytes, next.fds);
    if (!sent) {
      fail_later(sent.error());
      return;
    }
    if (*sent == SendState::kTooManyFds) {
      retry_ = loop_.after(kTooManyFdsRetry, [this] { flush(); });
      return;
    }
    if (*sent == SendState::kFull) break;
    queued_bytes_ -= next.bytes.size();
    ::explicit_bzero(next.bytes.data(), next.bytes.size());  // it may have carried a key
    discard(std::move(next.fds));
    queue_.pop_front();
  }
  update_interest();
}

void PacketStream::update_interest() {
  if (failed_) return;
  const std::uint32_t events = queue_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT;
  if (auto set = watch_.set_events(events); !set) fail_later(set.error());
}

void PacketStream::on_ready(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0 && !queue_.empty() && !retry_) flush();
  if (!failed_ && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) on_readable();
}

void PacketStream::on_readable() {
  const auto alive = alive_;
  const auto handlers = handlers_;  // outlives a stream that its own handler destroys
  for (int i = 0; i < kBatch; ++i) {
    auto packet = receive_packet(socket_.get());
    if (!packet) {
      fail_later(packet.error());
      return;
    }
    if (!packet->has_value()) return;
    handlers->packet(std::move(**packet));
    if (!*alive || failed_) return;
  }
}

}  // namespace handshake::transport
