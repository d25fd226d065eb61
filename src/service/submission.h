// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <handshake/tagset.hpp>

#include "base/clock.h"
#include "base/result.h"
#include "base/secret.h"
#include "base/unique_fd.h"
#include "protocol/messages.h"
#include "service/socket_facts.h"

namespace handshake::service {

/// How a request ended, as its consumer learns it. Moved into the callback; what the callback
/// wants to keep it takes.
struct Completion {
  int status = 0;  ///< 0 or a negative errno
  std::vector<std::uint32_t> remote_auth;  ///< key serials of the peer's identities
  TagSet tags;                             ///< finalized; empty unless the status is 0
  protocol::SessionMode mode = protocol::SessionMode::kNone;
  std::string cipher;
  std::string group;
  std::string peer_subject;
  std::string certificate_algorithm;
  std::string reason;  ///< one line, for people, when the status is not 0
  std::optional<std::uint32_t> alert;
  bool alert_sent = false;
  UniqueFd plain_end;  ///< with SessionMode::kRelay, and only then: the socket to use from now on
  std::uint64_t request_id = 0;
};

/// A pre-shared key, for one request.
struct PresharedKey {
  std::uint32_t serial = 0;  ///< for DONE's remote-auth
  std::string identity;      ///< any bytes
  Secret secret;
};

/// A certificate and its private key, DER, for one request.
struct RequestKeyPair {
  std::string name;  ///< for messages
  std::vector<std::byte> certificate;
  Secret private_key;
};

/// Keys that whoever submits a request gives to its agent and to nobody else. The service carries
/// them and looks at none.
struct RequestKeys {
  std::optional<PresharedKey> psk;        ///< a client's
  std::vector<RequestKeyPair> key_pairs;  ///< instead of the credential's
};

/// What a consumer hands over: a connected TCP socket and what is to be done with it.
struct Submission {
  UniqueFd socket;
  std::uint32_t handler_class =
      static_cast<std::uint32_t>(protocol::HandlerClass::kTlshd);
  protocol::MessageType message_type = protocol::MessageType::kUnspec;
  protocol::Auth auth_mode = protocol::Auth::kUnspec;
  std::optional<std::string> peername;    ///< 1-255 bytes
  std::optional<std::string> credential;  ///< 1-255 bytes; who may use it is not checked here
  protocol::RelayMode relay = protocol::RelayMode::kNever;
  protocol::ClientAuth client_auth = protocol::ClientAuth::kDefault;
  std::optional<milliseconds> timeout;  ///< counted from submit(); none or 0: the service's default
  std::vector<std::uint32_t> peer_identities;
  std::vector<protocol::kernel::X509> certificates;
  std::optional<std::uint32_t> keyring;
  std::shared_ptr<const RequestKeys> keys;  ///< null: none
  /// Looks for the pre-shared key of the first known of these identities, for a server's agent.
  /// Called on that agent's connection's thread, without locks, while the request is accepted,
  /// and possibly a last time while it ends. Empty: there are none. Error: ENOKEY.
  std::function<Result<PresharedKey>(const std::vector<std::string>& identities)> find_key;
  std::uint32_t uid = 0;  ///< whose request it is, for limits and logs

  /// Asked on the submitting thread, before the request exists, whether this may be done with
  /// this socket (which is not in the submission then); its error becomes that of submit(). May
  /// be empty.
  std::function<Result<void>(const Submission&, const SocketFacts&)> authorize;
  /// Called exactly once if submit() succeeded and no cancel did, on whichever thread ended the
  /// request, without any lock of the service's; it may call the service. It may run before
  /// submit() has returned.
  std::function<void(Completion)> complete;
  /// Called exactly once after the completion or the successful cancel, never after a failed
  /// submit(). May be empty.
  std::function<void()> release;
};

}  // namespace handshake::service
