// SPDX-License-Identifier: Apache-2.0
#include "cli/json.h"

#include <gtest/gtest.h>

namespace handshake::cli {
namespace {

TEST(Json, NestsAndSeparates) {
  JsonWriter json;
  json.begin_object();
  json.member("a", 1);
  json.key("b").begin_array().value(2).value("x").begin_object().end_object().end_array();
  json.member("absent", std::optional<int>());
  json.member("c", std::optional<std::string>("y"));
  json.end_object();
  EXPECT_EQ(json.text(), R"({"a":1,"b":[2,"x",{}],"c":"y"})");
}

TEST(Json, EscapesWhatJsonAndTerminalsCannotTake) {
  JsonWriter json;
  json.value(std::string_view("a\"\\\n\0\x7f ü\xff", 10));
  EXPECT_EQ(json.text(), "\"a\\\"\\\\\\u000a\\u0000\\u007f ü\\ufffd\"");
}

TEST(Json, TruthIsNoNumber) {
  JsonWriter json;
  json.begin_object().member("yes", true).member("no", false).member("one", 1).end_object();
  EXPECT_EQ(json.text(), R"({"yes":true,"no":false,"one":1})");
}

TEST(Json, EmptyDocuments) {
  JsonWriter json;
  json.begin_array().end_array();
  EXPECT_EQ(json.text(), "[]");
}

}  // namespace
}  // namespace handshake::cli
