// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

namespace handshake::cli {

/// Exit statuses of both programs, as their man pages list them.
enum ExitCode : int {
  kSuccess = 0,
  kFailed = 1,       ///< a handshake or a transfer failed, or something else did
  kUsage = 2,        ///< the command line or the configuration is wrong
  kNoService = 3,    ///< nobody serves: no daemon, or no agent
  kNotPermitted = 4, ///< the caller may not do this
  kRefused = 5,      ///< the peer failed verification, or refused us
  kTimedOut = 6,
};

[[nodiscard]] constexpr ExitCode exit_code(ErrorKind kind) noexcept {
  switch (kind) {
    case ErrorKind::kInvalidArgument:
    case ErrorKind::kOutOfRange: return kUsage;
    case ErrorKind::kNotFound:
    case ErrorKind::kNoAgent: return kNoService;
    case ErrorKind::kNotPermitted: return kNotPermitted;
    case ErrorKind::kRejected:
    case ErrorKind::kNoCredential:
    case ErrorKind::kKeyRejected: return kRefused;
    case ErrorKind::kTimedOut: return kTimedOut;
    case ErrorKind::kBadDescriptor:
    case ErrorKind::kAlreadyExists:
    case ErrorKind::kBusy:
    case ErrorKind::kTryAgain:
    case ErrorKind::kNoMemory:
    case ErrorKind::kNotSupported:
    case ErrorKind::kConnectionReset:
    case ErrorKind::kInputOutput: return kFailed;
  }
  return kFailed;
}

}  // namespace handshake::cli
