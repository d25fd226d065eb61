// SPDX-License-Identifier: Apache-2.0
#include "service/outcome.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory_resource>
#include <string>
#include <vector>

namespace handshake::service {
namespace {

using protocol::RelayMode;
using protocol::SessionMode;

std::vector<std::string> numbered(int count) {
  std::vector<std::string> tags;
  for (int i = 0; i < count; ++i) tags.push_back("tag" + std::to_string(i));
  return tags;
}

Outcome weighed(DoneReport report, bool plain_end = false,
                RelayMode allowed = RelayMode::kAllowed) {
  return weigh(std::move(report), plain_end, allowed, std::pmr::get_default_resource());
}

DoneReport success(std::vector<std::string> tags = {}) {
  DoneReport report;
  report.status = 0;
  report.tags = std::move(tags);
  return report;
}

TEST(Outcome, APositiveErrnoBecomesNegativeOnce) {
  for (const std::uint32_t number : {0u, 1u, 13u, 110u, 4095u}) {
    DoneReport report;
    report.status = number;
    EXPECT_EQ(weighed(std::move(report)).completion.status, -static_cast<int>(number));
  }
}

TEST(Outcome, NoStatusMeansEio) {
  const Outcome outcome = weighed(DoneReport{});
  EXPECT_EQ(outcome.completion.status, -EIO);
  EXPECT_FALSE(outcome.fault);
}

TEST(Outcome, AStatusAboveTheLargestErrnoIsMalformed) {
  for (const std::uint32_t number : {4096u, 0x80000000u, 0xffffffffu}) {
    DoneReport report;
    report.status = number;
    const Outcome outcome = weighed(std::move(report));
    EXPECT_TRUE(outcome.fault) << number;
    EXPECT_EQ(outcome.completion.status, -EIO);
  }
}

TEST(Outcome, TagsAreSortedAndUnique) {
  const Outcome outcome = weighed(success({"b", "a", "b"}));
  EXPECT_EQ(std::vector<std::string>(outcome.completion.tags.begin(),
                                     outcome.completion.tags.end()),
            (std::vector<std::string>{"a", "b"}));
}

TEST(Outcome, TagsCountOnlyWhenTheStatusIsZero) {
  DoneReport report;
  report.status = EACCES;
  report.tags = {"a"};
  EXPECT_TRUE(weighed(std::move(report)).completion.tags.empty());
}

TEST(Outcome, MalformedTagsAreFineWhenTheStatusIsNotZero) {
  DoneReport report;
  report.status = EACCES;
  report.tags = {"", std::string(300, 'x'), std::string("a\0b", 3)};
  const Outcome outcome = weighed(std::move(report));
  EXPECT_FALSE(outcome.fault);
  EXPECT_EQ(outcome.completion.status, -EACCES);
}

TEST(Outcome, AMalformedTagLeavesEioAndNoTags) {
  for (const std::string& bad : {std::string(), std::string(256, 'x'), std::string("a\0b", 3),
                                 std::string("a\0", 2), std::string(1, '\0')}) {
    DoneReport report = success({"good", bad});
    report.remote_auth = {7};
    report.cipher = "TLS_AES_128_GCM_SHA256";
    const Outcome outcome = weighed(std::move(report));
    EXPECT_TRUE(outcome.fault);
    EXPECT_EQ(outcome.completion.status, -EIO);
    EXPECT_TRUE(outcome.completion.tags.empty());
    EXPECT_TRUE(outcome.completion.remote_auth.empty());
    EXPECT_TRUE(outcome.completion.cipher.empty());
  }
}

TEST(Outcome, TheLongestTagIsFine) {
  EXPECT_TRUE(weighed(success({std::string(255, 'x')})).completion.tags.contains(
      std::string(255, 'x')));
}

TEST(Outcome, AMalformedTagBeyondTheCapIsStillMalformed) {
  std::vector<std::string> tags = numbered(64);
  tags.push_back("");
  EXPECT_TRUE(weighed(success(tags)).fault);
}

TEST(Outcome, TheFirstSixtyFourTagsAreKept) {
  const Outcome outcome = weighed(success(numbered(65)));
  EXPECT_FALSE(outcome.fault);
  EXPECT_TRUE(outcome.tags_capped);
  EXPECT_EQ(outcome.completion.tags.size(), 64u);
  EXPECT_TRUE(outcome.completion.tags.contains("tag63"));
  EXPECT_FALSE(outcome.completion.tags.contains("tag64"));
}

TEST(Outcome, TheCapCountsDuplicates) {
  std::vector<std::string> tags(64, "same");
  tags.push_back("one more");
  const Outcome outcome = weighed(success(tags));
  EXPECT_TRUE(outcome.tags_capped);
  EXPECT_EQ(outcome.completion.tags.size(), 1u);
  EXPECT_FALSE(outcome.completion.tags.contains("one more"));
}

TEST(Outcome, ExactlySixtyFourTagsAreNotCapped) {
  EXPECT_FALSE(weighed(success(numbered(64))).tags_capped);
}

TEST(Outcome, WithoutMemoryForTagsTheSessionGoesWithout) {
  const Outcome outcome = weigh(success({"a"}), false, RelayMode::kAllowed,
                                std::pmr::null_memory_resource());
  EXPECT_EQ(outcome.completion.status, 0);
  EXPECT_TRUE(outcome.tags_dropped);
  EXPECT_TRUE(outcome.completion.tags.empty());
}

TEST(Outcome, ARelayNeedsItsPlainEndAndTheConsumersConsent) {
  const auto relay = [] {
    DoneReport report = success();
    report.mode = SessionMode::kRelay;
    return report;
  };
  EXPECT_FALSE(weighed(relay(), true, RelayMode::kAllowed).fault);
  EXPECT_FALSE(weighed(relay(), true, RelayMode::kAlways).fault);
  EXPECT_TRUE(weighed(relay(), false, RelayMode::kAllowed).fault);
  EXPECT_TRUE(weighed(relay(), true, RelayMode::kNever).fault);
  EXPECT_EQ(weighed(relay(), false).completion.status, -EIO);
  EXPECT_EQ(weighed(relay(), false).completion.mode, SessionMode::kNone);
}

TEST(Outcome, APlainEndWithoutARelayIsMalformed) {
  EXPECT_TRUE(weighed(success(), true).fault);
}

TEST(Outcome, AFailureHasNoSessionMode) {
  DoneReport report;
  report.status = EACCES;
  report.mode = SessionMode::kRelay;
  report.reason = "certificate expired";
  report.alert = 45;
  report.alert_sent = true;
  const Outcome outcome = weighed(std::move(report), false, RelayMode::kNever);
  EXPECT_FALSE(outcome.fault);
  EXPECT_EQ(outcome.completion.mode, SessionMode::kNone);
  EXPECT_EQ(outcome.completion.reason, "certificate expired");
  EXPECT_EQ(outcome.text.reason, "certificate expired");
  EXPECT_EQ(outcome.completion.alert, 45u);
  EXPECT_TRUE(outcome.completion.alert_sent);
}

TEST(Outcome, WhatAnAgentSaysForPeopleIsBounded) {
  DoneReport report = success();
  report.peer_subject.assign(100'000, 'x');
  EXPECT_EQ(weighed(std::move(report)).completion.peer_subject.size(), 1024u);
}

}  // namespace
}  // namespace handshake::service
