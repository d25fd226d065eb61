// SPDX-License-Identifier: Apache-2.0
#pragma once

// Inside of service/service.h, for this room only.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "service/completion_gate.h"
#include "service/intrusive_list.h"
#include "service/outcome.h"
#include "service/revocable.h"
#include "service/service.h"

namespace handshake::service {

struct HandlerClass;
struct Queue;

/// What somebody has in the service right now.
struct Usage {
  std::size_t pending = 0;
  std::size_t in_flight = 0;
};

struct Deadline {
  TimePoint at;
  std::uint64_t request_id;
  Request* request;
  friend bool operator<(const Deadline& a, const Deadline& b) noexcept {
    return a.at != b.at ? a.at < b.at : a.request_id < b.request_id;
  }
};

/// One submission from submit() to its end, and for a relay until that has ended. Immutable but
/// for what is said to be guarded.
struct Request {
  std::uint64_t id = 0;
  /// Without its socket. Callbacks are of whoever took the gate; `keys` and `find_key` are guarded
  /// by Core::mutex_.
  Submission submission;
  SocketFacts facts;
  std::size_t memory_bytes = 0;  ///< charged to the budget
  CompletionGate gate;

  // Guarded by Core::mutex_.
  UniqueFd socket;        ///< the service's own copy
  Reaper::Ticket ticket;  ///< for its close
  SessionRecord record;
  Links<Request> links;  ///< in its queue, or in its agent's `accepted` or `relays`
  Queue* queue = nullptr;
  Usage* netns_usage = nullptr;
  Usage* uid_usage = nullptr;
  Usage* address_usage = nullptr;
  std::set<Deadline>::iterator deadline;
  std::shared_ptr<AgentState> agent;  ///< who accepted it
  std::int32_t token = 0;             ///< its name there
};

using RequestList = IntrusiveList<Request, &Request::links>;

/// The requests of one handler class in one namespace that wait, first in, first out. It exists
/// as long as one of its requests has not ended, so that giving one back needs no memory.
struct Queue {
  HandlerClass* handler_class = nullptr;
  RequestList waiting;
  std::size_t live = 0;  ///< requests that have not ended, waiting or accepted
  Links<Queue> links;    ///< in its class's `nonempty`
};

/// Handler class and network namespace.
using QueueName = std::pair<std::uint32_t, std::uint64_t>;

struct HandlerClass {
  /// Queues in which something waits, the one whose turn is next first.
  IntrusiveList<Queue, &Queue::links> nonempty;
  bool kept = false;  ///< counts as listened to without a subscriber
};

struct ClassSubscription {
  bool every_netns = false;
  std::vector<std::uint64_t> netns_cookies;
  std::size_t turn = 0;  ///< index into netns_cookies to begin with
  bool armed = true;     ///< READY has not been sent since an ACCEPT found nothing

  [[nodiscard]] bool covers(std::uint64_t netns_cookie) const noexcept;
};

/// An agent's connection. Guarded by Core::mutex_ but for `info` and `ready`.
struct AgentState {
  AgentState(AgentInfo given, std::function<void(std::uint32_t)> callback)
      : info(given), ready(std::move(callback)) {}

  const AgentInfo info;
  Revocable<std::uint32_t> ready;

  std::uint64_t serial = 0;
  std::map<std::uint32_t, ClassSubscription> classes;
  std::unordered_map<std::int32_t, Request*> tokens;
  RequestList accepted;
  RequestList relays;
  std::int32_t last_token = 0;
  bool tokens_wrapped = false;
  bool retired = false;

  [[nodiscard]] std::int32_t next_token() noexcept;
  [[nodiscard]] bool has_issued(std::int32_t token) const noexcept;
};

class Core : public std::enable_shared_from_this<Core> {
 public:
  Core(Options options, Log log, Reaper& reaper);

  Result<std::uint64_t> submit(Submission submission, std::optional<SocketFacts> facts,
                               TimePoint now) HS_EXCLUDES(mutex_);
  bool cancel(std::uint64_t request_id) HS_EXCLUDES(mutex_);
  std::optional<TimePoint> expire(TimePoint now) HS_EXCLUDES(mutex_);
  std::optional<TimePoint> next_deadline() HS_EXCLUDES(mutex_);
  void drain() HS_EXCLUDES(mutex_);
  void drain_namespace(std::uint64_t netns_cookie) HS_EXCLUDES(mutex_);
  void shut_down() HS_EXCLUDES(mutex_);
  std::size_t live() HS_EXCLUDES(mutex_);
  void keep_listening(std::uint32_t handler_class, bool on) HS_EXCLUDES(mutex_);
  std::shared_ptr<AgentState> connect(AgentInfo info, std::function<void(std::uint32_t)> ready)
      HS_EXCLUDES(mutex_);
  std::vector<SessionRecord> snapshot() HS_EXCLUDES(mutex_);
  Counters counters() HS_EXCLUDES(mutex_);

  Result<void> subscribe(const std::shared_ptr<AgentState>& agent,
                         const Subscription& subscription) HS_EXCLUDES(mutex_);
  Result<Accepted> accept(const std::shared_ptr<AgentState>& agent, std::uint32_t handler_class)
      HS_EXCLUDES(mutex_);
  bool hand_over(const AgentState& agent, std::int32_t token) HS_EXCLUDES(mutex_);
  void give_back(AgentState& agent, std::int32_t token) noexcept HS_EXCLUDES(mutex_);
  Result<void> done(AgentState& agent, std::int32_t token, DoneReport report)
      HS_EXCLUDES(mutex_);
  void done_refused(AgentState& agent, std::int32_t token, std::string_view reason) noexcept
      HS_EXCLUDES(mutex_);
  Result<PresharedKey> find_key(const AgentState& agent, std::int32_t token,
                                const std::vector<std::string>& identities) HS_EXCLUDES(mutex_);
  Result<void> relay_end(const AgentState& agent, std::uint64_t request_id,
                         const RelayReport& report) HS_EXCLUDES(mutex_);
  void disconnect(AgentState& agent) noexcept HS_EXCLUDES(mutex_);
  void retire(AgentState& agent) HS_EXCLUDES(mutex_);
  Reaper& reaper() noexcept { return reaper_; }
  TimePoint now() const { return options_.now(); }

 private:
  using RequestPtr = std::shared_ptr<Request>;

  Result<std::uint64_t> try_submit(ReapedFd& socket, Submission& submission,
                                   std::optional<SocketFacts> facts, TimePoint now)
      HS_EXCLUDES(mutex_);
  Result<std::uint64_t> refuse(std::uint64_t Counters::*counter, ErrorKind kind,
                               std::string detail) HS_EXCLUDES(mutex_);
  /// Everything that may keep a well-formed request out; counts what it refuses.
  Result<void> check_admission(const Request& request) HS_REQUIRES(mutex_);
  Result<void> check_limits(const Request& request) HS_REQUIRES(mutex_);
  bool listened_to(std::uint32_t handler_class, std::uint64_t netns_cookie) HS_REQUIRES(mutex_);
  /// Strong guarantee: std::bad_alloc leaves everything as it was.
  void insert(const RequestPtr& request, TimePoint deadline) HS_REQUIRES(mutex_);
  /// Takes a request out of every index but `requests_`; harmless for what is not there.
  void forget(Request& request) noexcept HS_REQUIRES(mutex_);

  void enqueue(Request& request, bool at_head) noexcept HS_REQUIRES(mutex_);
  void dequeue(Request& request) noexcept HS_REQUIRES(mutex_);
  Request* next_for(std::uint32_t handler_class, ClassSubscription& subscription) noexcept
      HS_REQUIRES(mutex_);
  void give_to(const std::shared_ptr<AgentState>& agent, Request& request,
               std::int32_t token) noexcept HS_REQUIRES(mutex_);
  void take_from_agent(Request& request) noexcept HS_REQUIRES(mutex_);
  /// An ACCEPT failed for want of memory or descriptors: READY when that may have changed.
  void starve(AgentState& agent, std::uint32_t handler_class) noexcept HS_REQUIRES(mutex_);
  Result<void> no_such_token(const AgentState& agent, std::int32_t token) HS_REQUIRES(mutex_);
  Result<void> finish_with(AgentState& agent, std::int32_t token, Outcome outcome,
                           ReapedFd plain_end) HS_EXCLUDES(mutex_);

  /// Takes the gate. Null: another event had it before, or this one does not end the request.
  /// Otherwise the request is out of every index (but for a relay that is to be carried) and the
  /// caller goes on to finish() without the lock.
  RequestPtr end(Request& request, RequestEvent event, bool carry_relay = false) noexcept
      HS_REQUIRES(mutex_);
  /// The same for an end that the service decides by itself; sets record and counters. Completes
  /// with the status that belongs to the event.
  RequestPtr end_without_report(Request& request, RequestEvent event) noexcept
      HS_REQUIRES(mutex_);
  /// Calls the consumer and the observer.
  void finish(const RequestPtr& request, Completion completion, bool cancelled) noexcept
      HS_EXCLUDES(mutex_);
  void finish_without_report(const RequestPtr& request) noexcept HS_EXCLUDES(mutex_);
  void observe(const RequestPtr& request) noexcept HS_EXCLUDES(mutex_);

  /// READY to every armed subscriber of a queue.
  void notify(std::uint32_t handler_class, std::uint64_t netns_cookie) noexcept
      HS_EXCLUDES(mutex_);
  /// READY to every armed subscriber for whom something waits.
  void notify_waiting() noexcept HS_EXCLUDES(mutex_);
  void notify_if_starved() noexcept HS_EXCLUDES(mutex_);
  /// One queue's, or with nullptr those for whom something waits.
  void notify_subscribers(const QueueName* queue) noexcept HS_EXCLUDES(mutex_);
  bool concerns(const QueueName* queue, std::uint32_t handler_class,
                const ClassSubscription& subscription) const noexcept HS_REQUIRES(mutex_);

  void warn_once(bool Core::*warned, const char* line) HS_EXCLUDES(mutex_);

  const Options options_;
  const std::size_t memory_budget_;
  Revocable<const SessionRecord&> observer_;
  const Log log_;
  Reaper& reaper_;

  Mutex mutex_;
  std::uint64_t last_id_ HS_GUARDED_BY(mutex_) = 0;
  std::uint64_t last_agent_ HS_GUARDED_BY(mutex_) = 0;
  /// Live requests, and relays under way.
  std::unordered_map<std::uint64_t, RequestPtr> requests_ HS_GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, Request*> by_socket_ HS_GUARDED_BY(mutex_);
  std::map<QueueName, Queue> queues_ HS_GUARDED_BY(mutex_);
  std::map<std::uint32_t, HandlerClass> classes_ HS_GUARDED_BY(mutex_);
  std::set<Deadline> deadlines_ HS_GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, Usage> netns_usage_ HS_GUARDED_BY(mutex_);
  std::unordered_map<std::uint32_t, Usage> uid_usage_ HS_GUARDED_BY(mutex_);
  std::map<std::pair<std::uint64_t, PeerAddress>, Usage> address_usage_ HS_GUARDED_BY(mutex_);
  std::map<std::uint64_t, std::shared_ptr<AgentState>> agents_ HS_GUARDED_BY(mutex_);
  std::set<std::uint64_t> drained_netns_ HS_GUARDED_BY(mutex_);
  bool draining_ HS_GUARDED_BY(mutex_) = false;
  /// An ACCEPT found no free descriptor; READY follows when a request has ended.
  bool starved_ HS_GUARDED_BY(mutex_) = false;
  bool warned_capped_ HS_GUARDED_BY(mutex_) = false;
  bool warned_dropped_ HS_GUARDED_BY(mutex_) = false;
  Counters counters_ HS_GUARDED_BY(mutex_);
};

}  // namespace handshake::service
