// SPDX-License-Identifier: Apache-2.0
//
// `handshakectl tags explain`: what people and programs get to see.

#include "cli/tags.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "support/der.h"

namespace handshake::cli {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;

constexpr std::string_view kPolicy = R"(
filters:
  storage: {type: subject.OU, value: Storage}
  rack: {type: peer.address, network: 192.0.2.0/28}
  names: {type: subjectAltName.dns, pattern: "*.example"}
tags:
  storage: {filter: [storage]}
  rack-storage: {filter: [storage, rack]}
rules:
  - {name: nfs, port: 2049, require-any: [rack-storage]}
default: deny
)";

class TagsExplain : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "tags_explain_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    test_der::Certificate certificate;
    certificate.subject = test_der::attribute("2.5.4.11", test_der::utf8_string("Storage"));
    certificate.extensions = test_der::extension(
        "2.5.29.17", test_der::sequence(test_der::tlv(0x82, "evil\n\x1B[31m.example\0"s)));
    options_.certificate = write("node.der", certificate.der());
    options_.tags = {write("policy.yaml", kPolicy)};
  }
  void TearDown() override { fs::remove_all(directory_); }

  std::string write(const std::string& name, std::string_view content) {
    const fs::path path = directory_ / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << content;
    return path.string();
  }

  /// What goes to standard output.
  std::string explain() {
    testing::internal::CaptureStdout();
    const Result<void> explained = explain_command(options_);
    std::string output = testing::internal::GetCapturedStdout();
    EXPECT_TRUE(explained) << explained.error().detail;
    return output;
  }
  /// How it fails, and what goes to standard error.
  std::string failure() {
    testing::internal::CaptureStderr();
    const Result<void> explained = explain_command(options_);
    const std::string problems = testing::internal::GetCapturedStderr();
    EXPECT_FALSE(explained);
    return problems + (explained ? "" : explained.error().detail);
  }

  fs::path directory_;
  ExplainOptions options_;
};

TEST_F(TagsExplain, ShowsValuesAnswersTagsAndTheDecidingRule) {
  options_.peer = "192.0.2.7";
  options_.local_port = std::uint16_t{2049};
  EXPECT_EQ(explain(),
            "subject=\"OU=Storage\"\n"
            "issuer=\"CN=issuer\"\n"
            "filters:\n"
            "  yes     storage: x509.tbs.subject.OU value=Storage saw=Storage\n"
            "  yes     rack: peer.address network=192.0.2.0/28 saw=192.0.2.7\n"
            "  no      names: x509.extension.subjectAltName.dns pattern=*.example "
            "saw=\"evil\\x0a\\x1b[31m.example\\x00\"\n"
            "tags:\n"
            "  given   storage\n"
            "  given   rack-storage\n"
            "rules:\n"
            "  allow     nfs: has the tags that are required <- decides\n"
            "  -         default: is for sessions that no rule is about\n"
            "verdict: allow (nfs: has the tags that are required)\n");
}

TEST_F(TagsExplain, SaysWhatItWasNotTold) {
  const std::string output = explain();
  EXPECT_NE(output.find("unknown rack: peer.address network=192.0.2.0/28 (not known)\n"),
            std::string::npos)
      << output;
  EXPECT_NE(output.find("-       rack-storage: rack is unknown\n"), std::string::npos) << output;
  EXPECT_NE(output.find(
                "verdict: undecided (nfs: asks for a local address or port, which is not known)\n"),
            std::string::npos)
      << output;
}

TEST_F(TagsExplain, WritesJson) {
  options_.json = true;
  options_.peer = "198.51.100.1";
  options_.local_port = std::uint16_t{2049};
  EXPECT_EQ(
      explain(),
      R"({"identity_proved":true,"subject":"OU=Storage","issuer":"CN=issuer","filters":[)"
      R"({"name":"storage","condition":"x509.tbs.subject.OU value=Storage","answer":"yes","saw":["Storage"],"not_shown":0},)"
      R"({"name":"rack","condition":"peer.address network=192.0.2.0/28","answer":"no","saw":["198.51.100.1"],"not_shown":0},)"
      R"({"name":"names","condition":"x509.extension.subjectAltName.dns pattern=*.example","answer":"no","saw":["evil\u000a\u001b[31m.example\u0000"],"not_shown":0}],)"
      R"("tags":[{"name":"storage","given":true,"filter":[{"text":"storage","answer":"yes"}]},)"
      R"({"name":"rack-storage","given":false,"filter":[{"text":"storage","answer":"yes"},{"text":"rack","answer":"no"}]}],)"
      R"("rules":[{"name":"nfs","speaks":"yes","would":"deny","dry_run":false,"decides":true,"reason":"has none of: rack-storage"},)"
      R"({"name":"default","speaks":"no","dry_run":false,"decides":false,"reason":"is for sessions that no rule is about"}],)"
      R"("exhausted":false,"verdict":{"verdict":"deny","rule":"nfs","reason":"has none of: rack-storage"}})"
      "\n");
}

TEST_F(TagsExplain, ExplainsPeersWithoutCertificate) {
  options_.certificate.clear();
  EXPECT_NE(explain().find("a peer that proves no identity: it gets no tags\n"), std::string::npos);
  options_.psk_identity = "NVMe1R01 host subsystem";
  EXPECT_NE(explain().find("psk=\"NVMe1R01 host subsystem\"\n"), std::string::npos);
}

TEST_F(TagsExplain, FindsThePolicyOfAConfiguration) {
  options_.tags.clear();
  // The rest of the configuration may be what only the daemon can read.
  options_.config =
      write("config", "[service]\ntags = mine\n[credential x]\nx509.private_key = secret\n");
  write("mine/a.yaml", kPolicy);
  EXPECT_NE(explain().find("  given   storage\n"), std::string::npos);
}

TEST_F(TagsExplain, ReportsWhatItCannotUse) {
  options_.peer = "node-7";
  EXPECT_EQ(failure(), "--peer node-7: not an IP address");
  options_.peer.reset();
  options_.chain = {write("chain.pem", "junk")};
  EXPECT_EQ(failure(), options_.chain[0] + ": neither PEM nor DER");
  options_.chain.clear();
  options_.tags.push_back(write("wrong.yaml", "tags: {t: {filter: [nosuch]}}\n"));
  EXPECT_EQ(failure(), options_.tags[1] +
                           ":1:21: tags.t.filter: there is no filter \"nosuch\"\n"
                           "the policy has errors");
}

}  // namespace
}  // namespace handshake::cli
