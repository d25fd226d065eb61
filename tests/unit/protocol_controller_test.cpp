// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <linux/netlink.h>

#include <map>

#include "protocol/controller.h"
#include "protocol/families.h"
#include "protocol/messages.h"
#include "protocol_bytes.h"

namespace handshake::protocol {
namespace {

using test::Bytes;

Controller agent_controller() {
  return Controller({{kHandshakeId, &kernel::kFamily, kHandshakeGroups},
                     {kWorkerId, &worker::kFamily, kWorkerGroups},
                     {kControlId, &control::kFamily, 0}});
}

template <class M>
std::vector<Bytes> ask(const M& request, std::uint16_t flags) {
  const Bytes bytes = build(test::request_header(kControllerId, 0, flags), request).value();
  return agent_controller().answer(test::only_message(bytes));
}

Ack only_ack(const std::vector<Bytes>& answer) {
  EXPECT_EQ(answer.size(), 1U);
  return parse_ack(test::only_message(answer.at(0))).value();
}

TEST(Controller, FindsAFamilyByNameAndByNumber) {
  for (const auto& request : {nlctrl::GetfamilyRequest{.family_name = "hs-worker"},
                              nlctrl::GetfamilyRequest{.family_id = kWorkerId}}) {
    const auto answer = ask(request, 0);
    ASSERT_EQ(answer.size(), 1U);
    ExtAck ack;
    const auto reply = nlctrl::GetfamilyReply::parse(test::only_message(answer[0]).attributes,
                                                     Unknown::kRefuse, ack);
    ASSERT_TRUE(reply) << reply.error().detail;
    EXPECT_EQ(reply->family_id, kWorkerId);
    EXPECT_EQ(reply->family_name, "hs-worker");
    ASSERT_EQ(reply->ops.size(), worker::kFamily.operations.size());
    EXPECT_EQ(reply->ops[2].id, worker::SubscribeRequest::kCommand);
    EXPECT_EQ(reply->ops[2].flags, OpFlags::kCmdCapDo | OpFlags::kCmdCapHaspol);
    ASSERT_EQ(reply->mcast_groups.size(), 2U);
    EXPECT_EQ(reply->mcast_groups[1].name, "tlshd");
    EXPECT_EQ(reply->mcast_groups[1].id, kWorkerGroups + 1);
  }
}

TEST(Controller, AcknowledgesWhenAsked) {
  const auto answer = ask(nlctrl::GetfamilyRequest{.family_name = "handshake"}, NLM_F_ACK);
  ASSERT_EQ(answer.size(), 2U);
  EXPECT_EQ(parse_ack(test::only_message(answer[1])).value().error, 0);
}

TEST(Controller, KnowsItself) {
  const auto answer = ask(nlctrl::GetfamilyRequest{.family_name = "nlctrl"}, 0);
  ExtAck ack;
  const auto reply = nlctrl::GetfamilyReply::parse(test::only_message(answer.at(0)).attributes,
                                                   Unknown::kRefuse, ack);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->family_id, kControllerId);
  EXPECT_EQ(reply->version, 2U);
}

TEST(Controller, SaysWhatIsWrong) {
  EXPECT_EQ(only_ack(ask(nlctrl::GetfamilyRequest{.family_name = "tcp_metrics"}, 0)).error, ENOENT);
  EXPECT_EQ(only_ack(ask(nlctrl::GetfamilyRequest{.family_id = std::uint16_t{99}}, 0)).error,
            ENOENT);
  EXPECT_EQ(only_ack(ask(nlctrl::GetfamilyRequest{}, 0)).error, EINVAL);
  EXPECT_EQ(only_ack(ask(nlctrl::GetpolicyRequest{}, NLM_F_DUMP)).error, EINVAL);
  EXPECT_EQ(only_ack(ask(nlctrl::GetpolicyRequest{.family_id = kHandshakeId}, 0)).error, EOPNOTSUPP);
  EXPECT_EQ(only_ack(ask(nlctrl::GetpolicyRequest{.family_id = kHandshakeId, .op = 99}, NLM_F_DUMP))
                .error,
            ENOENT);
  const Ack too_long = only_ack(ask(nlctrl::GetfamilyRequest{.family_name = "sixteen-letters."}, 0));
  EXPECT_EQ(too_long.error, EINVAL);
  EXPECT_EQ(too_long.ext.offset, 20U);
}

TEST(Controller, DumpsAllFamiliesByNumber) {
  const auto answer = ask(nlctrl::GetfamilyDumpRequest{}, NLM_F_DUMP | NLM_F_ACK);
  ASSERT_GE(answer.size(), 2U);
  std::vector<std::uint16_t> ids;
  for (std::size_t i = 0; i + 1 < answer.size(); ++i) {
    for (const MessageView& part : test::messages_in(answer[i])) {
      EXPECT_EQ(part.flags, NLM_F_MULTI);
      ExtAck ack;
      const auto reply =
          nlctrl::GetfamilyReply::parse(part.attributes, Unknown::kRefuse, ack);
      ASSERT_TRUE(reply);
      ids.push_back(*reply->family_id);
    }
  }
  EXPECT_EQ(ids, (std::vector<std::uint16_t>{kControllerId, kHandshakeId, kWorkerId, kControlId}));
  EXPECT_EQ(test::only_message(answer.back()).type, NLMSG_DONE);
}

TEST(Controller, APolicyDumpDescribesEveryAttributeOfEveryRequest) {
  const auto answer = ask(nlctrl::GetpolicyRequest{.family_name = "hs-worker"}, NLM_F_DUMP);
  std::map<std::uint16_t, std::uint32_t> index_of;
  std::map<std::pair<std::uint32_t, std::uint16_t>, nlctrl::PolicyDescription> described;
  for (std::size_t i = 0; i + 1 < answer.size(); ++i) {
    for (const MessageView& part : test::messages_in(answer[i])) {
      ExtAck ack;
      const auto reply =
          nlctrl::GetpolicyReply::parse(part.attributes, Unknown::kRefuse, ack);
      ASSERT_TRUE(reply) << reply.error().detail;
      EXPECT_EQ(reply->family_id, kWorkerId);
      if (reply->op_policy) index_of[reply->op_policy->op_id] = *reply->op_policy->value.do_;
      if (reply->policy) {
        described[{reply->policy->policy_id, reply->policy->attr_id}] = reply->policy->value;
      }
    }
  }
  ASSERT_EQ(index_of.size(), worker::kFamily.operations.size());
  std::size_t attributes = 0;
  for (const OperationInfo& operation : worker::kFamily.operations) {
    for (const AttributePolicy& attribute : operation.do_request->attributes) {
      const auto found = described.find({index_of.at(operation.command), attribute.number});
      ASSERT_NE(found, described.end()) << operation.name << "." << attribute.name;
      EXPECT_EQ(found->second.type, static_cast<std::uint32_t>(attribute.type));
      ++attributes;
    }
  }
  EXPECT_EQ(described.size(), attributes);
}

TEST(Controller, ADumpComesInDatagramsThatFitASmallBuffer) {
  for (const Bytes& datagram :
       ask(nlctrl::GetpolicyRequest{.family_name = "hs-worker"}, NLM_F_DUMP)) {
    EXPECT_LE(datagram.size(), 4096U);
  }
}

}  // namespace
}  // namespace handshake::protocol
