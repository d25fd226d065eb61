// SPDX-License-Identifier: Apache-2.0
#include "service/core.h"

#include <algorithm>
#include <new>
#include <utility>

namespace handshake::service {
namespace {

constexpr std::size_t kMaxNameBytes = 255;
/// What a request costs beside its own memory: index entries, and the kernel's socket.
constexpr std::size_t kFixedCostBytes = 4096;

bool is_valid_name(const std::optional<std::string>& name) {
  return !name || (!name->empty() && name->size() <= kMaxNameBytes &&
                   name->find('\0') == std::string::npos);
}

/// What can be said without asking the socket.
Result<void> check_arguments(const Submission& submission) {
  const auto invalid = [](std::string detail) {
    return fail(ErrorKind::kInvalidArgument, std::move(detail));
  };
  if (submission.complete == nullptr) return invalid("no completion callback");
  if (submission.handler_class == 0) return invalid("no handler class");
  switch (submission.message_type) {
    case protocol::MessageType::kClienthello:
    case protocol::MessageType::kServerhello: break;
    case protocol::MessageType::kUnspec:
    default: return invalid("message type is neither clienthello nor serverhello");
  }
  switch (submission.auth_mode) {
    case protocol::Auth::kUnauth:
    case protocol::Auth::kPsk:
    case protocol::Auth::kX509: break;
    case protocol::Auth::kUnspec:
    default: return invalid("no authentication mode");
  }
  if (!is_valid_name(submission.peername)) return invalid("peername is malformed");
  if (!is_valid_name(submission.credential)) return invalid("credential name is malformed");
  if (submission.timeout && submission.timeout->count() < 0) return invalid("negative timeout");
  return {};
}

std::size_t cost_bytes(const Submission& submission) {
  std::size_t bytes = sizeof(Request) + kFixedCostBytes;
  // Once in the submission, once in the record.
  if (submission.peername) bytes += 2 * submission.peername->size();
  if (submission.credential) bytes += 2 * submission.credential->size();
  bytes += submission.peer_identities.size() * sizeof(std::uint32_t);
  bytes += submission.certificates.size() * sizeof(protocol::kernel::X509);
  if (submission.keys != nullptr) {
    const RequestKeys& keys = *submission.keys;
    bytes += sizeof keys + keys.key_pairs.size() * sizeof(RequestKeyPair);
    if (keys.psk) bytes += keys.psk->identity.size() + keys.psk->secret.size();
    for (const RequestKeyPair& pair : keys.key_pairs) {
      bytes += pair.certificate.size() + pair.private_key.size();
    }
  }
  return bytes;
}

SessionRecord first_record(const Submission& submission, const SocketFacts& facts, TimePoint now) {
  SessionRecord record;
  record.netns_cookie = facts.netns_cookie;
  record.handler_class = submission.handler_class;
  record.role = submission.message_type;
  record.auth_mode = submission.auth_mode;
  record.peer = to_text(facts.peer_address, facts.peer_port);
  record.local_port = facts.local_port;
  record.peername = submission.peername.value_or("");
  record.credential = submission.credential.value_or("");
  record.uid = submission.uid;
  record.submitted = now;
  return record;
}

template <class Map, class Key>
void drop_if_unused(Map& map, const Key& key, const Usage* usage) noexcept {
  if (usage != nullptr && usage->pending == 0 && usage->in_flight == 0) map.erase(key);
}

}  // namespace

Result<std::uint64_t> Core::submit(Submission submission, std::optional<SocketFacts> facts,
                                   TimePoint now) {
  ReapedFd socket(reaper_, std::move(submission.socket), submission.uid);
  try {
    return try_submit(socket, submission, std::move(facts), now);
  } catch (const std::bad_alloc&) {
    return refuse(&Counters::refused_memory, ErrorKind::kNoMemory, {});
  }
}

Result<std::uint64_t> Core::refuse(std::uint64_t Counters::*counter, ErrorKind kind,
                                   std::string detail) {
  const MutexLock lock(mutex_);
  ++(counters_.*counter);
  return fail(kind, std::move(detail));
}

Result<std::uint64_t> Core::try_submit(ReapedFd& socket, Submission& submission,
                                       std::optional<SocketFacts> facts, TimePoint now) {
  if (!socket) {
    return refuse(&Counters::refused_invalid, ErrorKind::kInvalidArgument, "no socket");
  }
  if (Result<void> ok = check_arguments(submission); !ok) {
    return refuse(&Counters::refused_invalid, ok.error().kind, ok.error().detail);
  }
  if (!facts) {
    Result<SocketFacts> read = options_.read_socket(socket.get());
    if (!read) return refuse(&Counters::refused_invalid, read.error().kind, read.error().detail);
    facts = *std::move(read);
  }
  if (!facts->stream_tcp) {
    return refuse(&Counters::refused_invalid, ErrorKind::kInvalidArgument,
                  "not a TCP stream socket");
  }
  if (!facts->connected) {
    return refuse(&Counters::refused_invalid, ErrorKind::kInvalidArgument,
                  "the socket is not connected");
  }
  if (!facts->upper_layer.empty()) {
    return refuse(&Counters::refused_upper_layer, ErrorKind::kAlreadyExists,
                  "the socket already has the upper layer protocol " + facts->upper_layer);
  }
  if (submission.authorize != nullptr) {
    if (Result<void> ok = submission.authorize(submission, *facts); !ok) {
      return refuse(&Counters::refused_not_permitted, ok.error().kind, ok.error().detail);
    }
  }

  // Everything that may fail comes before the request can be seen by anybody.
  const RequestPtr request = std::make_shared<Request>();
  request->ticket = reaper_.prepare();
  request->record = first_record(submission, *facts, now);
  request->memory_bytes = cost_bytes(submission);
  request->facts = *std::move(facts);
  request->submission = std::move(submission);
  const milliseconds timeout = request->submission.timeout.value_or(milliseconds(0));
  const TimePoint deadline = now + (timeout.count() > 0 ? timeout : options_.default_timeout);
  const std::uint32_t handler_class = request->submission.handler_class;

  std::uint64_t id = 0;
  {
    const MutexLock lock(mutex_);
    if (Result<void> admitted = check_admission(*request); !admitted) {
      return tl::unexpected<Error>(std::move(admitted.error()));
    }
    id = request->id = request->record.request_id = ++last_id_;
    insert(request, deadline);
    request->socket = socket.take();
    ++counters_.submitted;
    enqueue(*request, false);
  }
  notify(handler_class, request->facts.netns_cookie);
  return id;
}

Result<void> Core::check_admission(const Request& request) {
  const std::uint64_t netns = request.facts.netns_cookie;
  if (draining_ || drained_netns_.count(netns) != 0) {
    ++counters_.refused_draining;
    return fail(ErrorKind::kNotSupported,
                draining_ ? "the service is draining" : "the network namespace is draining");
  }
  if (by_socket_.count(request.facts.cookie) != 0) {
    ++counters_.refused_busy;
    return fail(ErrorKind::kBusy, "the socket has a request that has not ended");
  }
  if (!listened_to(request.submission.handler_class, netns)) {
    ++counters_.refused_no_agent;
    return fail(ErrorKind::kNoAgent,
                "no agent listens for handler class " +
                    std::to_string(request.submission.handler_class) + " in this namespace");
  }
  return check_limits(request);
}

Result<void> Core::check_limits(const Request& request) {
  const Limits& limits = options_.limits;
  const std::uint64_t netns = request.facts.netns_cookie;
  const auto over = [this](std::uint64_t Counters::*counter, std::string detail) {
    ++(counters_.*counter);
    return fail(ErrorKind::kTryAgain, std::move(detail));
  };
  const auto reached = [](std::size_t used, std::size_t limit) {
    return limit != 0 && used >= limit;
  };
  const auto usage = [](const auto& map, const auto& key) {
    const auto found = map.find(key);
    return found == map.end() ? Usage{} : found->second;
  };

  if (counters_.memory_now + request.memory_bytes > memory_budget_) {
    return over(&Counters::limited_memory, "the memory for requests is used up");
  }
  if (reached(usage(netns_usage_, netns).pending, limits.pending_per_netns)) {
    return over(&Counters::limited_netns, "too many requests wait in this network namespace");
  }
  if (reached(usage(uid_usage_, request.submission.uid).pending, limits.pending_per_uid)) {
    return over(&Counters::limited_uid, "too many requests of this user wait");
  }
  if (reached(reaper_.outstanding(request.submission.uid), limits.closing_per_uid)) {
    return over(&Counters::limited_closing, "too many of this user's sockets do not get closed");
  }
  const Usage address = usage(address_usage_, std::pair(netns, request.facts.peer_address));
  if (reached(address.pending, limits.pending_per_address)) {
    return over(&Counters::limited_address_pending, "too many requests for this peer wait");
  }
  if (reached(address.in_flight, limits.in_flight_per_address)) {
    return over(&Counters::limited_address_in_flight,
                "too many handshakes with this peer are under way");
  }
  return {};
}

bool Core::listened_to(std::uint32_t handler_class, std::uint64_t netns_cookie) {
  const auto known = classes_.find(handler_class);
  if (known == classes_.end()) return false;
  if (known->second.kept) return true;
  return std::any_of(agents_.begin(), agents_.end(), [&](const auto& entry) {
    const auto subscribed = entry.second->classes.find(handler_class);
    return subscribed != entry.second->classes.end() && subscribed->second.covers(netns_cookie);
  });
}

void Core::insert(const RequestPtr& request, TimePoint deadline) {
  Request& r = *request;
  const std::uint64_t netns = r.facts.netns_cookie;
  const std::uint32_t handler_class = r.submission.handler_class;
  r.deadline = deadlines_.end();
  try {
    requests_.emplace(r.id, request);
    by_socket_.emplace(r.facts.cookie, &r);
    r.netns_usage = &netns_usage_[netns];
    r.uid_usage = &uid_usage_[r.submission.uid];
    r.address_usage = &address_usage_[std::pair(netns, r.facts.peer_address)];
    r.queue = &queues_[QueueName(handler_class, netns)];
    r.queue->handler_class = &classes_[handler_class];
    // Most requests have the same timeout: the latest submitted is the last due.
    r.deadline = deadlines_.insert(deadlines_.end(), Deadline{deadline, r.id, &r});
  } catch (const std::bad_alloc&) {
    forget(r);
    requests_.erase(r.id);
    throw;
  }
  ++r.queue->live;
  counters_.memory_now += r.memory_bytes;
}

void Core::forget(Request& request) noexcept {
  const std::uint64_t netns = request.facts.netns_cookie;
  const auto socket = by_socket_.find(request.facts.cookie);
  if (socket != by_socket_.end() && socket->second == &request) by_socket_.erase(socket);
  if (request.deadline != deadlines_.end()) deadlines_.erase(request.deadline);
  request.deadline = deadlines_.end();
  drop_if_unused(netns_usage_, netns, request.netns_usage);
  drop_if_unused(uid_usage_, request.submission.uid, request.uid_usage);
  drop_if_unused(address_usage_, std::pair(netns, request.facts.peer_address),
                 request.address_usage);
  if (request.queue != nullptr && request.queue->live == 0) {
    queues_.erase(QueueName(request.submission.handler_class, netns));
  }
  request.netns_usage = request.uid_usage = request.address_usage = nullptr;
  request.queue = nullptr;
}

}  // namespace handshake::service
