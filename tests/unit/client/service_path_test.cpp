// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "client/service_path.h"

namespace handshake::client {
namespace {

class ServicePath : public ::testing::Test {
 protected:
  ServicePath() {
    std::string pattern = (std::filesystem::temp_directory_path() / "path-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
    ::unsetenv("HANDSHAKED_SOCKET");
    ::unsetenv("HANDSHAKED_RUNTIME_DIR");
    ::setenv("XDG_RUNTIME_DIR", directory_.c_str(), 1);
  }
  ~ServicePath() override {
    ::unsetenv("XDG_RUNTIME_DIR");
    ::unsetenv("HANDSHAKED_SOCKET");
    ::unsetenv("HANDSHAKED_RUNTIME_DIR");
    std::filesystem::remove_all(directory_);
  }
  std::string directory_;
};

TEST_F(ServicePath, IsTheSystemsWhenTheUserRunsNone) {
  EXPECT_EQ(default_service_path(), "/run/handshaked/consumer.sock");
  ::unsetenv("XDG_RUNTIME_DIR");
  EXPECT_EQ(default_service_path(), "/run/handshaked/consumer.sock");
}

TEST_F(ServicePath, IsTheUsersOwnWhenItExists) {
  std::filesystem::create_directory(directory_ + "/handshaked");
  std::ofstream(directory_ + "/handshaked/consumer.sock").put('x');
  EXPECT_EQ(default_service_path(), directory_ + "/handshaked/consumer.sock");
}

TEST_F(ServicePath, FollowsTheEnvironmentTheMostExactFirst) {
  ::setenv("HANDSHAKED_RUNTIME_DIR", "/somewhere", 1);
  EXPECT_EQ(default_service_path(), "/somewhere/consumer.sock");
  ::setenv("HANDSHAKED_SOCKET", "/exactly/here", 1);
  EXPECT_EQ(default_service_path(), "/exactly/here");
  ::setenv("HANDSHAKED_SOCKET", "", 1);
  EXPECT_EQ(default_service_path(), "/somewhere/consumer.sock");
}

}  // namespace
}  // namespace handshake::client
