// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "client/connection.h"
#include "client/failure.h"
#include "client/record.h"
#include "client/result.h"
#include "handshake/handshake.h"
#include "protocol/message.h"
#include "protocol/messages.h"
#include "protocol/packet.h"

namespace handshake::client {

struct Submission {
  int fd = -1;  ///< borrowed until the end of the request
  protocol::MessageType message_type = protocol::MessageType::kUnspec;
  protocol::Auth auth_mode = protocol::Auth::kUnspec;
  std::uint32_t handler_class = 0;  ///< 0: the service's default
  std::optional<std::string> credential;
  std::optional<std::string> peername;
  std::uint32_t timeout_ms = 0;
  protocol::RelayMode relay = protocol::RelayMode::kAllowed;
  protocol::ClientAuth client_auth = protocol::ClientAuth::kDefault;
  hs_done* done = nullptr;
  void* cookie = nullptr;
  hs_release* release = nullptr;
};

/// hs_context: requests, their completions and the connection they share. Any thread may call any
/// function at any time, but for the destructor, which needs it for itself.
///
/// Threads that wait (for an answer, in wait()) share the socket: one of them, the reader, polls
/// it and hands everybody what arrived for them; when it leaves, another takes over. What ends a
/// wait happens on the reader, or shuts the socket down: nothing else gets a reader out of poll().
/// So dispatch() reads only when there is no reader. Callbacks and the checks of a finished socket
/// run without the lock.
class Context {
 public:
  /// `patience` is how long the service may take for an answer.
  [[nodiscard]] static Expected<std::unique_ptr<Context>> create(
      std::string path, milliseconds patience = kAnswerDeadline);
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  /// Ends what has not ended: releases, no callbacks.
  ~Context();

  /// Name of the request. Reconnects first when the service has gone.
  /// The name also goes to *name, if given, before any callback can run.
  [[nodiscard]] Expected<std::uint64_t> submit(const Submission& submission,
                                               std::uint64_t* name = nullptr) HS_EXCLUDES(mutex_);
  /// True: no callback will come. EINVAL: never submitted.
  [[nodiscard]] Expected<bool> cancel(std::uint64_t id) HS_EXCLUDES(mutex_);
  /// EAGAIN, ECANCELED, ENOENT, EBUSY, EINVAL as hs_wait() says. `timeout` absent: no end.
  [[nodiscard]] Expected<ResultPtr> wait(std::uint64_t id, std::optional<milliseconds> timeout)
      HS_EXCLUDES(mutex_);
  /// How many callbacks ran.
  [[nodiscard]] int dispatch() noexcept HS_EXCLUDES(mutex_);
  [[nodiscard]] int fd() const noexcept { return epoll_.get(); }

 private:
  /// A thread that waits. Lives on its stack; a ring, so that waiting needs no memory.
  struct Waiter {
    Condition wake;
    bool done = false;
    Waiter* next = this;
    Waiter* previous = this;
  };
  struct Request;
  /// A message to the service that is answered at once. Lives on its thread's stack.
  struct Exchange {
    Waiter waiter;
    Request* submitted = nullptr;  ///< of a SUBMIT
    /// Absent while there is no answer. An errno, 0 for success.
    std::optional<int> error;
    std::string detail;
    std::shared_ptr<const std::string> loss;
    std::optional<std::uint64_t> cancels;  ///< of a CANCEL: the request
    bool cancelled = false;                ///< it won; the release is the caller's to run
    hs_release* release = nullptr;
    void* cookie = nullptr;
    [[nodiscard]] std::string text() const;
  };
  struct Request {
    enum class State : std::uint8_t {
      kSubmitting,   ///< the ack has not come: it ends in submit()
      kOutstanding,
      kEnded,        ///< `event` or `loss` says how
      kCancelled,    ///< until the thread in wait() has noticed
    };
    std::uint64_t id = 0;
    State state = State::kSubmitting;
    int fd = -1;
    std::uint64_t socket_identity = 0;
    protocol::RelayMode relay = protocol::RelayMode::kAllowed;
    hs_done* done = nullptr;
    void* cookie = nullptr;
    hs_release* release = nullptr;
    Waiter* waiter = nullptr;  ///< the thread in wait()
    /// Made at submission, so that no completion can fail for want of memory.
    ResultPtr result;
    // The completion as it came: a message, or the loss of the service.
    std::optional<protocol::consumer::CompleteEvent> event;
    UniqueFd plain_end;
    bool fds_lost = false;
    std::shared_ptr<const std::string> loss;
  };
  using Requests = std::list<Request>;

  Context(std::string path, milliseconds patience, UniqueFd epoll, UniqueFd signal);

  /// Makes sure that there is a connection, letting the lock go meanwhile.
  [[nodiscard]] Expected<void> connect() HS_REQUIRES(mutex_);
  [[nodiscard]] Expected<Connection> connect_unlocked() HS_REQUIRES(mutex_);
  [[nodiscard]] Expected<void> adopt(Connection connection) HS_REQUIRES(mutex_);
  /// Sends and waits for the answer, letting the lock go meanwhile. Fails when the service is gone
  /// or cannot be sent to; what it answered is in `exchange`.
  [[nodiscard]] Expected<void> ask(Exchange& exchange, std::uint32_t sequence,
                                   std::span<const std::byte> message,
                                   std::span<const UniqueFd> fds) HS_REQUIRES(mutex_);
  [[nodiscard]] Expected<void> send(std::span<const std::byte> message,
                                    std::span<const UniqueFd> fds, TimePoint deadline)
      HS_REQUIRES(mutex_);
  /// Until waiter.done or the deadline, letting the lock go meanwhile.
  void wait_for(Waiter& waiter, std::optional<TimePoint> deadline) HS_REQUIRES(mutex_);
  /// Lets the lock go until the socket is ready; reads if nobody else does.
  void poll_socket(short events, std::optional<TimePoint> deadline) HS_REQUIRES(mutex_);
  /// Makes another waiting thread the reader.
  void pass_reading_on() HS_REQUIRES(mutex_);
  static void wake(Waiter& waiter) noexcept;

  /// Takes in everything that has arrived.
  void read_all() noexcept HS_REQUIRES(mutex_);
  [[nodiscard]] Expected<void> take_packet(protocol::Packet packet) HS_REQUIRES(mutex_);
  [[nodiscard]] Expected<void> take_message(const protocol::MessageView& message,
                                            protocol::Packet& packet) HS_REQUIRES(mutex_);
  [[nodiscard]] Expected<void> take_ack(const protocol::MessageView& message) HS_REQUIRES(mutex_);
  [[nodiscard]] Expected<void> take_cancel_reply(const protocol::MessageView& message)
      HS_REQUIRES(mutex_);
  [[nodiscard]] Expected<void> take_completion(const protocol::MessageView& message,
                                               protocol::Packet& packet) HS_REQUIRES(mutex_);
  /// The service is gone, or not to be trusted any more: everything ends with EIO.
  void lose(std::string_view why) noexcept HS_REQUIRES(mutex_);
  void end_request(Requests::iterator request) noexcept HS_REQUIRES(mutex_);

  /// Checks the socket and fills the result. Without the lock: the request is the caller's.
  static void finish(Request& request) noexcept;
  [[nodiscard]] static Expected<void> fill(Request& request);

  const std::string path_;
  const milliseconds patience_;
  const UniqueFd epoll_;   ///< holds the socket and signal_
  const UniqueFd signal_;  ///< eventfd: readable while ready_ is not empty

  Mutex mutex_;
  /// Shared with threads that poll it, so that its number cannot be reused under them. Null: gone.
  std::shared_ptr<const UniqueFd> socket_ HS_GUARDED_BY(mutex_);
  std::uint16_t family_ HS_GUARDED_BY(mutex_) = 0;
  bool reading_ HS_GUARDED_BY(mutex_) = false;
  Waiter waiters_ HS_GUARDED_BY(mutex_);  ///< head of the ring
  std::uint32_t next_sequence_ HS_GUARDED_BY(mutex_) = 1;
  std::uint64_t next_id_ HS_GUARDED_BY(mutex_) = 1;
  std::map<std::uint32_t, Exchange*> exchanges_ HS_GUARDED_BY(mutex_);
  Requests requests_ HS_GUARDED_BY(mutex_);  ///< outstanding, or ended and waited for
  Requests ready_ HS_GUARDED_BY(mutex_);     ///< ended, for dispatch()
  std::unordered_map<std::uint64_t, Requests::iterator> by_id_ HS_GUARDED_BY(mutex_);
};

}  // namespace handshake::client
