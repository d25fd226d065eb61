// SPDX-License-Identifier: Apache-2.0
#include "client/service_path.h"

#include <unistd.h>

#include <cstdlib>

namespace handshake::client {

namespace {

std::string from_environment(const char* variable) {
  const char* value = ::secure_getenv(variable);
  return value != nullptr ? std::string(value) : std::string();
}

}  // namespace

std::string default_service_path() {
  if (std::string path = from_environment("HANDSHAKED_SOCKET"); !path.empty()) return path;
  if (std::string directory = from_environment("HANDSHAKED_RUNTIME_DIR"); !directory.empty()) {
    return directory + "/consumer.sock";
  }
  if (std::string directory = from_environment("XDG_RUNTIME_DIR"); !directory.empty()) {
    std::string path = directory + "/handshaked/consumer.sock";
    if (::access(path.c_str(), F_OK) == 0) return path;
  }
  return "/run/handshaked/consumer.sock";
}

}  // namespace handshake::client
