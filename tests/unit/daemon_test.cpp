// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "daemon/authorizer.h"
#include "daemon/daemon.h"
#include "daemon/journal.h"
#include "daemon/runtime_dir.h"
#include "support/pki.h"

namespace handshake::daemon {
namespace {

config::Settings settings_with(config::CredentialSettings credential) {
  config::Settings settings;
  settings.credentials.push_back(std::move(credential));
  return settings;
}

config::CredentialSettings credential_for(std::vector<uid_t> users, std::vector<gid_t> groups = {}) {
  config::CredentialSettings credential;
  credential.name = "web";
  credential.client = true;
  credential.access.users = std::move(users);
  credential.access.groups = std::move(groups);
  return credential;
}

constexpr auto kClient = protocol::MessageType::kClienthello;
constexpr auto kServer = protocol::MessageType::kServerhello;

TEST(AccessList, ListedUsersAndGroupsMayUseACredential) {
  const auto settings = settings_with(credential_for({1000}, {50}));
  EXPECT_TRUE(may_use(settings, {1000, 1, {}}, "web", kClient, 443));
  EXPECT_TRUE(may_use(settings, {7, 50, {}}, "web", kClient, 443));
  EXPECT_TRUE(may_use(settings, {7, 1, {2, 50}}, "web", kClient, 443));
}

TEST(AccessList, NobodyElseMayNotEvenRoot) {
  const auto settings = settings_with(credential_for({1000}, {50}));
  for (const Caller& stranger : {Caller{0, 0, {}}, Caller{1001, 1000, {1000}}}) {
    const auto allowed = may_use(settings, stranger, "web", kClient, 443);
    ASSERT_FALSE(allowed);
    EXPECT_EQ(allowed.error().kind, ErrorKind::kNotPermitted);
  }
}

TEST(AccessList, ACredentialThatDoesNotExistIsRefusedLikeAForbiddenOne) {
  const auto settings = settings_with(credential_for({1000}));
  const auto absent = may_use(settings, {1, 1, {}}, "other", kClient, 443);
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().kind, ErrorKind::kNotPermitted);
  EXPECT_EQ(may_use(settings, {1, 1, {}}, "web", kClient, 443).error().detail,
            "uid 1 may not use a credential \"web\"");
  EXPECT_EQ(absent.error().detail, "uid 1 may not use a credential \"other\"");
}

TEST(AccessList, RoleAndPortAreChecked) {
  auto credential = credential_for({1});
  credential.access.ports = {{443, 443}, {8000, 8100}};
  const auto settings = settings_with(credential);
  EXPECT_FALSE(may_use(settings, {1, 1, {}}, "web", kServer, 443));
  EXPECT_TRUE(may_use(settings, {1, 1, {}}, "web", kClient, 443));
  EXPECT_TRUE(may_use(settings, {1, 1, {}}, "web", kClient, 8100));
  EXPECT_FALSE(may_use(settings, {1, 1, {}}, "web", kClient, 8101));
}

TEST(AccessList, ARequestThatNamesNoCredentialIsInvalid) {
  const auto refused = may_use(settings_with(credential_for({1})), {1, 1, {}}, "", kClient, 443);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalidArgument);
}

TEST(Journal, ASummaryLineTellsWhoWhatAndWhy) {
  service::SessionRecord record;
  record.request_id = 7;
  record.role = kClient;
  record.peer = "192.0.2.1:443";
  record.credential = "web";
  record.uid = 1000;
  record.agent_pid = 99;
  record.ending = service::Ending::kDone;
  record.state = protocol::SessionState::kEnded;
  record.completed = record.submitted + std::chrono::microseconds(1500);
  record.status = -EACCES;
  record.alert = 48;
  record.alert_sent = true;
  record.reason = "unknown ca\nstatus=0";
  EXPECT_EQ(summary_line(record),
            "handshake id=7 role=clienthello peer=192.0.2.1:443 credential=web uid=1000 worker=99 "
            "mode=none duration-us=1500 status=EACCES alert-sent=48 ending=done "
            "reason=\"unknown ca\\x0astatus=0\"");
}

TEST(Journal, RemembersWhatEndedUpToABound) {
  Journal journal{Log()};
  service::SessionRecord record;
  record.state = protocol::SessionState::kEstablished;
  journal.add(record);
  EXPECT_TRUE(journal.ended().empty());
  record.state = protocol::SessionState::kEnded;
  for (std::uint64_t i = 0; i < 1500; ++i) {
    record.request_id = i;
    journal.add(record);
  }
  EXPECT_EQ(journal.ended().size(), 1000U);
  EXPECT_EQ(journal.ended().front().request_id, 500U);
}

class RuntimeDir : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "hs-run-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    base_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(base_); }
  std::string base_;
};

TEST_F(RuntimeDir, IsMadeForAllToEnterAndOnlyUsToWrite) {
  const mode_t before = ::umask(077);
  const auto made = make_runtime_dir(base_ + "/run");
  ::umask(before);
  ASSERT_TRUE(made);
  struct stat directory {};
  ASSERT_EQ(::stat((base_ + "/run").c_str(), &directory), 0);
  EXPECT_EQ(directory.st_mode & 07777U, 0755U);
  EXPECT_TRUE(make_runtime_dir(base_ + "/run"));
}

TEST_F(RuntimeDir, OneThatOthersMayWriteIsRefused) {
  ASSERT_EQ(::mkdir((base_ + "/run").c_str(), 0700), 0);
  ASSERT_EQ(::chmod((base_ + "/run").c_str(), 0777), 0);
  EXPECT_EQ(make_runtime_dir(base_ + "/run").error().kind, ErrorKind::kRejected);
  EXPECT_EQ(make_runtime_dir(base_ + "/absent/run").error().kind, ErrorKind::kNotFound);
}

class LoadChecked : public RuntimeDir {
 protected:
  void write(const std::string& name, const std::string& content) {
    std::ofstream(base_ + "/" + name) << content;
    ASSERT_EQ(::chmod((base_ + "/" + name).c_str(), 0600), 0);
  }
  void write_config() {
    write("config",
          "[credential web]\nrole=server\nx509.certificate=web.pem\nx509.private_key=web.key\n"
          "x509.truststore=ca.pem\nallow.users=*\n");
  }
};

TEST_F(LoadChecked, AKeyThatBelongsToItsCertificateIsTaken) {
  const test_pki::Authority authority("ca");
  const auto web = authority.issue({});
  write("ca.pem", authority.certificate_pem());
  write("web.pem", web.chain_pem);
  write("web.key", web.key_pem);
  write_config();
  const Checked checked = load_checked(base_ + "/config");
  EXPECT_NE(checked.settings, nullptr);
  EXPECT_TRUE(checked.problems.empty());
}

TEST_F(LoadChecked, AKeyThatDoesNotMatchIsNamedWithItsFile) {
  const test_pki::Authority authority("ca");
  write("ca.pem", authority.certificate_pem());
  write("web.pem", authority.issue({}).chain_pem);
  write("web.key", authority.issue({}).key_pem);
  write_config();
  const Checked checked = load_checked(base_ + "/config");
  EXPECT_EQ(checked.settings, nullptr);
  ASSERT_EQ(checked.problems.size(), 1U);
  EXPECT_NE(checked.problems[0].text().find("web.key"), std::string::npos) << checked.problems[0].text();
}

TEST_F(LoadChecked, ATrustStoreThatIsNoneIsNamedWithItsFile) {
  const test_pki::Authority authority("ca");
  const auto web = authority.issue({});
  write("ca.pem", "not a certificate");
  write("web.pem", web.chain_pem);
  write("web.key", web.key_pem);
  write_config();
  const Checked checked = load_checked(base_ + "/config");
  EXPECT_EQ(checked.settings, nullptr);
  ASSERT_EQ(checked.problems.size(), 1U);
  EXPECT_NE(checked.problems[0].text().find("ca.pem"), std::string::npos) << checked.problems[0].text();
}

}  // namespace
}  // namespace handshake::daemon
