// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/credentials.h"
#include "base/result.h"

namespace handshake::agent {

/// Lets a server and a client of this process greet each other over a socketpair, so that what the
/// TLS library does on first use (algorithms fetched, tables made, entropy read) is done before
/// there is a peer, and before there is a sandbox. The client trusts nobody and ends it when it
/// has seen the certificate and its signature. Takes a few milliseconds.
///
/// Returns false when no credential can serve. Errors: EMFILE, ENFILE, ENOMEM, and EIO when the
/// handshake does not even get that far: then no other one would.
[[nodiscard]] Result<bool> warm_up(const CredentialSet& credentials);

}  // namespace handshake::agent
