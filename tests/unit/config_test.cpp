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
          "config:4:1: speed: unknown key in [service], expected one of: netns, tags, timeout_ms, workers",
          "config:5:1: [nonsense]: unknown section, expected [debug], [service], [credential NAME] or "
          "tlshd's [authenticate], [authenticate.client], [authenticate.server]",
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

// --- tlshd's sections --------------------------------------------------------------------------------

/// The built-in credential of that name; a test that has none ends here.
const KernelCredential& kernel_credential(const Loaded& loaded, const std::string& name) {
  for (const KernelCredential& kernel : loaded.settings->kernel_credentials) {
    if (kernel.credential.name == name) return kernel;
  }
  throw std::runtime_error("no kernel credential " + name);
}

class TlshdFile : public ConfigFile {
 protected:
  void SetUp() override {
    ConfigFile::SetUp();
    write("pq.pem", "PQ CERTIFICATE", 0644);
    write("pq-key.pem", "PQ KEY", 0600);
    write("crl.pem", "CRL", 0644);
  }
};

/// The structure of the file that ktls-utils 1.4.0 installs: everything is commented out.
constexpr const char* kAsInstalled = R"(#
# See tlshd.conf(5) for details.
#

[debug]
loglevel=0
tls=0
nl=0

[authenticate]
#keyrings= <keyring>;<keyring>;<keyring>

[authenticate.client]
#x509.truststore= <pathname>

[authenticate.server]
#x509.truststore= <pathname>
)";

TEST_F(TlshdFile, TheFileAsInstalledIsTakenAsItIs) {
  const Loaded loaded = load_text(kAsInstalled);
  for (const Problem& problem : loaded.problems) {
    // Nothing but a machine without a trust store.
    EXPECT_NE(problem.reason.find("the system has none"), std::string::npos) << problem.text();
  }
  ASSERT_NE(loaded.settings, nullptr);
  EXPECT_TRUE(loaded.settings->serve_kernel);
  EXPECT_EQ(loaded.settings->log_level, LogLevel::kInfo);
  EXPECT_FALSE(loaded.settings->debug_tls || loaded.settings->debug_netlink);
  EXPECT_TRUE(loaded.settings->keyrings.empty());
  EXPECT_EQ(loaded.settings->netns, std::vector<std::string>{"self"});
  EXPECT_TRUE(loaded.settings->credentials.empty());
  ASSERT_EQ(loaded.settings->kernel_credentials.size(), 2U);
  EXPECT_TRUE(kernel_credential(loaded, "authenticate.client").credential.client);
  EXPECT_FALSE(kernel_credential(loaded, "authenticate.client").credential.server);
  EXPECT_TRUE(kernel_credential(loaded, "authenticate.server").credential.server);
  EXPECT_TRUE(kernel_credential(loaded, "authenticate.server").credential.key_pairs.empty());
}

constexpr const char* kEveryOption = R"(
[debug]
loglevel=2
tls=1
nl=1
delay_done=3
[authenticate]
keyrings=.nfs; mykeys ;0x1234;
[authenticate.client]
x509.truststore=ca.pem
x509.crl=crl.pem
x509.certificate=cert.pem 
x509.private_key=key.pem
x509.pq.certificate=pq.pem
x509.pq.private_key=pq-key.pem
x509.extended_key_usage=ignore
[authenticate.server]
x509.truststore=ca.pem
x509.certificate=cert.pem
x509.private_key=key.pem
client_auth=require
)";

TEST_F(TlshdFile, EveryOptionOfTlshdConfIsRead) {
  const Loaded loaded = load_text(kEveryOption);
  EXPECT_EQ(texts(loaded.problems), std::vector<std::string>{});
  ASSERT_NE(loaded.settings, nullptr);
  EXPECT_EQ(loaded.settings->log_level, LogLevel::kDebug);
  EXPECT_TRUE(loaded.settings->debug_tls && loaded.settings->debug_netlink);
  EXPECT_EQ(loaded.settings->keyrings, (std::vector<std::string>{".nfs", "mykeys", "0x1234"}));
  const CredentialSettings& client = kernel_credential(loaded, "authenticate.client").credential;
  EXPECT_EQ(client.trust_store.at(0).content, "CA");
  EXPECT_EQ(client.crls.at(0).content, "CRL");
  EXPECT_FALSE(client.check_extended_key_usage);
  ASSERT_EQ(client.key_pairs.size(), 2U);
  EXPECT_EQ(client.key_pairs[0].certificate.content, "PQ CERTIFICATE");
  EXPECT_TRUE(client.key_pairs[0].post_quantum);
  EXPECT_EQ(client.key_pairs[1].certificate.content, "CERTIFICATE");
  EXPECT_EQ(client.key_pairs[1].private_key.content, "KEY");
  EXPECT_FALSE(client.key_pairs[1].post_quantum);
  const CredentialSettings& server = kernel_credential(loaded, "authenticate.server").credential;
  EXPECT_TRUE(server.require_client_certificate);
  EXPECT_TRUE(server.check_extended_key_usage);
  EXPECT_TRUE(server.crls.empty());
}

TEST_F(TlshdFile, NoProgramMayUseWhatIsTheKernels) {
  const Loaded loaded = load_text(kEveryOption);
  for (const KernelCredential& kernel : loaded.settings->kernel_credentials) {
    const AccessList& access = kernel.credential.access;
    EXPECT_TRUE(!access.everybody && access.users.empty() && access.groups.empty());
  }
  EXPECT_TRUE(loaded.settings->credentials.empty());
  EXPECT_EQ(problems_of("[credential authenticate.client]\nrole=client\nx509.truststore=ca.pem\nallow.users=*\n"),
            (std::vector<std::string>{"config:1:1: [credential authenticate.client]: this name is reserved "
                                      "for kernel consumers"}));
}

TEST_F(TlshdFile, WhatTlshdWouldIgnoreIsAWarning) {
  write("key.pem", "KEY", 0644);
  const std::string text =
      "[main]\ndebug=1\n[debug]\nloglevel=loud\nspeed=1\n[authenticate]\ncolour=red\n"
      "[authenticate.client]\nx509.truststore=absent.pem\nx509.certificate=cert.pem\nx509.new=1\n"
      "[authenticate.server]\nx509.truststore=ca.pem\nx509.certificate=cert.pem\nx509.private_key=key.pem\n"
      "[authenticate.client]\nx509.truststore=ca.pem\nx509.crl=\nclient_auth=require\n";
  EXPECT_EQ(problems_of(text),
            (std::vector<std::string>{
                "config:1:1: [main]: warning: not used since ktls-utils 0.10: see [debug]",
                "config:4:1: loglevel: warning: \"loud\" is not a number, taken as 0; 0 is terse, 1 and up "
                "is debug",
                "config:5:1: speed: warning: unknown key in tlshd's section [debug]",
                "config:7:1: colour: warning: unknown key in tlshd's section [authenticate]",
                "config:10:1: x509.certificate: warning: not used: a certificate and its private key go together",
                "config:11:1: x509.new: warning: unknown key in tlshd's section [authenticate.client]",
                "config:15:1: x509.private_key: warning: key.pem is a private key that others may read or "
                "change (mode 0644): chmod 0600 it",
                "config:17:1: x509.truststore: warning: stands above already; this line counts",
                "config:18:1: x509.crl: warning: empty, taken as not set",
                "config:19:1: client_auth: warning: is for [authenticate.server]"}));
  const Loaded loaded = load_text(text);
  ASSERT_NE(loaded.settings, nullptr);
  EXPECT_EQ(kernel_credential(loaded, "authenticate.client").credential.trust_store.at(0).content, "CA");
  EXPECT_EQ(kernel_credential(loaded, "authenticate.server").credential.key_pairs.size(), 1U);
}

TEST_F(TlshdFile, AFileThatWouldWeakenVerificationByItsAbsenceIsAnError) {
  EXPECT_EQ(problems_of("[authenticate.server]\nx509.truststore=ca.pem\nx509.crl=absent.pem\n"
                        "[authenticate.client]\nx509.truststore=absent.pem\n"),
            (std::vector<std::string>{"config:3:10: x509.crl: open absent.pem: No such file or directory",
                                      "config:5:17: x509.truststore: open absent.pem: No such file or directory"}));
}

TEST_F(TlshdFile, WithoutItsSectionsTheKernelIsNotServed) {
  const Loaded loaded = load_text(kGood);
  EXPECT_FALSE(loaded.settings->serve_kernel);
  EXPECT_TRUE(loaded.settings->kernel_credentials.empty());
}

TEST_F(TlshdFile, ANamespaceMayHaveItsOwnSections) {
  const Loaded loaded = load_text(
      "[authenticate.server blue]\nx509.truststore=ca.pem\n[service]\nnetns=self blue /proc/1/ns/net\n"
      "[authenticate.client]\nx509.truststore=ca.pem\n[authenticate.server]\nx509.truststore=ca.pem\n");
  EXPECT_EQ(texts(loaded.problems), std::vector<std::string>{});
  EXPECT_EQ(loaded.settings->netns, (std::vector<std::string>{"self", "blue", "/proc/1/ns/net"}));
  EXPECT_EQ(kernel_credential(loaded, "authenticate.server blue").netns, "blue");
  EXPECT_EQ(kernel_credential(loaded, "authenticate.server").netns, "");
}

TEST_F(TlshdFile, NamespacesThatCannotBeAreErrors) {
  EXPECT_EQ(problems_of("[service]\nnetns=a/b blue blue\n[authenticate.client]\nx509.truststore=ca.pem\n"
                        "[authenticate.server]\nx509.truststore=ca.pem\n"
                        "[authenticate.server red]\nx509.truststore=ca.pem\n"),
            (std::vector<std::string>{
                "config:2:7: netns: \"a/b\" is neither self, nor a name of /run/netns, nor an absolute path",
                "config:2:7: netns: \"blue\" stands here twice",
                "config:7:1: [authenticate.server red]: \"red\" is not in netns of [service]"}));
}

TEST_F(TlshdFile, SurvivesSealedMemory) {
  const Loaded loaded = load_text(std::string(kEveryOption) + "[service]\nnetns=self blue\n" +
                                  "[authenticate.client blue]\nx509.truststore=ca.pem\n");
  ASSERT_NE(loaded.settings, nullptr);
  const Loaded back{unseal(seal(*loaded.settings).value().get()).value(), {}};
  EXPECT_TRUE(back.settings->serve_kernel && back.settings->debug_tls && back.settings->debug_netlink);
  EXPECT_EQ(back.settings->keyrings, loaded.settings->keyrings);
  EXPECT_EQ(back.settings->netns, loaded.settings->netns);
  ASSERT_EQ(back.settings->kernel_credentials.size(), 3U);
  EXPECT_EQ(kernel_credential(back, "authenticate.client blue").netns, "blue");
  const CredentialSettings& client = kernel_credential(back, "authenticate.client").credential;
  EXPECT_EQ(client.key_pairs.at(0).private_key.content, "PQ KEY");
  EXPECT_TRUE(client.key_pairs.at(0).post_quantum);
  EXPECT_FALSE(client.key_pairs.at(1).post_quantum);
  EXPECT_FALSE(client.check_extended_key_usage);
  EXPECT_TRUE(kernel_credential(back, "authenticate.server").credential.require_client_certificate);
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
