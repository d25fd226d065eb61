// SPDX-License-Identifier: Apache-2.0
#include "client/failure.h"

#include <algorithm>
#include <array>

namespace handshake::client {

namespace {
// A plain array: it needs no destructor when a thread of somebody else's program ends.
thread_local std::array<char, 512> last_text{};
}  // namespace

int report(int number, std::string_view detail) noexcept {
  const std::size_t size = std::min(detail.size(), last_text.size() - 1);
  std::copy_n(detail.data(), size, last_text.data());
  last_text[size] = '\0';
  return -number;
}

int report(const Failure& failure) noexcept { return report(failure.number, failure.detail); }

const char* last_error() noexcept { return last_text.data(); }

}  // namespace handshake::client
