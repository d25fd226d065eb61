// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/netlink.h>

#include <array>
#include <functional>

#include "protocol/describe.h"
#include "protocol/families.h"
#include "protocol/messages.h"
#include "protocol_bytes.h"

namespace handshake::protocol {
namespace {

using test::Bytes;

constexpr std::uint8_t kAccept = kernel::AcceptRequest::kCommand;
constexpr std::uint8_t kDone = kernel::DoneRequest::kCommand;

struct Verdict {
  std::optional<Error> error;
  ExtAck ack;
};

Verdict check_request(const FamilyInfo& family, std::uint8_t command, std::uint16_t flags,
                      const std::function<void(MessageBuilder&)>& put) {
  MessageBuilder builder(test::request_header(kHandshakeId, command, flags));
  put(builder);
  const Bytes bytes = std::move(builder).finish().value();
  Verdict verdict;
  if (Result<void> ok = check(family, test::only_message(bytes), verdict.ack); !ok) {
    verdict.error = ok.error();
  }
  return verdict;
}

Verdict check_done(const std::function<void(MessageBuilder&)>& put) {
  return check_request(kernel::kFamily, kDone, 0, put);
}

TEST(Check, AGoodRequestPasses) {
  const Verdict verdict = check_done([](MessageBuilder& builder) {
    kernel::DoneRequest{.status = 13, .sockfd = 4, .remote_auth = {1, 2}, .tag = {"a", "b"}}.put(
        builder);
  });
  EXPECT_FALSE(verdict.error) << verdict.error->detail;
  EXPECT_EQ(verdict.ack, ExtAck{});
}

TEST(Check, AnUnknownCommandIsNotSupported) {
  for (const std::uint8_t command : std::to_array<std::uint8_t>({0, 1, 4, 9, 16, 255})) {
    const Verdict verdict = check_request(kernel::kFamily, command, 0, [](MessageBuilder&) {});
    ASSERT_TRUE(verdict.error) << int{command};   // 1 is READY, which is ours to send
    EXPECT_EQ(verdict.error->kind, ErrorKind::kNotSupported);
    EXPECT_EQ(verdict.ack, ExtAck{});
  }
}

TEST(Check, ADumpOfACommandThatHasNoneIsNotSupported) {
  const Verdict verdict = check_request(kernel::kFamily, kAccept, NLM_F_DUMP, [](MessageBuilder&) {});
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.error->kind, ErrorKind::kNotSupported);
  EXPECT_FALSE(check_request(control::kFamily, control::SessionsRequest::kCommand, NLM_F_DUMP,
                             [](MessageBuilder&) {})
                   .error);
  EXPECT_TRUE(check_request(control::kFamily, control::SessionsRequest::kCommand, 0,
                            [](MessageBuilder&) {})
                  .error);
}

TEST(Check, FlagsThatMeanNothingAreRefused) {
  const Verdict verdict = check_request(kernel::kFamily, kAccept, NLM_F_ROOT, [](MessageBuilder&) {});
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.error->kind, ErrorKind::kInvalidArgument);
  EXPECT_EQ(verdict.ack.message, "ambiguous or reserved bits set in nlmsg_flags");
}

TEST(Check, AReservedFieldThatIsNotZeroIsRefused) {
  Bytes bytes = build(test::request_header(kHandshakeId, 0), kernel::AcceptRequest{}).value();
  bytes[18] = std::byte{1};
  ExtAck ack;
  EXPECT_FALSE(check(kernel::kFamily, test::only_message(bytes), ack));
  EXPECT_EQ(ack.message, "genlmsghdr.reserved field is not 0");
}

TEST(Check, AnyVersionOfTheFamilyIsTaken) {   // the stock agent sends 0
  Bytes bytes = build(test::request_header(kHandshakeId, 0), kernel::AcceptRequest{}).value();
  bytes[17] = std::byte{0};
  ExtAck ack;
  EXPECT_TRUE(check(kernel::kFamily, test::only_message(bytes), ack));
}

TEST(Check, AnAttributeAboveAllKnownIsUnknown) {
  const Verdict verdict = check_done([](MessageBuilder& builder) {
    builder.put_u32(1, 0);
    builder.put_u32(5, 0);
  });
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.error->kind, ErrorKind::kInvalidArgument);
  EXPECT_EQ(verdict.ack.message, "Unknown attribute type");
  EXPECT_EQ(verdict.ack.offset, 28U);
  EXPECT_TRUE(verdict.ack.policy.empty());
}

TEST(Check, AnAttributeNumberedZeroIsUnknown) {
  const Verdict verdict = check_done([](MessageBuilder& builder) { builder.put_u32(0, 0); });
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.ack.message, "Unknown attribute type");
}

TEST(Check, AnAttributeInAGapIsUnsupported) {   // ACCEPT takes 2, not 1
  const Verdict verdict = check_request(kernel::kFamily, kAccept, 0,
                                        [](MessageBuilder& builder) { builder.put_u32(1, 0); });
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.error->kind, ErrorKind::kInvalidArgument);
  EXPECT_EQ(verdict.ack.message, "Unsupported attribute");
}

TEST(Check, AnAttributeOfTheWorkersIsUnknownInTheKernelsFamily) {
  const auto put = [](MessageBuilder& builder) { builder.put_flag(4096); };
  EXPECT_TRUE(check_request(kernel::kFamily, kDone, 0, put).error);
  EXPECT_FALSE(check_request(worker::kFamily, kDone, 0, put).error);
}

TEST(Check, ANumberOutOfRangeNamesItsPolicy) {
  const Verdict verdict = check_done([](MessageBuilder& builder) { builder.put_u32(1, 4096); });
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.error->kind, ErrorKind::kOutOfRange);
  EXPECT_EQ(verdict.ack.message, "integer out of range");
  EXPECT_EQ(verdict.ack.offset, 20U);
  EXPECT_EQ(test::to_hex(verdict.ack.policy),
            "0c00040000000000000000000c000500ff0f0000000000000800010004000000");
}

TEST(Check, ANumberOfTheWrongSizeNamesItsPolicy) {
  for (const std::size_t size : {0U, 1U, 2U, 3U, 5U, 8U}) {
    const Bytes payload(size);
    const Verdict verdict =
        check_done([&](MessageBuilder& builder) { builder.put_bytes(2, payload); });
    ASSERT_TRUE(verdict.error) << size;
    EXPECT_EQ(verdict.error->kind, ErrorKind::kInvalidArgument);
    EXPECT_EQ(verdict.ack.message, "invalid attribute length");
    EXPECT_FALSE(verdict.ack.policy.empty());
  }
}

TEST(Check, TheFirstOfTwoMistakesIsReported) {
  const Verdict verdict = check_done([](MessageBuilder& builder) {
    builder.put_u32(1, 4096);
    builder.put_u32(77, 0);
  });
  EXPECT_EQ(verdict.ack.message, "integer out of range");
}

TEST(Check, ATagMayHave255BytesWithAndWithoutNul) {
  const auto verdict_on = [](const std::string& payload) {
    return check_done([&](MessageBuilder& builder) {
      builder.put_bytes(4, std::as_bytes(std::span(payload)));
    });
  };
  const std::string longest(255, 't');
  EXPECT_FALSE(verdict_on("t").error);
  EXPECT_FALSE(verdict_on(longest).error);
  EXPECT_FALSE(verdict_on(longest + '\0').error);
  for (const std::string& too_long : {longest + 't', longest + "t" + '\0', longest + '\0' + '\0'}) {
    const Verdict verdict = verdict_on(too_long);
    ASSERT_TRUE(verdict.error) << too_long.size();
    EXPECT_EQ(verdict.error->kind, ErrorKind::kInvalidArgument);   // R4.2
    EXPECT_EQ(verdict.ack.message, "Attribute failed policy validation");
  }
  // Empty tags and NULs inside are for the service to judge, which looks at the status first.
  EXPECT_FALSE(verdict_on("").error);
  EXPECT_FALSE(verdict_on(std::string("a\0b", 3)).error);
}

TEST(Check, AFlagWithAPayloadIsRefused) {
  const Verdict verdict = check_request(worker::kFamily, kDone, 0, [](MessageBuilder& builder) {
    builder.put_u32(static_cast<std::uint16_t>(worker::DoneAttribute::kPlainEnd), 1);
  });
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.error->kind, ErrorKind::kOutOfRange);
  EXPECT_EQ(verdict.ack.message, "Attribute failed policy validation");
}

TEST(Check, ANestedFlagOnANumberIsRefused) {
  const Verdict verdict = check_done(
      [](MessageBuilder& builder) { builder.put_u32(1 | NLA_F_NESTED, 0); });
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.ack.message, "NLA_F_NESTED not expected");
}

TEST(Check, TheServiceTakesClassesThatTheKernelHasNot) {
  const auto put = [](MessageBuilder& builder) { builder.put_u32(2, 100); };
  const Verdict strict = check_request(kernel::kFamily, kAccept, 0, put);
  ASSERT_TRUE(strict.error);
  EXPECT_EQ(strict.error->kind, ErrorKind::kOutOfRange);
  EXPECT_FALSE(check_request(worker::kFamily, kAccept, 0, put).error);
}

/// certificate is a nest, in replies only: its table stands in for a request's.
Verdict check_accept_reply(const std::function<void(MessageBuilder&)>& put) {
  MessageBuilder builder(MessageHeader{.type = kHandshakeId, .command = 2});
  put(builder);
  const Bytes bytes = std::move(builder).finish().value();
  Verdict verdict;
  if (Result<void> ok = check_attributes(kernel::policy::kAcceptReply,
                                         test::only_message(bytes).attributes, kAttributesOffset,
                                         Unknown::kRefuse, verdict.ack);
      !ok) {
    verdict.error = ok.error();
  }
  return verdict;
}

TEST(Check, AMistakeInsideANestIsFoundWhereItIs) {
  const Verdict verdict = check_accept_reply([](MessageBuilder& builder) {
    builder.put<std::int32_t>(1, 4);
    const std::size_t nest = builder.begin_nest(7);
    builder.put<std::int32_t>(1, 5);
    builder.put<std::uint16_t>(2, 5);
    builder.end_nest(nest);
  });
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.ack.message, "invalid attribute length");
  EXPECT_EQ(verdict.ack.offset, 20U + 8U + 4U + 8U);
}

TEST(Check, AnUnknownAttributeInsideANestIsRefused) {
  const Verdict verdict = check_accept_reply([](MessageBuilder& builder) {
    const std::size_t nest = builder.begin_nest(7);
    builder.put<std::int32_t>(3, 5);
    builder.end_nest(nest);
  });
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.ack.message, "Unknown attribute type");
  EXPECT_EQ(verdict.ack.offset, 24U);
}

TEST(Check, ANestNeedsItsFlag) {
  const Verdict verdict = check_accept_reply([](MessageBuilder& builder) {
    builder.end_nest(builder.begin_nest(7, MessageBuilder::NestFlag::kNone));
  });
  ASSERT_TRUE(verdict.error);
  EXPECT_EQ(verdict.ack.message, "NLA_F_NESTED is missing");
}

TEST(Check, AnEmptyNestPassesAndATruncatedOneDoesNot) {
  EXPECT_FALSE(check_accept_reply([](MessageBuilder& builder) {
                 builder.end_nest(builder.begin_nest(7));
               }).error);
  const Bytes stump(3);
  EXPECT_TRUE(check_accept_reply([&](MessageBuilder& builder) {
                builder.put_bytes(7 | NLA_F_NESTED, stump);
              }).error);
}

TEST(Check, AnElementOfANestedArrayIsCheckedWhateverItsNumber) {
  const auto verdict_on = [](std::size_t payload) {
    MessageBuilder builder(MessageHeader{.type = kControllerId, .command = 1});
    const std::size_t array = builder.begin_nest(6);
    const std::size_t element = builder.begin_nest(200);
    const Bytes bytes(payload);
    builder.put_bytes(1, bytes);
    builder.end_nest(element);
    builder.end_nest(array);
    const Bytes message = std::move(builder).finish().value();
    ExtAck ack;
    return check_attributes(nlctrl::policy::kGetfamilyReply, test::only_message(message).attributes,
                            kAttributesOffset, Unknown::kRefuse, ack)
        .has_value();
  };
  EXPECT_TRUE(verdict_on(4));
  EXPECT_FALSE(verdict_on(2));
}

TEST(MissingAttribute, NamesItsNumberOnly) {
  ExtAck ack;
  const tl::unexpected<Error> error = missing_attribute("sockfd", 2, ack);
  EXPECT_EQ(error.value().kind, ErrorKind::kInvalidArgument);
  EXPECT_EQ(ack.missing_type, 2U);
  EXPECT_TRUE(ack.message.empty());
  EXPECT_FALSE(ack.offset);
}

TEST(DescribePolicy, SaysWhatEachTypeAllows) {
  const PolicyTable& done = kernel::policy::kDoneRequest;
  const auto tag = describe_policy(*done.find(4));
  EXPECT_EQ(tag.type, static_cast<std::uint32_t>(AttributeType::kString));
  EXPECT_EQ(tag.max_length, 255U);
  EXPECT_FALSE(tag.max_value_u);
  const auto sockfd = describe_policy(*done.find(2));
  EXPECT_EQ(sockfd.min_value_s, INT32_MIN);
  EXPECT_EQ(sockfd.max_value_s, INT32_MAX);
}

}  // namespace
}  // namespace handshake::protocol
