// SPDX-License-Identifier: Apache-2.0
#include "daemon/listener.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

namespace handshake::daemon {

namespace {
constexpr milliseconds kPause{100};
constexpr int kBatch = 16;
}  // namespace

Result<std::unique_ptr<Listener>> Listener::open(EventLoop& loop, Log log, std::string path,
                                                 mode_t mode, Accepted accepted) {
  auto socket = transport::listen_seqpacket(path, mode);
  if (!socket) return tl::unexpected(socket.error());
  // Our own listening socket: nobody shares its flags.
  if (::fcntl(socket->get(), F_SETFL, O_NONBLOCK) != 0) return fail_errno("O_NONBLOCK");
  std::unique_ptr<Listener> listener(new Listener(loop, std::move(log), std::move(path),
                                                  std::move(*socket), std::move(accepted)));
  Listener* raw = listener.get();
  auto watch = loop.watch(raw->socket_.get(), EPOLLIN, [raw](std::uint32_t) { raw->on_readable(); });
  if (!watch) return tl::unexpected(watch.error());
  raw->watch_ = std::move(*watch);
  return listener;
}

Listener::Listener(EventLoop& loop, Log log, std::string path, UniqueFd socket, Accepted accepted)
    : loop_(loop),
      log_(std::move(log)),
      path_(std::move(path)),
      socket_(std::move(socket)),
      accepted_(std::move(accepted)) {}

Listener::~Listener() { ::unlink(path_.c_str()); }

void Listener::on_readable() {
  for (int i = 0; i < kBatch; ++i) {
    UniqueFd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection) {
      if (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR) return;
      log_.warning(fail_errno(fmt::format("accept on {}", path_)).value().detail);
      if (auto paused = watch_.set_events(0); !paused) log_.error(paused.error().detail);
      pause_ = loop_.after(kPause, [this] {
        if (auto resumed = watch_.set_events(EPOLLIN); !resumed) log_.error(resumed.error().detail);
      });
      return;
    }
    const auto peer = transport::peer_credentials(connection.get());
    if (!peer) {
      log_.warning(peer.error().detail);
      continue;
    }
    accepted_(std::move(connection), *peer);
  }
}

}  // namespace handshake::daemon
