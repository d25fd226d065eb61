// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "config/ini.h"
#include "config/load.h"
#include "config/sealed.h"

namespace handshake::config {
namespace {

std::vector<std::string> texts(const std::vector<Problem>& problems) {
  std::vector<std::string> all;
  for (const Problem& problem : problems) all.push_back(problem.text());
  return all;
}

TEST(Ini, KeepsSectionsKeysAndPlaces) {
  std::vector<Problem> problems;
  const IniFile file = parse_ini("f", "# c\n[a]\n k = v w \t\r\n; c\n[b c]\nx=\n", problems);
  EXPECT_TRUE(problems.empty());
  ASSERT_EQ(file.sections.size(), 2U);
  EXPECT_EQ(file.sections[0].name, "a");
  ASSERT_EQ(file.sections[0].entries.size(), 1U);
  const IniEntry& entry = file.sections[0].entries[0];
  EXPECT_EQ(entry.key, "k");
  EXPECT_EQ(entry.value, "v w");
  EXPECT_EQ(entry.line, 3U);
  EXPECT_EQ(entry.key_column, 2U);
  EXPECT_EQ(entry.value_column, 6U);
  EXPECT_EQ(file.sections[1].name, "b c");
  EXPECT_EQ(file.sections[1].entries[0].value, "");
}

TEST(Ini, TakesLinesOfAnyLength) {
  std::vector<Problem> problems;
  const std::string path(5000, 'p');
  const IniFile file = parse_ini("f", "[a]\nk=" + path, problems);
  EXPECT_EQ(file.sections.at(0).entries.at(0).value, path);
}

TEST(Ini, ReportsEveryMalformedLineWithItsPlace) {
  std::vector<Problem> problems;
  using namespace std::string_literals;
  EXPECT_EQ(parse_ini("f", "k=v\n[a\n[]\n[ok]\n=v\nnonsense\nk=a\0b\n"s, problems).sections.size(), 1U);
  EXPECT_EQ(texts(problems),
            (std::vector<std::string>{
                "f:1:1: k: stands before the first [section]",
                "f:2:1: malformed section header, expected [name]",
                "f:3:1: malformed section header, expected [name]",
                "f:5:1: expected [section], key=value or a comment",
                "f:6:1: expected [section], key=value or a comment", "f:7:4: NUL byte"}));
}

class ConfigFile : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "hs-config-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    write("cert.pem", "CERTIFICATE", 0644);
    write("key.pem", "KEY", 0600);
    write("ca.pem", "CA", 0644);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  void write(const std::string& name, const std::string& content, mode_t mode) {
    std::ofstream(directory_ / name) << content;
    ASSERT_EQ(::chmod((directory_ / name).c_str(), mode), 0);
  }
  Loaded load_text(const std::string& text) {
    write("config", text, 0644);
    return load((directory_ / "config").string());
  }
  /// The problems with the directory's own name cut off.
  std::vector<std::string> problems_of(const std::string& text) {
    std::vector<std::string> all = texts(load_text(text).problems);
    for (std::string& one : all) {
      for (std::size_t at = 0; (at = one.find(directory_.string() + "/")) != std::string::npos;) {
        one.erase(at, directory_.string().size() + 1);
      }
    }
    return all;
  }
  std::filesystem::path directory_;
};

constexpr const char* kGood = R"(
[debug]
loglevel=1
[service]
workers=3
timeout_ms=1500
[credential web]
role=both
x509.certificate=cert.pem
x509.private_key=key.pem
x509.truststore=ca.pem
client_auth=require
allow.users=root 1000
allow.groups=0
allow.ports=443, 8000-8100
)";

TEST_F(ConfigFile, ACredentialIsReadWithTheFilesItNames) {
  const Loaded loaded = load_text(kGood);
  EXPECT_EQ(texts(loaded.problems), std::vector<std::string>{});
  ASSERT_NE(loaded.settings, nullptr);
  EXPECT_EQ(loaded.settings->log_level, LogLevel::kDebug);
  EXPECT_EQ(loaded.settings->workers, 3U);
  EXPECT_EQ(loaded.settings->default_timeout, milliseconds(1500));
  ASSERT_EQ(loaded.settings->credentials.size(), 1U);
  const CredentialSettings& web = loaded.settings->credentials[0];
  EXPECT_EQ(web.name, "web");
  EXPECT_TRUE(web.client && web.server && web.require_client_certificate);
  EXPECT_TRUE(web.check_extended_key_usage);
  ASSERT_EQ(web.key_pairs.size(), 1U);
  EXPECT_EQ(web.key_pairs[0].certificate.content, "CERTIFICATE");
  EXPECT_EQ(web.key_pairs[0].private_key.content, "KEY");
  ASSERT_EQ(web.trust_store.size(), 1U);
  EXPECT_EQ(web.trust_store[0].content, "CA");
  EXPECT_EQ(web.access.users, (std::vector<uid_t>{0, 1000}));
  EXPECT_EQ(web.access.groups, (std::vector<gid_t>{0}));
  EXPECT_FALSE(web.access.everybody);
  ASSERT_EQ(web.access.ports.size(), 2U);
  EXPECT_EQ(web.access.ports[1].first, 8000);
  EXPECT_EQ(web.access.ports[1].last, 8100);
}

TEST_F(ConfigFile, EveryProblemIsReportedWithPlaceKeyAndReason) {
  EXPECT_EQ(
      problems_of("[service]\nworkers=many\nworkers=2\nspeed=9\n[nonsense]\n"
                  "[credential a]\nrole=peer\nx509.certificate=absent.pem\nx509.truststore=ca.pem\n"
                  "allow.users=nobody-of-this-name\nallow.ports=99999\n"),
      (std::vector<std::string>{
          "config:2:9: workers: \"many\" is not a number from 1 to 1024",
          "config:3:1: workers: already set in line 2",
          "config:4:1: speed: unknown key in [service], expected one of: timeout_ms, workers",
          "config:5:1: [nonsense]: unknown section, expected [debug], [service] or [credential NAME]",
          "config:6:1: [credential a]: 1 x509.certificate but 0 x509.private_key: they pair in order",
          "config:7:6: role: \"peer\" is none of client, server, both",
          "config:8:18: x509.certificate: open absent.pem: No such file or directory",
          "config:10:13: allow.users: no user \"nobody-of-this-name\"",
          "config:11:13: allow.ports: \"99999\" is neither a port nor a range like 8000-8100"}));
}

TEST_F(ConfigFile, AFatalProblemYieldsNoSettings) {
  EXPECT_EQ(load_text("[nonsense]\n").settings, nullptr);
  EXPECT_EQ(load((directory_ / "absent").string()).settings, nullptr);
}

TEST_F(ConfigFile, APrivateKeyThatOthersMayReadIsRefused) {
  write("key.pem", "KEY", 0644);
  EXPECT_EQ(problems_of(kGood),
            (std::vector<std::string>{"config:10:18: x509.private_key: key.pem is a private key that "
                                      "others may read or change (mode 0644): chmod 0600 it"}));
}

TEST_F(ConfigFile, AServerWithoutCertificateIsRefused) {
  EXPECT_EQ(problems_of("[credential a]\nrole=server\nx509.truststore=ca.pem\nallow.users=*\n"),
            (std::vector<std::string>{"config:1:1: [credential a]: a server needs x509.certificate and "
                                      "x509.private_key"}));
}

TEST_F(ConfigFile, NobodyMayUseACredentialUntilListed) {
  const Loaded loaded = load_text("[credential a]\nrole=client\nx509.truststore=ca.pem\n");
  ASSERT_NE(loaded.settings, nullptr);
  EXPECT_FALSE(loaded.settings->credentials[0].access.everybody);
  EXPECT_TRUE(loaded.settings->credentials[0].access.users.empty());
  ASSERT_EQ(loaded.problems.size(), 1U);
  EXPECT_FALSE(loaded.problems[0].fatal);
}

TEST_F(ConfigFile, ATrailingBlankIsNotPartOfAPath) {
  EXPECT_TRUE(problems_of("[credential a]\nrole=client \nx509.truststore=ca.pem \t\nallow.users=*\n").empty());
}

TEST_F(ConfigFile, SettingsSurviveSealedMemory) {
  const Loaded loaded = load_text(kGood);
  const auto fd = seal(*loaded.settings);
  ASSERT_TRUE(fd);
  EXPECT_EQ(::write(fd->get(), "x", 1), -1);
  const auto back = unseal(fd->get());
  ASSERT_TRUE(back);
  const Settings& settings = **back;
  EXPECT_EQ(settings.path, loaded.settings->path);
  EXPECT_EQ(settings.workers, 3U);
  EXPECT_EQ(settings.default_timeout, milliseconds(1500));
  EXPECT_EQ(settings.log_level, LogLevel::kDebug);
  ASSERT_EQ(settings.credentials.size(), 1U);
  EXPECT_EQ(settings.credentials[0].key_pairs.at(0).private_key.content, "KEY");
  EXPECT_EQ(settings.credentials[0].access.ports.at(1).last, 8100);
  EXPECT_TRUE(settings.credentials[0].require_client_certificate);
}

TEST(Sealed, UnsealedOrDamagedMemoryIsRefused) {
  const UniqueFd open_file(::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_FALSE(unseal(open_file.get()));
  const std::string damaged = "handshaked settings 1\n\xff\xff\xff\xff\xff\xff\xff\xff";
  ASSERT_EQ(::write(open_file.get(), damaged.data(), damaged.size()),
            static_cast<ssize_t>(damaged.size()));
  ASSERT_EQ(::fcntl(open_file.get(), F_ADD_SEALS,
                    F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
  EXPECT_FALSE(unseal(open_file.get()));
}

}  // namespace
}  // namespace handshake::config
