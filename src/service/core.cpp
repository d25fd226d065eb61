// SPDX-License-Identifier: Apache-2.0
#include "service/core.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <utility>

namespace handshake::service {

std::size_t default_memory_budget() noexcept {
  constexpr std::size_t kMebibyte = std::size_t{1} << 20;
  struct sysinfo info {};
  if (::sysinfo(&info) != 0) return 16 * kMebibyte;
  const std::size_t total = static_cast<std::size_t>(info.totalram) * info.mem_unit;
  return std::clamp(total / 64, 16 * kMebibyte, 1024 * kMebibyte);
}

std::string_view to_string(Ending ending) noexcept {
  switch (ending) {
    case Ending::kNone: return "none";
    case Ending::kDone: return "done";
    case Ending::kCancelled: return "cancelled";
    case Ending::kTimedOut: return "timed-out";
    case Ending::kAgentDied: return "agent-died";
    case Ending::kDrained: return "drained";
  }
  return "unknown";
}

Core::Core(Options options, Log log, Reaper& reaper)
    : options_(std::move(options)),
      memory_budget_(options_.limits.memory_bytes != 0 ? options_.limits.memory_bytes
                                                       : default_memory_budget()),
      observer_(options_.observer),
      log_(std::move(log)),
      reaper_(reaper) {}

void Core::enqueue(Request& request, bool at_head) noexcept {
  Queue& queue = *request.queue;
  if (queue.waiting.empty()) queue.handler_class->nonempty.push_back(queue);
  if (at_head) {
    queue.waiting.push_front(request);
  } else {
    queue.waiting.push_back(request);
  }
  ++request.netns_usage->pending;
  ++request.uid_usage->pending;
  ++request.address_usage->pending;
  ++counters_.pending_now;
}

void Core::dequeue(Request& request) noexcept {
  Queue& queue = *request.queue;
  queue.waiting.remove(request);
  if (queue.waiting.empty()) queue.handler_class->nonempty.remove(queue);
  --request.netns_usage->pending;
  --request.uid_usage->pending;
  --request.address_usage->pending;
  --counters_.pending_now;
}

std::size_t Core::live() {
  const MutexLock lock(mutex_);
  return deadlines_.size();
}

std::vector<SessionRecord> Core::snapshot() {
  std::vector<SessionRecord> records;
  {
    const MutexLock lock(mutex_);
    records.reserve(requests_.size());
    for (const auto& [id, request] : requests_) records.push_back(request->record);
  }
  std::sort(records.begin(), records.end(), [](const SessionRecord& a, const SessionRecord& b) {
    return a.request_id < b.request_id;
  });
  return records;
}

Counters Core::counters() {
  const MutexLock lock(mutex_);
  return counters_;
}

void Core::warn_once(bool Core::*warned, const char* line) {
  {
    const MutexLock lock(mutex_);
    if (std::exchange(this->*warned, true)) return;
  }
  log_.warning(line);
}

}  // namespace handshake::service
