// SPDX-License-Identifier: Apache-2.0
#include "service/core.h"

#include <algorithm>
#include <new>
#include <utility>

namespace handshake::service {
namespace {

/// What the consumer is told, and what is written down, when nobody has reported.
struct OwnEnd {
  Ending ending;
  int status;
  std::string_view reason;
  std::uint64_t Counters::*counter;
};

OwnEnd own_end(RequestEvent event, bool was_pending) noexcept {
  switch (event) {
    case RequestEvent::kTimeout:
      return {Ending::kTimedOut, -ETIMEDOUT,
              was_pending ? "no agent took the request in time"
                          : "the agent did not finish in time",
              &Counters::timed_out};
    case RequestEvent::kAgentDeath:
      return {Ending::kAgentDied, -EIO, "the agent died", &Counters::agent_died};
    case RequestEvent::kDrain:
      return {Ending::kDrained, -ETIMEDOUT, "the service is draining", &Counters::drained};
    case RequestEvent::kCancel:
      return {Ending::kCancelled, -ECANCELED, "cancelled", &Counters::cancelled};
    case RequestEvent::kAccept:
    case RequestEvent::kGiveBack:
    case RequestEvent::kDone: break;
  }
  return {Ending::kDone, -EIO, "", &Counters::failed};
}

}  // namespace

Core::RequestPtr Core::end(Request& request, RequestEvent event, bool carry_relay) noexcept {
  const RequestState before = request.gate.state();
  if (advance(before, event).verdict != Verdict::kEnded) return nullptr;
  // Our copy of the socket goes before the gate: by the time the consumer hears of the end, the
  // service has let go of what it was given. Nobody waits for the close itself.
  reaper_.close(std::move(request.socket), request.submission.uid, std::move(request.ticket));
  if (request.gate.pass(event).verdict != Verdict::kEnded) return nullptr;

  if (before == RequestState::kPending) {
    dequeue(request);
  } else {
    take_from_agent(request);
  }
  --request.queue->live;
  counters_.memory_now -= request.memory_bytes;
  forget(request);

  const auto entry = requests_.find(request.id);
  if (!carry_relay) {
    RequestPtr taken = std::move(entry->second);
    requests_.erase(entry);
    return taken;
  }
  request.agent->relays.push_back(request);
  ++counters_.relays_now;
  return entry->second;
}

Core::RequestPtr Core::end_without_report(Request& request, RequestEvent event) noexcept {
  const OwnEnd own = own_end(event, request.gate.state() == RequestState::kPending);
  std::string reason;
  set_reason(reason, own.reason);
  RequestPtr taken = end(request, event);
  if (taken == nullptr) return nullptr;
  ++(counters_.*own.counter);
  taken->record.state = protocol::SessionState::kEnded;
  taken->record.ending = own.ending;
  taken->record.status = own.status;
  taken->record.reason = std::move(reason);
  taken->record.completed = options_.now();
  return taken;
}

void Core::finish_without_report(const RequestPtr& request) noexcept {
  // Out of every index: this thread alone has the record now.
  Completion completion;
  completion.status = request->record.status;
  completion.request_id = request->id;
  set_reason(completion.reason, request->record.reason);
  finish(request, std::move(completion), request->record.ending == Ending::kCancelled);
}

void Core::finish(const RequestPtr& request, Completion completion, bool cancelled) noexcept {
  const auto guarded = [this](auto call) {
    try {
      call();
    } catch (...) {
      // A consumer's bug, or its memory: neither may cost another consumer anything.
      log_.error("a consumer's callback threw");
    }
  };
  Submission& submission = request->submission;
  if (!cancelled) guarded([&] { submission.complete(std::move(completion)); });
  if (submission.release != nullptr) guarded([&] { submission.release(); });
  // A relay may last: what the callbacks hold and the request's secrets go now.
  guarded([&] {
    std::shared_ptr<const RequestKeys> keys;
    decltype(submission.find_key) find_key;
    {
      const MutexLock lock(mutex_);
      keys.swap(submission.keys);
      find_key.swap(submission.find_key);
    }
    submission.complete = nullptr;
    submission.release = nullptr;
    submission.authorize = nullptr;
  });
  observe(request);
  notify_if_starved();
}

void Core::observe(const RequestPtr& request) noexcept {
  try {
    SessionRecord record;
    {
      const MutexLock lock(mutex_);
      record = request->record;
    }
    observer_.call(record);
  } catch (...) {
    log_.error("an observer threw");
  }
}

bool Core::cancel(std::uint64_t request_id) {
  RequestPtr request;
  {
    const MutexLock lock(mutex_);
    const auto found = requests_.find(request_id);
    if (found != requests_.end()) {
      request = end_without_report(*found->second, RequestEvent::kCancel);
    }
  }
  if (request == nullptr) return false;
  finish_without_report(request);
  return true;
}

std::optional<TimePoint> Core::expire(TimePoint now) {
  for (;;) {
    RequestPtr request;
    {
      const MutexLock lock(mutex_);
      if (deadlines_.empty()) return std::nullopt;
      const Deadline first = *deadlines_.begin();
      if (first.at > now) return first.at;
      request = end_without_report(*first.request, RequestEvent::kTimeout);
    }
    finish_without_report(request);
  }
}

std::optional<TimePoint> Core::next_deadline() {
  const MutexLock lock(mutex_);
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->at;
}

void Core::drain() {
  for (;;) {
    RequestPtr request;
    {
      const MutexLock lock(mutex_);
      draining_ = true;
      const auto waiting = std::find_if(classes_.begin(), classes_.end(), [](const auto& entry) {
        return !entry.second.nonempty.empty();
      });
      if (waiting == classes_.end()) return;
      request = end_without_report(*waiting->second.nonempty.front()->waiting.front(),
                                   RequestEvent::kDrain);
    }
    finish_without_report(request);
  }
}

void Core::drain_namespace(std::uint64_t netns_cookie) {
  for (;;) {
    RequestPtr request;
    {
      const MutexLock lock(mutex_);
      drained_netns_.insert(netns_cookie);
      for (auto& [key, queue] : queues_) {
        if (key.second != netns_cookie || queue.waiting.empty()) continue;
        request = end_without_report(*queue.waiting.front(), RequestEvent::kDrain);
        break;
      }
    }
    if (request == nullptr) return;
    finish_without_report(request);
  }
}

void Core::shut_down() {
  drain();
  for (;;) {
    RequestPtr request;
    {
      const MutexLock lock(mutex_);
      if (deadlines_.empty()) break;
      request = end_without_report(*deadlines_.begin()->request, RequestEvent::kTimeout);
    }
    finish_without_report(request);
  }
  observer_.revoke();
}

}  // namespace handshake::service
