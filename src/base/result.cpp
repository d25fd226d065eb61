// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <cstring>

namespace handshake {

ErrorKind kind_of_errno(int number) noexcept {
  switch (number) {
    case EINVAL: return ErrorKind::kInvalidArgument;
    case ERANGE: return ErrorKind::kOutOfRange;
    case EBADF: return ErrorKind::kBadDescriptor;
    case EEXIST: return ErrorKind::kAlreadyExists;
    case EBUSY: return ErrorKind::kBusy;
    case ESRCH: return ErrorKind::kNoAgent;
    case EAGAIN: return ErrorKind::kTryAgain;
    case ENOMEM: return ErrorKind::kNoMemory;
    case EOPNOTSUPP: return ErrorKind::kNotSupported;
    case EPERM: return ErrorKind::kNotPermitted;
    case ENOENT: return ErrorKind::kNotFound;
    case EACCES: return ErrorKind::kRejected;
    case ETIMEDOUT: return ErrorKind::kTimedOut;
    case ENOKEY: return ErrorKind::kNoCredential;
    case EKEYREJECTED: return ErrorKind::kKeyRejected;
    case ECONNRESET:
    case EPIPE: return ErrorKind::kConnectionReset;
    default: return ErrorKind::kInputOutput;
  }
}

std::string errno_name(int number) {
  const char* name = ::strerrorname_np(number);
  return name != nullptr ? std::string(name) : "errno " + std::to_string(number);
}

tl::unexpected<Error> fail_errno(int number, std::string what) {
  what += ": ";
  const char* description = ::strerrordesc_np(number);
  what += description != nullptr ? std::string(description) : errno_name(number);
  return fail(kind_of_errno(number), std::move(what));
}

tl::unexpected<Error> fail_errno(std::string what) { return fail_errno(errno, std::move(what)); }

}  // namespace handshake
