// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/unique_fd.h"
#include "client/failure.h"

namespace handshake::client {

/// What a socket is, whatever fd names it (SO_COOKIE). EINVAL: not an open socket.
[[nodiscard]] Expected<std::uint64_t> socket_identity(int fd);

/// The caller's socket is still the one that was submitted, and its kernel encrypts both
/// directions. EIO otherwise, with what is missing.
[[nodiscard]] Expected<void> check_ktls(int fd, std::uint64_t identity);

/// Puts the plain end of a relay in the place of the caller's socket `fd`, atomically, after
/// checking that `fd` still names the socket that was submitted and that `plain_end` can be what
/// it is said to be: another TCP socket, without an upper layer, connected over loopback.
/// FD_CLOEXEC, O_NONBLOCK and the two timeouts are carried over. After a failure `fd` is untouched.
/// EIO with what is wrong.
[[nodiscard]] Expected<void> adopt_relay(int fd, std::uint64_t identity, UniqueFd plain_end);

}  // namespace handshake::client
