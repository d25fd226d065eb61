// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace handshake::transport {

/// A network namespace that somebody holds open here. While a descriptor of it, or a socket in it,
/// is open the kernel cannot free the namespace: who serves one lets go of it when it vanishes.
struct Netns {
  UniqueFd fd;
  /// What it is: a namespace made anew under an old name has another number.
  dev_t device = 0;
  ino_t inode = 0;

  [[nodiscard]] bool same_as(const Netns& other) const noexcept {
    return device == other.device && inode == other.inode;
  }
};

/// "blue" is /run/netns/blue, as ip-netns(8) has it; an absolute path ("/proc/123/ns/net") is taken
/// as it is. Errors: ENOENT (there is none now), EINVAL (something else is there), EACCES, EMFILE.
[[nodiscard]] Result<Netns> open_netns(const std::string& name_or_path);

/// Runs `work` in that namespace, on a thread of its own that ends afterwards: no other code of
/// this process ever finds itself in the wrong namespace. Returns when it has. Errors: EPERM
/// (setns(2) needs CAP_SYS_ADMIN), ENOMEM (no thread).
[[nodiscard]] Result<void> in_netns(const Netns& netns, const std::function<void()>& work);

}  // namespace handshake::transport
