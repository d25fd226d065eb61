// SPDX-License-Identifier: Apache-2.0
// Against the keys of the kernel that runs the test; what is made is in this process's keyring and
// goes with it.
#include <keyutils.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "keyring/key.h"
#include "keyring/keyrings.h"

namespace handshake::keyring {
namespace {

std::string text_of(const Secret& secret) {
  return {reinterpret_cast<const char*>(secret.view().data()), secret.size()};
}

class Keyring : public ::testing::Test {
 protected:
  void SetUp() override {
    // A name of this test's own: /proc/keys is the whole machine's, and shows what is unlinked a
    // while longer.
    static int tests = 0;
    name_ = "hs-test-" + std::to_string(::getpid()) + "-" + std::to_string(++tests);
    ring_ = ::add_key("keyring", name_.c_str(), nullptr, 0, KEY_SPEC_PROCESS_KEYRING);
    if (ring_ < 0) GTEST_SKIP() << "this machine's kernel has no keyrings: " << errno_name(errno);
  }
  void TearDown() override {
    if (ring_ > 0) ::keyctl_unlink(ring_, KEY_SPEC_PROCESS_KEYRING);
  }
  static Serial add(Serial ring, const std::string& description, const std::string& payload) {
    const Serial serial = ::add_key("user", description.c_str(), payload.data(), payload.size(), ring);
    EXPECT_GT(serial, 0) << std::strerror(errno);
    return serial;
  }
  /// A keyring in no keyring of this process's: somebody else holds it.
  Serial detached(const std::string& name, Serial holder) const {
    const Serial serial = ::add_key("keyring", name.c_str(), nullptr, 0, holder);
    EXPECT_GT(serial, 0) << std::strerror(errno);
    return serial;
  }

  std::string name_;
  Serial ring_ = 0;
  const TimePoint start_ = TimePoint(std::chrono::hours(1));
};

TEST_F(Keyring, AKeyIsReadWithWhatItIs) {
  const std::string payload("\x01\x00\x02secret", 9);
  const Serial serial = add(ring_, "NVMe1R01 host subsystem;digest", payload);
  const auto key = read_key(serial);
  ASSERT_TRUE(key) << key.error().detail;
  EXPECT_EQ(key->serial, serial);
  EXPECT_EQ(key->what.type, "user");
  EXPECT_EQ(key->what.description, "NVMe1R01 host subsystem;digest");
  EXPECT_EQ(key->what.owner, ::geteuid());
  EXPECT_EQ(text_of(key->payload), payload);
}

TEST_F(Keyring, IdentitiesAndPayloadsOfAnyLengthAreWhole) {
  const std::string identity(2000, 'i');
  const std::string payload(20000, 'p');
  const auto key = read_key(add(ring_, identity, payload));
  ASSERT_TRUE(key) << key.error().detail;
  EXPECT_EQ(key->what.description, identity);
  EXPECT_EQ(text_of(key->payload), payload);
}

TEST_F(Keyring, AKeyThatIsNotThereIsNamedBySerial) {
  const auto key = read_key(0x12345678);
  ASSERT_FALSE(key);
  EXPECT_EQ(key.error().kind, ErrorKind::kNoCredential);
  EXPECT_EQ(key.error().detail, "key 0x12345678: Required key not available");
}

TEST_F(Keyring, ARevokedKeyIsNotRead) {
  const Serial serial = add(ring_, "revoked", "secret");
  ASSERT_EQ(::keyctl_revoke(serial), 0);
  const auto key = read_key(serial);
  ASSERT_FALSE(key);
  EXPECT_EQ(key.error().kind, ErrorKind::kNoCredential);
  EXPECT_NE(key.error().detail.find("revoked"), std::string::npos);
}

TEST_F(Keyring, AKeyThatMayNotBeReadIsNamedInFullAndItsPayloadIsNot) {
  const Serial serial = add(ring_, "forbidden", "TOPSECRET");
  ASSERT_EQ(::keyctl_setperm(serial, KEY_USR_VIEW), 0);  // possession needs a search
  const auto key = read_key(serial);
  ASSERT_FALSE(key);
  EXPECT_EQ(key.error().kind, ErrorKind::kRejected);
  EXPECT_NE(key.error().detail.find("(user \"forbidden\"): may not be read"), std::string::npos)
      << key.error().detail;
  EXPECT_EQ(key.error().detail.find("TOPSECRET"), std::string::npos);
}

TEST_F(Keyring, AKeyIsFoundInAConfiguredKeyringByName) {
  const Serial serial = add(ring_, "identity", "key");
  Keyrings keyrings({name_});
  const auto key = keyrings.find("user", "identity", std::nullopt, start_);
  ASSERT_TRUE(key) << key.error().detail;
  EXPECT_EQ(key->serial, serial);
}

TEST_F(Keyring, AKeyIsFoundInAConfiguredKeyringBySerial) {
  const Serial serial = add(ring_, "identity", "key");
  Keyrings keyrings({serial_text(ring_)});
  const auto key = keyrings.find("user", "identity", std::nullopt, start_);
  ASSERT_TRUE(key) << key.error().detail;
  EXPECT_EQ(key->serial, serial);
}

TEST_F(Keyring, ASerialMayBeDecimal) {
  const Serial serial = add(ring_, "identity", "key");
  Keyrings keyrings({std::to_string(ring_)});
  EXPECT_EQ(keyrings.find("user", "identity", std::nullopt, start_).value().serial, serial);
}

TEST_F(Keyring, ARequestsOwnKeyringComesFirst) {
  const Serial own = detached(name_ + "-own", ring_);
  add(ring_, "identity", "configured");
  add(own, "identity", "own");
  Keyrings keyrings({name_});
  EXPECT_EQ(text_of(keyrings.find("user", "identity", own, start_).value().payload), "own");
  EXPECT_EQ(text_of(keyrings.find("user", "identity", std::nullopt, start_).value().payload), "configured");
}

TEST_F(Keyring, AKeyringThatAppearsLaterIsLookedForAgain) {
  const std::string late = name_ + "-late";
  Keyrings keyrings({late});
  EXPECT_FALSE(keyrings.find("user", "identity", std::nullopt, start_));
  const Serial ring = detached(late, ring_);
  add(ring, "identity", "key");
  // Peers can name unknown identities as often as they like: /proc/keys is not read each time.
  EXPECT_FALSE(keyrings.find("user", "identity", std::nullopt, start_ + milliseconds(999)));
  EXPECT_TRUE(keyrings.find("user", "identity", std::nullopt, start_ + milliseconds(1000)));
}

TEST_F(Keyring, AKeyringThatWasMadeAnewIsFoundAgain) {
  const std::string again = name_ + "-again";
  const Serial old = detached(again, ring_);
  add(old, "identity", "old");
  Keyrings keyrings({again});
  ASSERT_EQ(text_of(keyrings.find("user", "identity", std::nullopt, start_).value().payload), "old");
  ASSERT_EQ(::keyctl_revoke(old), 0);  // as nvme_keyring does when it is unloaded
  ASSERT_EQ(::keyctl_unlink(old, ring_), 0);
  const Serial anew = detached(again, ring_);
  add(anew, "identity", "new");
  EXPECT_EQ(text_of(keyrings.find("user", "identity", std::nullopt, start_ + milliseconds(1000)).value().payload),
            "new");
}

TEST_F(Keyring, WhatWasSearchedIsSaidWhenNothingIsFound) {
  Keyrings keyrings({name_, name_ + "-absent"});
  const auto key = keyrings.find("user", "identity", Serial{0x12345678}, start_);
  ASSERT_FALSE(key);
  EXPECT_EQ(key.error().kind, ErrorKind::kNoCredential);
  EXPECT_TRUE(key.error().detail.starts_with(
      "no key of type user for \"identity\" in any keyring (the request's 0x12345678, " + name_ + " " +
      serial_text(ring_) + ", " + name_ + "-absent not there, .nvme "))
      << key.error().detail;
}

TEST_F(Keyring, TheKeyOfAnotherTypeIsNotFound) {
  add(ring_, "identity", "key");
  Keyrings keyrings({name_});
  EXPECT_EQ(keyrings.find("psk", "identity", std::nullopt, start_).error().kind, ErrorKind::kNoCredential);
}

TEST_F(Keyring, AKeyThatOnlyItsPossessorMayReadIsReadThroughItsKeyring) {
  // As nvme-cli inserts it: everything for the possessor, and nothing but a look for the owner.
  const Serial ring = detached(name_ + "-held", ring_);
  const Serial serial = add(ring, "identity", "key");
  ASSERT_EQ(::keyctl_setperm(serial, KEY_POS_ALL | KEY_USR_VIEW), 0);
  ASSERT_EQ(::keyctl_setperm(ring, KEY_POS_ALL | KEY_USR_ALL), 0);
  bool read_alone = true;
  Result<Key> found = fail(ErrorKind::kInputOutput, "");
  // Another process: its process keyring is its own, so it possesses nothing of ours.
  const pid_t child = ::fork();
  if (child == 0) {
    read_alone = read_key(serial).has_value();
    Keyrings keyrings({name_ + "-held"});
    found = keyrings.read(serial, start_);
    ::_exit(!read_alone && found && text_of(found->payload) == "key" ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(Keyring, ARequestsKeyringIsLetGoOfUnlessItIsOurs) {
  const Serial own = detached(name_ + "-own", ring_);
  ASSERT_EQ(::keyctl_link(own, KEY_SPEC_PROCESS_KEYRING), 0);
  add(own, "identity", "key");
  Keyrings keyrings({name_});
  keyrings.unlink_request_keyring(own);
  EXPECT_EQ(::keyctl_unlink(own, KEY_SPEC_PROCESS_KEYRING), -1);
  ASSERT_TRUE(keyrings.find("user", "identity", own, start_));
  keyrings.unlink_request_keyring(ring_);
  EXPECT_EQ(::keyctl_unlink(ring_, KEY_SPEC_PROCESS_KEYRING), 0);
  ring_ = 0;
}

TEST(Secret, IsWipedWhenItIsMovedFromOrDestroyed) {
  Secret first(std::vector<std::byte>(32, std::byte{0x5a}));
  Secret second = std::move(first);
  EXPECT_TRUE(first.empty());
  const std::byte* const memory = second.view().data();
  EXPECT_EQ(memory[31], std::byte{0x5a});
  EXPECT_EQ(text_of(second.copy()), text_of(second));
  second.wipe();
  EXPECT_EQ(second.size(), 0U);
  EXPECT_EQ(memory[0], std::byte{0});  // its memory is still there: wipe() keeps the capacity
  EXPECT_EQ(memory[31], std::byte{0});
}

}  // namespace
}  // namespace handshake::keyring
