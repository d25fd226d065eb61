// SPDX-License-Identifier: Apache-2.0
// For tls/*.cpp only: from what was seen to why a session ended.
#pragma once

#include <optional>
#include <string>

#include "tls/credential.h"
#include "tls/openssl.h"
#include "tls/peer_name.h"
#include "tls/session.h"
#include "tls/session_hooks.h"
#include "tls/wire.h"

namespace handshake::tls {

/// Everything there is to know when a call of the library has failed for good.
struct Evidence {
  const Wire& wire;
  const Observations& observations;
  const Credential& credential;
  const std::optional<PeerName>& expected_name;
  Side side;
  LibraryError library;
};

[[nodiscard]] Failure explain_handshake_failure(const Evidence& evidence);
/// After the handshake, for relays.
[[nodiscard]] Failure explain_stream_failure(const Evidence& evidence);
[[nodiscard]] Failure out_of_memory_failure() noexcept;

}  // namespace handshake::tls
