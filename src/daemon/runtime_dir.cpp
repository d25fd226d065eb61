// SPDX-License-Identifier: Apache-2.0
#include "daemon/runtime_dir.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include <fmt/format.h>

namespace handshake::daemon {

Result<std::string> default_runtime_dir() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = ::secure_getenv(name);
    return value == nullptr ? "" : value;
  };
  if (std::string given = variable("HANDSHAKED_RUNTIME_DIR"); !given.empty()) return given;
  if (::geteuid() == 0) return std::string("/run/handshaked");
  if (const std::string base = variable("XDG_RUNTIME_DIR"); !base.empty()) {
    return base + "/handshaked";
  }
  return fail(ErrorKind::kNotFound,
              "no runtime directory: XDG_RUNTIME_DIR is not set; give --runtime-dir DIR");
}

Result<void> make_runtime_dir(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0) {
    // Not left to the umask: consumers must be able to reach consumer.sock.
    if (::chmod(path.c_str(), 0755) != 0) return fail_errno(fmt::format("chmod {}", path));
  } else if (errno != EEXIST) {
    return fail_errno(fmt::format("create runtime directory {}", path));
  }
  struct stat directory {};
  if (::stat(path.c_str(), &directory) != 0) return fail_errno(fmt::format("stat {}", path));
  if (!S_ISDIR(directory.st_mode)) {
    return fail(ErrorKind::kInvalidArgument, fmt::format("{} is not a directory", path));
  }
  if (directory.st_uid != ::geteuid() || (directory.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return fail(ErrorKind::kRejected,
                fmt::format("{} belongs to uid {} with mode {:04o}: it must be ours and writable by "
                            "nobody else", path, directory.st_uid, directory.st_mode & 07777U));
  }
  return {};
}

}  // namespace handshake::daemon
