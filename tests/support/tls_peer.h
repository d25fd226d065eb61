// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "support/pki.h"
#include "tls/session.h"

/// The other end for tests of tls::Session: plain OpenSSL over memory, none of our code.
namespace handshake::test_tls {

struct PeerOptions {
  bool server = false;
  const test_pki::Issued* identity = nullptr;
  std::string trusted_pem;         ///< empty: accepts any certificate
  bool ask_for_certificate = false;
  std::string suites;              ///< empty: OpenSSL's default
  std::string signature_algorithms;
  std::string groups;
  std::string server_name;         ///< SNI, and the name to verify
  int max_version = TLS1_3_VERSION;
  std::size_t tickets = 2;
  /// Application data that leaves together with the Finished (a server's: before it has seen the
  /// client's).
  std::string with_finished;
  int security_level = -1;         ///< OpenSSL's default
  std::size_t hello_padding = 0;   ///< a client's extension of that size
  std::string psk_identity;        ///< not empty: an external pre-shared key
  std::string psk_key;
  bool psk_sha384 = false;
};

class Peer {
 public:
  explicit Peer(const PeerOptions& options);

  /// Gives it what the other side sent, and lets it do what it can.
  void receive(const std::string& bytes);
  /// What it has to send, all of it.
  [[nodiscard]] std::string take_output();
  [[nodiscard]] bool finished() const noexcept { return finished_; }
  [[nodiscard]] bool failed() const noexcept { return failed_; }
  [[nodiscard]] std::optional<int> alert_received() const noexcept { return alert_received_; }
  [[nodiscard]] std::optional<int> alert_sent() const noexcept { return alert_sent_; }
  void write(const std::string& text);
  [[nodiscard]] std::string read();
  [[nodiscard]] SSL* ssl() const noexcept { return ssl_.get(); }

 private:
  void step();
  static SSL_SESSION* psk_session(SSL* ssl, const PeerOptions& options);
  static int offer_psk(SSL* ssl, const EVP_MD* hash, const unsigned char** identity, std::size_t* size,
                       SSL_SESSION** session);
  static int find_psk(SSL* ssl, const unsigned char* identity, std::size_t size, SSL_SESSION** session);
  static void note_alert(const SSL* ssl, int where, int value);

  struct FreeContext { void operator()(SSL_CTX* p) const noexcept { SSL_CTX_free(p); } };
  struct FreeSsl { void operator()(SSL* p) const noexcept { SSL_free(p); } };
  PeerOptions options_;
  std::unique_ptr<SSL_CTX, FreeContext> context_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
  std::string padding_;
  bool early_ = false;  // a server that has yet to write before the client's Finished
  bool finished_ = false;
  bool failed_ = false;
  std::optional<int> alert_received_;
  std::optional<int> alert_sent_;
};

/// A stream socket pair: the session's end and ours.
struct Link {
  UniqueFd session_end;
  UniqueFd test_end;

  [[nodiscard]] static Link unix_pair();
  /// Over the loopback device, so that the session's end has a peer address, 127.0.0.1.
  [[nodiscard]] static Link tcp_pair();
  void send(const std::string& bytes) const;
  /// Everything that is there.
  [[nodiscard]] std::string receive() const;
  /// Bytes that the session has not read (FIONREAD); waits until there are some.
  [[nodiscard]] std::string take_unread() const;
};

using Outcome = tl::expected<tls::Session::Progress, tls::Failure>;

/// Lets both ends talk until neither has anything to say. What the peer sends is delivered in
/// pieces of `piece` bytes (0: as it comes).
[[nodiscard]] Outcome shake_hands(tls::Session& session, Peer& peer, const Link& link,
                                  std::size_t piece = 0);

}  // namespace handshake::test_tls
