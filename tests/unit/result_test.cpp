// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <gtest/gtest.h>

namespace handshake {
namespace {

TEST(Result, EveryKindHasItsOwnErrnoAndComesBackFromIt) {
  for (int value = 0; value <= static_cast<int>(ErrorKind::kInputOutput); ++value) {
    const auto kind = static_cast<ErrorKind>(value);
    EXPECT_EQ(kind_of_errno(error_number(kind)), kind) << value;
  }
}

TEST(Result, AnErrnoWithoutKindIsInputOutput) {
  EXPECT_EQ(kind_of_errno(ENOSPC), ErrorKind::kInputOutput);
  EXPECT_EQ(kind_of_errno(0), ErrorKind::kInputOutput);
}

TEST(Result, FailErrnoNamesTheObjectAndTheCause) {
  errno = EACCES;
  const Error error = fail_errno("open /etc/x").value();
  EXPECT_EQ(error.kind, ErrorKind::kRejected);
  EXPECT_EQ(error.detail, "open /etc/x: Permission denied");
}

TEST(Result, ErrnoNamesAreSymbolic) {
  EXPECT_EQ(errno_name(ECONNRESET), "ECONNRESET");
  EXPECT_EQ(errno_name(4095), "errno 4095");
}

}  // namespace
}  // namespace handshake
