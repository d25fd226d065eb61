// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include <tl/expected.hpp>

namespace handshake {

/// What went wrong, as far as the caller's behaviour depends on it. Each kind has exactly
/// one errno (error_number()); the kinds are those of REQUIREMENTS.md R1.1 and R3.10.
enum class ErrorKind : std::uint8_t {
  kInvalidArgument,  ///< EINVAL: the caller's argument, message or file is malformed
  kOutOfRange,       ///< ERANGE: a number is outside what its policy allows
  kBadDescriptor,    ///< EBADF: no such socket, token or request
  kAlreadyExists,    ///< EEXIST: the socket already has an upper layer protocol
  kBusy,             ///< EBUSY: already under way, or already finished
  kNoAgent,          ///< ESRCH: nobody listens for this class in this namespace
  kTryAgain,         ///< EAGAIN: nothing waits, or a limit is reached
  kNoMemory,         ///< ENOMEM
  kNotSupported,     ///< EOPNOTSUPP: unknown operation, draining, or a missing feature
  kNotPermitted,     ///< EPERM: the caller may not do this
  kNotFound,         ///< ENOENT: a named object does not exist
  kRejected,         ///< EACCES: the peer failed verification, or rejected us
  kTimedOut,         ///< ETIMEDOUT
  kNoCredential,     ///< ENOKEY: nothing to authenticate with
  kKeyRejected,      ///< EKEYREJECTED: PSK identity unknown
  kConnectionReset,  ///< ECONNRESET: the peer went away
  kInputOutput,      ///< EIO: everything else
};

/// The errno of a kind, positive.
[[nodiscard]] constexpr int error_number(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::kInvalidArgument: return EINVAL;
    case ErrorKind::kOutOfRange: return ERANGE;
    case ErrorKind::kBadDescriptor: return EBADF;
    case ErrorKind::kAlreadyExists: return EEXIST;
    case ErrorKind::kBusy: return EBUSY;
    case ErrorKind::kNoAgent: return ESRCH;
    case ErrorKind::kTryAgain: return EAGAIN;
    case ErrorKind::kNoMemory: return ENOMEM;
    case ErrorKind::kNotSupported: return EOPNOTSUPP;
    case ErrorKind::kNotPermitted: return EPERM;
    case ErrorKind::kNotFound: return ENOENT;
    case ErrorKind::kRejected: return EACCES;
    case ErrorKind::kTimedOut: return ETIMEDOUT;
    case ErrorKind::kNoCredential: return ENOKEY;
    case ErrorKind::kKeyRejected: return EKEYREJECTED;
    case ErrorKind::kConnectionReset: return ECONNRESET;
    case ErrorKind::kInputOutput: return EIO;
  }
  return EIO;
}

/// The kind whose errno `number` is (positive); kInputOutput for any other.
[[nodiscard]] ErrorKind kind_of_errno(int number) noexcept;

/// "ECONNRESET" for ECONNRESET; "errno 4095" for what has no name.
[[nodiscard]] std::string errno_name(int number);

/// An expected failure. A value: copied and compared freely.
struct Error {
  ErrorKind kind = ErrorKind::kInputOutput;
  /// Names the object and what was wrong with it: "open /etc/tlshd/ca.pem: Permission denied".
  std::string detail;

  /// Positive errno.
  [[nodiscard]] int number() const noexcept { return error_number(kind); }
  friend bool operator==(const Error&, const Error&) = default;
};

template <class T>
using Result = tl::expected<T, Error>;

/// `return fail(ErrorKind::kNotFound, "credential nfs: no such section");`
[[nodiscard]] inline tl::unexpected<Error> fail(ErrorKind kind, std::string detail) {
  return tl::unexpected<Error>(Error{kind, std::move(detail)});
}

/// The failure of the system call `what` that has just set errno: "<what>: <strerror>".
[[nodiscard]] tl::unexpected<Error> fail_errno(std::string what);
/// The same for a saved errno (positive).
[[nodiscard]] tl::unexpected<Error> fail_errno(int number, std::string what);

}  // namespace handshake
