// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <vector>

#include <gtest/gtest.h>

namespace handshake {
namespace {

TEST(Log, WritesUpToItsThreshold) {
  std::vector<std::string> lines;
  const Log log(LogLevel::kWarning, [&](LogLevel, std::string_view line) { lines.emplace_back(line); });
  log.error("a");
  log.warning("b");
  log.info("c");
  EXPECT_EQ(lines, (std::vector<std::string>{"a", "b"}));
  EXPECT_FALSE(log.enabled(LogLevel::kInfo));
}

TEST(Log, ADefaultLogIsSilent) {
  const Log log;
  EXPECT_FALSE(log.enabled(LogLevel::kError));
  log.error("nobody hears this");
}

TEST(LogField, PlainValuesStayPlain) { EXPECT_EQ(log_field("k", "abc"), "k=abc"); }

TEST(LogField, BlanksQuotesAndEmptyValuesAreQuoted) {
  EXPECT_EQ(log_field("k", ""), "k=\"\"");
  EXPECT_EQ(log_field("k", "a b"), "k=\"a b\"");
  EXPECT_EQ(log_field("k", "a=b"), "k=\"a=b\"");
  EXPECT_EQ(log_field("k", "say \"x\" \\"), "k=\"say \\\"x\\\" \\\\\"");
}

TEST(LogField, AValueCannotStartANewLineOrDriveATerminal) {
  EXPECT_EQ(log_field("k", "a\nstatus=0"), "k=\"a\\x0astatus=0\"");
  EXPECT_EQ(log_field("k", "\x1b[2J"), "k=\"\\x1b[2J\"");
  EXPECT_EQ(log_field("k", "\xc2\x9b"), "k=\"\\xc2\\x9b\"");
  EXPECT_EQ(log_field("k", std::string_view("a\0b", 3)), "k=\"a\\x00b\"");
}

TEST(LogField, Utf8StaysAndWhatIsNotUtf8IsEscaped) {
  EXPECT_EQ(log_field("k", "Müller"), "k=Müller");
  EXPECT_EQ(log_field("k", "\xff\xfe"), "k=\"\\xff\\xfe\"");
  EXPECT_EQ(log_field("k", "\xed\xa0\x80"), "k=\"\\xed\\xa0\\x80\"");  // a surrogate
  EXPECT_EQ(log_field("k", "\xe2\x82"), "k=\"\\xe2\\x82\"");           // cut short
}

}  // namespace
}  // namespace handshake
