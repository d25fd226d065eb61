// SPDX-License-Identifier: Apache-2.0
#include "daemon/kernel_bridge.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include <new>
#include <utility>

#include <fmt/format.h>

#include "service/socket_facts.h"

namespace handshake::daemon {

namespace {

namespace kernel = protocol::kernel;

/// Requests taken before other connections of the daemon get their turn.
constexpr int kBatch = 64;
/// After a failure that no READY follows.
constexpr milliseconds kRetry{100};

std::optional<keyring::Serial> keyring_of(const kernel::AcceptReply& parameters) {
  const auto serial = static_cast<keyring::Serial>(parameters.keyring.value_or(0));
  return serial > 0 ? std::optional(serial) : std::nullopt;
}

/// Type::kUnspec is not for the service either, which says so.
bool is_server(const kernel::AcceptReply& parameters) {
  return parameters.message_type == protocol::MessageType::kServerhello;
}

service::PresharedKey preshared_key(keyring::Key key) {
  return {static_cast<std::uint32_t>(key.serial), std::move(key.what.description),
          std::move(key.payload)};
}

}  // namespace

int kernel_status(const Error& refusal) noexcept {
  switch (refusal.kind) {
    case ErrorKind::kTryAgain:
    case ErrorKind::kNoMemory:
    case ErrorKind::kNotSupported: return ETIMEDOUT;
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kOutOfRange:
    case ErrorKind::kBadDescriptor:
    case ErrorKind::kAlreadyExists:
    case ErrorKind::kBusy:
    case ErrorKind::kNoAgent:
    case ErrorKind::kNotPermitted:
    case ErrorKind::kNotFound:
    case ErrorKind::kRejected:
    case ErrorKind::kTimedOut:
    case ErrorKind::kNoCredential:
    case ErrorKind::kKeyRejected:
    case ErrorKind::kConnectionReset:
    case ErrorKind::kInputOutput: return refusal.number();
  }
  return EIO;
}

Result<std::unique_ptr<KernelBridge>> KernelBridge::open(const Context& context, std::string name,
                                                         std::unique_ptr<KernelChannel> channel,
                                                         Settings settings,
                                                         std::function<void(const Error&)> failed) {
  std::unique_ptr<KernelBridge> bridge(new KernelBridge(context, std::move(name), std::move(channel),
                                                        std::move(settings), std::move(failed)));
  KernelBridge* const self = bridge.get();
  auto watch = context.loop.watch(self->channel_->notifications_fd(), EPOLLIN,
                                  [self](std::uint32_t) { self->on_notification(); });
  if (!watch) return tl::unexpected(watch.error());
  self->watch_ = std::move(*watch);
  self->accept_later(Clock::duration::zero());  // what waits has been announced before we came
  return bridge;
}

KernelBridge::KernelBridge(const Context& context, std::string name,
                           std::unique_ptr<KernelChannel> channel, Settings settings,
                           std::function<void(const Error&)> failed)
    : context_(context),
      name_(std::move(name)),
      channel_(std::move(channel)),
      settings_(std::move(settings)),
      failed_(std::move(failed)) {}

KernelBridge::~KernelBridge() {
  stop_accepting();
  while (!requests_.empty()) {
    const int socket = requests_.begin()->first;
    static_cast<void>(context_.service.cancel(requests_.begin()->second.service_id));
    finish(socket, {socket, ETIMEDOUT, {}, {}});
  }
}

void KernelBridge::stop_accepting() {
  accepting_ = false;
  watch_.reset();
  again_.reset();
}

void KernelBridge::on_notification() {
  const auto ready = channel_->take_notifications();
  if (!ready) return fail_later(ready.error());
  if (*ready) accept_all();
}

void KernelBridge::accept_later(Clock::duration delay) {
  if (again_) return;
  again_ = context_.loop.after(delay, [this] { accept_all(); });
}

void KernelBridge::accept_all() {
  for (int i = 0; accepting_; ++i) {
    if (i == kBatch) {
      accept_later(Clock::duration::zero());
      break;
    }
    auto accepted = channel_->accept();
    if (!accepted) {
      if (accepted.error().kind == ErrorKind::kNotPermitted) {
        fail_later(accepted.error());
      } else {
        if (!std::exchange(starved_, true)) {
          context_.log.warning(fmt::format("{} {}", field(), accepted.error().detail));
        }
        accept_later(kRetry);
      }
      break;
    }
    if (!*accepted) break;
    starved_ = false;
    begin(std::move(**accepted));
  }
  context_.submitted();
}

void KernelBridge::begin(KernelChannel::Request accepted) {
  const int socket = accepted.socket.get();
  try {
    take(std::move(accepted));
  } catch (const std::bad_alloc&) {
    // Ends this request and nothing else.
    if (requests_.contains(socket)) finish(socket, {socket, ETIMEDOUT, {}, {}});
  }
}

void KernelBridge::fail_later(Error error) {
  if (!failed_) return;
  stop_accepting();
  failure_ = context_.loop.after(Clock::duration::zero(), [this, error = std::move(error)] {
    // It may destroy this bridge, and with it the closure that is running.
    const auto failed = std::exchange(failed_, nullptr);
    const Error reason = error;
    failed(reason);
  });
}

void KernelBridge::take(KernelChannel::Request accepted) {
  const int socket = accepted.socket.get();
  // From here on it is on the books, and ends with DONE whatever happens.
  Request& request = requests_[socket];
  request.socket = std::move(accepted.socket);
  request.max_tags = accepted.parameters.max_tags.value_or(0);
  request.keyring = keyring_of(accepted.parameters);
  request.keyrings = settings_.keyrings;
  if (request.keyring) ++keyring_users_[*request.keyring];

  if (!accepted.problem.empty()) {
    context_.log.warning(fmt::format("{} {}", field(), accepted.problem));
    return finish(socket, {socket, EOPNOTSUPP, {}, {}});
  }
  auto facts = service::read_socket_facts(socket);
  if (!facts) return refuse(socket, facts.error());
  if (!facts->stream_tcp) {
    context_.log.warning(field() + " kernel request refused: not a TCP socket (QUIC is not supported)");
    return finish(socket, {socket, EOPNOTSUPP, {}, {}});
  }
  if (!facts->connected) {
    return refuse(socket, {ErrorKind::kInputOutput, "the peer has gone before the handshake began"});
  }
  auto submission = submission_of(accepted);
  if (!submission) return refuse(socket, submission.error());
  submission->socket.reset(::fcntl(socket, F_DUPFD_CLOEXEC, 0));
  if (!submission->socket) {
    return refuse(socket, {ErrorKind::kTryAgain, "no descriptor is free"});
  }
  submission->complete = [this, socket](service::Completion completion) {
    complete(socket, std::move(completion));
  };
  const auto id = context_.service.submit(std::move(*submission), std::move(*facts), Clock::now());
  if (!id) return refuse(socket, id.error());
  if (const auto found = requests_.find(socket); found != requests_.end()) {
    found->second.service_id = *id;
  }
}

Result<service::Submission> KernelBridge::submission_of(const KernelChannel::Request& accepted) {
  const kernel::AcceptReply& parameters = accepted.parameters;
  service::Submission submission;
  submission.message_type = parameters.message_type.value_or(protocol::MessageType::kUnspec);
  submission.auth_mode = parameters.auth_mode.value_or(protocol::Auth::kUnspec);
  submission.peername = parameters.peername;
  submission.credential =
      is_server(parameters) ? settings_.server_credential : settings_.client_credential;
  submission.relay = protocol::RelayMode::kNever;
  if (parameters.timeout) submission.timeout = milliseconds(*parameters.timeout);
  submission.peer_identities = parameters.peer_identity;
  submission.certificates = parameters.certificate;
  submission.keyring = parameters.keyring;

  auto keys = std::make_shared<service::RequestKeys>();
  if (parameters.auth_mode == protocol::Auth::kPsk && is_server(parameters)) {
    submission.find_key = [keyrings = settings_.keyrings, keyring = keyring_of(parameters),
                           type = context_.psk_type, log = context_.log,
                           name = field()](const std::vector<std::string>& identities)
        -> Result<service::PresharedKey> {
      Error last{ErrorKind::kNoCredential, "the client offers no identity"};
      for (const std::string& identity : identities) {
        auto key = keyrings->find(type, identity, keyring, Clock::now());
        if (key) return preshared_key(std::move(*key));
        last = key.error();
        log.info(fmt::format("{} {}", name, log_field("psk", last.detail)));
      }
      return tl::unexpected(last);
    };
  } else if (parameters.auth_mode == protocol::Auth::kPsk) {
    auto psk = first_usable_psk(parameters);
    if (!psk) return tl::unexpected(psk.error());
    keys->psk = std::move(*psk);
    submission.keys = std::move(keys);
  } else if (parameters.auth_mode == protocol::Auth::kX509) {
    auto pairs = key_pairs_of(parameters);
    if (!pairs) return tl::unexpected(pairs.error());
    if (pairs->empty()) submission.certificates.clear();
    keys->key_pairs = std::move(*pairs);
    submission.keys = std::move(keys);
  }
  return submission;
}

Result<service::PresharedKey> KernelBridge::first_usable_psk(const kernel::AcceptReply& parameters) {
  Error last{ErrorKind::kNoCredential, "the request names no pre-shared key"};
  std::optional<service::PresharedKey> usable;
  for (const std::uint32_t identity : parameters.peer_identity) {
    const auto serial = static_cast<keyring::Serial>(identity);
    if (usable) {
      // TLS libraries offer one external identity.
      context_.log.info(fmt::format("{} {}", field(), log_field("psk", "key " + keyring::serial_text(serial) +
                                                                           " is not offered: one is")));
      continue;
    }
    auto key = settings_.keyrings->read(serial, Clock::now());
    if (key && key->what.type != context_.psk_type) {
      key = fail(ErrorKind::kNoCredential,
                 fmt::format("key {} is of type {}, not {}", keyring::serial_text(serial), key->what.type,
                             context_.psk_type));
    }
    if (key) {
      usable = preshared_key(std::move(*key));
      continue;
    }
    last = {ErrorKind::kNoCredential, key.error().detail};
    context_.log.warning(fmt::format("{} {}", field(), log_field("psk", last.detail)));
  }
  if (!usable) return tl::unexpected(last);
  return std::move(*usable);
}

Result<std::vector<service::RequestKeyPair>> KernelBridge::key_pairs_of(
    const kernel::AcceptReply& parameters) {
  std::vector<service::RequestKeyPair> pairs;
  Error last{ErrorKind::kNoCredential, ""};
  std::size_t named = 0;
  for (const kernel::X509& item : parameters.certificate) {
    const keyring::Serial certificate = item.cert.value_or(0);
    const keyring::Serial private_key = item.privkey.value_or(0);
    if (certificate == 0 && private_key == 0) continue;  // TLS_NO_CERT: those of the configuration
    ++named;
    auto chain = settings_.keyrings->read(certificate, Clock::now());
    auto secret = chain ? settings_.keyrings->read(private_key, Clock::now()) : Result<keyring::Key>(
                                                                                   tl::unexpected(last));
    if (chain && secret) {
      const auto der = chain->payload.view();
      pairs.push_back({fmt::format("keys {} and {}", keyring::serial_text(certificate),
                                   keyring::serial_text(private_key)),
                       {der.begin(), der.end()},
                       std::move(secret->payload)});
      continue;
    }
    last = {ErrorKind::kNoCredential, chain ? secret.error().detail : chain.error().detail};
    context_.log.warning(fmt::format("{} {}", field(), log_field("certificate", last.detail)));
  }
  if (named > 0 && pairs.empty()) return tl::unexpected(last);
  return pairs;
}

void KernelBridge::complete(int socket, service::Completion completion) {
  KernelChannel::Report report{socket, EIO, {}, {}};
  try {
    report = report_of(socket, std::move(completion));
  } catch (const std::bad_alloc&) {
    context_.log.error("out of memory for a kernel request's report");
  }
  finish(socket, std::move(report));
}

KernelChannel::Report KernelBridge::report_of(int socket, service::Completion completion) {
  KernelChannel::Report report{socket, -completion.status, {}, {}};
  if (report.status != 0) return report;
  // The worker has closed its copy; what it says is believed when the kernel says the same.
  Result<void> keyed = context_.verify(socket);
  if (keyed && completion.mode != protocol::SessionMode::kKtls) {
    keyed = fail(ErrorKind::kInputOutput, "the agent did not use kTLS");
  }
  if (!keyed) {
    context_.log.error(fmt::format("{} request={} success is not reported: {}", field(),
                                   completion.request_id, keyed.error().detail));
    report.status = EIO;
    return report;
  }
  report.remote_auth = std::move(completion.remote_auth);
  if (!channel_->capabilities().session_tags) return report;
  const std::size_t allowed = requests_.at(socket).max_tags;
  for (const std::string_view tag : completion.tags) {
    if (report.tags.size() < allowed) report.tags.emplace_back(tag);
  }
  if (report.tags.size() < completion.tags.size()) {
    context_.log.warning(fmt::format("{} request={} the kernel takes {} tags: {} are left out", field(),
                                     completion.request_id, allowed,
                                     completion.tags.size() - report.tags.size()));
  }
  return report;
}

void KernelBridge::refuse(int socket, const Error& error) {
  const int status = kernel_status(error);
  context_.log.warning(fmt::format("{} kernel request refused status={} {}", field(), errno_name(status),
                                   log_field("reason", error.detail)));
  finish(socket, {socket, status, {}, {}});
}

void KernelBridge::finish(int socket, KernelChannel::Report report) {
  const auto found = requests_.find(socket);
  Request request = std::move(found->second);
  requests_.erase(found);
  const Result<void> done = channel_->done(report);
  if (!done) {
    // EBUSY: its consumer did not wait.
    const bool cancelled = done.error().kind == ErrorKind::kBusy;
    context_.log.write(cancelled ? LogLevel::kDebug : LogLevel::kError,
                       fmt::format("{} {}", field(), done.error().detail));
  }
  if (request.keyring && --keyring_users_[*request.keyring] == 0) {
    keyring_users_.erase(*request.keyring);
    request.keyrings->unlink_request_keyring(*request.keyring);
  }
  context_.reaper.close(std::move(request.socket));
}

}  // namespace handshake::daemon
