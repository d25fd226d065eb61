// SPDX-License-Identifier: Apache-2.0
// libnl-genl, which wrote none of our code, builds messages that we read and reads what we build.
#include <gtest/gtest.h>
#include <linux/genetlink.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>

#include <array>
#include <memory>

#include "protocol/controller.h"
#include "protocol/families.h"
#include "protocol/messages.h"
#include "protocol_bytes.h"

namespace handshake::protocol {
namespace {

using test::Bytes;

struct FreeMessage {
  void operator()(nl_msg* message) const noexcept { nlmsg_free(message); }
};
using NlMessage = std::unique_ptr<nl_msg, FreeMessage>;

Bytes bytes_of(nl_msg* message) {
  const nlmsghdr* header = nlmsg_hdr(message);
  const auto* begin = reinterpret_cast<const std::byte*>(header);
  return {begin, begin + header->nlmsg_len};
}

template <std::size_t Size>
std::array<nlattr*, Size> read_attributes(nlmsghdr* header) {
  std::array<nlattr*, Size> attributes{};
  EXPECT_EQ(genlmsg_parse(header, 0, attributes.data(), Size - 1, nullptr), 0);
  return attributes;
}

nlmsghdr* header_of(Bytes& bytes) { return reinterpret_cast<nlmsghdr*>(bytes.data()); }

TEST(Libnl, ADoneThatItBuildsIsReadAndBuiltToTheSameBytes) {
  const NlMessage message(nlmsg_alloc());
  genlmsg_put(message.get(), 11, 22, kHandshakeId, 0, NLM_F_REQUEST | NLM_F_ACK,
              kernel::DoneRequest::kCommand, 1);
  nla_put_u32(message.get(), 1, 13);
  nla_put_s32(message.get(), 2, -1);
  nla_put_u32(message.get(), 3, 0xffffffff);
  nla_put_u32(message.get(), 3, 5);
  nla_put_string(message.get(), 4, "administrators");
  nla_put_string(message.get(), 4, "x");
  const Bytes theirs = bytes_of(message.get());

  const MessageView view = test::only_message(theirs);
  EXPECT_EQ(view.port, 11U);
  EXPECT_EQ(view.sequence, 22U);
  ExtAck ack;
  ASSERT_TRUE(check(kernel::kFamily, view, ack)) << ack.message;
  const auto done = kernel::DoneRequest::parse(view.attributes, Unknown::kRefuse, ack);
  ASSERT_TRUE(done);
  EXPECT_EQ(*done, (kernel::DoneRequest{.status = 13,
                                        .sockfd = -1,
                                        .remote_auth = {0xffffffff, 5},
                                        .tag = {"administrators", "x"}}));
  const Bytes ours = build(MessageHeader{view.type, view.flags, view.sequence, view.port, 0, 1},
                           *done).value();
  EXPECT_EQ(test::to_hex(ours), test::to_hex(theirs));
}

TEST(Libnl, ANestThatItBuildsIsReadAndBuiltToTheSameBytes) {
  const NlMessage message(nlmsg_alloc());
  genlmsg_put(message.get(), 0, 1, kHandshakeId, 0, 0, kernel::AcceptReply::kCommand, 1);
  nla_put_s32(message.get(), 1, 9);
  nla_put_u32(message.get(), 3, 2);
  nla_put_u32(message.get(), 5, 3);
  for (const int serial : {100, 200}) {
    nlattr* nest = nla_nest_start(message.get(), 7 | NLA_F_NESTED);
    nla_put_s32(message.get(), 1, serial);
    nla_put_s32(message.get(), 2, serial + 1);
    nla_nest_end(message.get(), nest);
  }
  const Bytes theirs = bytes_of(message.get());
  const MessageView view = test::only_message(theirs);
  ExtAck ack;
  const auto reply = kernel::AcceptReply::parse(view.attributes, Unknown::kRefuse, ack);
  ASSERT_TRUE(reply) << reply.error().detail;
  ASSERT_EQ(reply->certificate.size(), 2U);
  EXPECT_EQ(reply->certificate[1], (kernel::X509{.cert = 200, .privkey = 201}));
  const Bytes ours =
      build(MessageHeader{.type = view.type, .sequence = view.sequence}, *reply).value();
  EXPECT_EQ(test::to_hex(ours), test::to_hex(theirs));
}

TEST(Libnl, ReadsAnAcceptReplyOfOurs) {
  worker::AcceptReply reply;
  reply.sockfd = 3;
  reply.message_type = MessageType::kClienthello;
  reply.peername = "server.example";
  reply.certificate = {{.cert = 1, .privkey = 2}};
  reply.request_id = 0x123456789a;
  reply.relay = RelayMode::kAlways;
  Bytes bytes = build(MessageHeader{.type = kWorkerId}, reply).value();
  ASSERT_TRUE(genlmsg_valid_hdr(header_of(bytes), 0));
  const auto attributes = read_attributes<4200>(header_of(bytes));
  EXPECT_EQ(nla_get_s32(attributes[1]), 3);
  EXPECT_EQ(nla_get_u32(attributes[3]), 1U);
  EXPECT_STREQ(nla_get_string(attributes[8]), "server.example");
  EXPECT_EQ(nla_get_u64(attributes[4096]), 0x123456789aU);
  EXPECT_EQ(nla_get_u32(attributes[4098]), 2U);
  ASSERT_TRUE(nla_is_nested(attributes[7]));
  std::array<nlattr*, 3> inner{};
  ASSERT_EQ(nla_parse_nested(inner.data(), 2, attributes[7], nullptr), 0);
  EXPECT_EQ(nla_get_s32(inner[1]), 1);
  EXPECT_EQ(nla_get_s32(inner[2]), 2);
}

TEST(Libnl, ResolvesAFamilyOfOursFromTheControllersAnswer) {
  const NlMessage message(nlmsg_alloc());
  genlmsg_put(message.get(), 0, 1, GENL_ID_CTRL, 0, NLM_F_REQUEST, CTRL_CMD_GETFAMILY, 1);
  nla_put_string(message.get(), CTRL_ATTR_FAMILY_NAME, "hs-consumer");
  const Bytes request = bytes_of(message.get());
  const Controller controller({{kConsumerId, &consumer::kFamily, 0}});
  std::vector<Bytes> answer = controller.answer(test::only_message(request));
  ASSERT_EQ(answer.size(), 1U);

  // The policy is the one that libnl's own resolver has for these attributes.
  std::array<nla_policy, CTRL_ATTR_MAX + 1> policy{};
  policy[CTRL_ATTR_FAMILY_ID].type = NLA_U16;
  policy[CTRL_ATTR_FAMILY_NAME].type = NLA_STRING;
  policy[CTRL_ATTR_FAMILY_NAME].maxlen = GENL_NAMSIZ;
  policy[CTRL_ATTR_VERSION].type = NLA_U32;
  policy[CTRL_ATTR_OPS].type = NLA_NESTED;
  std::array<nlattr*, CTRL_ATTR_MAX + 1> attributes{};
  ASSERT_EQ(genlmsg_parse(header_of(answer[0]), 0, attributes.data(), CTRL_ATTR_MAX, policy.data()),
            0);
  EXPECT_EQ(nla_get_u16(attributes[CTRL_ATTR_FAMILY_ID]), kConsumerId);
  EXPECT_STREQ(nla_get_string(attributes[CTRL_ATTR_FAMILY_NAME]), "hs-consumer");
  std::vector<std::uint32_t> commands;
  int rest = nla_len(attributes[CTRL_ATTR_OPS]);
  for (auto* op = static_cast<nlattr*>(nla_data(attributes[CTRL_ATTR_OPS])); nla_ok(op, rest);
       op = nla_next(op, &rest)) {
    std::array<nlattr*, CTRL_ATTR_OP_MAX + 1> inner{};
    ASSERT_EQ(nla_parse_nested(inner.data(), CTRL_ATTR_OP_MAX, op, nullptr), 0);
    commands.push_back(nla_get_u32(inner[CTRL_ATTR_OP_ID]));
  }
  EXPECT_EQ(commands, (std::vector<std::uint32_t>{consumer::SubmitRequest::kCommand,
                                                  consumer::CancelRequest::kCommand}));
}

TEST(Libnl, ReadsAnAcknowledgementOfOurs) {
  const Bytes request = build(test::request_header(kHandshakeId, 0, NLM_F_ACK),
                              kernel::DoneRequest{.status = 5000}).value();
  const MessageView view = test::only_message(request);
  ExtAck ext;
  const auto checked = check(kernel::kFamily, view, ext);
  ASSERT_FALSE(checked);
  Bytes bytes = build_ack(view, checked.error().number(), ext);
  nlmsghdr* header = header_of(bytes);
  ASSERT_EQ(header->nlmsg_type, NLMSG_ERROR);
  const auto* error = static_cast<const nlmsgerr*>(nlmsg_data(header));
  EXPECT_EQ(error->error, -ERANGE);
  EXPECT_EQ(error->msg.nlmsg_seq, view.sequence);
  std::array<nlattr*, NLMSGERR_ATTR_MAX + 1> attributes{};
  ASSERT_EQ(nlmsg_parse(header, sizeof(nlmsgerr), attributes.data(), NLMSGERR_ATTR_MAX, nullptr), 0);
  EXPECT_STREQ(nla_get_string(attributes[NLMSGERR_ATTR_MSG]), "integer out of range");
  EXPECT_EQ(nla_get_u32(attributes[NLMSGERR_ATTR_OFFS]), 20U);
  ASSERT_NE(attributes[NLMSGERR_ATTR_POLICY], nullptr);
  EXPECT_TRUE(nla_is_nested(attributes[NLMSGERR_ATTR_POLICY]));
}

}  // namespace
}  // namespace handshake::protocol
