// SPDX-License-Identifier: Apache-2.0
#include "service/service.h"

#include <utility>

#include "service/core.h"

namespace handshake::service {

// --- Accepted ----------------------------------------------------------------------------------

Accepted::Accepted(Accepted&&) noexcept = default;

Accepted& Accepted::operator=(Accepted&& other) noexcept {
  if (this != &other) {
    give_back();
    core_ = std::move(other.core_);
    agent_ = std::move(other.agent_);
    token_ = other.token_;
    socket_ = std::move(other.socket_);
    owner_ = other.owner_;
    parameters_ = std::move(other.parameters_);
  }
  return *this;
}

Accepted::~Accepted() { give_back(); }

bool Accepted::hand_over() noexcept {
  const std::shared_ptr<Core> core = std::exchange(core_, nullptr);
  if (core == nullptr) return false;
  const bool live = core->hand_over(*agent_, token_);
  if (!live) core->reaper().close(std::move(socket_), owner_);
  return live;
}

void Accepted::give_back() noexcept {
  const std::shared_ptr<Core> core = std::exchange(core_, nullptr);
  if (core == nullptr) return;
  // If the request has ended meanwhile this may be the socket's last descriptor.
  core->reaper().close(std::move(socket_), owner_);
  core->give_back(*agent_, token_);
}

// --- AgentConnection ---------------------------------------------------------------------------

AgentConnection::AgentConnection(std::shared_ptr<Core> core, AgentInfo info,
                                 std::function<void(std::uint32_t handler_class)> ready)
    : core_(std::move(core)), state_(core_->connect(info, std::move(ready))) {}

AgentConnection::~AgentConnection() { disconnect(); }

void AgentConnection::disconnect() noexcept { core_->disconnect(*state_); }

Result<void> AgentConnection::subscribe(const Subscription& subscription) {
  return core_->subscribe(state_, subscription);
}

Result<Accepted> AgentConnection::accept(std::uint32_t handler_class) {
  return core_->accept(state_, handler_class);
}

Result<void> AgentConnection::done(std::int32_t token, DoneReport report) {
  return core_->done(*state_, token, std::move(report));
}

void AgentConnection::done_refused(std::int32_t token, std::string_view reason) {
  core_->done_refused(*state_, token, reason);
}

Result<PresharedKey> AgentConnection::find_key(std::int32_t token,
                                               const std::vector<std::string>& identities) {
  return core_->find_key(*state_, token, identities);
}

Result<void> AgentConnection::relay_end(std::uint64_t request_id, const RelayReport& report) {
  return core_->relay_end(*state_, request_id, report);
}

void AgentConnection::retire() { core_->retire(*state_); }

// --- Service -----------------------------------------------------------------------------------

Service::Service(Options options, Log log, Reaper& reaper)
    : core_(std::make_shared<Core>(std::move(options), std::move(log), reaper)) {}

Service::~Service() { core_->shut_down(); }

Result<std::uint64_t> Service::submit(Submission submission, TimePoint now) {
  return core_->submit(std::move(submission), std::nullopt, now);
}

Result<std::uint64_t> Service::submit(Submission submission, SocketFacts facts, TimePoint now) {
  return core_->submit(std::move(submission), std::move(facts), now);
}

bool Service::cancel(std::uint64_t request_id) { return core_->cancel(request_id); }

std::optional<TimePoint> Service::expire(TimePoint now) { return core_->expire(now); }

std::optional<TimePoint> Service::next_deadline() const { return core_->next_deadline(); }

void Service::drain() { core_->drain(); }

void Service::drain_namespace(std::uint64_t netns_cookie) {
  core_->drain_namespace(netns_cookie);
}

std::size_t Service::live() const { return core_->live(); }

TimePoint Service::now() const { return core_->now(); }

void Service::keep_listening(std::uint32_t handler_class, bool on) {
  core_->keep_listening(handler_class, on);
}

std::unique_ptr<AgentConnection> Service::connect_agent(
    AgentInfo info, std::function<void(std::uint32_t handler_class)> ready) {
  return std::unique_ptr<AgentConnection>(
      new AgentConnection(core_, info, std::move(ready)));
}

std::vector<SessionRecord> Service::snapshot() const { return core_->snapshot(); }

Counters Service::counters() const { return core_->counters(); }

}  // namespace handshake::service
