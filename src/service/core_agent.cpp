// SPDX-License-Identifier: Apache-2.0
#include "service/core.h"

#include <fcntl.h>

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

namespace handshake::service {
namespace {

constexpr auto kMaxToken = std::numeric_limits<std::int32_t>::max();

AcceptedParameters parameters_of(const Request& request, milliseconds remaining) {
  const Submission& submission = request.submission;
  AcceptedParameters parameters;
  parameters.request_id = request.id;
  parameters.handler_class = submission.handler_class;
  parameters.netns_cookie = request.facts.netns_cookie;
  parameters.message_type = submission.message_type;
  parameters.auth_mode = submission.auth_mode;
  parameters.peername = submission.peername;
  parameters.credential = submission.credential;
  parameters.relay = submission.relay;
  parameters.client_auth = submission.client_auth;
  parameters.timeout = submission.timeout;
  parameters.remaining = remaining;
  parameters.peer_identities = submission.peer_identities;
  parameters.certificates = submission.certificates;
  parameters.keyring = submission.keyring;
  return parameters;
}

}  // namespace

bool ClassSubscription::covers(std::uint64_t netns_cookie) const noexcept {
  return every_netns || std::find(netns_cookies.begin(), netns_cookies.end(), netns_cookie) !=
                            netns_cookies.end();
}

std::int32_t AgentState::next_token() noexcept {
  std::int32_t token = last_token;
  do {
    tokens_wrapped = tokens_wrapped || token == kMaxToken;
    token = token == kMaxToken ? 1 : token + 1;
  } while (tokens.count(token) != 0);
  return token;
}

bool AgentState::has_issued(std::int32_t token) const noexcept {
  return token > 0 && (tokens_wrapped || token <= last_token);
}

std::shared_ptr<AgentState> Core::connect(AgentInfo info,
                                          std::function<void(std::uint32_t)> ready) {
  auto agent = std::make_shared<AgentState>(info, std::move(ready));
  const MutexLock lock(mutex_);
  agent->serial = ++last_agent_;
  agents_.emplace(agent->serial, agent);
  ++counters_.agents_now;
  return agent;
}

Result<void> Core::subscribe(const std::shared_ptr<AgentState>& agent,
                             const Subscription& subscription) {
  if (subscription.handler_classes.empty()) {
    return fail(ErrorKind::kInvalidArgument, "no handler class");
  }
  if (std::count(subscription.handler_classes.begin(), subscription.handler_classes.end(), 0u)) {
    return fail(ErrorKind::kInvalidArgument, "handler class 0 is no class");
  }
  if (subscription.every_netns && !agent->info.own_worker) {
    return fail(ErrorKind::kNotPermitted,
                "only the service's own workers may serve every network namespace");
  }
  try {
    const MutexLock lock(mutex_);
    if (agent->retired) return fail(ErrorKind::kNotSupported, "this agent has been retired");
    for (const std::uint32_t handler_class : subscription.handler_classes) {
      static_cast<void>(classes_[handler_class]);
      ClassSubscription& mine = agent->classes[handler_class];
      mine.armed = true;
      const auto add = [&mine](std::uint64_t netns_cookie) {
        if (!mine.covers(netns_cookie)) mine.netns_cookies.push_back(netns_cookie);
      };
      for (const std::uint64_t netns_cookie : subscription.netns_cookies) add(netns_cookie);
      if (subscription.netns_cookies.empty() && !subscription.every_netns) {
        add(agent->info.netns_cookie);
      }
      mine.every_netns = mine.every_netns || subscription.every_netns;
    }
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kNoMemory, {});
  }
  notify_waiting();
  return {};
}

Request* Core::next_for(std::uint32_t handler_class, ClassSubscription& subscription) noexcept {
  if (subscription.every_netns) {
    auto& nonempty = classes_.find(handler_class)->second.nonempty;
    Queue* const queue = nonempty.front();
    if (queue == nullptr) return nullptr;
    // To the end of the line: the next ACCEPT looks into another namespace first.
    nonempty.remove(*queue);
    nonempty.push_back(*queue);
    return queue->waiting.front();
  }
  const std::size_t count = subscription.netns_cookies.size();
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t index = (subscription.turn + i) % count;
    const auto found = queues_.find(QueueName(handler_class, subscription.netns_cookies[index]));
    if (found == queues_.end() || found->second.waiting.empty()) continue;
    subscription.turn = (index + 1) % count;
    return found->second.waiting.front();
  }
  return nullptr;
}

void Core::give_to(const std::shared_ptr<AgentState>& agent, Request& request,
                   std::int32_t token) noexcept {
  dequeue(request);
  agent->accepted.push_back(request);
  request.agent = agent;
  request.token = token;
  request.record.state = protocol::SessionState::kAccepted;
  request.record.agent_pid = agent->info.pid;
  ++request.netns_usage->in_flight;
  ++request.uid_usage->in_flight;
  ++request.address_usage->in_flight;
  ++counters_.in_flight_now;
  ++counters_.accepted;
}

void Core::take_from_agent(Request& request) noexcept {
  request.agent->accepted.remove(request);
  request.agent->tokens.erase(request.token);
  --request.netns_usage->in_flight;
  --request.uid_usage->in_flight;
  --request.address_usage->in_flight;
  --counters_.in_flight_now;
}

Result<Accepted> Core::accept(const std::shared_ptr<AgentState>& agent,
                              std::uint32_t handler_class) {
  try {
    Accepted accepted;
    RequestPtr request;
    std::shared_ptr<const RequestKeys> keys;
    milliseconds remaining{0};
    {
      const MutexLock lock(mutex_);
      const auto subscribed = agent->classes.find(handler_class);
      if (subscribed == agent->classes.end()) {
        return fail(ErrorKind::kTryAgain, "not subscribed to this handler class");
      }
      Request* const next = next_for(handler_class, subscribed->second);
      if (next == nullptr) {
        subscribed->second.armed = true;
        return fail(ErrorKind::kTryAgain, "no request waits");
      }
      request = requests_.find(next->id)->second;
      keys = next->submission.keys;
      accepted.socket_ = UniqueFd(::fcntl(next->socket.get(), F_DUPFD_CLOEXEC, 0));
      if (!accepted.socket_) {
        starve(*agent, handler_class);
        return fail(ErrorKind::kNoMemory, "no descriptor to be had for the socket");
      }
      accepted.owner_ = next->submission.uid;
      const std::int32_t token = agent->next_token();
      agent->tokens.emplace(token, next);

      agent->last_token = token;
      static_cast<void>(next->gate.pass(RequestEvent::kAccept));
      give_to(agent, *next, token);
      next->record.accepted = options_.now();
      remaining = std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(
                                                next->deadline->at - next->record.accepted));
      accepted.core_ = shared_from_this();
      accepted.agent_ = agent;
      accepted.token_ = token;
    }
    // Should this fail, `accepted` gives the request back.
    accepted.parameters_ = parameters_of(*request, remaining);
    accepted.parameters_.keys = std::move(keys);
    return accepted;
  } catch (const std::bad_alloc&) {
    const MutexLock lock(mutex_);
    starve(*agent, handler_class);
    return fail(ErrorKind::kNoMemory, {});
  }
}

void Core::starve(AgentState& agent, std::uint32_t handler_class) noexcept {
  starved_ = true;
  const auto subscribed = agent.classes.find(handler_class);
  if (subscribed != agent.classes.end()) subscribed->second.armed = true;
}

bool Core::hand_over(const AgentState& agent, std::int32_t token) {
  const MutexLock lock(mutex_);
  return agent.tokens.count(token) != 0;
}

void Core::give_back(AgentState& agent, std::int32_t token) noexcept {
  RequestPtr drained;
  std::uint32_t handler_class = 0;
  std::uint64_t netns_cookie = 0;
  {
    const MutexLock lock(mutex_);
    const auto found = agent.tokens.find(token);
    if (found == agent.tokens.end()) return;  // ended meanwhile
    Request& request = *found->second;
    if (request.gate.pass(RequestEvent::kGiveBack).verdict != Verdict::kMoved) return;
    take_from_agent(request);
    request.agent = nullptr;
    request.record.state = protocol::SessionState::kPending;
    request.record.agent_pid = 0;
    ++counters_.given_back;
    handler_class = request.submission.handler_class;
    netns_cookie = request.facts.netns_cookie;
    enqueue(request, true);
    if (draining_ || drained_netns_.count(netns_cookie) != 0) {
      drained = end_without_report(request, RequestEvent::kDrain);
    }
  }
  if (drained != nullptr) {
    finish_without_report(drained);
    return;
  }
  notify(handler_class, netns_cookie);
  // Whoever gave it back is not told at once, to try and fail in a circle, but when something
  // has changed.
  const MutexLock lock(mutex_);
  starve(agent, handler_class);
}

Result<void> Core::no_such_token(const AgentState& agent, std::int32_t token) {
  const bool gone = agent.has_issued(token);
  ++(gone ? counters_.done_too_late : counters_.done_unknown_token);
  return gone ? fail(ErrorKind::kBusy, "the request has been finished before")
              : fail(ErrorKind::kBadDescriptor, "no request has this token");
}

Result<void> Core::done(AgentState& agent, std::int32_t token, DoneReport report) {
  // Should it not reach the consumer, closing it may block.
  ReapedFd plain_end(reaper_, std::move(report.plain_end));
  try {
    protocol::RelayMode allowed;
    {
      const MutexLock lock(mutex_);
      const auto found = agent.tokens.find(token);
      if (found == agent.tokens.end()) return no_such_token(agent, token);
      allowed = found->second->submission.relay;
    }
    Outcome outcome = weigh(std::move(report), static_cast<bool>(plain_end), allowed,
                            options_.tag_memory);
    return finish_with(agent, token, std::move(outcome), std::move(plain_end));
  } catch (const std::bad_alloc&) {
    // Before the gate: the agent may try again, or the request will time out.
    return fail(ErrorKind::kNoMemory, {});
  }
}

void Core::done_refused(AgentState& agent, std::int32_t token, std::string_view reason) noexcept {
  Outcome outcome;
  outcome.completion.status = -EIO;
  outcome.fault.emplace();
  set_reason(outcome.completion.reason, reason);
  set_reason(outcome.text.reason, reason);
  try {
    // What the agent is told is up to whoever refused its message.
    static_cast<void>(finish_with(agent, token, std::move(outcome), ReapedFd(reaper_, {})));
  } catch (const std::bad_alloc&) {
    // Only to say that there is no such request.
  }
}

Result<void> Core::finish_with(AgentState& agent, std::int32_t token, Outcome outcome,
                               ReapedFd plain_end) {
  Completion& completion = outcome.completion;
  const bool relay = completion.mode == protocol::SessionMode::kRelay;
  RequestPtr request;
  {
    const MutexLock lock(mutex_);
    const auto found = agent.tokens.find(token);
    if (found == agent.tokens.end()) return no_such_token(agent, token);
    completion.request_id = found->second->id;
    request = end(*found->second, RequestEvent::kDone, relay);
    if (request == nullptr) return no_such_token(agent, token);
    ++(completion.status == 0 ? counters_.succeeded : counters_.failed);
    if (outcome.fault) ++counters_.done_malformed;
    if (outcome.tags_capped) ++counters_.tags_capped;
    if (outcome.tags_dropped) ++counters_.tags_dropped;

    SessionRecord& record = request->record;
    record.state = relay ? protocol::SessionState::kEstablished : protocol::SessionState::kEnded;
    record.ending = Ending::kDone;
    record.completed = options_.now();
    record.status = completion.status;
    record.mode = completion.mode;
    record.cipher = std::move(outcome.text.cipher);
    record.group = std::move(outcome.text.group);
    record.peer_subject = std::move(outcome.text.peer_subject);
    record.certificate_algorithm = std::move(outcome.text.certificate_algorithm);
    record.reason = std::move(outcome.text.reason);
    record.tags = completion.tags;
    record.alert = completion.alert;
    record.alert_sent = completion.alert_sent;
  }
  if (relay) completion.plain_end = plain_end.take();
  finish(request, std::move(completion), false);
  if (outcome.tags_capped) {
    warn_once(&Core::warned_capped_, "an agent sent more than 64 tags: the rest is left out");
  }
  if (outcome.tags_dropped) {
    warn_once(&Core::warned_dropped_, "out of memory for tags: a session goes without");
  }
  if (outcome.fault) return fail(ErrorKind::kInvalidArgument, *std::move(outcome.fault));
  return {};
}

Result<PresharedKey> Core::find_key(const AgentState& agent, std::int32_t token,
                                    const std::vector<std::string>& identities) {
  std::function<Result<PresharedKey>(const std::vector<std::string>&)> search;
  {
    const MutexLock lock(mutex_);
    const auto found = agent.tokens.find(token);
    if (found == agent.tokens.end()) {
      return agent.has_issued(token) ? fail(ErrorKind::kBusy, "the request has ended")
                                     : fail(ErrorKind::kBadDescriptor, "no request has this token");
    }
    search = found->second->submission.find_key;
  }
  if (search == nullptr) return fail(ErrorKind::kNoCredential, "this request has no keyring");
  return search(identities);
}

Result<void> Core::relay_end(const AgentState& agent, std::uint64_t request_id,
                             const RelayReport& report) {
  if (report.status > protocol::kMaxErrno) {
    return fail(ErrorKind::kInvalidArgument, "the status is no error number");
  }
  RequestPtr request;
  {
    const MutexLock lock(mutex_);
    const auto found = requests_.find(request_id);
    if (found == requests_.end() || found->second->agent.get() != &agent ||
        found->second->record.state != protocol::SessionState::kEstablished) {
      return fail(ErrorKind::kBadDescriptor, "this connection carries no such relay");
    }
    request = std::move(found->second);
    requests_.erase(found);
    request->agent->relays.remove(*request);
    --counters_.relays_now;
    ++counters_.relays_ended;
    request->record.state = protocol::SessionState::kEnded;
    request->record.bytes_to_peer = report.bytes_to_peer;
    request->record.bytes_from_peer = report.bytes_from_peer;
    request->record.relay_status = consumer_status(report.status);
    set_reason(request->record.reason, report.reason);
  }
  observe(request);
  return {};
}

void Core::disconnect(AgentState& agent) noexcept {
  agent.ready.revoke();
  for (;;) {
    RequestPtr request;
    bool relay = false;
    {
      const MutexLock lock(mutex_);
      // From here on it can accept nothing more.
      agent.retired = true;
      agent.classes.clear();
      counters_.agents_now -= agents_.erase(agent.serial);
      if (Request* const accepted = agent.accepted.front()) {
        request = end_without_report(*accepted, RequestEvent::kAgentDeath);
      } else if (Request* const carried = agent.relays.front()) {
        relay = true;
        const auto entry = requests_.find(carried->id);
        request = std::move(entry->second);
        requests_.erase(entry);
        agent.relays.remove(*carried);
        --counters_.relays_now;
        ++counters_.relays_ended;
        carried->record.state = protocol::SessionState::kEnded;
        carried->record.relay_status = -ECONNRESET;
      }
    }
    if (request == nullptr) return;
    if (relay) {
      observe(request);
    } else {
      finish_without_report(request);
    }
  }
}

void Core::retire(AgentState& agent) {
  const MutexLock lock(mutex_);
  agent.retired = true;
  agent.classes.clear();
}

void Core::keep_listening(std::uint32_t handler_class, bool on) {
  const MutexLock lock(mutex_);
  classes_[handler_class].kept = on;
}

// --- READY -------------------------------------------------------------------------------------

void Core::notify(std::uint32_t handler_class, std::uint64_t netns_cookie) noexcept {
  const QueueName queue{handler_class, netns_cookie};
  notify_subscribers(&queue);
}

void Core::notify_waiting() noexcept { notify_subscribers(nullptr); }

void Core::notify_subscribers(const QueueName* queue) noexcept {
  // One at a time and by serial number, so that it needs no memory, holds no lock during a call,
  // and comes to an end although a callback may arm its connection again.
  std::uint64_t after = 0;
  std::uint32_t after_class = 0;
  for (;;) {
    std::shared_ptr<AgentState> agent;
    {
      const MutexLock lock(mutex_);
      for (auto it = agents_.lower_bound(after); it != agents_.end() && !agent; ++it) {
        auto& classes = it->second->classes;
        for (auto mine = classes.upper_bound(it->first == after ? after_class : 0);
             mine != classes.end(); ++mine) {
          if (!mine->second.armed || !concerns(queue, mine->first, mine->second)) continue;
          mine->second.armed = false;
          ++counters_.ready_sent;
          agent = it->second;
          after = it->first;
          after_class = mine->first;
          break;
        }
      }
    }
    if (agent == nullptr) return;
    try {
      agent->ready.call(after_class);
    } catch (...) {
      // Out of memory, most likely: the next submission tries again.
      const MutexLock lock(mutex_);
      starve(*agent, after_class);
    }
  }
}

bool Core::concerns(const QueueName* queue, std::uint32_t handler_class,
                    const ClassSubscription& subscription) const noexcept {
  if (queue != nullptr) {
    return queue->first == handler_class && subscription.covers(queue->second);
  }
  if (subscription.every_netns) {
    const auto known = classes_.find(handler_class);
    return known != classes_.end() && !known->second.nonempty.empty();
  }
  for (const std::uint64_t netns_cookie : subscription.netns_cookies) {
    const auto found = queues_.find(QueueName(handler_class, netns_cookie));
    if (found != queues_.end() && !found->second.waiting.empty()) return true;
  }
  return false;
}

void Core::notify_if_starved() noexcept {
  {
    const MutexLock lock(mutex_);
    if (!std::exchange(starved_, false)) return;
  }
  notify_waiting();
}

}  // namespace handshake::service
