// SPDX-License-Identifier: Apache-2.0
#include "agent/closer.h"

#include <sys/socket.h>

#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace handshake::agent {

namespace {

bool may_wait(int socket) noexcept {
  linger value{};
  socklen_t length = sizeof value;
  if (::getsockopt(socket, SOL_SOCKET, SO_LINGER, &value, &length) != 0) return false;
  return value.l_onoff != 0 && value.l_linger != 0;
}

}  // namespace

/// Outlives the closer for as long as a close() takes.
struct Closer::State {
  [[nodiscard]] bool is_open() {
    const std::lock_guard lock(mutex);
    return loop != nullptr;
  }

  std::mutex mutex;
  EventLoop* loop = nullptr;  // guarded by mutex; null once the closer is gone
};

Closer::Closer(EventLoop& loop) : state_(std::make_shared<State>()) { state_->loop = &loop; }

Closer::~Closer() {
  const std::lock_guard lock(state_->mutex);
  state_->loop = nullptr;
}

void Closer::close(UniqueFd socket, std::function<void()> closed) {
  if (socket && may_wait(socket.get())) {
    try {
      const int fd = socket.get();
      std::thread([fd, closed, state = state_] {
        UniqueFd(fd).reset();
        const std::lock_guard lock(state->mutex);
        if (state->loop == nullptr || !closed) return;
        state->loop->post([closed, state] {
          // Posted work may outlast the closer as well.
          if (state->is_open()) closed();
        });
      }).detach();
      static_cast<void>(socket.release());
      return;
    } catch (const std::system_error&) {
      // No thread to be had: waiting here is what is left.
    }
  }
  socket.reset();
  if (closed) closed();
}

}  // namespace handshake::agent
