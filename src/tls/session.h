// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "tls/cipher.h"
#include "tls/credential.h"
#include "tls/psk.h"
#include "tls/secrets.h"

namespace handshake::tls {

/// What one session is to do.
struct SessionParameters {
  Side side = Side::kClient;
  /// Client: prove our own identity when the server asks for it (without: anonymous). A server
  /// always presents its certificate.
  bool present_certificate = false;
  /// Server: ask for a certificate, and end the handshake when the client has none.
  bool request_client_certificate = false;
  bool require_client_certificate = false;
  /// Client: the name that the server's certificate must carry, a DNS name (sent as SNI too) or an
  /// IP literal. A server ignores it.
  std::optional<std::string> peername;
  /// Client without peername: the IP literal that the certificate must carry as iPAddress; absent,
  /// the address that the socket is connected to.
  std::optional<std::string> peer_address;
  /// Client of make_psk_credential(): the key to offer. Names and certificates play no part then.
  std::shared_ptr<const PresharedKey> psk;
  /// Offered, or accepted, in this order of preference.
  std::vector<Cipher> ciphers{kAllCiphers.begin(), kAllCiphers.end()};
};

/// What a finished handshake has settled. Strings that come from the peer's certificate are
/// escaped as RFC 4514 says.
struct SessionFacts {
  Cipher cipher = Cipher::kAes128Gcm;
  std::string group;         ///< "x25519", "secp256r1", "X25519MLKEM768"
  std::string peer_subject;  ///< RFC 4514; empty without a certificate
  bool peer_authenticated = false;
  std::string psk_identity;  ///< that both sides have a key for; empty with certificates
  /// Of the certificate that the server presented: "ECDSA P-256", "RSA 2048", "Ed25519".
  std::string certificate_algorithm;
};

/// How a session ended before its time. `error.kind` as R3.10: EACCES a certificate was rejected,
/// ours or the peer's, ETIMEDOUT, EKEYREJECTED, EOPNOTSUPP the peer has no TLS 1.3, EIO otherwise.
/// After the handshake also ECONNRESET: the peer ended the stream without close_notify.
struct Failure {
  Error error;                        ///< detail: the reason in one line
  std::optional<std::uint8_t> alert;  ///< RFC 8446 §6; none when none was sent or received
  bool alert_sent = false;            ///< we sent it; otherwise the peer did
};

/// "unknown_ca" for 48 (RFC 8446 §6, IANA); "alert 7" for what has no name.
[[nodiscard]] std::string alert_name(std::uint8_t alert);

/// One TLS 1.3 connection on a borrowed stream socket. It never blocks and changes no flag of the
/// socket; until the handshake is finished it reads exactly the bytes that a record needs, and none
/// after the peer's Finished. Destroying it sends nothing and wipes all keys. Belongs to one
/// thread at a time; `fd` must outlive it.
class Session {
 public:
  /// ENOKEY: `parameters` need a key pair that the credential does not have. EINVAL: no usable
  /// name to verify (bad peername, or neither peername nor address), no ciphers. ENOMEM.
  [[nodiscard]] static Result<std::unique_ptr<Session>> create(
      int fd, std::shared_ptr<const Credential> credential, const SessionParameters& parameters);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  /// kWantKey: only a server of make_psk_credential(); see use_key().
  enum class Progress : std::uint8_t { kWantRead, kWantWrite, kFinished, kWantKey };

  /// Drives the handshake until it needs the socket to become readable or writable. After a
  /// failure every further call fails the same way.
  [[nodiscard]] tl::expected<Progress, Failure> advance();

  /// Valid once advance() said kWantKey: the identities that the client offers, any bytes, in its
  /// order; at most 32.
  [[nodiscard]] const std::vector<std::string>& offered_identities() const noexcept;
  /// The key that belongs to one of them; null: none is known (EKEYREJECTED). Then advance().
  void use_key(std::shared_ptr<const PresharedKey> key) noexcept;

  /// Valid once advance() said kFinished.
  [[nodiscard]] const SessionFacts& facts() const noexcept;
  [[nodiscard]] const TrafficSecrets& secrets() const noexcept;

  /// Once finished, for relays: the session goes on as the record layer, following KeyUpdate and
  /// skipping tickets. From the first read() on it reads ahead, so kTLS is no longer possible, and
  /// a reader calls read() until kWantRead before it waits for the socket.
  struct Io {
    enum class State : std::uint8_t { kOk, kWantRead, kWantWrite, kClosed };
    std::size_t bytes = 0;
    State state = State::kOk;  ///< kClosed (read only): the peer's close_notify came
  };
  [[nodiscard]] tl::expected<Io, Failure> read(std::span<std::byte> buffer);
  /// Writes a record or more, not necessarily all bytes. After kWantWrite call it again with the
  /// same bytes (others may follow them, and they may have moved) before anything else is written.
  /// A failure to write does not end reading: the peer's reason to go away may be there.
  [[nodiscard]] tl::expected<Io, Failure> write(std::span<const std::byte> bytes);
  /// Ends our direction; reading goes on. kFinished: sent. Not while a write() is unfinished.
  [[nodiscard]] tl::expected<Progress, Failure> close_notify();

 private:
  struct State;
  explicit Session(std::unique_ptr<State> state) noexcept;

  std::unique_ptr<State> state_;
};

}  // namespace handshake::tls
