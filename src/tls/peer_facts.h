// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "base/result.h"
#include "policy/peer_facts.h"
#include "tls/credential.h"

namespace handshake::tls {

/// The facts of a peer that would show this certificate, taken as if it had been verified: for
/// explaining a policy. `certificate` holds the peer's own first; what follows it, and what `chain`
/// holds, is its chain up to the trust anchor, in any order. EINVAL: a file that cannot be read, by
/// name and cause.
[[nodiscard]] Result<policy::PeerFacts> read_peer_facts(const NamedBytes& certificate,
                                                        const std::vector<NamedBytes>& chain = {});

}  // namespace handshake::tls
