// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/secret.h"

/// The kernel's keys (keyrings(7)). For the privileged process only (REQUIREMENTS.md R3.8), and
/// there for one thread: what a process keyring holds is known to the thread that made it and to
/// those it has started since. Nothing here waits.
namespace handshake::keyring {

/// Names a key or keyring, as `keyctl show` prints it. Positive.
using Serial = std::int32_t;

/// "0x3b8c07b7", as administrators find it in /proc/keys.
[[nodiscard]] std::string serial_text(Serial serial);

struct Description {
  std::string type;         ///< "psk", "user", "keyring"
  std::string description;  ///< of a pre-shared key: its TLS identity
  uid_t owner = 0;
};

/// Errors: ENOKEY (there is none, or it was revoked or has expired), EACCES.
[[nodiscard]] Result<Description> describe_key(Serial serial);

struct Key {
  Serial serial = 0;
  Description what;
  Secret payload;
};

/// What a key holds. Errors: ENOKEY (none, revoked, expired, empty), EACCES (it may not be read: it
/// is in no keyring that this process possesses), ENOMEM. The detail names the key by serial, type
/// and description, never by what is in it.
[[nodiscard]] Result<Key> read_key(Serial serial);

}  // namespace handshake::keyring
