// SPDX-License-Identifier: Apache-2.0
#include "support/tls_peer.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include <openssl/err.h>
#include <openssl/pem.h>

namespace handshake::test_tls {
namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "test peer: %s\n", what);
  ERR_print_errors_fp(stderr);
  std::abort();
}

void use_identity(SSL_CTX* context, const test_pki::Issued& identity) {
  BIO* chain = BIO_new_mem_buf(identity.chain_pem.data(), static_cast<int>(identity.chain_pem.size()));
  bool first = true;
  while (X509* certificate = PEM_read_bio_X509(chain, nullptr, nullptr, nullptr)) {
    if (first) {
      require(SSL_CTX_use_certificate(context, certificate) == 1, "certificate");
      X509_free(certificate);
    } else {
      require(SSL_CTX_add0_chain_cert(context, certificate) == 1, "intermediate");
    }
    first = false;
  }
  ERR_clear_error();
  BIO_free(chain);
  BIO* bio = BIO_new_mem_buf(identity.key_pem.data(), static_cast<int>(identity.key_pem.size()));
  EVP_PKEY* key = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
  require(key != nullptr && SSL_CTX_use_PrivateKey(context, key) == 1, "private key");
  EVP_PKEY_free(key);
  BIO_free(bio);
}

void trust(SSL_CTX* context, const std::string& pem) {
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  while (X509* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr)) {
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate);
    X509_free(certificate);
  }
  ERR_clear_error();
  BIO_free(bio);
}

int accept_any(int /*acceptable*/, X509_STORE_CTX* /*context*/) { return 1; }

int add_padding(SSL* /*ssl*/, unsigned /*type*/, unsigned /*context*/, const unsigned char** out,
                std::size_t* size, X509* /*certificate*/, std::size_t /*index*/, int* /*alert*/,
                void* argument) {
  const auto& padding = *static_cast<const std::string*>(argument);
  *out = reinterpret_cast<const unsigned char*>(padding.data());
  *size = padding.size();
  return 1;
}

}  // namespace

void Peer::note_alert(const SSL* ssl, int where, int value) {
  if ((where & SSL_CB_ALERT) == 0) return;
  auto* peer = static_cast<Peer*>(SSL_get_app_data(ssl));
  auto& alert = (where & SSL_CB_READ) != 0 ? peer->alert_received_ : peer->alert_sent_;
  if (!alert) alert = value & 0xff;
}

SSL_SESSION* Peer::psk_session(SSL* ssl, const PeerOptions& options) {
  const unsigned char suite[] = {0x13, static_cast<unsigned char>(options.psk_sha384 ? 0x02 : 0x01)};
  SSL_SESSION* session = SSL_SESSION_new();
  require(SSL_SESSION_set1_master_key(session, reinterpret_cast<const unsigned char*>(options.psk_key.data()),
                                      options.psk_key.size()) == 1 &&
              SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, suite)) == 1 &&
              SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1,
          "pre-shared key");
  return session;
}

int Peer::offer_psk(SSL* ssl, const EVP_MD* /*hash*/, const unsigned char** identity, std::size_t* size,
                    SSL_SESSION** session) {
  const PeerOptions& options = static_cast<Peer*>(SSL_get_app_data(ssl))->options_;
  *identity = reinterpret_cast<const unsigned char*>(options.psk_identity.data());
  *size = options.psk_identity.size();
  *session = psk_session(ssl, options);
  return 1;
}

int Peer::find_psk(SSL* ssl, const unsigned char* identity, std::size_t size, SSL_SESSION** session) {
  const PeerOptions& options = static_cast<Peer*>(SSL_get_app_data(ssl))->options_;
  const bool known = std::string(reinterpret_cast<const char*>(identity), size) == options.psk_identity;
  *session = known ? psk_session(ssl, options) : nullptr;
  return 1;
}

Peer::Peer(const PeerOptions& options)
    : options_(options),
      context_(SSL_CTX_new(options.server ? TLS_server_method() : TLS_client_method())),
      padding_(options.hello_padding, 'p'),
      early_(options.server && !options.with_finished.empty()) {
  SSL_CTX* context = context_.get();
  SSL_CTX_set_max_proto_version(context, options.max_version);
  SSL_CTX_set_num_tickets(context, options.tickets);
  if (options.security_level >= 0) SSL_CTX_set_security_level(context, options.security_level);
  if (options.identity != nullptr) use_identity(context, *options.identity);
  const bool verify = !options.server || options.ask_for_certificate;
  if (!options.trusted_pem.empty()) {
    trust(context, options.trusted_pem);
    if (verify) SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  } else if (verify) {
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, accept_any);
  }
  if (!options.suites.empty()) {
    require(SSL_CTX_set_ciphersuites(context, options.suites.c_str()) == 1, "suites");
  }
  if (!options.signature_algorithms.empty()) {
    require(SSL_CTX_set1_sigalgs_list(context, options.signature_algorithms.c_str()) == 1,
            "signature algorithms");
  }
  if (!options.groups.empty()) {
    require(SSL_CTX_set1_groups_list(context, options.groups.c_str()) == 1, "groups");
  }
  if (!padding_.empty()) {
    require(SSL_CTX_add_custom_ext(context, 0xff77, SSL_EXT_CLIENT_HELLO | SSL_EXT_IGNORE_ON_RESUMPTION,
                                   add_padding, nullptr, &padding_, nullptr, nullptr) == 1,
            "padding");
  }
  if (!options.psk_identity.empty()) {
    if (options.server) {
      SSL_CTX_set_psk_find_session_callback(context, find_psk);
    } else {
      SSL_CTX_set_psk_use_session_callback(context, offer_psk);
    }
  }
  ssl_.reset(SSL_new(context));
  SSL_set_app_data(ssl(), this);
  SSL_set_info_callback(ssl(), note_alert);
  SSL_set_bio(ssl(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  BIO_set_mem_eof_return(SSL_get_rbio(ssl()), -1);
  if (options.server) {
    SSL_set_accept_state(ssl());
  } else {
    SSL_set_connect_state(ssl());
    if (!options.server_name.empty()) {
      SSL_set_tlsext_host_name(ssl(), options.server_name.c_str());
      SSL_set1_host(ssl(), options.server_name.c_str());
    }
  }
  step();
}

void Peer::step() {
  if (finished_ || failed_) return;
  ERR_clear_error();
  int status = 0;
  if (early_) {
    // Before it has seen the client's Finished only these two functions let a server write.
    std::array<char, 16> nothing{};
    std::size_t size = 0;
    const int read = SSL_read_early_data(ssl(), nothing.data(), nothing.size(), &size);
    if (read == SSL_READ_EARLY_DATA_FINISH) {
      early_ = false;
      std::size_t written = 0;
      require(SSL_write_early_data(ssl(), options_.with_finished.data(),
                                   options_.with_finished.size(), &written) == 1,
              "write before the client's Finished");
      status = SSL_do_handshake(ssl());
    }
  } else {
    status = SSL_do_handshake(ssl());
  }
  if (status == 1) {
    finished_ = true;
    if (!options_.server && !options_.with_finished.empty()) write(options_.with_finished);
    return;
  }
  failed_ = ERR_peek_error() != 0;
  ERR_clear_error();
}

void Peer::receive(const std::string& bytes) {
  if (!bytes.empty()) BIO_write(SSL_get_rbio(ssl()), bytes.data(), static_cast<int>(bytes.size()));
  step();
}

std::string Peer::take_output() {
  std::string output(BIO_ctrl_pending(SSL_get_wbio(ssl())), '\0');
  if (!output.empty()) BIO_read(SSL_get_wbio(ssl()), output.data(), static_cast<int>(output.size()));
  return output;
}

void Peer::write(const std::string& text) {
  require(SSL_write(ssl(), text.data(), static_cast<int>(text.size())) ==
              static_cast<int>(text.size()),
          "write");
}

std::string Peer::read() {
  std::string all;
  std::vector<char> part(16384);
  ERR_clear_error();
  for (int got = 0; (got = SSL_read(ssl(), part.data(), static_cast<int>(part.size()))) > 0;) {
    all.append(part.data(), static_cast<std::size_t>(got));
  }
  ERR_clear_error();
  return all;
}

Link Link::unix_pair() {
  std::array<int, 2> fds{};
  require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0, "socketpair");
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Link Link::tcp_pair() {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Link link{UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), UniqueFd()};
  require(::bind(listener.get(), any, size) == 0 && ::listen(listener.get(), 1) == 0 &&
              ::getsockname(listener.get(), any, &size) == 0 &&
              ::connect(link.session_end.get(), any, size) == 0,
          "loopback connection");
  link.test_end = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const int on = 1;  // single bytes must not wait for each other
  require(static_cast<bool>(link.test_end) &&
              ::setsockopt(link.test_end.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0,
          "accept");
  return link;
}

void Link::send(const std::string& bytes) const {
  for (std::size_t sent = 0; sent < bytes.size();) {
    const ssize_t part = ::send(test_end.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (part < 0) return;  // the session has closed its end
    sent += static_cast<std::size_t>(part);
  }
}

std::string Link::receive() const {
  std::string all;
  std::array<char, 65536> part{};
  for (ssize_t got = 0; (got = ::recv(test_end.get(), part.data(), part.size(), MSG_DONTWAIT)) > 0;) {
    all.append(part.data(), static_cast<std::size_t>(got));
  }
  return all;
}

std::string Link::take_unread() const {
  constexpr int kPatienceMs = 1000;
  pollfd ready{session_end.get(), POLLIN, 0};
  require(::poll(&ready, 1, kPatienceMs) == 1, "nothing is unread");
  int size = 0;
  require(::ioctl(session_end.get(), FIONREAD, &size) == 0, "FIONREAD");
  std::string unread(static_cast<std::size_t>(size), '\0');
  require(::recv(session_end.get(), unread.data(), unread.size(), MSG_DONTWAIT) == size, "recv");
  return unread;
}

Outcome shake_hands(tls::Session& session, Peer& peer, const Link& link, std::size_t piece) {
  std::string to_session = peer.take_output();
  for (;;) {
    Outcome outcome = session.advance();
    const std::string from_session = link.receive();
    peer.receive(from_session);
    to_session += peer.take_output();
    // Whatever comes after the handshake stays in the socket, where single bytes take much room.
    const bool over = !outcome || *outcome == tls::Session::Progress::kFinished;
    const std::size_t size =
        piece == 0 || over ? to_session.size() : std::min(piece, to_session.size());
    link.send(to_session.substr(0, size));
    to_session.erase(0, size);
    if (size > 0 || !from_session.empty()) continue;
    if (over) return outcome;
    // TCP may still be on its way.
    std::array<pollfd, 2> ready{pollfd{link.session_end.get(), POLLIN, 0},
                                pollfd{link.test_end.get(), POLLIN, 0}};
    constexpr int kPatienceMs = 50;
    if (::poll(ready.data(), ready.size(), kPatienceMs) <= 0) return outcome;
  }
}

}  // namespace handshake::test_tls
