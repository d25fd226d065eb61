// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <type_traits>

#include "example/messages.h"

namespace handshake::example {
namespace {

using protocol::Attribute;
using protocol::ExtAck;
using protocol::MessageBuilder;
using protocol::MessageHeader;
using protocol::Unknown;
using Bytes = std::vector<std::byte>;

Bytes bytes_of(std::initializer_list<int> values) {
  Bytes result;
  for (const int value : values) result.push_back(static_cast<std::byte>(value));
  return result;
}

feature::SetRequest full_request() {
  feature::SetRequest request;
  request.flag = true;
  request.byte = std::uint8_t{16};
  request.short_ = std::uint16_t{65535};
  request.int_ = Colour::kDefault;
  request.bits = Options::kFirst | Options::kTenth;
  request.colours = 3;
  request.long_ = UINT64_MAX;
  request.signed_ = -2;
  request.signed_long = {INT64_MIN, 0, INT64_MAX};
  request.value = {"", "a", "sixteen letters."};
  request.blob = bytes_of({1, 2});
  request.blobs = {bytes_of({}), bytes_of({1, 2, 3, 4, 5})};
  request.builder = feature::Middle{.inside = feature::Inner{.number = std::uint8_t{1}, .word = {"x"}}};
  request.nests = {{}, {.inside = feature::Inner{}}};
  request.array = {{.number = std::uint8_t{1}, .word = {}}, {.number = {}, .word = {"y", "z"}}};
  request.chain = feature::ChainEntry{.outer_id = 500, .do_ = 7, .value = {.number = std::uint8_t{9}, .word = {}}};
  return request;
}

template <class M>
Bytes attributes_of(const M& message) {
  Bytes bytes = protocol::build(MessageHeader{.type = 40}, message).value();
  bytes.erase(bytes.begin(), bytes.begin() + protocol::kAttributesOffset);
  return bytes;
}

TEST(Generated, EveryTypeSurvivesTheWay) {
  const Bytes bytes = attributes_of(full_request());
  ExtAck ack;
  const auto read = feature::SetRequest::parse(bytes, Unknown::kRefuse, ack);
  ASSERT_TRUE(read) << read.error().detail;
  EXPECT_EQ(*read, full_request());
}

TEST(Generated, EveryTruncationAndEveryByteIsHandled) {
  const Bytes whole = attributes_of(full_request());
  for (std::size_t i = 0; i < whole.size(); ++i) {
    Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(i));
    ExtAck ack;
    if (const auto read = feature::SetRequest::parse(part, Unknown::kRefuse, ack)) {
      EXPECT_LE(attributes_of(*read).size(), part.size() + 3);   // a cut between attributes
    }
    Bytes changed = whole;
    changed[i] = ~changed[i];
    if (const auto read = feature::SetRequest::parse(changed, Unknown::kSkip, ack)) {
      const Bytes again = attributes_of(*read);
      const auto reread = feature::SetRequest::parse(again, Unknown::kRefuse, ack);
      ASSERT_TRUE(reread) << i;
      EXPECT_EQ(*reread, *read);
    }
  }
}

/// What becomes of a request with just one attribute.
std::optional<ErrorKind> refusal_of(std::uint16_t number, const Bytes& payload) {
  MessageBuilder builder(MessageHeader{.type = 40});
  builder.put_bytes(number, payload);
  Bytes bytes = std::move(builder).finish().value();
  bytes.erase(bytes.begin(), bytes.begin() + protocol::kAttributesOffset);
  ExtAck ack;
  const auto read = feature::SetRequest::parse(bytes, Unknown::kRefuse, ack);
  if (read) return std::nullopt;
  EXPECT_EQ(ack.offset, protocol::kAttributesOffset);
  return read.error().kind;
}

TEST(Generated, ChecksAreThoseOfTheSpec) {
  EXPECT_EQ(refusal_of(2, bytes_of({0})), ErrorKind::kOutOfRange);    // byte: min 1
  EXPECT_EQ(refusal_of(2, bytes_of({1})), std::nullopt);
  EXPECT_EQ(refusal_of(2, bytes_of({17})), ErrorKind::kOutOfRange);   // max limit
  EXPECT_EQ(refusal_of(4, bytes_of({4, 0, 0, 0})), ErrorKind::kOutOfRange);   // red is 5
  EXPECT_EQ(refusal_of(4, bytes_of({5, 0, 0, 0})), std::nullopt);
  EXPECT_EQ(refusal_of(4, bytes_of({8, 0, 0, 0})), ErrorKind::kOutOfRange);
  EXPECT_EQ(refusal_of(8, bytes_of({0xfe, 0xff, 0xff, 0xff})), std::nullopt);   // signed: min -2
  EXPECT_EQ(refusal_of(8, bytes_of({0xfd, 0xff, 0xff, 0xff})), ErrorKind::kOutOfRange);
  EXPECT_EQ(refusal_of(100, bytes_of({1})), ErrorKind::kOutOfRange);   // blob: 2 to 4 bytes
  EXPECT_EQ(refusal_of(100, bytes_of({1, 2, 3, 4})), std::nullopt);
  EXPECT_EQ(refusal_of(100, bytes_of({1, 2, 3, 4, 5})), ErrorKind::kOutOfRange);
  EXPECT_EQ(refusal_of(102, bytes_of({})), ErrorKind::kInvalidArgument);   // pad: not in a message
}

TEST(Generated, AChainWithoutOrWithTwoLinksIsRefused) {
  const std::uint16_t chain = static_cast<std::uint16_t>(feature::AllAttribute::kChain);
  for (const int links : {0, 2}) {
    MessageBuilder builder(MessageHeader{.type = 40});
    const std::size_t nest = builder.begin_nest(chain);
    for (int i = 0; i < links; ++i) builder.end_nest(builder.begin_nest(1));
    builder.end_nest(nest);
    Bytes bytes = std::move(builder).finish().value();
    ExtAck ack;
    const auto attributes = std::span<const std::byte>(bytes).subspan(protocol::kAttributesOffset);
    EXPECT_FALSE(feature::SetRequest::parse(attributes, Unknown::kRefuse, ack)) << links;
    EXPECT_FALSE(protocol::check_attributes(feature::policy::kSetRequest, attributes,
                                            protocol::kAttributesOffset, Unknown::kRefuse, ack));
  }
}

TEST(Generated, DefinitionsHaveTheNumbersOfTheSpec) {
  EXPECT_EQ(kLimit, 16U);
  EXPECT_EQ(static_cast<int>(Colour::kRed), 5);
  EXPECT_EQ(static_cast<int>(Colour::kDefault), 7);
  EXPECT_EQ(to_string(Colour::kDefault), "default");
  EXPECT_EQ(Options::kTenth, 512U);
  EXPECT_EQ(static_cast<int>(feature::AllAttribute::kBlobs), 101);
}

TEST(Generated, FamiliesListWhatTheyAnswer) {
  EXPECT_EQ(feature::kFamily.version, 3);
  ASSERT_EQ(feature::kFamily.operations.size(), 2U);   // an event is not answered
  EXPECT_TRUE(feature::kFamily.find(1)->admin);
  EXPECT_EQ(feature::kFamily.find(1)->dump_request, nullptr);
  EXPECT_TRUE(feature::kFamily.find(7)->dump_request->attributes.empty());
  EXPECT_EQ(feature::ToldEvent::kCommand, 8);
  ASSERT_EQ(feature::kFamily.groups.size(), 1U);
  EXPECT_EQ(feature::kFamily.groups[0], "listeners");
}

TEST(Generated, AnExtensionHasTheBaseFirst) {
  EXPECT_EQ(extension::kFamily.name, "extension");
  EXPECT_EQ(extension::kFamily.groups.size(), 1U);
  extension::GetReply reply;
  reply.byte = std::uint8_t{1};
  reply.int_ = 4711;   // no longer limited to the base's enum
  reply.added = true;
  ExtAck ack;
  const Bytes bytes = attributes_of(reply);
  const auto read = extension::GetReply::parse(bytes, Unknown::kRefuse, ack);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, reply);
  EXPECT_EQ(bytes[2], std::byte{2});   // byte, then what the extension adds
  // A nest that the extension changes is its own type, and so is one around it.
  static_assert(!std::is_same_v<extension::Inner, feature::Inner>);
  static_assert(!std::is_same_v<extension::Middle, feature::Middle>);
}

}  // namespace
}  // namespace handshake::example
