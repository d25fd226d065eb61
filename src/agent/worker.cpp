// SPDX-License-Identifier: Apache-2.0
#include "agent/worker.h"

#include <linux/netlink.h>
#include <string.h>
#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "protocol/families.h"

namespace handshake::agent {

namespace {

using protocol::Unknown;

// A handshake that ends in a relay has, for a moment, the socket and both ends of the pair.
constexpr std::size_t kDescriptorsPerHandshake = 3;
constexpr std::size_t kDescriptorsPerRelay = 2;
// What a process needs besides: standard streams, epoll, channel, room to receive.
constexpr std::size_t kReservedDescriptors = 64;
// After an ACCEPT that failed for a reason that no READY will follow.
constexpr milliseconds kAcceptRetry{100};
// Reports wait here while the service does not read; their number is bounded by max_handshakes.
constexpr std::size_t kMaxQueuedBytes = std::size_t{64} << 20;

std::size_t descriptors_allowed() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kDescriptorsPerHandshake;
  const auto soft = static_cast<std::size_t>(
      std::min<rlim_t>(limit.rlim_cur, std::numeric_limits<int>::max()));
  return std::max(soft, kReservedDescriptors + kDescriptorsPerHandshake) - kReservedDescriptors;
}

Worker::Options completed(Worker::Options options) {
  if (options.max_descriptors == 0) options.max_descriptors = descriptors_allowed();
  return options;
}

// The token of a reply that is otherwise unreadable.
std::optional<std::int32_t> find_token(const protocol::MessageView& message) {
  protocol::ExtAck ack;
  protocol::AttributeReader reader(message.attributes, protocol::kAttributesOffset);
  while (true) {
    const auto next = reader.next(ack);
    if (!next || !*next) return std::nullopt;
    const protocol::Attribute& attribute = **next;
    if (attribute.type == static_cast<std::uint16_t>(protocol::worker::AcceptAttribute::kSockfd) &&
        attribute.payload.size() == sizeof(std::int32_t)) {
      return attribute.scalar<std::int32_t>();
    }
  }
}

protocol::kernel::DoneRequest kernel_part(const protocol::worker::DoneRequest& report) {
  return {report.status, report.sockfd, report.remote_auth, report.tag};
}

std::string name_of(std::optional<std::uint64_t> request_id) {
  return request_id ? fmt::format("request={}", *request_id) : "request=?";
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::open(EventLoop& loop, UniqueFd channel,
                                             CredentialSet credentials, Options options, Log log,
                                             Stopped stopped) {
  std::unique_ptr<Worker> worker(new Worker(loop, std::move(credentials),
                                            completed(std::move(options)), std::move(log),
                                            std::move(stopped)));
  Worker* const self = worker.get();
  auto stream = transport::PacketStream::open(
      loop, std::move(channel),
      {kMaxQueuedBytes, [self](UniqueFd fd) { self->closer_.close(std::move(fd)); }},
      {[self](protocol::Packet packet) { self->on_packet(std::move(packet)); },
       [self](const Error& error) { self->stop(error); }});
  if (!stream) return tl::unexpected(stream.error());
  worker->channel_ = std::move(*stream);
  worker->ask_for(worker->handshake_family_, protocol::kernel::kFamily.name);
  worker->ask_for(worker->worker_family_, protocol::worker::kFamily.name);
  return worker;
}

Worker::Worker(EventLoop& loop, CredentialSet credentials, Options options, Log log,
               Stopped stopped)
    : loop_(loop),
      credentials_(std::move(credentials)),
      options_(std::move(options)),
      log_(std::move(log)),
      stopped_(std::move(stopped)),
      closer_(loop),
      context_{loop, closer_, credentials_, options_.ktls, false, options_.default_timeout} {}

Worker::~Worker() = default;

std::uint32_t Worker::next_sequence() {
  // 0 is for notifications; a relay that has lived for four thousand million messages keeps its
  // number.
  do {
    ++sequence_;
  } while (sequence_ == 0 || relays_.contains(sequence_) || searches_.contains(sequence_));
  return sequence_;
}

// The sequence number; nullopt when the message is too long to be sent.
template <class M>
std::optional<std::uint32_t> Worker::send(std::uint16_t family, const M& message, bool acknowledge,
                                          UniqueFd fd) {
  protocol::MessageHeader header;
  header.type = family;
  header.flags = NLM_F_REQUEST;
  if (acknowledge) header.flags |= NLM_F_ACK;
  header.sequence = next_sequence();
  auto bytes = protocol::build(header, message);
  if (!bytes) {
    log_.error(fmt::format("cannot send {}: {}", M::kName, bytes.error().detail));
    return std::nullopt;
  }
  std::vector<UniqueFd> fds;
  if (fd) fds.push_back(std::move(fd));
  channel_->send(std::move(*bytes), std::move(fds));
  return header.sequence;
}

void Worker::ask_for(Family& family, std::string_view name) {
  protocol::nlctrl::GetfamilyRequest request;
  request.family_name = std::string(name);
  family.asked = send(protocol::kControllerId, request, false);
}

void Worker::on_packet(protocol::Packet packet) {
  std::vector<std::byte> bytes = std::move(packet.bytes);
  protocol::MessageReader reader(bytes);
  while (channel_ != nullptr) {
    const auto message = reader.next();
    if (!message) {
      log_.warning("the service sent a broken message: " + message.error().detail);
      break;
    }
    if (!*message) break;
    on_message(**message, packet);
  }
  // It may have brought a key.
  if (!bytes.empty()) ::explicit_bzero(bytes.data(), bytes.size());
  for (UniqueFd& fd : packet.fds) closer_.close(std::move(fd));
}

void Worker::on_message(const protocol::MessageView& message, protocol::Packet& packet) {
  const auto is = [&](const Family& family, std::uint8_t command) {
    return family.id != 0 && message.type == family.id && message.command == command;
  };
  if (message.type == NLMSG_ERROR) {
    if (const auto ack = protocol::parse_ack(message)) on_ack(*ack);
  } else if (message.type == protocol::kControllerId) {
    on_family(message);
  } else if (is(handshake_family_, protocol::kernel::ReadyEvent::kCommand) ||
             is(worker_family_, protocol::worker::ReadyEvent::kCommand)) {
    on_ready(message);
  } else if (accepting_ == message.sequence &&
             (is(handshake_family_, protocol::kernel::AcceptReply::kCommand) ||
              is(worker_family_, protocol::worker::AcceptReply::kCommand))) {
    on_accept_reply(message, packet);
  } else if (is(worker_family_, protocol::worker::FindKeyReply::kCommand)) {
    on_key(message);
  } else {
    log_.debug(fmt::format("unexpected message: family {} command {}", message.type,
                           message.command));
  }
}

void Worker::on_family(const protocol::MessageView& message) {
  protocol::ExtAck ack;
  const auto reply = protocol::nlctrl::GetfamilyReply::parse(message.attributes, Unknown::kSkip, ack);
  for (Family* family : {&handshake_family_, &worker_family_}) {
    if (family->asked != message.sequence) continue;
    family->asked.reset();
    if (reply) family->id = reply->family_id.value_or(0);
    on_families_known();
    return;
  }
}

void Worker::on_ack(const protocol::Ack& ack) {
  if (accepting_ == ack.sequence) {
    on_accept_refused(ack.error);
    return;
  }
  if (subscribing_ == ack.sequence) {
    subscribing_.reset();
    if (ack.error != 0) {
      stop({kind_of_errno(ack.error), "the service refuses the subscription: " + ack.ext.message});
      return;
    }
    may_accept_ = true;
    accept_next();
    return;
  }
  for (Family* family : {&handshake_family_, &worker_family_}) {
    if (family->asked != ack.sequence) continue;
    family->asked.reset();
    on_families_known();
    return;
  }
  if (const auto search = searches_.find(ack.sequence); search != searches_.end()) {
    if (ack.error != 0) answer_search(ack.sequence, std::nullopt);
    return;
  }
  if (ack.error == 0) return;
  // A report of what ended meanwhile, by cancel or timeout: the service has closed the plain end.
  ++counters_.refused_reports;
  log_.debug(fmt::format("the service refused message {}: {} {}", ack.sequence,
                         errno_name(ack.error), ack.ext.message));
  if (relays_.erase(ack.sequence) > 0) accept_next();
}

void Worker::on_families_known() {
  if (handshake_family_.asked || worker_family_.asked) return;
  if (worker_family_.id == 0 && handshake_family_.id == 0) {
    stop({ErrorKind::kNotFound, "the service speaks no handshake protocol"});
    return;
  }
  context_.service_knows_relays = worker_family_.id != 0;
  if (worker_family_.id == 0) {
    may_accept_ = true;
    accept_next();
    return;
  }
  protocol::worker::SubscribeRequest request;
  request.handler_class = {options_.handler_class};
  request.every_netns = options_.every_netns;
  subscribing_ = send(worker_family_.id, request, true);
}

void Worker::on_ready(const protocol::MessageView& message) {
  protocol::ExtAck ack;
  // The wider of the two vocabularies: classes are runtime data of the service.
  const auto ready = protocol::worker::ReadyEvent::parse(message.attributes, Unknown::kSkip, ack);
  if (!ready || ready->handler_class != options_.handler_class) return;
  more_waits_ = true;
  ready_meanwhile_ = true;
  accept_next();
}

bool Worker::has_room() const noexcept {
  const std::size_t in_use = handshakes_.size() * kDescriptorsPerHandshake +
                             relays_.size() * kDescriptorsPerRelay;
  return handshakes_.size() < options_.max_handshakes &&
         in_use + kDescriptorsPerHandshake <= options_.max_descriptors;
}

void Worker::accept_next() {
  if (!may_accept_ || !more_waits_ || accepting_ || retry_ || !has_room()) return;
  ready_meanwhile_ = false;
  if (worker_family_.id != 0) {
    protocol::worker::AcceptRequest request;
    request.handler_class = options_.handler_class;
    accepting_ = send(worker_family_.id, request, false);
  } else {
    protocol::kernel::AcceptRequest request;
    request.handler_class = protocol::HandlerClass{options_.handler_class};
    accepting_ = send(handshake_family_.id, request, false);
  }
}

void Worker::accept_later() {
  retry_ = loop_.after(kAcceptRetry, [this] { accept_next(); });
}

void Worker::on_accept_refused(int error) {
  accepting_.reset();
  if (error == EAGAIN) {
    more_waits_ = ready_meanwhile_;
    accept_next();
    return;
  }
  log_.warning("the service refuses ACCEPT: " + errno_name(error));
  accept_later();
}

void Worker::on_accept_reply(const protocol::MessageView& message, protocol::Packet& packet) {
  accepting_.reset();
  protocol::ExtAck ack;
  auto request = protocol::worker::AcceptReply::parse(message.attributes, Unknown::kSkip, ack);
  counters_.unknown_attributes += ack.unknown_skipped;
  const std::optional<std::int32_t> token = request ? request->sockfd : find_token(message);
  if (!token) {
    log_.error("the service sent an ACCEPT reply without a token");
    accept_later();
    return;
  }
  ++counters_.accepted;
  if (packet.fds_lost) {
    ++counters_.lost_descriptors;
    report_failure(*token, EMFILE, "the agent has no descriptor free for the socket");
    accept_later();
    return;
  }
  if (!request || packet.fds.size() != 1) {
    report_failure(*token, EINVAL,
                   request ? "the request came without its socket"
                           : "the request is unreadable: " + request.error().detail);
    accept_next();
    return;
  }
  UniqueFd socket = std::move(packet.fds.front());
  packet.fds.clear();
  begin(std::move(*request), std::move(socket));
}

void Worker::begin(protocol::worker::AcceptReply request, UniqueFd socket) {
  const HandshakeId id = ++next_handshake_;
  const auto request_id = request.request_id;
  const auto token = request.sockfd;
  const auto [at, inserted] = handshakes_.emplace(
      id, std::make_unique<Handshake>(context_, std::move(request), std::move(socket)));
  // While this one is begun, the service looks for the next.
  accept_next();
  at->second->start(
      [this, id, request_id](Handshake::Outcome outcome) {
        on_finished(id, request_id, std::move(outcome));
      },
      [this, id, token](const std::vector<std::string>& identities) {
        search_key(id, token, identities);
      });
}

void Worker::search_key(HandshakeId id, std::optional<std::int32_t> token,
                        const std::vector<std::string>& identities) {
  protocol::worker::FindKeyRequest request;
  request.sockfd = token;
  for (const std::string& identity : identities) {
    const auto bytes = std::as_bytes(std::span(identity));
    request.identity.emplace_back(bytes.begin(), bytes.end());
  }
  const auto sequence = worker_family_.id != 0 ? send(worker_family_.id, request, false) : std::nullopt;
  if (sequence) {
    searches_[*sequence] = id;
    return;
  }
  // Too long to be sent, or nobody to ask; not from inside the handshake.
  loop_.post([this, id, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    const auto handshake = handshakes_.find(id);
    if (handshake != handshakes_.end()) handshake->second->key_found(std::nullopt);
  });
}

void Worker::on_key(const protocol::MessageView& message) {
  protocol::ExtAck ack;
  auto reply = protocol::worker::FindKeyReply::parse(message.attributes, Unknown::kSkip, ack);
  answer_search(message.sequence, reply ? std::move(reply->psk) : std::nullopt);
}

void Worker::answer_search(std::uint32_t sequence, std::optional<protocol::worker::PresharedKey> key) {
  const auto search = searches_.extract(sequence);
  if (!search) return;
  const auto handshake = handshakes_.find(search.mapped());
  if (handshake != handshakes_.end()) handshake->second->key_found(std::move(key));
}

void Worker::on_finished(HandshakeId id, std::optional<std::uint64_t> request_id,
                         Handshake::Outcome outcome) {
  const auto handshake = handshakes_.extract(id);
  const bool success = outcome.report.status == 0U;
  ++(success ? counters_.succeeded : counters_.failed);
  if (log_.enabled(LogLevel::kDebug)) {
    log_.debug(fmt::format(
        "{} status={} {}", name_of(request_id),
        errno_name(static_cast<int>(outcome.report.status.value_or(EIO))),
        success ? log_field("cipher", outcome.report.cipher.value_or(""))
                : log_field("reason", outcome.report.reason.value_or(""))));
  }
  const auto sequence = report(outcome.report, std::move(outcome.plain_end));
  if (outcome.relay && sequence) {
    CarriedRelay& carried = relays_[*sequence];
    carried = {request_id, std::move(outcome.relay)};
    carried.relay->start([this, key = *sequence](const ktls::Relay::Outcome& end) {
      on_relay_ended(key, end);
    });
  }
  accept_next();
}

std::optional<std::uint32_t> Worker::report(const protocol::worker::DoneRequest& report,
                                            UniqueFd plain_end) {
  if (worker_family_.id != 0) {
    return send(worker_family_.id, report, false, std::move(plain_end));
  }
  return send(handshake_family_.id, kernel_part(report), false);
}

void Worker::report_failure(std::int32_t token, int error, std::string reason) {
  ++counters_.failed;
  log_.debug(fmt::format("token={} status={} {}", token, errno_name(error),
                         log_field("reason", reason)));
  protocol::worker::DoneRequest done;
  done.sockfd = token;
  done.status = static_cast<std::uint32_t>(error);
  done.session_mode = protocol::SessionMode::kNone;
  done.reason = std::move(reason);
  static_cast<void>(report(done));
}

void Worker::on_relay_ended(std::uint32_t key, const ktls::Relay::Outcome& outcome) {
  const auto relay = relays_.extract(key);
  ++counters_.relays_ended;
  const std::optional<std::uint64_t> request_id = relay.mapped().request_id;
  if (log_.enabled(LogLevel::kDebug)) {
    log_.debug(fmt::format("{} relay ended: to_peer={} from_peer={} status={} {}",
                           name_of(request_id), outcome.bytes_to_peer, outcome.bytes_from_peer,
                           errno_name(outcome.status), log_field("reason", outcome.reason)));
  }
  if (request_id) {
    protocol::worker::RelayEndRequest request;
    request.request_id = request_id;
    request.bytes_to_peer = outcome.bytes_to_peer;
    request.bytes_from_peer = outcome.bytes_from_peer;
    request.status = static_cast<std::uint32_t>(outcome.status);
    if (outcome.status != 0) request.reason = outcome.reason;
    send(worker_family_.id, request, false);
  }
  accept_next();
}

void Worker::stop(const Error& error) {
  may_accept_ = false;
  retry_.reset();
  searches_.clear();
  handshakes_.clear();
  relays_.clear();
  channel_.reset();
  // Later: whoever called this still uses the worker, which `stopped_` may destroy.
  farewell_ = loop_.after(Clock::duration::zero(), [this, error] {
    const Stopped stopped = std::move(stopped_);
    stopped(error);
  });
}

}  // namespace handshake::agent
