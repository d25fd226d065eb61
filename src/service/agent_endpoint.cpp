// SPDX-License-Identifier: Apache-2.0
#include "service/agent_endpoint.h"

#include <linux/netlink.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "protocol/families.h"
#include "protocol/messages.h"

namespace handshake::service {
namespace {

namespace kernel = protocol::kernel;
namespace worker = protocol::worker;

const protocol::Controller& families() {
  static const protocol::Controller controller(
      {{protocol::kHandshakeId, &kernel::kFamily, protocol::kHandshakeGroups},
       {protocol::kWorkerId, &worker::kFamily, protocol::kWorkerGroups}});
  return controller;
}

constexpr bool knows_more(std::uint16_t type) { return type == protocol::kWorkerId; }

std::uint32_t to_wire(milliseconds time) {
  return static_cast<std::uint32_t>(std::clamp<milliseconds::rep>(
      time.count(), 0, std::numeric_limits<std::uint32_t>::max()));
}

/// What both vocabularies have.
template <class Reply>
Reply reply_to_accept(std::int32_t token, const AcceptedParameters& parameters) {
  Reply reply;
  reply.sockfd = token;
  reply.message_type = parameters.message_type;
  reply.peername = parameters.peername;
  if (parameters.timeout && parameters.timeout->count() > 0) {
    reply.timeout = to_wire(*parameters.timeout);
  }
  reply.keyring = parameters.keyring;
  reply.auth_mode = parameters.auth_mode;
  reply.peer_identity = parameters.peer_identities;
  reply.certificate = parameters.certificates;
  reply.max_tags = static_cast<std::uint32_t>(kMaxTags);
  return reply;
}

std::vector<std::byte> bytes_of(std::span<const std::byte> view) { return {view.begin(), view.end()}; }

worker::PresharedKey to_wire(const PresharedKey& key) {
  worker::PresharedKey wire;
  wire.serial = key.serial;
  wire.identity = bytes_of(std::as_bytes(std::span(key.identity)));
  wire.secret = bytes_of(key.secret.view());
  return wire;
}

void wipe(std::optional<std::vector<std::byte>>& secret) noexcept {
  if (secret && !secret->empty()) ::explicit_bzero(secret->data(), secret->size());
}

void add_ours(const AcceptedParameters&, kernel::AcceptReply&) {}
void wipe_keys(kernel::AcceptReply&) noexcept {}

void wipe_keys(worker::AcceptReply& reply) noexcept {
  if (reply.psk) wipe(reply.psk->secret);
  for (worker::KeyPair& pair : reply.key_pair) wipe(pair.private_key);
}

void add_ours(const AcceptedParameters& parameters, worker::AcceptReply& reply) {
  reply.request_id = parameters.request_id;
  reply.credential = parameters.credential;
  reply.relay = parameters.relay;
  reply.client_auth = parameters.client_auth;
  reply.remaining = to_wire(parameters.remaining);
  if (parameters.keys == nullptr) return;
  if (parameters.keys->psk) reply.psk = to_wire(*parameters.keys->psk);
  for (const RequestKeyPair& pair : parameters.keys->key_pairs) {
    worker::KeyPair wire;
    wire.name = pair.name;
    wire.certificate = pair.certificate;
    wire.private_key = bytes_of(pair.private_key.view());
    reply.key_pair.push_back(std::move(wire));
  }
}

bool announces_plain_end(const kernel::DoneRequest&) { return false; }
bool announces_plain_end(const worker::DoneRequest& request) { return request.plain_end; }

void add_ours(kernel::DoneRequest&, DoneReport& report) {
  // All that an agent of the kernel's vocabulary can mean by success.
  report.mode = protocol::SessionMode::kKtls;
}

void add_ours(worker::DoneRequest& request, DoneReport& report) {
  report.mode = request.session_mode.value_or(protocol::SessionMode::kNone);
  report.cipher = std::move(request.cipher).value_or("");
  report.group = std::move(request.group).value_or("");
  report.peer_subject = std::move(request.peer_subject).value_or("");
  report.certificate_algorithm = std::move(request.certificate_algorithm).value_or("");
  report.reason = std::move(request.reason).value_or("");
  report.alert = request.alert;
  report.alert_sent = request.alert_sent;
}

/// The token in a DONE that may be malformed otherwise.
std::optional<std::int32_t> find_token(const protocol::MessageView& request) {
  std::optional<std::int32_t> token;
  protocol::ExtAck ignored;
  protocol::AttributeReader reader(request.attributes, protocol::kAttributesOffset);
  for (;;) {
    const auto next = reader.next(ignored);
    if (!next || !next->has_value()) return token;
    const protocol::Attribute& attribute = **next;
    if (attribute.type == static_cast<std::uint16_t>(kernel::DoneAttribute::kSockfd) &&
        attribute.payload.size() == sizeof(std::int32_t)) {
      token = attribute.scalar<std::int32_t>();
    }
  }
}

}  // namespace

/// What a datagram brought along.
struct AgentEndpoint::Incoming {
  Reaper& reaper;
  std::vector<UniqueFd> fds;
  bool fds_lost;

  Incoming(Reaper& to, protocol::Packet& packet)
      : reaper(to), fds(std::move(packet.fds)), fds_lost(packet.fds_lost) {}
  Incoming(const Incoming&) = delete;
  Incoming& operator=(const Incoming&) = delete;
  ~Incoming() {
    for (UniqueFd& fd : fds) reaper.close(std::move(fd));
  }

  /// The only descriptor; nothing when there are several, or when it has been taken.
  UniqueFd take_only() { return fds.size() == 1 ? std::move(fds.front()) : UniqueFd(); }
};

AgentEndpoint::AgentEndpoint(Service& service, Reaper& reaper, const AgentInfo& info, Sink sink)
    : reaper_(reaper),
      privileged_(info.uid == 0 || info.uid == ::geteuid()),
      sink_(std::move(sink)),
      connection_(service.connect_agent(
          info, [this](std::uint32_t handler_class) { ready(handler_class); })) {}

AgentEndpoint::~AgentEndpoint() {
  sink_.revoke();
  connection_.reset();
}

bool AgentEndpoint::receive(protocol::Packet packet) {
  Incoming incoming(reaper_, packet);
  const SendBytes send = [this](std::vector<std::byte> bytes) {
    sink_.call(std::move(bytes), {});
    // Whatever was answered, READY may follow now.
    std::vector<std::uint32_t> held;
    {
      const MutexLock lock(mutex_);
      hold_ready_ = false;
      held.swap(held_ready_);
    }
    for (const std::uint32_t handler_class : held) send_ready(handler_class);
  };
  try {
    return dispatch(packet.bytes, families(), send,
                    [&](const protocol::MessageView& request,
                        const protocol::Controller::Registration& family,
                        protocol::ExtAck& ack) { return handle(incoming, request, family, ack); });
  } catch (const std::bad_alloc&) {
    return false;
  }
}

Answer AgentEndpoint::handle(Incoming& packet, const protocol::MessageView& request,
                             const protocol::Controller::Registration& family,
                             protocol::ExtAck& ack) {
  const protocol::OperationInfo* const operation = family.family->find(request.command);
  if (operation != nullptr && !privileged_) {
    ack.message = "only root and the service's own user may be agents";
    return EPERM;
  }
  const bool is_done = request.command == kernel::DoneRequest::kCommand;
  if (packet.fds_lost) {
    const Answer answer = descriptors_lost(ack);
    if (is_done) refuse_done(request, "the descriptors of the agent's report were lost");
    return answer;
  }
  if (Result<void> ok = protocol::check(*family.family, request, ack); !ok) {
    if (is_done) refuse_done(request, "the agent's report was malformed");
    return knows_more(family.id) ? explain(ok.error(), ack) : ok.error().number();
  }
  switch (request.command) {
    case kernel::AcceptRequest::kCommand:
      return knows_more(family.id)
                 ? accept<worker::AcceptRequest, worker::AcceptReply>(request, ack)
                 : accept<kernel::AcceptRequest, kernel::AcceptReply>(request, ack);
    case kernel::DoneRequest::kCommand:
      return knows_more(family.id) ? done<worker::DoneRequest>(packet, request, ack)
                                   : done<kernel::DoneRequest>(packet, request, ack);
    case worker::SubscribeRequest::kCommand: return subscribe(request, ack);
    case worker::RelayEndRequest::kCommand: return relay_end(request, ack);
    case worker::FindKeyRequest::kCommand: return find_key(request, ack);
    default: return EOPNOTSUPP;
  }
}

template <class Request, class Reply>
Answer AgentEndpoint::accept(const protocol::MessageView& request, protocol::ExtAck& ack) {
  Result<Request> parsed = Request::parse(request.attributes, protocol::Unknown::kRefuse, ack);
  if (!parsed) return explain(parsed.error(), ack);
  if (!parsed->handler_class) {
    ack.missing_type = static_cast<std::uint16_t>(kernel::AcceptAttribute::kHandlerClass);
    return EINVAL;
  }
  for (;;) {
    Result<Accepted> accepted =
        connection_->accept(static_cast<std::uint32_t>(*parsed->handler_class));
    if (!accepted) return accepted.error().number();

    // Should memory run out until hand_over(), the request goes back to where it came from.
    Reply reply = reply_to_accept<Reply>(accepted->token(), accepted->parameters());
    add_ours(accepted->parameters(), reply);
    Result<std::vector<std::byte>> bytes =
        protocol::build({.type = request.type, .sequence = request.sequence, .port = request.port},
                        reply);
    wipe_keys(reply);
    std::vector<UniqueFd> fds;
    fds.reserve(1);
    const std::int32_t token = accepted->token();
    if (!accepted->hand_over()) continue;  // it has ended meanwhile: the next one
    if (!bytes) {
      // It would never fit, and block what stands behind it.
      connection_->done_refused(token, "the request is too large for an agent");
      continue;
    }
    fds.push_back(accepted->take_socket());
    try {
      sink_.call(*std::move(bytes), std::move(fds));
    } catch (const std::bad_alloc&) {
      connection_->done_refused(token, "the request could not be sent to an agent");
      throw;
    }
    return 0;
  }
}

template <class Request>
Answer AgentEndpoint::done(Incoming& packet, const protocol::MessageView& request,
                           protocol::ExtAck& ack) {
  Result<Request> parsed = Request::parse(request.attributes, protocol::Unknown::kRefuse, ack);
  if (!parsed) {
    refuse_done(request, "the agent's report was malformed");
    return explain(parsed.error(), ack);
  }
  if (!parsed->sockfd) {
    ack.missing_type = static_cast<std::uint16_t>(kernel::DoneAttribute::kSockfd);
    return EINVAL;
  }
  DoneReport report;
  if (announces_plain_end(*parsed)) {
    report.plain_end = packet.take_only();
    if (!report.plain_end) {
      ack.message = "a plain end goes beside its DONE as the only descriptor";
      refuse_done(request, "the agent's report was malformed");
      return EINVAL;
    }
  }
  report.status = parsed->status;
  report.remote_auth = std::move(parsed->remote_auth);
  report.tags = std::move(parsed->tag);
  add_ours(*parsed, report);
  const Result<void> result = connection_->done(*parsed->sockfd, std::move(report));
  if (result) return 0;
  // The kernel says no more than the number when it has no such request.
  const bool malformed = result.error().kind == ErrorKind::kInvalidArgument;
  return malformed ? explain(result.error(), ack) : result.error().number();
}

Answer AgentEndpoint::subscribe(const protocol::MessageView& request, protocol::ExtAck& ack) {
  Result<worker::SubscribeRequest> parsed =
      worker::SubscribeRequest::parse(request.attributes, protocol::Unknown::kRefuse, ack);
  if (!parsed) return explain(parsed.error(), ack);
  if (parsed->handler_class.empty()) {
    ack.missing_type = static_cast<std::uint16_t>(worker::SubscriptionAttribute::kHandlerClass);
    return EINVAL;
  }
  Subscription subscription;
  subscription.handler_classes = std::move(parsed->handler_class);
  subscription.netns_cookies = std::move(parsed->netns);
  subscription.every_netns = parsed->every_netns;
  {
    const MutexLock lock(mutex_);
    hold_ready_ = (request.flags & NLM_F_ACK) != 0;
  }
  const Result<void> result = connection_->subscribe(subscription);
  return result ? 0 : explain(result.error(), ack);
}

Answer AgentEndpoint::find_key(const protocol::MessageView& request, protocol::ExtAck& ack) {
  const Result<worker::FindKeyRequest> parsed =
      worker::FindKeyRequest::parse(request.attributes, protocol::Unknown::kRefuse, ack);
  if (!parsed) return explain(parsed.error(), ack);
  if (!parsed->sockfd) {
    ack.missing_type = static_cast<std::uint16_t>(worker::KeySearchAttribute::kSockfd);
    return EINVAL;
  }
  std::vector<std::string> identities;
  for (const std::vector<std::byte>& identity : parsed->identity) {
    identities.emplace_back(reinterpret_cast<const char*>(identity.data()), identity.size());
  }
  const Result<PresharedKey> found = connection_->find_key(*parsed->sockfd, identities);
  if (!found) return explain(found.error(), ack);
  worker::FindKeyReply reply;
  reply.psk = to_wire(*found);
  Result<std::vector<std::byte>> bytes = protocol::build(
      {.type = request.type, .sequence = request.sequence, .port = request.port}, reply);
  wipe(reply.psk->secret);
  if (!bytes) return explain(bytes.error(), ack);
  sink_.call(*std::move(bytes), {});
  return 0;
}

Answer AgentEndpoint::relay_end(const protocol::MessageView& request, protocol::ExtAck& ack) {
  const Result<worker::RelayEndRequest> parsed =
      worker::RelayEndRequest::parse(request.attributes, protocol::Unknown::kRefuse, ack);
  if (!parsed) return explain(parsed.error(), ack);
  if (!parsed->request_id) {
    ack.missing_type = static_cast<std::uint16_t>(worker::RelayAttribute::kRequestId);
    return EINVAL;
  }
  const Result<void> result = connection_->relay_end(
      *parsed->request_id,
      {parsed->bytes_to_peer.value_or(0), parsed->bytes_from_peer.value_or(0),
       parsed->status.value_or(EIO), parsed->reason.value_or("")});
  return result ? 0 : explain(result.error(), ack);
}

void AgentEndpoint::refuse_done(const protocol::MessageView& request, const char* reason) {
  if (const auto token = find_token(request)) connection_->done_refused(*token, reason);
}

void AgentEndpoint::ready(std::uint32_t handler_class) {
  {
    const MutexLock lock(mutex_);
    if (hold_ready_) {
      held_ready_.push_back(handler_class);
      return;
    }
  }
  send_ready(handler_class);
}

void AgentEndpoint::send_ready(std::uint32_t handler_class) {
  // The kernel's vocabulary has a number for the kernel's classes only.
  Result<std::vector<std::byte>> bytes =
      handler_class <= static_cast<std::uint32_t>(protocol::HandlerClass::kMax)
          ? protocol::build({.type = protocol::kHandshakeId},
                            kernel::ReadyEvent{protocol::HandlerClass{handler_class}})
          : protocol::build({.type = protocol::kWorkerId}, worker::ReadyEvent{handler_class});
  if (bytes) sink_.call(*std::move(bytes), {});
}

}  // namespace handshake::service
