// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

#include "base/result.h"

namespace handshake::client {

/// An expected failure with its exact errno: the ABI passes on what the service and the system
/// said, also what ErrorKind has no kind for.
struct Failure {
  int number = EIO;  ///< positive errno
  std::string detail;
};

template <class T>
using Expected = tl::expected<T, Failure>;

[[nodiscard]] inline tl::unexpected<Failure> refuse(int number, std::string detail) {
  return tl::unexpected<Failure>(Failure{number, std::move(detail)});
}

[[nodiscard]] inline tl::unexpected<Failure> refuse(Error error) {
  return refuse(error.number(), std::move(error.detail));
}

/// Remembers the failure for this thread's last_error(); returns its negative errno. Cuts what
/// does not fit and never allocates.
int report(const Failure& failure) noexcept;
int report(int number, std::string_view detail) noexcept;

/// The text of the thread's last report(), "" before any.
[[nodiscard]] const char* last_error() noexcept;

}  // namespace handshake::client
