// SPDX-License-Identifier: Apache-2.0
#include "client/context.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "client/socket.h"
#include "transport/seqpacket.h"

namespace handshake::client {

namespace {

int poll_milliseconds(std::optional<TimePoint> deadline) {
  if (!deadline) return -1;
  const auto left = std::chrono::ceil<milliseconds>(*deadline - Clock::now()).count();
  return static_cast<int>(
      std::clamp<decltype(left)>(left, 0, std::numeric_limits<int>::max()));
}

bool add_to_epoll(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  return ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/// Lets a held mutex go for a scope.
class HS_SCOPED_CAPABILITY Unlocked {
 public:
  explicit Unlocked(Mutex& mutex) HS_RELEASE(mutex) : mutex_(mutex) { mutex_.unlock(); }
  ~Unlocked() HS_RELEASE() { mutex_.lock(); }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  Mutex& mutex_;
};

/// An entry of a map for a scope.
template <class Key, class Value>
class Listing {
 public:
  Listing(std::map<Key, Value>& map, Key key, Value value) : map_(map), key_(key) {
    map_.emplace(key, value);
  }
  ~Listing() { map_.erase(key_); }
  Listing(const Listing&) = delete;
  Listing& operator=(const Listing&) = delete;

 private:
  std::map<Key, Value>& map_;
  Key key_;
};

}  // namespace

// --- Connection --------------------------------------------------------------------------------

Expected<std::unique_ptr<Context>> Context::create(std::string path, milliseconds patience) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return refuse(errno, "epoll_create1 failed");
  UniqueFd signal(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!signal) return refuse(errno, "eventfd failed");
  if (!add_to_epoll(epoll.get(), signal.get())) return refuse(errno, "epoll_ctl failed");
  std::unique_ptr<Context> context(
      new Context(std::move(path), patience, std::move(epoll), std::move(signal)));
  const MutexLock lock(context->mutex_);
  if (auto connected = context->connect(); !connected) return tl::unexpected(connected.error());
  return context;
}

Context::Context(std::string path, milliseconds patience, UniqueFd epoll, UniqueFd signal)
    : path_(std::move(path)),
      patience_(patience),
      epoll_(std::move(epoll)),
      signal_(std::move(signal)) {}

Context::~Context() {
  Requests left;
  {
    const MutexLock lock(mutex_);
    socket_.reset();
    by_id_.clear();
    left.splice(left.end(), requests_);
    left.splice(left.end(), ready_);
  }
  for (Request& request : left) {
    if (request.release != nullptr) request.release(request.cookie);
  }
}

Expected<void> Context::connect() {
  // Learns here that the service has gone, if nobody has read that yet.
  if (!reading_) read_all();
  if (socket_) return {};
  auto connection = connect_unlocked();
  if (!connection) return tl::unexpected(std::move(connection.error()));
  // Another thread may have been faster.
  return socket_ ? Expected<void>() : adopt(std::move(*connection));
}

Expected<Connection> Context::connect_unlocked() {
  const Unlocked unlocked(mutex_);
  return connect_service(path_, patience_);
}

Expected<void> Context::adopt(Connection connection) {
  auto socket = std::make_shared<const UniqueFd>(std::move(connection.socket));
  if (!add_to_epoll(epoll_.get(), socket->get())) return refuse(errno, "epoll_ctl failed");
  socket_ = std::move(socket);
  family_ = connection.family;
  return {};
}

void Context::lose(std::string_view why) noexcept {
  if (!socket_) return;
  std::shared_ptr<const std::string> reason;
  try {
    reason = std::make_shared<const std::string>(why);
  } catch (const std::bad_alloc&) {  // then there is none
  }
  // Threads that poll the socket hold it open: wake them, and keep epoll from reporting it.
  ::shutdown(socket_->get(), SHUT_RDWR);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, socket_->get(), nullptr);
  socket_.reset();
  for (auto& [sequence, exchange] : exchanges_) {
    if (exchange->error) continue;
    exchange->error = EIO;
    exchange->loss = reason;
    wake(exchange->waiter);
  }
  for (auto request = requests_.begin(); request != requests_.end();) {
    const auto current = request++;
    if (current->state != Request::State::kOutstanding) continue;
    current->loss = reason;
    end_request(current);
  }
}

// --- Waiting -----------------------------------------------------------------------------------

void Context::wake(Waiter& waiter) noexcept {
  waiter.done = true;
  waiter.wake.notify_one();
}

void Context::wait_for(Waiter& waiter, std::optional<TimePoint> deadline) {
  waiter.next = &waiters_;
  waiter.previous = waiters_.previous;
  waiter.previous->next = &waiter;
  waiters_.previous = &waiter;
  while (!waiter.done && (!deadline || Clock::now() < *deadline)) {
    if (!reading_ && socket_) {
      poll_socket(POLLIN, deadline);
    } else if (deadline) {
      waiter.wake.wait_until(mutex_, *deadline);
    } else {
      waiter.wake.wait(mutex_);
    }
  }
  waiter.previous->next = waiter.next;
  waiter.next->previous = waiter.previous;
  pass_reading_on();
}

void Context::poll_socket(short events, std::optional<TimePoint> deadline) {
  const std::shared_ptr<const UniqueFd> socket = socket_;
  const bool reader = !reading_;
  if (reader) {
    reading_ = true;
    events = static_cast<short>(events | POLLIN);
  }
  pollfd ready{socket->get(), events, 0};
  {
    const Unlocked unlocked(mutex_);
    static_cast<void>(::poll(&ready, 1, poll_milliseconds(deadline)));
  }
  if (reader) {
    reading_ = false;
    read_all();
  }
}

void Context::pass_reading_on() {
  // Waking one that is done already does no harm: it passes the task on when it leaves.
  if (!reading_ && waiters_.next != &waiters_) waiters_.next->wake.notify_one();
}

Expected<void> Context::send(std::span<const std::byte> message, std::span<const UniqueFd> fds,
                             TimePoint deadline) {
  // A connection that came after this one has another family id and knows nothing of the exchange.
  const std::shared_ptr<const UniqueFd> socket = socket_;
  while (socket != nullptr && socket_ == socket) {
    const auto sent = transport::send_packet(socket->get(), message, fds);
    if (!sent && sent.error().kind != ErrorKind::kConnectionReset) return refuse(sent.error());
    if (!sent) {
      // What it said before it went comes first.
      if (!reading_) read_all();
      lose("the service closed the connection");
      break;
    }
    if (*sent == transport::SendState::kSent) return {};
    if (*sent == transport::SendState::kTooManyFds) {
      return refuse(EAGAIN, "too many descriptors are on their way to the service");
    }
    if (Clock::now() >= deadline) {
      lose("the service does not read");
      break;
    }
    poll_socket(POLLOUT, deadline);
    pass_reading_on();
  }
  return refuse(EIO, "the service has gone");
}

Expected<void> Context::ask(Exchange& exchange, std::uint32_t sequence,
                            std::span<const std::byte> message, std::span<const UniqueFd> fds) {
  const TimePoint deadline = Clock::now() + patience_;
  const Listing<std::uint32_t, Exchange*> listed(exchanges_, sequence, &exchange);
  auto sent = send(message, fds, deadline);
  if (sent) {
    wait_for(exchange.waiter, deadline);
    if (!exchange.error) lose("the service does not answer");
  }
  return sent;
}

// --- What arrives ------------------------------------------------------------------------------

void Context::read_all() noexcept {
  try {
    while (socket_) {
      auto packet = transport::receive_packet(socket_->get());
      if (!packet) return lose(packet.error().detail);
      if (!*packet) return;
      if (auto taken = take_packet(std::move(**packet)); !taken) {
        return lose("the service broke the protocol: " + taken.error().detail);
      }
    }
  } catch (const std::bad_alloc&) {
    // Whose message was lost is unknown: without this everybody might wait for it.
    lose("out of memory while reading from the service");
  }
}

Expected<void> Context::take_packet(protocol::Packet packet) {
  protocol::MessageReader reader(packet.bytes);
  while (true) {
    const auto message = reader.next();
    if (!message) return refuse(message.error());
    if (!*message) break;
    if (auto taken = take_message(**message, packet); !taken) return taken;
  }
  if (!packet.fds.empty()) return refuse(EIO, "a descriptor that belongs to no message");
  return {};
}

Expected<void> Context::take_message(const protocol::MessageView& message,
                                     protocol::Packet& packet) {
  if (message.type == NLMSG_ERROR) return take_ack(message);
  if (message.type != family_) {
    return refuse(EIO, "a message of type " + std::to_string(message.type));
  }
  switch (message.command) {
    case protocol::consumer::CancelReply::kCommand: return take_cancel_reply(message);
    case protocol::consumer::CompleteEvent::kCommand: return take_completion(message, packet);
    // A later service may have more to say.
    default: return {};
  }
}

Expected<void> Context::take_ack(const protocol::MessageView& message) {
  auto ack = protocol::parse_ack(message);
  if (!ack) return refuse(std::move(ack.error()));
  const auto found = exchanges_.find(ack->sequence);
  if (found == exchanges_.end() || found->second->error) {
    return refuse(EIO, "an ack for nothing");
  }
  Exchange& exchange = *found->second;
  exchange.error = ack->error;
  exchange.detail = std::move(ack->ext.message);
  if (exchange.submitted != nullptr && ack->error == 0) {
    exchange.submitted->state = Request::State::kOutstanding;
  }
  wake(exchange.waiter);
  return {};
}

Expected<void> Context::take_cancel_reply(const protocol::MessageView& message) {
  protocol::ExtAck problem;
  const auto reply = protocol::consumer::CancelReply::parse(message.attributes,
                                                            protocol::Unknown::kSkip, problem);
  if (!reply) return refuse(reply.error());
  const auto found = exchanges_.find(message.sequence);
  if (found == exchanges_.end() || found->second->error || !found->second->cancels ||
      found->second->cancels != reply->id || !reply->cancelled) {
    return refuse(EIO, "a reply for nothing");
  }
  Exchange& exchange = *found->second;
  exchange.error = 0;
  wake(exchange.waiter);
  const auto target = by_id_.find(*exchange.cancels);
  if (*reply->cancelled == 0 || target == by_id_.end() ||
      target->second->state != Request::State::kOutstanding) {
    return {};
  }
  // Done here, by the reader, because nobody else can wake a reader out of poll().
  Request& request = *target->second;
  exchange.cancelled = true;
  exchange.release = std::exchange(request.release, nullptr);
  exchange.cookie = request.cookie;
  if (request.waiter != nullptr) {
    request.state = Request::State::kCancelled;
    wake(*request.waiter);
  } else {
    requests_.erase(target->second);
    by_id_.erase(target);
  }
  return {};
}

Expected<void> Context::take_completion(const protocol::MessageView& message,
                                        protocol::Packet& packet) {
  protocol::ExtAck problem;
  auto event = protocol::consumer::CompleteEvent::parse(message.attributes,
                                                        protocol::Unknown::kSkip, problem);
  if (!event) return refuse(std::move(event.error()));
  if (!event->id || !event->status) return refuse(EIO, "a completion without id or status");
  const auto found = by_id_.find(*event->id);
  if (found == by_id_.end() || found->second->state != Request::State::kOutstanding) {
    return refuse(EIO, "a completion of nothing");
  }
  Request& request = *found->second;
  if (event->session_mode == protocol::SessionMode::kRelay && !packet.fds.empty()) {
    request.plain_end = std::move(packet.fds.front());
    packet.fds.erase(packet.fds.begin());
  }
  request.fds_lost = packet.fds_lost;
  request.event = std::move(*event);
  end_request(found->second);
  return {};
}

void Context::end_request(Requests::iterator request) noexcept {
  request->state = Request::State::kEnded;
  if (request->done == nullptr) {
    if (request->waiter != nullptr) wake(*request->waiter);
    return;
  }
  by_id_.erase(request->id);
  ready_.splice(ready_.end(), requests_, request);
  const std::uint64_t one = 1;
  // The only failure is a counter that is full, and then it is readable.
  static_cast<void>(::write(signal_.get(), &one, sizeof one));
}

// --- What programs ask -------------------------------------------------------------------------

std::string Context::Exchange::text() const {
  if (loss) return *loss;
  return detail.empty() ? std::strerror(error.value_or(EIO)) : detail;
}

Expected<std::uint64_t> Context::submit(const Submission& submission, std::uint64_t* name) {
  const auto identity = socket_identity(submission.fd);
  if (!identity) return tl::unexpected(identity.error());
  std::vector<UniqueFd> fds;
  fds.emplace_back(::fcntl(submission.fd, F_DUPFD_CLOEXEC, 0));
  if (!fds.front()) return refuse(errno, "no descriptor is free");

  protocol::consumer::SubmitRequest message;
  message.message_type = submission.message_type;
  message.auth_mode = submission.auth_mode;
  message.relay = submission.relay;
  message.client_auth = submission.client_auth;
  message.credential = submission.credential;
  message.peername = submission.peername;
  if (submission.timeout_ms != 0) message.timeout = submission.timeout_ms;
  if (submission.handler_class != 0) message.handler_class = submission.handler_class;

  Requests fresh(1);
  Request& request = fresh.front();
  request.fd = submission.fd;
  request.socket_identity = *identity;
  request.relay = submission.relay;
  request.done = submission.done;
  request.cookie = submission.cookie;
  request.release = submission.release;
  request.result.reset(new hs_result);
  request.result->role = submission.message_type == protocol::MessageType::kServerhello
                             ? Role::kServer
                             : Role::kClient;

  const MutexLock lock(mutex_);
  if (auto connected = connect(); !connected) return tl::unexpected(connected.error());
  const std::uint64_t id = next_id_;
  const std::uint32_t sequence = next_sequence_;
  message.id = id;
  protocol::MessageHeader header;
  header.type = family_;
  header.flags = NLM_F_REQUEST | NLM_F_ACK;
  header.sequence = sequence;
  const auto bytes = protocol::build(header, message);
  if (!bytes) return refuse(bytes.error());
  request.id = id;
  by_id_.emplace(id, fresh.begin());
  ++next_id_;
  ++next_sequence_;
  if (name != nullptr) *name = id;
  requests_.splice(requests_.end(), fresh);

  Exchange exchange;
  exchange.submitted = &request;
  Expected<void> asked;
  try {
    asked = ask(exchange, sequence, *bytes, fds);
  } catch (const std::bad_alloc&) {
    asked = refuse(ENOMEM, "out of memory");
  }
  // With a good answer the request has a life of its own, and may be over already.
  if (exchange.error == 0) return id;
  const auto mine = by_id_.find(id);
  requests_.erase(mine->second);
  by_id_.erase(mine);
  if (!asked) return tl::unexpected(asked.error());
  return refuse(*exchange.error, exchange.text());
}

Expected<bool> Context::cancel(std::uint64_t id) {
  Exchange exchange;
  exchange.cancels = id;
  {
    const MutexLock lock(mutex_);
    if (id == 0 || id >= next_id_) return refuse(EINVAL, "no such request was submitted");
    const auto found = by_id_.find(id);
    if (found == by_id_.end() || found->second->state != Request::State::kOutstanding) return false;
    protocol::consumer::CancelRequest message;
    message.id = id;
    protocol::MessageHeader header;
    header.type = family_;
    header.flags = NLM_F_REQUEST;
    header.sequence = next_sequence_++;
    const auto bytes = protocol::build(header, message);
    if (!bytes) return refuse(bytes.error());
    // Should the service be gone, the request ends with EIO: too late for a cancel.
    static_cast<void>(ask(exchange, header.sequence, *bytes, {}));
  }
  if (exchange.release != nullptr) exchange.release(exchange.cookie);
  return exchange.cancelled;
}

Expected<ResultPtr> Context::wait(std::uint64_t id, std::optional<milliseconds> timeout) {
  Requests ended;
  {
    const MutexLock lock(mutex_);
    const auto found = by_id_.find(id);
    if (found == by_id_.end() || found->second->state == Request::State::kSubmitting) {
      return refuse(ENOENT, "no such request, or its result has been collected");
    }
    const auto request = found->second;
    if (request->done != nullptr) return refuse(EINVAL, "the request has a callback");
    if (request->waiter != nullptr) return refuse(EBUSY, "another thread waits for this request");
    if (request->state == Request::State::kOutstanding) {
      std::optional<TimePoint> deadline;
      if (timeout) deadline = Clock::now() + *timeout;
      Waiter waiter;
      request->waiter = &waiter;
      if (!reading_) read_all();
      wait_for(waiter, deadline);
      request->waiter = nullptr;
    }
    if (request->state == Request::State::kOutstanding) {
      return refuse(EAGAIN, "the request has not ended yet");
    }
    by_id_.erase(id);
    ended.splice(ended.end(), requests_, request);
  }
  Request& request = ended.front();
  if (request.state == Request::State::kCancelled) {
    return refuse(ECANCELED, "the request was cancelled");
  }
  finish(request);
  if (request.release != nullptr) request.release(request.cookie);
  return std::move(request.result);
}

int Context::dispatch() noexcept {
  const MutexLock lock(mutex_);
  // Not beside a reader: it would sleep on while its own answer is taken here.
  if (!reading_) read_all();
  // Only what is due now: a callback that submits again must not hold the caller's loop.
  const std::size_t due = ready_.size();
  std::size_t ran = 0;
  while (ran < due && !ready_.empty()) {
    Requests ended;
    ended.splice(ended.end(), ready_, ready_.begin());
    if (ready_.empty()) {
      std::uint64_t count = 0;
      static_cast<void>(::read(signal_.get(), &count, sizeof count));
    }
    ++ran;
    const Unlocked unlocked(mutex_);
    Request& request = ended.front();
    finish(request);
    request.done(request.cookie, request.result.get());
    if (request.release != nullptr) request.release(request.cookie);
    ended.clear();
  }
  return static_cast<int>(ran);
}

// --- Results -----------------------------------------------------------------------------------

void Context::finish(Request& request) noexcept {
  hs_result& result = *request.result;
  result.fd = request.fd;
  try {
    if (!request.event) {
      result.reason = request.loss ? *request.loss : "the service has gone";
      return;
    }
    auto filled = fill(request);
    if (!filled) {
      result.status = -filled.error().number;
      result.reason = std::move(filled.error().detail);
    }
  } catch (const std::bad_alloc&) {
    result.status = -ENOMEM;
  }
}

Expected<void> Context::fill(Request& request) {
  protocol::consumer::CompleteEvent& event = *request.event;
  hs_result& result = *request.result;
  result.log_id = event.request_id.value_or(0);
  result.cipher = std::move(event.cipher).value_or("");
  result.group = std::move(event.group).value_or("");
  result.peer_subject = std::move(event.peer_subject).value_or("");
  if (event.alert) result.alert = static_cast<int>(std::min<std::uint32_t>(*event.alert, 255));
  result.alert_sent = event.alert_sent;
  if (*event.status != 0) {
    return refuse(static_cast<int>(*event.status), std::move(event.reason).value_or(""));
  }

  auto tags = hs_tagset::of(event.tag);
  if (!tags) return refuse(EIO, "the service reported an impossible tag");
  switch (event.session_mode.value_or(protocol::SessionMode::kNone)) {
    case protocol::SessionMode::kNone:
      return refuse(EIO, "the service reported success without a session");
    case protocol::SessionMode::kKtls:
      if (request.relay == protocol::RelayMode::kAlways) {
        return refuse(EIO, "the service set up kTLS where a relay was asked for");
      }
      if (auto checked = check_ktls(request.fd, request.socket_identity); !checked) return checked;
      result.socket_identity = request.socket_identity;
      result.mode = HS_MODE_KTLS;
      break;
    case protocol::SessionMode::kRelay: {
      if (request.relay == protocol::RelayMode::kNever) {
        return refuse(EIO, "the service set up a relay, which was not allowed");
      }
      if (!request.plain_end) {
        return request.fds_lost
                   ? refuse(EMFILE, "no descriptor was free for the relay's socket")
                   : refuse(EIO, "the service reported a relay without its socket");
      }
      const auto identity = socket_identity(request.plain_end.get());
      if (!identity) return refuse(EIO, "the service sent a relay that is not a socket");
      auto adopted =
          adopt_relay(request.fd, request.socket_identity, std::move(request.plain_end));
      if (!adopted) return adopted;
      result.socket_identity = *identity;
      result.mode = HS_MODE_RELAY;
      break;
    }
  }
  result.peer_identities = std::move(event.remote_auth);
  result.tags = std::move(*tags);
  result.status = 0;
  return {};
}

}  // namespace handshake::client
