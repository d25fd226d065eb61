// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <handshake/tagset.hpp>

#include "base/clock.h"
#include "base/result.h"
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
