// SPDX-License-Identifier: Apache-2.0
#include "service/consumer_endpoint.h"

#include <linux/netlink.h>
#include <unistd.h>

#include <map>
#include <new>
#include <optional>
#include <utility>

#include "base/mutex.h"
#include "protocol/families.h"
#include "protocol/messages.h"
#include "service/revocable.h"

namespace handshake::service {
namespace {

namespace consumer = protocol::consumer;

/// Of one uid, in the reaper: more is no accident.
constexpr std::size_t kMaxUnclosed = 4096;

const protocol::Controller& families() {
  static const protocol::Controller controller(
      {{protocol::kConsumerId, &consumer::kFamily, 0}});
  return controller;
}

/// Enough of a request to answer it when its bytes are gone.
struct RequestCopy {
  explicit RequestCopy(const protocol::MessageView& request)
      : bytes(request.whole.begin(), request.whole.end()), view(request) {
    view.whole = bytes;
    view.attributes = {};
  }
  RequestCopy(RequestCopy&& other) noexcept : bytes(std::move(other.bytes)), view(other.view) {
    view.whole = bytes;
  }
  RequestCopy& operator=(RequestCopy&&) = delete;

  std::vector<std::byte> bytes;
  protocol::MessageView view;
};

template <class T>
std::optional<T> unless_empty(T value) {
  if (value.empty()) return std::nullopt;
  return value;
}

consumer::CompleteEvent event_of(std::uint64_t id, Completion& completion) {
  consumer::CompleteEvent event;
  event.id = id;
  // Positive on the wire, as everywhere in these protocols.
  event.status = static_cast<std::uint32_t>(-completion.status);
  event.session_mode = completion.mode;
  event.remote_auth = std::move(completion.remote_auth);
  event.tag.assign(completion.tags.begin(), completion.tags.end());
  event.cipher = unless_empty(std::move(completion.cipher));
  event.group = unless_empty(std::move(completion.group));
  event.peer_subject = unless_empty(std::move(completion.peer_subject));
  event.reason = unless_empty(std::move(completion.reason));
  event.alert = completion.alert;
  event.alert_sent = completion.alert_sent;
  event.request_id = completion.request_id;
  return event;
}

}  // namespace

// Shared with completions and with work that is under way on other threads: any of them may come
// when the endpoint is gone.
struct ConsumerEndpoint::State : std::enable_shared_from_this<State> {
  /// A SUBMIT that has not been refused, until its end.
  struct Live {
    bool acknowledged = false;
    std::uint64_t request_id = 0;       ///< once submitted
    std::optional<Completion> early;    ///< completed before the ack was out
    std::vector<RequestCopy> cancels;   ///< CANCELs that wait for the SUBMIT's answer
  };

  State(Service& to, Reaper& through, const ConsumerInfo& who, Authorizer authorizes, Sink out,
        OffThread elsewhere, Broken fails)
      : service(to),
        reaper(through),
        info(who),
        authorizer(std::make_shared<const Authorizer>(std::move(authorizes))),
        off_thread(std::move(elsewhere)),
        sink(std::move(out)),
        broken(std::move(fails)) {}

  Answer handle(protocol::Packet& packet, const protocol::MessageView& request,
                const protocol::Controller::Registration& family, protocol::ExtAck& ack);
  Answer submit(protocol::Packet& packet, const protocol::MessageView& request,
                protocol::ExtAck& ack) HS_EXCLUDES(mutex);
  Answer cancel(const protocol::MessageView& request, protocol::ExtAck& ack) HS_EXCLUDES(mutex);
  /// Asks the service and sends the SUBMIT's answer, then what waited for it.
  void submit_and_answer(std::uint64_t id, Submission submission,
                         std::optional<SocketFacts> facts, const protocol::MessageView& request)
      HS_EXCLUDES(mutex);
  void refuse_submit(std::uint64_t id, const Error& error, const protocol::MessageView& request)
      HS_EXCLUDES(mutex);
  void answer_cancel(std::uint64_t id, std::uint64_t request_id,
                     const protocol::MessageView& request) HS_EXCLUDES(mutex);
  void reply_to_cancel(std::uint64_t id, bool cancelled, const protocol::MessageView& request);
  void completed(std::uint64_t id, Completion completion) HS_EXCLUDES(mutex);
  void send_complete(std::uint64_t id, Completion completion);
  void send(std::vector<std::byte> bytes) { sink.call(std::move(bytes), {}); }
  bool is_stranger() const { return info.uid != 0 && info.uid != ::geteuid(); }

  Service& service;
  Reaper& reaper;
  const ConsumerInfo info;
  const std::shared_ptr<const Authorizer> authorizer;
  const OffThread off_thread;
  Revocable<std::vector<std::byte>, std::vector<UniqueFd>> sink;
  Revocable<const Error&> broken;
  Mutex mutex;
  /// By the consumer's own id.
  std::map<std::uint64_t, Live> live HS_GUARDED_BY(mutex);
  bool closed HS_GUARDED_BY(mutex) = false;
};

ConsumerEndpoint::ConsumerEndpoint(Service& service, Reaper& reaper, const ConsumerInfo& info,
                                   Authorizer authorizer, Sink sink, OffThread off_thread,
                                   Broken broken)
    : state_(std::make_shared<State>(service, reaper, info, std::move(authorizer),
                                     std::move(sink), std::move(off_thread), std::move(broken))) {}

ConsumerEndpoint::~ConsumerEndpoint() {
  State& state = *state_;
  state.sink.revoke();
  state.broken.revoke();
  for (;;) {
    std::uint64_t request_id = 0;
    {
      const MutexLock lock(state.mutex);
      state.closed = true;
      const auto first = state.live.begin();
      if (first == state.live.end()) return;
      request_id = first->second.request_id;
      if (first->second.early) state.reaper.close(std::move(first->second.early->plain_end));
      state.live.erase(first);
    }
    if (request_id != 0) state.service.cancel(request_id);
  }
}

bool ConsumerEndpoint::receive(protocol::Packet packet) {
  State& state = *state_;
  bool fine = state.reaper.outstanding(state.info.uid) <= kMaxUnclosed;
  try {
    fine = fine && dispatch(
        packet.bytes, families(), [&](std::vector<std::byte> bytes) { state.send(std::move(bytes)); },
        [&](const protocol::MessageView& request, const protocol::Controller::Registration& family,
            protocol::ExtAck& ack) { return state.handle(packet, request, family, ack); });
  } catch (const std::bad_alloc&) {
    fine = false;
  }
  for (UniqueFd& fd : packet.fds) state.reaper.close(std::move(fd), state.info.uid);
  return fine;
}

Answer ConsumerEndpoint::State::handle(protocol::Packet& packet,
                                       const protocol::MessageView& request,
                                       const protocol::Controller::Registration& family,
                                       protocol::ExtAck& ack) {
  if (Result<void> ok = protocol::check(*family.family, request, ack); !ok) {
    return explain(ok.error(), ack);
  }
  if (packet.fds_lost) return descriptors_lost(ack);
  switch (request.command) {
    case consumer::SubmitRequest::kCommand: return submit(packet, request, ack);
    case consumer::CancelRequest::kCommand: return cancel(request, ack);
    default: return EOPNOTSUPP;
  }
}

Answer ConsumerEndpoint::State::submit(protocol::Packet& packet,
                                       const protocol::MessageView& request,
                                       protocol::ExtAck& ack) {
  using Number = consumer::RequestAttribute;
  Result<consumer::SubmitRequest> parsed =
      consumer::SubmitRequest::parse(request.attributes, protocol::Unknown::kRefuse, ack);
  if (!parsed) return explain(parsed.error(), ack);
  const auto missing = [&ack](std::string_view name, Number number) {
    return explain(
        protocol::missing_attribute(name, static_cast<std::uint16_t>(number), ack).value(), ack);
  };
  if (!parsed->id) return missing("id", Number::kId);
  if (!parsed->message_type) return missing("message-type", Number::kMessageType);
  if (!parsed->auth_mode) return missing("auth-mode", Number::kAuthMode);
  if (packet.fds.size() != 1 || !packet.fds.front()) {
    ack.message = "the socket goes beside its SUBMIT as the only descriptor";
    return EINVAL;
  }

  const std::uint64_t id = *parsed->id;
  Submission submission;
  submission.uid = info.uid;
  submission.handler_class =
      parsed->handler_class.value_or(static_cast<std::uint32_t>(protocol::HandlerClass::kTlshd));
  submission.message_type = *parsed->message_type;
  submission.auth_mode = *parsed->auth_mode;
  submission.peername = std::move(parsed->peername);
  submission.credential = std::move(parsed->credential);
  submission.relay = parsed->relay.value_or(protocol::RelayMode::kNever);
  submission.client_auth = parsed->client_auth.value_or(protocol::ClientAuth::kDefault);
  if (parsed->timeout) submission.timeout = milliseconds(*parsed->timeout);
  if (*authorizer != nullptr) {
    submission.authorize = [allowed = authorizer](const Submission& what,
                                                  const SocketFacts& facts) {
      return (*allowed)(what, facts);
    };
  }
  submission.complete = [state = shared_from_this(), id](Completion completion) {
    state->completed(id, std::move(completion));
  };
  {
    const MutexLock lock(mutex);
    if (!live.try_emplace(id).second) {
      ack.message = "this id names another request that has not ended";
      return EINVAL;
    }
  }

  if (off_thread.reader == nullptr || !is_stranger()) {
    submission.socket = std::move(packet.fds.front());
    submit_and_answer(id, std::move(submission), std::nullopt, request);
    return kAnswersLater;
  }

  // To the reader's thread and back. Both functions must be copyable; what they carry is not.
  struct Carried {
    std::weak_ptr<State> state;
    std::uint64_t id;
    Submission submission;
    RequestCopy request;
    std::optional<ReapedFd> socket;
    Result<SocketFacts> facts;
  };
  auto carried = std::make_shared<Carried>(Carried{
      weak_from_this(), id, std::move(submission), RequestCopy(request), std::nullopt, {}});
  const Result<void> begun = off_thread.reader->read(
      ReapedFd(reaper, std::move(packet.fds.front()), info.uid), info.uid,
      [carried, post = off_thread.post](ReapedFd socket, Result<SocketFacts> facts) {
        carried->socket.emplace(std::move(socket));
        carried->facts = std::move(facts);
        const auto proceed = [carried] {
          ReapedFd mine = std::move(*carried->socket);  // gone with this call, whatever comes
          const std::shared_ptr<State> state = carried->state.lock();
          if (state == nullptr) return;
          {
            const MutexLock lock(state->mutex);
            if (state->closed) return;
          }
          if (!carried->facts) {
            state->refuse_submit(carried->id, carried->facts.error(), carried->request.view);
            return;
          }
          carried->submission.socket = mine.take();
          state->submit_and_answer(carried->id, std::move(carried->submission),
                                   *std::move(carried->facts), carried->request.view);
        };
        try {
          post(proceed);
        } catch (const std::bad_alloc&) {
          if (const auto state = carried->state.lock()) {
            state->broken.call(Error{ErrorKind::kNoMemory, {}});
          }
        }
      });
  if (!begun) refuse_submit(id, begun.error(), request);
  return kAnswersLater;
}

void ConsumerEndpoint::State::submit_and_answer(std::uint64_t id, Submission submission,
                                                std::optional<SocketFacts> facts,
                                                const protocol::MessageView& request) {
  const TimePoint now = service.now();
  const Result<std::uint64_t> submitted =
      facts ? service.submit(std::move(submission), *std::move(facts), now)
            : service.submit(std::move(submission), now);
  if (!submitted) {
    refuse_submit(id, submitted.error(), request);
    return;
  }
  if (auto bytes = acknowledgement(request, 0, {})) send(*std::move(bytes));
  std::vector<RequestCopy> cancels;
  std::optional<Completion> early;
  {
    const MutexLock lock(mutex);
    const auto found = live.find(id);
    if (found == live.end()) return;  // the endpoint is being destroyed
    found->second.acknowledged = true;
    found->second.request_id = *submitted;
    cancels = std::move(found->second.cancels);
    early = std::exchange(found->second.early, std::nullopt);
    if (early) live.erase(found);
  }
  if (early) send_complete(id, *std::move(early));
  for (const RequestCopy& waiting : cancels) answer_cancel(id, *submitted, waiting.view);
}

void ConsumerEndpoint::State::refuse_submit(std::uint64_t id, const Error& error,
                                            const protocol::MessageView& request) {
  protocol::ExtAck ack;
  const Answer answer = explain(error, ack);
  if (auto bytes = acknowledgement(request, answer, ack)) send(*std::move(bytes));
  std::vector<RequestCopy> cancels;
  {
    const MutexLock lock(mutex);
    const auto found = live.find(id);
    if (found == live.end()) return;
    cancels = std::move(found->second.cancels);
    live.erase(found);
  }
  for (const RequestCopy& waiting : cancels) reply_to_cancel(id, false, waiting.view);
}

Answer ConsumerEndpoint::State::cancel(const protocol::MessageView& request,
                                       protocol::ExtAck& ack) {
  const Result<consumer::CancelRequest> parsed =
      consumer::CancelRequest::parse(request.attributes, protocol::Unknown::kRefuse, ack);
  if (!parsed) return explain(parsed.error(), ack);
  if (!parsed->id) {
    ack.missing_type = static_cast<std::uint16_t>(consumer::RequestAttribute::kId);
    return EINVAL;
  }
  std::uint64_t request_id = 0;
  {
    const MutexLock lock(mutex);
    const auto found = live.find(*parsed->id);
    if (found != live.end()) {
      if (!found->second.acknowledged) {
        found->second.cancels.emplace_back(request);
        return kAnswersLater;
      }
      request_id = found->second.request_id;
    }
  }
  answer_cancel(*parsed->id, request_id, request);
  return kAnswersLater;
}

void ConsumerEndpoint::State::answer_cancel(std::uint64_t id, std::uint64_t request_id,
                                            const protocol::MessageView& request) {
  const bool cancelled = request_id != 0 && service.cancel(request_id);
  if (cancelled) {
    const MutexLock lock(mutex);
    live.erase(id);
  }
  reply_to_cancel(id, cancelled, request);
}

void ConsumerEndpoint::State::reply_to_cancel(std::uint64_t id, bool cancelled,
                                              const protocol::MessageView& request) {
  consumer::CancelReply reply;
  reply.id = id;
  reply.cancelled = cancelled ? 1 : 0;
  if (auto bytes = protocol::build({.type = request.type,
                                    .sequence = request.sequence,
                                    .port = request.port},
                                   reply)) {
    send(*std::move(bytes));
  }
  if (auto bytes = acknowledgement(request, 0, {})) send(*std::move(bytes));
}

void ConsumerEndpoint::State::completed(std::uint64_t id, Completion completion) {
  {
    const MutexLock lock(mutex);
    const auto found = live.find(id);
    if (closed || found == live.end()) {
      reaper.close(std::move(completion.plain_end));
      return;
    }
    if (!found->second.acknowledged) {
      found->second.early = std::move(completion);
      return;
    }
    live.erase(found);
  }
  send_complete(id, std::move(completion));
}

void ConsumerEndpoint::State::send_complete(std::uint64_t id, Completion completion) {
  ReapedFd plain_end(reaper, std::move(completion.plain_end));
  try {
    const protocol::MessageHeader header{.type = protocol::kConsumerId};
    const std::uint64_t request_id = completion.request_id;
    Result<std::vector<std::byte>> bytes = protocol::build(header, event_of(id, completion));
    std::vector<UniqueFd> fds;
    if (bytes && plain_end) {
      fds.reserve(1);
      fds.push_back(plain_end.take());
    }
    if (!bytes) {
      // More identities and tags than a message takes: without them the session is worth nothing.
      consumer::CompleteEvent event;
      event.id = id;
      event.status = EIO;
      event.session_mode = protocol::SessionMode::kNone;
      event.reason = "the agent's report is too long for a message";
      event.request_id = request_id;
      bytes = protocol::build(header, event);
    }
    if (bytes) sink.call(*std::move(bytes), std::move(fds));
  } catch (const std::bad_alloc&) {
    broken.call(Error{ErrorKind::kNoMemory, {}});
  }
}

}  // namespace handshake::service
