// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "service/done_report.h"
#include "service/reaper.h"
#include "service/session_record.h"
#include "service/socket_facts.h"
#include "service/submission.h"

namespace handshake::service {

class AgentConnection;
class Core;
struct AgentState;
struct Request;

/// Bounds against floods (REQUIREMENTS.md R1.12). A submission over one of them gets EAGAIN and
/// is counted; 0 means no bound, but for the memory budget.
struct Limits {
  /// For everything that has not ended, bytes; 0: default_memory_budget().
  std::size_t memory_bytes = 0;
  std::size_t pending_per_netns = 0;
  std::size_t pending_per_uid = 4096;
  /// Per peer address and namespace: one hostile host fills its own share and no other's. A
  /// well-behaved one brings some mounts with nconnect=16 each.
  std::size_t pending_per_address = 1024;
  std::size_t in_flight_per_address = 1024;
  /// Descriptors of one uid that the reaper has not got closed: somebody makes closes block.
  std::size_t closing_per_uid = 4096;
};

/// A sixty-fourth of this machine's memory, between 16 MiB and 1 GiB.
[[nodiscard]] std::size_t default_memory_budget() noexcept;

struct Options {
  Limits limits;
  /// For a submission without a timeout.
  milliseconds default_timeout{30'000};
  /// Told of every request when it has ended, after the consumer was, and of every relay when it
  /// has ended. Called without locks on whichever thread ended it; may be empty.
  std::function<void(const SessionRecord&)> observer;

  // What tests replace.
  std::function<TimePoint()> now = &Clock::now;
  std::function<Result<SocketFacts>(int fd)> read_socket = &read_socket_facts;
  /// Where tags are collected. Must outlive every completion.
  std::pmr::memory_resource* tag_memory = std::pmr::get_default_resource();
};

/// Who is at the other end of an agent's connection.
struct AgentInfo {
  std::uint32_t pid = 0;
  std::uint32_t uid = 0;
  /// The namespace it serves unless it names others.
  std::uint64_t netns_cookie = 0;
  /// A worker of the daemon's own: may subscribe to every namespace.
  bool own_worker = false;
};

/// What an accepted request is about: everything of the submission that concerns an agent.
struct AcceptedParameters {
  std::uint64_t request_id = 0;
  std::uint32_t handler_class = 0;
  std::uint64_t netns_cookie = 0;
  protocol::MessageType message_type = protocol::MessageType::kUnspec;
  protocol::Auth auth_mode = protocol::Auth::kUnspec;
  std::optional<std::string> peername;
  std::optional<std::string> credential;
  protocol::RelayMode relay = protocol::RelayMode::kNever;
  protocol::ClientAuth client_auth = protocol::ClientAuth::kDefault;
  std::optional<milliseconds> timeout;  ///< as the consumer gave it
  milliseconds remaining{0};            ///< until the service ends the request
  std::vector<std::uint32_t> peer_identities;
  std::vector<protocol::kernel::X509> certificates;
  std::optional<std::uint32_t> keyring;
  std::shared_ptr<const RequestKeys> keys;
};

/// A request between queue and agent. Destroyed without hand_over() it goes back to the head of
/// its queue, and nothing is leaked. Belongs to one thread.
class Accepted {
 public:
  Accepted(Accepted&&) noexcept;
  Accepted& operator=(Accepted&&) noexcept;
  Accepted(const Accepted&) = delete;
  Accepted& operator=(const Accepted&) = delete;
  ~Accepted();

  /// Names the request towards the connection that accepted it; positive.
  [[nodiscard]] std::int32_t token() const noexcept { return token_; }
  [[nodiscard]] const AcceptedParameters& parameters() const noexcept { return parameters_; }
  /// A close-on-exec descriptor of the consumer's socket; taken once.
  [[nodiscard]] UniqueFd take_socket() noexcept { return std::move(socket_); }
  /// From here on the request is the agent's. False: it has ended meanwhile (cancelled, timed
  /// out); there is nothing to hand over.
  [[nodiscard]] bool hand_over() noexcept;

 private:
  friend class Core;
  friend class AgentConnection;
  Accepted() = default;
  void give_back() noexcept;

  std::shared_ptr<Core> core_;
  std::shared_ptr<AgentState> agent_;
  std::int32_t token_ = 0;
  UniqueFd socket_;
  Reaper::Owner owner_ = 0;
  AcceptedParameters parameters_;
};

/// What a subscription asks for.
struct Subscription {
  std::vector<std::uint32_t> handler_classes;
  /// By cookie; empty and not every_netns: the connection's own.
  std::vector<std::uint64_t> netns_cookies;
  bool every_netns = false;
};

/// One agent. Its destruction is the agent's death (disconnect()). Any thread may call every
/// member, but nobody may be inside one when it is destroyed.
class AgentConnection {
 public:
  AgentConnection(const AgentConnection&) = delete;
  AgentConnection& operator=(const AgentConnection&) = delete;
  ~AgentConnection();

  /// Makes it a listener; adds to earlier subscriptions. READY follows at once when requests
  /// already wait. Errors: EINVAL (no class, class 0), EPERM (every_netns for a stranger), ENOMEM.
  [[nodiscard]] Result<void> subscribe(const Subscription& subscription);

  /// The next request of a class in the namespaces subscribed to: first in, first out in each,
  /// the namespaces in turn. Errors: EAGAIN (none waits), ENOMEM (no memory, or no descriptor to
  /// be had: the request stays where it is, READY follows when one is free).
  [[nodiscard]] Result<Accepted> accept(std::uint32_t handler_class);

  /// Finishes the request that `token` names. Errors: EBADF (no such token was given to this
  /// connection), EBUSY (finished already, by whatever), EINVAL (the report is malformed; the
  /// request has ended with EIO).
  [[nodiscard]] Result<void> done(std::int32_t token, DoneReport report);

  /// A DONE for `token` that was refused before it could be read: ends its request, if it names
  /// one, with EIO and this reason.
  void done_refused(std::int32_t token, std::string_view reason);

  /// The pre-shared key of the first known of these identities, for an accepted request. Errors:
  /// EBADF, EBUSY (no such request here, or no longer), ENOKEY.
  [[nodiscard]] Result<PresharedKey> find_key(std::int32_t token,
                                              const std::vector<std::string>& identities);

  /// A relay that this connection carried is over. Errors: EBADF (it carries no such relay),
  /// EINVAL (status above 4095).
  [[nodiscard]] Result<void> relay_end(std::uint64_t request_id, const RelayReport& report);

  /// Ends its subscriptions for good: nothing new comes, what it has it may finish.
  void retire();

  /// The agent's death: what it had accepted ends with EIO at once, its relays are over, and
  /// `ready` is not called any more. Everything afterwards finds nothing.
  void disconnect() noexcept;

 private:
  friend class Service;
  AgentConnection(std::shared_ptr<Core> core, AgentInfo info,
                  std::function<void(std::uint32_t handler_class)> ready);

  std::shared_ptr<Core> core_;
  std::shared_ptr<AgentState> state_;
};

/// The handshake service: requests of consumers, queued per network namespace and handler class,
/// each given to one agent, each ended exactly once (REQUIREMENTS.md R1).
///
/// Any thread may call every member, from inside callbacks too; callbacks run without any lock of
/// the service's. Nothing here waits for a peer, an agent or a close(2). The destructor drains and
/// ends what is left with ETIMEDOUT; connections may outlive the service and find nothing there.
class Service {
 public:
  /// `reaper` must outlive the service and its connections.
  Service(Options options, Log log, Reaper& reaper);
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  ~Service();

  /// Queues a handshake; the id names it until it has ended and is never used again. Errors, after
  /// which nothing is called but which take the socket all the same: EINVAL (no socket, not TCP,
  /// not connected, bad arguments), EEXIST (it has an upper layer protocol), EBUSY (it has a
  /// request that has not ended), ESRCH (no agent listens), EAGAIN (a limit), ENOMEM, EOPNOTSUPP
  /// (draining), and what Submission::authorize says.
  [[nodiscard]] Result<std::uint64_t> submit(Submission submission, TimePoint now);
  /// The same for a socket whose facts have been read already, on another thread perhaps: reading
  /// them can block when the socket's owner is at work on it.
  [[nodiscard]] Result<std::uint64_t> submit(Submission submission, SocketFacts facts,
                                             TimePoint now);

  /// True: no completion will come (and release has been called). False: it has, or is about to,
  /// or there is no such request.
  bool cancel(std::uint64_t request_id);

  /// Ends with ETIMEDOUT what is due at `now`; the next deadline, if any.
  std::optional<TimePoint> expire(TimePoint now);
  [[nodiscard]] std::optional<TimePoint> next_deadline() const;

  /// Pending requests end with ETIMEDOUT, new ones get EOPNOTSUPP, accepted ones may finish.
  void drain();
  void drain_namespace(std::uint64_t netns_cookie);
  /// Requests that have not ended.
  [[nodiscard]] std::size_t live() const;
  /// Options::now.
  [[nodiscard]] TimePoint now() const;

  /// Makes a class count as listened to in every namespace although nobody is subscribed, because
  /// somebody will be: its workers are supervised and may be restarting.
  void keep_listening(std::uint32_t handler_class, bool on = true);

  /// `ready` is told, without locks and possibly on another thread, that requests of a class
  /// wait. It is told once until an ACCEPT of this connection has found nothing. Throws
  /// std::bad_alloc.
  [[nodiscard]] std::unique_ptr<AgentConnection> connect_agent(
      AgentInfo info, std::function<void(std::uint32_t handler_class)> ready);

  /// Requests that have not ended, and relays under way; oldest first.
  [[nodiscard]] std::vector<SessionRecord> snapshot() const;
  [[nodiscard]] Counters counters() const;

 private:
  std::shared_ptr<Core> core_;
};

}  // namespace handshake::service
