// SPDX-License-Identifier: Apache-2.0
#include "tls/session.h"

#include <algorithm>
#include <new>

#include <fmt/format.h>

#include "tls/context.h"
#include "tls/credential_parts.h"
#include "tls/failure.h"
#include "tls/openssl.h"
#include "tls/peer_name.h"
#include "tls/session_hooks.h"
#include "tls/wire.h"

namespace handshake::tls {

struct Session::State {
  State(int fd, Side which_side, std::shared_ptr<const Credential> which_credential)
      : side(which_side), credential(std::move(which_credential)), wire(fd, which_side) {}

  [[nodiscard]] Evidence evidence() {
    return {wire, observations, *credential, expected_name, side, drain_errors()};
  }
  [[nodiscard]] std::optional<Progress> waiting(const Evidence& seen) const noexcept;
  [[nodiscard]] std::optional<std::string> settle();
  [[nodiscard]] tl::expected<Progress, Failure> advance();
  [[nodiscard]] tl::expected<Io, Failure> read(std::span<std::byte> buffer);
  [[nodiscard]] tl::expected<Io, Failure> write(std::span<const std::byte> bytes);
  [[nodiscard]] tl::expected<Progress, Failure> close_notify();

  const Side side;
  const std::shared_ptr<const Credential> credential;
  std::optional<PeerName> expected_name;
  Observations observations;
  SessionFacts facts;
  std::optional<Failure> failure;  // of the handshake, or of reading: for good
  bool finished = false;
  bool peer_closed = false;
  bool closed = false;
  Wire wire;
  SslPtr ssl;  // last: its BIO points to the wire, its callbacks to the observations
};

namespace {

Result<PeerName> expected_name(int fd, const SessionParameters& parameters) {
  if (parameters.peername) return parse_peer_name(*parameters.peername);
  if (!parameters.peer_address) return peer_address_of(fd);
  auto name = parse_peer_name(*parameters.peer_address);
  if (name && name->kind != PeerName::Kind::kIp) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("peer address {} is not an IP address", *parameters.peer_address));
  }
  return name;
}

/// SSL_set_tlsext_host_name(), whose macro casts as C does. The library copies the name.
bool set_sni(SSL* ssl, const std::string& name) {
  return SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                  const_cast<char*>(name.c_str())) == 1;
}

/// RFC 9525: the name counts in subjectAltName only, wildcards for whole labels only.
bool expect_name(SSL* ssl, const PeerName& name) {
  X509_VERIFY_PARAM* verification = SSL_get0_param(ssl);
  if (name.kind == PeerName::Kind::kIp) {
    return X509_VERIFY_PARAM_set1_ip_asc(verification, name.text.c_str()) == 1;
  }
  X509_VERIFY_PARAM_set_hostflags(
      verification, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  return X509_VERIFY_PARAM_set1_host(verification, name.text.data(), name.text.size()) == 1 &&
         set_sni(ssl, name.text);
}

bool configure_client(SSL* ssl, const SessionParameters& parameters, const PeerName& name) {
  SSL_set_connect_state(ssl);
  SSL_set_verify(ssl, SSL_VERIFY_PEER, on_verify);
  if (!parameters.present_certificate) SSL_certs_clear(ssl);
  return expect_name(ssl, name);
}

void configure_server(SSL* ssl, const SessionParameters& parameters) {
  SSL_set_accept_state(ssl);
  int mode = SSL_VERIFY_NONE;
  if (parameters.request_client_certificate) mode |= SSL_VERIFY_PEER;
  if (parameters.require_client_certificate) {
    mode |= SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  }
  SSL_set_verify(ssl, mode, on_verify);
}

std::optional<Cipher> cipher_of(const SSL* ssl) {
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl);
  if (cipher == nullptr) return std::nullopt;
  const auto number = Cipher{SSL_CIPHER_get_protocol_id(cipher)};
  const bool known = std::find(kAllCiphers.begin(), kAllCiphers.end(), number) != kAllCiphers.end();
  return known ? std::optional(number) : std::nullopt;
}

std::string group_of(SSL* ssl) {
  const char* name = SSL_group_to_name(ssl, static_cast<int>(SSL_get_negotiated_group(ssl)));
  return name != nullptr ? name : "unknown";
}

std::string key_algorithm_of(const X509* certificate) {
  return certificate != nullptr ? key_algorithm(X509_get0_pubkey(certificate)) : std::string();
}

bool same_ciphers(const std::vector<Cipher>& ciphers) {
  return std::equal(ciphers.begin(), ciphers.end(), kAllCiphers.begin(), kAllCiphers.end());
}

}  // namespace

Session::Session(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::create(int fd,
                                                 std::shared_ptr<const Credential> credential,
                                                 const SessionParameters& parameters) {
  const bool client = parameters.side == Side::kClient;
  const bool psk = credential->parts().psk;
  if (psk && client && parameters.psk == nullptr) {
    return fail(ErrorKind::kNoCredential, "no pre-shared key to offer");
  }
  if (!psk && (!client || parameters.present_certificate) && !credential->has_key_pair()) {
    return fail(ErrorKind::kNoCredential,
                fmt::format("credential {} has no certificate and key", credential->name()));
  }
  if (parameters.ciphers.empty()) {
    return fail(ErrorKind::kInvalidArgument, "no cipher suite to offer or accept");
  }
  try {
    const Credential::Parts& parts = credential->parts();
    auto state = std::make_unique<State>(fd, parameters.side, std::move(credential));
    state->ssl.reset(SSL_new(client ? parts.client.get() : parts.server.get()));
    BioPtr bio = state->wire.make_bio();
    if (!state->ssl || !bio) return fail_openssl(ErrorKind::kNoMemory, "make a TLS session");
    SSL* ssl = state->ssl.get();
    SSL_set_bio(ssl, bio.get(), bio.get());
    static_cast<void>(bio.release());  // the session owns it now
    observe(ssl, state->observations);

    std::vector<Cipher> ciphers = parameters.ciphers;
    if (psk) {
      state->observations.psk = std::make_unique<PskState>();
      state->observations.psk->key = parameters.psk;
      state->observations.psk->ciphers = ciphers;
      if (client) {
        ciphers = ciphers_with(psk_hash(*parameters.psk), ciphers);
        if (ciphers.empty()) {
          return fail(ErrorKind::kNotSupported, "no cipher suite with the hash of the pre-shared key");
        }
      }
    }
    if (!same_ciphers(ciphers) && SSL_set_ciphersuites(ssl, suite_list(ciphers).c_str()) != 1) {
      return fail_openssl(ErrorKind::kInputOutput, "set the cipher suites");
    }
    if (!parts.check_extended_key_usage && SSL_set_purpose(ssl, X509_PURPOSE_ANY) != 1) {
      return fail_openssl(ErrorKind::kInputOutput, "set the purpose of certificates");
    }
    if (psk) {
      client ? SSL_set_connect_state(ssl) : SSL_set_accept_state(ssl);
      // A client that is answered with a certificate refuses it: it has no trust store.
      SSL_set_verify(ssl, client ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, on_verify);
    } else if (client) {
      auto name = expected_name(fd, parameters);
      if (!name) return tl::unexpected(name.error());
      if (!configure_client(ssl, parameters, *name)) {
        return fail_openssl(ErrorKind::kInvalidArgument, "peername " + name->text);
      }
      state->expected_name = std::move(*name);
    } else {
      configure_server(ssl, parameters);
    }
    return std::unique_ptr<Session>(new Session(std::move(state)));
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kNoMemory, "out of memory");
  }
}

/// What a call that did not succeed waits for; nothing when it failed. An alert that could not be
/// sent at once leaves the wire blocked too, but also an error.
std::optional<Session::Progress> Session::State::waiting(const Evidence& seen) const noexcept {
  if (seen.library.library != 0) return std::nullopt;
  if (observations.psk && observations.psk->wanted) return Progress::kWantKey;
  if (wire.blocked_read()) return Progress::kWantRead;
  if (wire.blocked_write()) return Progress::kWantWrite;
  return std::nullopt;
}

/// Takes the facts. Returns what is missing: nothing of it can be, but a session that is not what it
/// seems must not count as one.
std::optional<std::string> Session::State::settle() {
  const auto cipher = cipher_of(ssl.get());
  if (SSL_version(ssl.get()) != TLS1_3_VERSION || !cipher) return "not TLS 1.3 with a known suite";
  if (observations.secrets.client.size() != secret_size(*cipher) ||
      observations.secrets.server.size() != secret_size(*cipher)) {
    return "the TLS library has not told the traffic secrets";
  }
  const X509* peer = SSL_get0_peer_certificate(ssl.get());
  if (observations.psk) {
    // An external key is a session resumed; anything else was authenticated by nothing.
    if (SSL_session_reused(ssl.get()) != 1 || observations.psk->key == nullptr) {
      return "the session does not use the pre-shared key";
    }
    facts.cipher = *cipher;
    facts.group = group_of(ssl.get());
    facts.peer_authenticated = true;
    facts.psk_identity = observations.psk->key->identity;
    return std::nullopt;
  }
  const bool must_have_peer =
      side == Side::kClient || (SSL_get_verify_mode(ssl.get()) & SSL_VERIFY_FAIL_IF_NO_PEER_CERT);
  if (must_have_peer && peer == nullptr) return "the peer has no certificate";
  if (peer != nullptr && SSL_get_verify_result(ssl.get()) != X509_V_OK) {
    return "the peer's certificate is not verified";
  }
  facts.cipher = *cipher;
  facts.group = group_of(ssl.get());
  facts.peer_authenticated = peer != nullptr;
  if (peer != nullptr) facts.peer_subject = distinguished_name(X509_get_subject_name(peer));
  facts.certificate_algorithm =
      key_algorithm_of(side == Side::kClient ? peer : SSL_get_certificate(ssl.get()));
  return std::nullopt;
}

tl::expected<Session::Progress, Failure> Session::State::advance() {
  drain_errors();
  wire.begin_call();
  if (SSL_do_handshake(ssl.get()) != 1) {
    const Evidence seen = evidence();
    if (auto progress = waiting(seen)) return *progress;
    failure = explain_handshake_failure(seen);
    return tl::unexpected(*failure);
  }
  if (auto missing = settle()) {
    failure = Failure{{ErrorKind::kInputOutput, "TLS failed: " + *missing}, std::nullopt, false};
    return tl::unexpected(*failure);
  }
  finished = true;
  wire.finish_handshake();
  SSL_set_max_send_fragment(ssl.get(), SSL3_RT_MAX_PLAIN_LENGTH);  // for relays
  return Progress::kFinished;
}

tl::expected<Session::Io, Failure> Session::State::read(std::span<std::byte> buffer) {
  if (!wire.streaming()) {
    wire.start_streaming();
    SSL_set_read_ahead(ssl.get(), 1);
  }
  drain_errors();
  wire.begin_call();
  std::size_t got = 0;
  const int status = SSL_read_ex(ssl.get(), buffer.data(), buffer.size(), &got);
  if (status == 1) return Io{got, Io::State::kOk};
  if (SSL_get_error(ssl.get(), status) == SSL_ERROR_ZERO_RETURN) {
    peer_closed = true;
    return Io{0, Io::State::kClosed};
  }
  const Evidence seen = evidence();
  if (auto progress = waiting(seen)) {
    return Io{0, *progress == Progress::kWantRead ? Io::State::kWantRead : Io::State::kWantWrite};
  }
  failure = explain_stream_failure(seen);
  return tl::unexpected(*failure);
}

tl::expected<Session::Io, Failure> Session::State::write(std::span<const std::byte> bytes) {
  drain_errors();
  wire.begin_call();
  std::size_t written = 0;
  if (SSL_write_ex(ssl.get(), bytes.data(), bytes.size(), &written) == 1) {
    return Io{written, Io::State::kOk};
  }
  const Evidence seen = evidence();
  if (auto progress = waiting(seen)) {
    return Io{0, *progress == Progress::kWantRead ? Io::State::kWantRead : Io::State::kWantWrite};
  }
  // Not for good: why the peer went away may be waiting to be read.
  return tl::unexpected(explain_stream_failure(seen));
}

tl::expected<Session::Progress, Failure> Session::State::close_notify() {
  drain_errors();
  wire.begin_call();
  // The first call sends; after a send that would have blocked, the next one tries again. Once it
  // is sent the library would start to read: it is not called again.
  if (SSL_shutdown(ssl.get()) < 0) {
    const Evidence seen = evidence();
    if (auto progress = waiting(seen)) return *progress;
    return tl::unexpected(explain_stream_failure(seen));
  }
  closed = true;
  return Progress::kFinished;
}

tl::expected<Session::Progress, Failure> Session::advance() {
  State& state = *state_;
  if (state.failure) return tl::unexpected(*state.failure);
  if (state.finished) return Progress::kFinished;
  try {
    return state.advance();
  } catch (const std::bad_alloc&) {
    state.failure = out_of_memory_failure();
    return tl::unexpected(out_of_memory_failure());
  }
}

tl::expected<Session::Io, Failure> Session::read(std::span<std::byte> buffer) {
  State& state = *state_;
  if (state.failure) return tl::unexpected(*state.failure);
  if (!state.finished) return Io{0, Io::State::kWantRead};
  if (state.peer_closed) return Io{0, Io::State::kClosed};
  if (buffer.empty()) return Io{};
  try {
    return state.read(buffer);
  } catch (const std::bad_alloc&) {
    return tl::unexpected(out_of_memory_failure());
  }
}

tl::expected<Session::Io, Failure> Session::write(std::span<const std::byte> bytes) {
  State& state = *state_;
  if (state.failure) return tl::unexpected(*state.failure);
  if (!state.finished) return Io{0, Io::State::kWantWrite};
  if (bytes.empty()) return Io{};
  try {
    return state.write(bytes);
  } catch (const std::bad_alloc&) {
    return tl::unexpected(out_of_memory_failure());
  }
}

tl::expected<Session::Progress, Failure> Session::close_notify() {
  State& state = *state_;
  if (state.failure) return tl::unexpected(*state.failure);
  if (!state.finished) return Progress::kWantWrite;
  if (state.closed) return Progress::kFinished;
  try {
    return state.close_notify();
  } catch (const std::bad_alloc&) {
    return tl::unexpected(out_of_memory_failure());
  }
}

const std::vector<std::string>& Session::offered_identities() const noexcept {
  static const std::vector<std::string> none;
  const auto& psk = state_->observations.psk;
  return psk ? psk->offered : none;
}

void Session::use_key(std::shared_ptr<const PresharedKey> key) noexcept {
  const auto& psk = state_->observations.psk;
  if (!psk || !psk->wanted) return;
  psk->wanted = false;
  psk->answered = true;
  psk->key = std::move(key);
}

const SessionFacts& Session::facts() const noexcept { return state_->facts; }
const TrafficSecrets& Session::secrets() const noexcept { return state_->observations.secrets; }

}  // namespace handshake::tls
