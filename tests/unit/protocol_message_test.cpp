// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/netlink.h>

#include <algorithm>

#include "protocol/families.h"
#include "protocol/messages.h"
#include "protocol_bytes.h"

namespace handshake::protocol {
namespace {

using test::Bytes;

TEST(MessageReader, AnEmptyDatagramHoldsNoMessage) {
  MessageReader reader({});
  const auto next = reader.next();
  ASSERT_TRUE(next);
  EXPECT_FALSE(next->has_value());
}

TEST(MessageReader, EveryTruncationOfAMessageIsRefused) {
  kernel::DoneRequest done;
  done.status = 0;
  done.tag = {"nfs"};
  const Bytes whole = build(test::request_header(kHandshakeId, 0), done).value();
  for (std::size_t size = 1; size < whole.size(); ++size) {
    const Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    MessageReader reader(part);
    const auto next = reader.next();
    ASSERT_FALSE(next) << size;
    EXPECT_EQ(next.error().kind, ErrorKind::kInvalidArgument);
  }
}

TEST(MessageReader, NothingIsReadAfterAMalformedMessage) {
  Bytes bytes(24, std::byte{0});   // nlmsg_len 0
  MessageReader reader(bytes);
  EXPECT_FALSE(reader.next());
  const auto next = reader.next();
  ASSERT_TRUE(next);
  EXPECT_FALSE(next->has_value());
}

TEST(MessageReader, ALengthBeyondTheDatagramIsRefused) {
  const Bytes good = build(test::request_header(kHandshakeId, 0), kernel::AcceptRequest{}).value();
  for (const std::string_view length : {"15000000", "ffffff7f", "14000080", "ffffffff"}) {
    Bytes bytes = good;
    const Bytes field = test::from_hex(length);
    std::copy(field.begin(), field.end(), bytes.begin());
    EXPECT_FALSE(MessageReader(bytes).next()) << length;
  }
}

TEST(MessageReader, SeveralMessagesOfADatagramComeInOrder) {
  Bytes bytes = build(test::request_header(kHandshakeId, 0), kernel::AcceptRequest{}).value();
  const Bytes second = build(test::request_header(kWorkerId, 0), worker::SubscribeRequest{}).value();
  bytes.insert(bytes.end(), second.begin(), second.end());
  const auto views = test::messages_in(bytes);
  ASSERT_EQ(views.size(), 2U);
  EXPECT_EQ(views[0].type, kHandshakeId);
  EXPECT_EQ(views[0].command, kernel::AcceptRequest::kCommand);
  EXPECT_EQ(views[1].type, kWorkerId);
  EXPECT_EQ(views[1].command, worker::SubscribeRequest::kCommand);
}

TEST(MessageReader, MisalignedBytesAreRefused) {
  Bytes bytes = build(test::request_header(kHandshakeId, 0), kernel::AcceptRequest{}).value();
  bytes.insert(bytes.begin(), std::byte{0});
  EXPECT_FALSE(MessageReader(std::span(bytes).subspan(1)).next());
}

TEST(MessageReader, AMessageTooShortForItsGenericHeaderIsLeftToTheCheck) {
  const Bytes bytes = test::from_hex("10000000200005000700000000000000");
  const MessageView view = test::only_message(bytes);
  EXPECT_TRUE(view.attributes.empty());
  ExtAck ack;
  const auto checked = check(kernel::kFamily, view, ack);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().kind, ErrorKind::kInvalidArgument);
}

TEST(AttributeReader, BytesLeftOverAfterTheAttributesAreRefused) {
  Bytes bytes = build(test::request_header(kHandshakeId, 0),
                      kernel::DoneRequest{.status = 0})
                    .value();
  bytes.resize(bytes.size() + 3);
  bytes[0] = static_cast<std::byte>(bytes.size());
  const MessageView view = test::only_message(bytes);
  ExtAck ack;
  const auto done = kernel::DoneRequest::parse(view.attributes, Unknown::kRefuse, ack);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().kind, ErrorKind::kInvalidArgument);
  EXPECT_EQ(ack.message, "bytes leftover after parsing attributes");
}

TEST(AttributeReader, AnAttributeLongerThanItsMessageIsRefused) {
  Bytes bytes = build(test::request_header(kHandshakeId, 0),
                      kernel::DoneRequest{.status = 0})
                    .value();
  bytes[20] = std::byte{9};
  ExtAck ack;
  EXPECT_FALSE(kernel::DoneRequest::parse(test::only_message(bytes).attributes, Unknown::kSkip, ack));
}

TEST(Message, EveryFieldSurvivesTheWay) {
  worker::AcceptReply reply;
  reply.sockfd = -5;
  reply.message_type = MessageType::kServerhello;
  reply.timeout = 10000;
  reply.auth_mode = Auth::kX509;
  reply.peer_identity = {1, 0xffffffff, 0};
  reply.certificate = {{.cert = 7, .privkey = -8}, {.cert = 9, .privkey = {}}};
  reply.peername = "server.example";
  reply.keyring = 99;
  reply.max_tags = 64;
  reply.request_id = 0x123456789abcdef0;
  reply.credential = "nfs";
  reply.relay = RelayMode::kAllowed;
  reply.client_auth = ClientAuth::kRequire;
  reply.remaining = 1;
  const Bytes bytes = build(MessageHeader{.type = kWorkerId, .sequence = 3}, reply).value();
  const MessageView view = test::only_message(bytes);
  EXPECT_EQ(view.command, worker::AcceptReply::kCommand);
  EXPECT_EQ(view.sequence, 3U);
  ExtAck ack;
  const auto read = worker::AcceptReply::parse(view.attributes, Unknown::kRefuse, ack);
  ASSERT_TRUE(read) << read.error().detail;
  EXPECT_EQ(*read, reply);
}

TEST(Message, FlagsAndRepeatedNestsSurviveTheWay) {
  control::StatusReply reply;
  reply.worker = {{.pid = 1, .accepted = 2, .relays = 3, .served = 4}, {}};
  reply.counter = {{.name = "requests", .value = 1ULL << 40U}};
  const Bytes bytes = build(MessageHeader{.type = kControlId}, reply).value();
  ExtAck ack;
  const auto read =
      control::StatusReply::parse(test::only_message(bytes).attributes, Unknown::kRefuse, ack);
  ASSERT_TRUE(read) << read.error().detail;
  EXPECT_EQ(*read, reply);

  worker::DoneRequest done;
  done.plain_end = true;
  const Bytes done_bytes = build(MessageHeader{.type = kWorkerId}, done).value();
  const auto read_done = worker::DoneRequest::parse(test::only_message(done_bytes).attributes,
                                                    Unknown::kRefuse, ack);
  ASSERT_TRUE(read_done);
  EXPECT_TRUE(read_done->plain_end);
  EXPECT_FALSE(read_done->alert_sent);
}

TEST(Message, AStringLosesOneTrailingNulAndKeepsThoseInside) {
  struct Case {
    std::string_view payload;
    std::string_view text;
  };
  using namespace std::string_view_literals;
  for (const Case& c : {Case{"tag"sv, "tag"sv}, Case{"tag\0"sv, "tag"sv}, Case{"tag\0\0"sv, "tag\0"sv},
                        Case{"a\0b"sv, "a\0b"sv}, Case{""sv, ""sv}, Case{"\0"sv, ""sv}}) {
    MessageBuilder builder(test::request_header(kHandshakeId, kernel::DoneRequest::kCommand));
    builder.put_bytes(4, std::as_bytes(std::span(c.payload)));
    const Bytes bytes = std::move(builder).finish().value();
    ExtAck ack;
    const auto done = kernel::DoneRequest::parse(test::only_message(bytes).attributes,
                                                 Unknown::kRefuse, ack);
    ASSERT_TRUE(done) << done.error().detail;
    ASSERT_EQ(done->tag.size(), 1U);
    EXPECT_EQ(done->tag[0], c.text);
  }
}

TEST(Message, AnAgentSkipsAndCountsWhatItDoesNotKnow) {
  MessageBuilder builder(MessageHeader{.type = kHandshakeId, .command = 2});
  builder.put_u32(11, 1);
  builder.put_u32(1, 5);
  builder.put_string(4711, "x");
  const Bytes bytes = std::move(builder).finish().value();
  ExtAck ack;
  const auto reply =
      kernel::AcceptReply::parse(test::only_message(bytes).attributes, Unknown::kSkip, ack);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->sockfd, 5);
  EXPECT_EQ(ack.unknown_skipped, 2U);
}

TEST(Message, AnAgentDoesNotSkipAValueItCannotUnderstand) {
  MessageBuilder builder(MessageHeader{.type = kHandshakeId, .command = 2});
  builder.put_u32(3, 3);   // message-type
  const Bytes bytes = std::move(builder).finish().value();
  ExtAck ack;
  const auto reply =
      kernel::AcceptReply::parse(test::only_message(bytes).attributes, Unknown::kSkip, ack);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::kOutOfRange);
}

TEST(Message, TheLastOfARepeatedSingleAttributeCounts) {
  MessageBuilder builder(test::request_header(kHandshakeId, 3));
  builder.put_u32(1, 5);
  builder.put_u32(1, 6);
  const Bytes bytes = std::move(builder).finish().value();
  ExtAck ack;
  const auto done =
      kernel::DoneRequest::parse(test::only_message(bytes).attributes, Unknown::kRefuse, ack);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->status, 6U);
}

TEST(MessageBuilder, AMessageThatIsTooLongIsAnError) {
  kernel::AcceptReply reply;
  reply.peername = std::string(kMaxMessageBytes, 'a');
  const auto bytes = build(MessageHeader{.type = kHandshakeId}, reply);
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().kind, ErrorKind::kInvalidArgument);

  control::SessionsReply many;
  many.tag.assign(1000, std::string(255, 't'));
  EXPECT_FALSE(build(MessageHeader{.type = kControlId}, many));
  many.tag.resize(200);
  EXPECT_TRUE(build(MessageHeader{.type = kControlId}, many));
}

TEST(MessageBuilder, PaddingIsZero) {
  MessageBuilder builder(MessageHeader{.type = kHandshakeId});
  builder.put_string(8, "abcd");
  const Bytes bytes = std::move(builder).finish().value();
  EXPECT_EQ(test::to_hex(std::span(bytes).subspan(20)), "0900080061626364" "00000000");
}

TEST(Ack, AnErrorCarriesItsExtendedPartBothWays) {
  const Bytes request =
      build(test::request_header(kHandshakeId, 0, NLM_F_ACK), kernel::AcceptRequest{}).value();
  ExtAck ext;
  ext.message = "no";
  ext.offset = 20;
  ext.missing_type = 2;
  ext.missing_nest = 24;
  ext.policy = {std::byte{8}, std::byte{0}, std::byte{1}, std::byte{0},
                std::byte{4}, std::byte{0}, std::byte{0}, std::byte{0}};
  const Bytes bytes = build_ack(test::only_message(request), EINVAL, ext);
  const auto ack = parse_ack(test::only_message(bytes));
  ASSERT_TRUE(ack) << ack.error().detail;
  EXPECT_EQ(ack->error, EINVAL);
  EXPECT_EQ(ack->sequence, 7U);
  EXPECT_EQ(ack->ext, ext);
}

TEST(Ack, ASuccessSaysNothingOfAnOffset) {
  const Bytes request =
      build(test::request_header(kHandshakeId, 0, NLM_F_ACK), kernel::AcceptRequest{}).value();
  ExtAck ext;
  ext.offset = 20;
  const Bytes bytes = build_ack(test::only_message(request), 0, ext);
  const auto ack = parse_ack(test::only_message(bytes));
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->error, 0);
  EXPECT_FALSE(ack->ext.offset);
}

TEST(Ack, AnExtendedPartThatDoesNotFitIsLeftOut) {
  const Bytes request =
      build(test::request_header(kHandshakeId, 0, NLM_F_ACK), kernel::AcceptRequest{}).value();
  ExtAck ext;
  ext.message = std::string(70000, 'x');
  const auto ack = parse_ack(test::only_message(build_ack(test::only_message(request), EIO, ext)));
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->error, EIO);
  EXPECT_TRUE(ack->ext.message.empty());
}

TEST(Ack, WhatIsNoErrnoIsRefused) {
  const Bytes request =
      build(test::request_header(kHandshakeId, 0, NLM_F_ACK), kernel::AcceptRequest{}).value();
  const MessageView view = test::only_message(request);
  EXPECT_TRUE(parse_ack(test::only_message(build_ack(view, 4095, {}))));
  EXPECT_FALSE(parse_ack(test::only_message(build_ack(view, 4096, {}))));
  EXPECT_FALSE(parse_ack(test::only_message(build_ack(view, -1, {}))));   // a positive error
  EXPECT_FALSE(parse_ack(view));
}

TEST(Ack, EveryTruncationIsRefusedOrLosesOnlyItsExtendedPart) {
  const Bytes request =
      build(test::request_header(kHandshakeId, 0, NLM_F_ACK), kernel::AcceptRequest{}).value();
  ExtAck ext;
  ext.message = "because";   // no padding after it
  const Bytes whole = build_ack(test::only_message(request), EINVAL, ext);
  for (std::size_t size = 16; size < whole.size(); ++size) {
    Bytes part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    part[0] = static_cast<std::byte>(size);
    const auto ack = parse_ack(test::only_message(part));
    if (ack) {
      EXPECT_EQ(size, 36U);   // header, error and request header, nothing of the rest
      EXPECT_TRUE(ack->ext.message.empty());
    }
  }
}

TEST(Numbers, AreTheKernels) {
  EXPECT_EQ(static_cast<int>(MessageType::kServerhello), 2);
  EXPECT_EQ(static_cast<int>(Auth::kX509), 3);
  EXPECT_EQ(static_cast<int>(HandlerClass::kTlshd), 1);
  EXPECT_EQ(to_string(Auth::kPsk), "psk");
  EXPECT_EQ(to_string(static_cast<Auth>(77)), "");
  EXPECT_EQ(kMaxErrno, 4095U);
  EXPECT_EQ(static_cast<int>(kernel::AcceptAttribute::kMaxTags), 10);
  EXPECT_EQ(static_cast<int>(worker::DoneAttribute::kTag), 4);
  EXPECT_EQ(static_cast<int>(worker::DoneAttribute::kPlainEnd), 4096);
  EXPECT_EQ(static_cast<int>(AttributeType::kNulString), NL_ATTR_TYPE_NUL_STRING);
  EXPECT_EQ(static_cast<int>(AttributeType::kNestedArray), NL_ATTR_TYPE_NESTED_ARRAY);
  EXPECT_EQ(static_cast<int>(nlctrl::PolicyDescriptionAttribute::kPad), NL_POLICY_TYPE_ATTR_PAD);
  EXPECT_EQ(static_cast<int>(nlctrl::PolicyDescriptionAttribute::kMask), NL_POLICY_TYPE_ATTR_MASK);
}

}  // namespace
}  // namespace handshake::protocol
