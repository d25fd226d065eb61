// SPDX-License-Identifier: Apache-2.0
#include "agent/handshake.h"

#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <new>
#include <utility>

#include "ktls/plain_pair.h"

namespace handshake::agent {

namespace {

using protocol::Auth;
using protocol::ClientAuth;
using protocol::MessageType;
using protocol::RelayMode;
using protocol::SessionMode;

// Strings that a peer has a part in, for logs: long enough for any honest one.
constexpr std::size_t kMaxText = 1024;
// What is thrown away of a peer's data after our alert.
constexpr std::size_t kMaxDiscard = std::size_t{64} * 1024;

// What kernel consumers take for "verified, but in no keyring": NFSD refuses mutual TLS without any
// identity. The reference agent says the same.
constexpr std::uint32_t kVerifiedWithoutKey = 4294967295;

void wipe(std::optional<std::vector<std::byte>>& secret) noexcept {
  if (secret && !secret->empty()) ::explicit_bzero(secret->data(), secret->size());
}

std::string text_of(const std::optional<std::vector<std::byte>>& bytes) {
  if (!bytes) return {};
  return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
}

std::string shortened(std::string text) {
  if (text.size() > kMaxText) {
    text.resize(kMaxText);
    text += "...";
  }
  return text;
}

Result<tls::Side> side_of(std::optional<MessageType> type) {
  switch (type.value_or(MessageType::kUnspec)) {
    case MessageType::kClienthello: return tls::Side::kClient;
    case MessageType::kServerhello: return tls::Side::kServer;
    case MessageType::kUnspec: break;
  }
  return fail(ErrorKind::kInvalidArgument, "the request does not say which side of TLS to be");
}

tl::unexpected<tls::Failure> failed(Error error) {
  return tl::unexpected(tls::Failure{std::move(error), std::nullopt, false});
}

}  // namespace

Handshake::Handshake(const Context& context, protocol::worker::AcceptReply request, UniqueFd socket)
    : context_(context), request_(std::move(request)), socket_(std::move(socket)) {
  outcome_.report.sockfd = request_.sockfd;
}

Handshake::~Handshake() {
  if (request_.psk) wipe(request_.psk->secret);
  for (protocol::worker::KeyPair& pair : request_.key_pair) wipe(pair.private_key);
  watch_.reset();
  session_.reset();
  context_.closer.close(std::move(socket_));
}

void Handshake::start(Finished finished, FindKey find_key) {
  finished_ = std::move(finished);
  find_key_ = std::move(find_key);
  run(&Handshake::begin);
}

void Handshake::run(Progress (Handshake::*step)()) {
  Progress over = false;
  try {
    over = (this->*step)();
  } catch (const std::bad_alloc&) {
    // Ends this request and nothing else.
    over = failed({ErrorKind::kNoMemory, "out of memory"});
  }
  if (!over) report(over.error());
  if (!over || *over) finish();
}

Handshake::Progress Handshake::begin() {
  if (const Result<void> prepared = prepare(); !prepared) return failed(prepared.error());
  return advance();
}

Handshake::Progress Handshake::advance() {
  const auto progress = session_->advance();
  if (!progress) return tl::unexpected(progress.error());
  if (*progress == tls::Session::Progress::kFinished) {
    if (const Result<void> completed = complete(); !completed) return failed(completed.error());
    return true;
  }
  if (*progress == tls::Session::Progress::kWantKey) return ask_for_key();
  const bool reads = *progress == tls::Session::Progress::kWantRead;
  if (const auto set = watch_.set_events(reads ? EPOLLIN : EPOLLOUT); !set) {
    return failed(set.error());
  }
  return false;
}

Result<void> Handshake::prepare() {
  const Result<tls::Side> side = side_of(request_.message_type);
  if (!side) return tl::unexpected(side.error());
  side_ = *side;
  if (const Result<void> known = check_authentication(); !known) return known;
  if (const Result<void> mode = choose_mode(); !mode) return mode;

  const Result<NamedCredential> credential = context_.credentials.find(request_.credential, side_);
  if (!credential) return tl::unexpected(credential.error());
  for_kernel_ = credential->for_kernel;
  const auto tls_credential = credential_of(*credential);
  if (!tls_credential) return tl::unexpected(tls_credential.error());
  auto session = tls::Session::create(socket_.get(), *tls_credential, parameters(*credential));
  if (!session) return tl::unexpected(session.error());
  session_ = std::move(*session);

  auto watch = context_.loop.watch(socket_.get(), 0, [this](std::uint32_t) {
    run(&Handshake::advance);
  });
  if (!watch) return tl::unexpected(watch.error());
  watch_ = std::move(*watch);
  // `timeout` counts from the submission, `remaining` from now.
  const std::optional<std::uint32_t> limit =
      request_.remaining ? request_.remaining : request_.timeout;
  deadline_ =
      context_.loop.after(limit ? milliseconds(*limit) : context_.default_timeout, [this] {
        report({{ErrorKind::kTimedOut, "the peer did not finish the handshake in time"}, {}, false});
        finish();
      });
  return {};
}

// Before the handshake, because it decides which ciphers are offered, and because a consumer that
// cannot be served should not cost the peer a handshake.
Result<void> Handshake::choose_mode() {
  const RelayMode relay = request_.relay.value_or(RelayMode::kNever);
  const bool has_ktls = !context_.ktls.ciphers.empty();
  const bool always = relay == RelayMode::kAlways;
  with_relay_ = context_.service_knows_relays &&
                (always || (relay == RelayMode::kAllowed && !has_ktls));
  if (with_relay_ || (has_ktls && !always)) return {};
  std::string reason = always ? "a relay is wanted" : "no kTLS (" + context_.ktls.reason + ")";
  reason += relay == RelayMode::kNever ? ", and the consumer allows no relay"
                                       : ", and this service cannot hand over a relay";
  return fail(ErrorKind::kNotSupported, std::move(reason));
}

Result<void> Handshake::check_authentication() const {
  switch (request_.auth_mode.value_or(Auth::kUnspec)) {
    case Auth::kX509: break;
    case Auth::kUnauth:
      if (side_ == tls::Side::kClient) break;
      return fail(ErrorKind::kInvalidArgument, "a server cannot be anonymous");
    case Auth::kPsk:
      if (side_ == tls::Side::kServer || request_.psk) break;
      return fail(ErrorKind::kNoCredential, "the request brings no pre-shared key");
    case Auth::kUnspec:
      return fail(ErrorKind::kInvalidArgument, "the request does not say how to authenticate");
  }
  // Serials are for who reads keyrings; what they stand for comes along.
  if (request_.certificate.empty() || !request_.key_pair.empty()) return {};
  return fail(ErrorKind::kNotSupported,
              "certificates by key serial are not supported: name a credential");
}

/// That of the request's name, or one with the keys that the request brings.
Result<std::shared_ptr<const tls::Credential>> Handshake::credential_of(const NamedCredential& named) {
  if (request_.auth_mode == Auth::kPsk) return context_.credentials.psk();
  if (request_.auth_mode != Auth::kX509 || request_.key_pair.empty()) return named.tls;
  std::vector<std::pair<tls::NamedBytes, tls::NamedBytes>> pairs;
  for (protocol::worker::KeyPair& pair : request_.key_pair) {
    const std::string name = pair.name.value_or("key");
    pairs.emplace_back(tls::NamedBytes{name, text_of(pair.certificate)},
                       tls::NamedBytes{name, text_of(pair.private_key)});
    wipe(pair.private_key);
  }
  auto made = tls::with_key_pairs(*named.tls, std::move(pairs));
  if (!made) return fail(ErrorKind::kNoCredential, made.error().detail);
  return made;
}

std::shared_ptr<const tls::PresharedKey> Handshake::take_key(protocol::worker::PresharedKey& key) {
  psk_serial_ = key.serial;
  return std::make_shared<const tls::PresharedKey>(tls::PresharedKey{
      text_of(key.identity), Secret(std::exchange(key.secret, std::nullopt).value_or(std::vector<std::byte>()))});
}

Handshake::Progress Handshake::ask_for_key() {
  if (asked_for_key_ || !find_key_) {
    session_->use_key(nullptr);
    return advance();
  }
  asked_for_key_ = true;
  // Nothing to be done with the socket until the answer is there.
  if (const auto set = watch_.set_events(0); !set) return failed(set.error());
  find_key_(session_->offered_identities());
  return false;
}

void Handshake::key_found(std::optional<protocol::worker::PresharedKey> key) {
  if (session_ == nullptr || !asked_for_key_) return;
  session_->use_key(key ? take_key(*key) : nullptr);
  run(&Handshake::advance);
}

tls::SessionParameters Handshake::parameters(const NamedCredential& credential) {
  tls::SessionParameters parameters;
  parameters.side = side_;
  parameters.present_certificate = request_.auth_mode == Auth::kX509;
  if (request_.psk) parameters.psk = take_key(*request_.psk);
  if (side_ == tls::Side::kServer) {
    parameters.request_client_certificate = true;
    switch (request_.client_auth.value_or(ClientAuth::kDefault)) {
      case ClientAuth::kDefault:
        parameters.require_client_certificate = credential.require_client_certificate;
        break;
      case ClientAuth::kRequest: break;
      case ClientAuth::kRequire: parameters.require_client_certificate = true; break;
    }
  } else {
    // Without a name the session expects the peer's address; there is no reverse DNS (R3.6).
    parameters.peername = request_.peername;
  }
  if (!with_relay_) parameters.ciphers = context_.ktls.ciphers;
  return parameters;
}

Result<void> Handshake::complete() {
  watch_.reset();
  const tls::SessionFacts facts = session_->facts();
  if (const Result<void> done = with_relay_ ? make_relay() : install_ktls(); !done) return done;
  protocol::worker::DoneRequest& report = outcome_.report;
  report.status = 0;
  report.session_mode = with_relay_ ? SessionMode::kRelay : SessionMode::kKtls;
  report.plain_end = with_relay_;
  report.cipher = std::string(tls::to_string(facts.cipher));
  report.group = facts.group;
  if (facts.peer_authenticated) report.peer_subject = shortened(facts.peer_subject);
  report.certificate_algorithm = facts.certificate_algorithm;
  if (!facts.psk_identity.empty()) {
    report.peer_subject = shortened(facts.psk_identity);
    if (psk_serial_) report.remote_auth = {*psk_serial_};
  } else if (for_kernel_ && facts.peer_authenticated) {
    report.remote_auth = {kVerifiedWithoutKey};
  }
  return {};
}

Result<void> Handshake::install_ktls() {
  Result<void> installed =
      ktls::install(socket_.get(), side_, session_->facts().cipher, session_->secrets());
  if (installed) installed = ktls::verify(socket_.get());
  // An upper layer with half its keys would send plaintext, whoever holds the socket.
  if (!installed) ::shutdown(socket_.get(), SHUT_RDWR);
  return installed;
}

Result<void> Handshake::make_relay() {
  Result<ktls::PlainPair> pair = ktls::make_plain_pair();
  if (!pair) return tl::unexpected(pair.error());
  auto relay = ktls::Relay::create(context_.loop, std::move(session_), std::move(socket_),
                                   std::move(pair->inner));
  if (!relay) return tl::unexpected(relay.error());
  outcome_.relay = std::move(*relay);
  outcome_.plain_end = std::move(pair->outer);
  return {};
}

void Handshake::report(const tls::Failure& failure) {
  // Data that the peer sent along would turn the consumer's close into a reset, which can overtake
  // our alert.
  if (failure.alert_sent) {
    [[maybe_unused]] const auto discarded =
        ::recv(socket_.get(), nullptr, kMaxDiscard, MSG_DONTWAIT | MSG_TRUNC);
  }
  // Whatever was ready to be handed over is not: a success half made.
  outcome_ = {};
  protocol::worker::DoneRequest& report = outcome_.report;
  report.sockfd = request_.sockfd;
  report.status = static_cast<std::uint32_t>(failure.error.number());
  report.session_mode = SessionMode::kNone;
  report.reason = shortened(failure.error.detail);
  if (failure.alert) report.alert = *failure.alert;
  report.alert_sent = failure.alert_sent;
}

void Handshake::finish() {
  deadline_.reset();
  watch_.reset();
  session_.reset();
  context_.closer.close(std::move(socket_), [this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    const Finished finished = std::move(finished_);
    finished(std::move(outcome_));
  });
}

}  // namespace handshake::agent
