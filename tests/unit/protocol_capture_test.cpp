// SPDX-License-Identifier: Apache-2.0
// What real kernels said (tests/data/captures): every message parses and builds again to the same
// bytes, and we answer the recorded requests as the kernel did.
#include <gtest/gtest.h>
#include <linux/netlink.h>

#include <fstream>
#include <map>
#include <sstream>

#include "protocol/controller.h"
#include "protocol/families.h"
#include "protocol/messages.h"
#include "protocol_bytes.h"

namespace handshake::protocol {
namespace {

using test::Bytes;

/// One line of a capture file: a datagram, what it is, and the comment above it.
struct Record {
  std::string topic;
  std::string label;
  Bytes bytes;
  int line = 0;
};

std::vector<Record> read_capture(const std::string& name) {
  std::ifstream file(std::string(HS_SOURCE_DIR) + "/tests/data/captures/" + name);
  EXPECT_TRUE(file) << name;
  std::vector<Record> records;
  std::string topic;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.starts_with("# family id")) continue;
    if (line.starts_with("# ")) topic = line.substr(2);
    if (line.starts_with("## ")) topic = line.substr(3);
    if (line.empty() || line.starts_with("#")) continue;
    std::istringstream words(line);
    Record record;
    record.topic = topic;
    record.line = number;
    std::string hex;
    words >> record.label >> hex;
    record.bytes = test::from_hex(hex);
    records.push_back(std::move(record));
  }
  return records;
}

MessageHeader header_of(const MessageView& view) {
  return MessageHeader{view.type, view.flags, view.sequence, view.port, view.command, view.version};
}

class Captures : public testing::TestWithParam<const char*> {
 protected:
  std::vector<Record> records_ = read_capture(GetParam());
};

std::string kernel_name(const testing::TestParamInfo<const char*>& file) {
  return file.index == 0 ? "Linux612" : "Linux734";
}

INSTANTIATE_TEST_SUITE_P(Kernels, Captures, testing::Values("linux-6.12.txt", "linux-7.3.4.txt"), kernel_name);

// --- Parsing and building again ------------------------------------------------------------------

template <class M>
Result<Bytes> again(const MessageView& view, Unknown unknown) {
  ExtAck ack;
  const Result<M> message = M::parse(view.attributes, unknown, ack);
  if (!message) return tl::unexpected<Error>(message.error());
  EXPECT_EQ(ack.unknown_skipped, 0U);
  EXPECT_EQ(M::kCommand, view.command);
  return build(header_of(view), *message);
}

Result<Bytes> ack_again(const MessageView& view) {
  const Result<Ack> ack = parse_ack(view);
  if (!ack) return tl::unexpected<Error>(ack.error());
  EXPECT_EQ(ack->ext.unknown_skipped, 0U);
  MessageView request;
  request.whole = ack->request;
  request.sequence = ack->sequence;
  AckOptions options;
  options.capped = (view.flags & NLM_F_CAPPED) != 0;
  options.extended = (view.flags & NLM_F_ACK_TLVS) != 0;
  options.port = view.port;
  return build_ack(request, ack->error, ack->ext, options);
}

Result<Bytes> message_again(const MessageView& view) {
  const bool request = (view.flags & NLM_F_REQUEST) != 0;
  if (view.type == NLMSG_ERROR) return ack_again(view);
  if (view.type == NLMSG_DONE) return build_dump_end(view);
  if (view.type == kControllerId) {
    if (!request) {
      return view.command == nlctrl::GetfamilyReply::kCommand
                 ? again<nlctrl::GetfamilyReply>(view, Unknown::kSkip)
                 : again<nlctrl::GetpolicyReply>(view, Unknown::kSkip);
    }
    return view.command == nlctrl::GetfamilyRequest::kCommand
               ? again<nlctrl::GetfamilyRequest>(view, Unknown::kRefuse)
               : again<nlctrl::GetpolicyRequest>(view, Unknown::kRefuse);
  }
  switch (view.command) {
    case kernel::ReadyEvent::kCommand: return again<kernel::ReadyEvent>(view, Unknown::kSkip);
    case kernel::DoneRequest::kCommand: return again<kernel::DoneRequest>(view, Unknown::kRefuse);
    case kernel::AcceptRequest::kCommand:
      return request ? again<kernel::AcceptRequest>(view, Unknown::kRefuse)
                     : again<kernel::AcceptReply>(view, Unknown::kSkip);
    default: return fail(ErrorKind::kNotSupported, "unknown command");
  }
}

/// Without knowing what it is: attribute by attribute.
Bytes copy_attributes(const MessageView& view) {
  MessageBuilder builder(header_of(view));
  AttributeReader reader(view.attributes, kAttributesOffset);
  ExtAck ack;
  while (true) {
    const auto next = reader.next(ack);
    EXPECT_TRUE(next);
    if (!next || !next->has_value()) break;
    const unsigned flag = (*next)->nested_flag ? NLA_F_NESTED : 0U;
    builder.put_bytes(static_cast<std::uint16_t>((*next)->type | flag), (*next)->payload);
  }
  return std::move(builder).finish().value();
}

/// Requests that were recorded because the kernel refuses them; so does parsing.
const std::map<std::string, ErrorKind> kRefused = {
    {"ACCEPT, class 99", ErrorKind::kOutOfRange},
    {"DONE status 4096", ErrorKind::kOutOfRange},
    {"DONE with a short status", ErrorKind::kInvalidArgument},
    {"command 9", ErrorKind::kNotSupported},
};

TEST_P(Captures, EveryMessageParsesAndBuildsToTheSameBytes) {
  std::map<std::string, int> refused;
  int messages = 0;
  for (const Record& record : records_) {
    for (const MessageView& view : test::messages_in(record.bytes)) {
      ++messages;
      const std::string recorded = test::to_hex(view.whole);
      const auto refusal = kRefused.find(record.topic);
      if (record.label == "request" && refusal != kRefused.end()) {
        const auto built = message_again(view);
        ASSERT_FALSE(built) << record.topic;
        EXPECT_EQ(built.error().kind, refusal->second) << record.topic;
        EXPECT_EQ(test::to_hex(copy_attributes(view)), recorded);
        ++refused[record.topic];
        continue;
      }
      const auto built = message_again(view);
      ASSERT_TRUE(built) << "line " << record.line << ": " << built.error().detail;
      EXPECT_EQ(test::to_hex(*built), recorded) << "line " << record.line;
    }
  }
  EXPECT_EQ(refused.size(), kRefused.size());
  // Nothing was passed over: one message a line, but for two dumps with six and four in a line.
  EXPECT_GE(records_.size(), 59U);
  EXPECT_EQ(messages, static_cast<int>(records_.size()) + 5 + 3);
}

// --- Answering as the kernel did -----------------------------------------------------------------

/// Where our answers may differ from the recorded ones (DESIGN.md, "Questions settled"):
///   port and sequence numbers    whose they are; here: the port, masked
///   family and group ids         registered under the recorded ones
///   max-tags                     rides on ACCEPT's reply, of which none is in this part
///   DONE's policy                has the attribute tag
///   classes known                the kernel's, in its family
class KernelAnswers : public Captures {
 protected:
  static constexpr const char* kTagsAccepted = "DONE with a string in attribute 4";

  void SetUp() override {
    for (const Record& record : records_) {
      if (record.topic != "GETFAMILY by name, with ack" || record.label != "reply") continue;
      const MessageView view = test::messages_in(record.bytes).at(0);
      if (view.type != kControllerId) continue;
      ExtAck ack;
      recorded_ = nlctrl::GetfamilyReply::parse(view.attributes, Unknown::kSkip, ack).value();
    }
    ASSERT_TRUE(recorded_.family_id);
    controller_ = Controller(
        {{*recorded_.family_id, &kernel::kFamily, recorded_.mcast_groups.at(0).id.value()}});
  }

  /// A service with nothing pending.
  static Result<void> serve(const MessageView& request, ExtAck& ack) {
    if (Result<void> ok = check(kernel::kFamily, request, ack); !ok) return ok;
    if (request.command == kernel::AcceptRequest::kCommand) {
      const auto accept = kernel::AcceptRequest::parse(request.attributes, Unknown::kRefuse, ack);
      if (!accept->handler_class) {
        return missing_attribute(
            "handler-class", static_cast<std::uint16_t>(kernel::AcceptAttribute::kHandlerClass),
            ack);
      }
      return fail(ErrorKind::kTryAgain, "nothing pending");
    }
    const auto done = kernel::DoneRequest::parse(request.attributes, Unknown::kRefuse, ack);
    if (!done->sockfd) {
      return missing_attribute("sockfd",
                               static_cast<std::uint16_t>(kernel::DoneAttribute::kSockfd), ack);
    }
    return fail(ErrorKind::kBadDescriptor, "no such socket");
  }

  std::vector<Bytes> answer(const Bytes& datagram) const {
    const MessageView request = test::only_message(datagram);
    if (request.type == kControllerId) return controller_.answer(request);
    ExtAck ack;
    const Result<void> served = serve(request, ack);
    std::vector<Bytes> answers;
    answers.push_back(build_ack(request, served ? 0 : served.error().number(), ack));
    return answers;
  }

  /// The datagrams recorded after the request at `index`.
  std::vector<Bytes> recorded_answer(std::size_t index) const {
    std::vector<Bytes> answers;
    for (++index; index < records_.size() && records_[index].label == "reply"; ++index) {
      answers.push_back(records_[index].bytes);
    }
    return answers;
  }

  static std::string without_port(const MessageView& view) {
    Bytes bytes(view.whole.begin(), view.whole.end());
    for (std::size_t i = 12; i < 16; ++i) bytes[i] = std::byte{0};
    return test::to_hex(bytes);
  }

  /// One message of our policy dump that the kernel's has not: the attribute tag of DONE.
  static bool is_tag_policy(const MessageView& view) {
    ExtAck ack;
    if (view.type != kControllerId || view.command != nlctrl::GetpolicyReply::kCommand) return false;
    const auto reply = nlctrl::GetpolicyReply::parse(view.attributes, Unknown::kSkip, ack);
    return reply->policy &&
           reply->policy->attr_id == static_cast<std::uint16_t>(kernel::DoneAttribute::kTag);
  }

  nlctrl::GetfamilyReply recorded_;
  Controller controller_{{}};
};

INSTANTIATE_TEST_SUITE_P(Kernels, KernelAnswers,
                         testing::Values("linux-6.12.txt", "linux-7.3.4.txt"), kernel_name);

TEST_P(KernelAnswers, OursAreTheSameButForTheExceptionsNamedHere) {
  int requests = 0;
  int tag_policies = 0;
  for (std::size_t i = 0; i < records_.size(); ++i) {
    if (records_[i].label != "request") continue;
    ++requests;
    const std::string& topic = records_[i].topic;
    if (topic == kTagsAccepted) continue;
    const std::vector<Bytes> expected = recorded_answer(i);
    const std::vector<Bytes> ours = answer(records_[i].bytes);
    ASSERT_EQ(ours.size(), expected.size()) << topic;
    for (std::size_t d = 0; d < ours.size(); ++d) {
      std::string our_datagram;
      std::string kernel_datagram;
      for (const MessageView& view : test::messages_in(ours[d])) {
        if (is_tag_policy(view)) {
          ++tag_policies;
          continue;
        }
        our_datagram += without_port(view) + "\n";
      }
      for (const MessageView& view : test::messages_in(expected[d])) {
        kernel_datagram += without_port(view) + "\n";
      }
      EXPECT_EQ(our_datagram, kernel_datagram) << topic;
    }
  }
  EXPECT_EQ(requests, 12);
  EXPECT_EQ(tag_policies, 2);   // one in each of the two policy dumps
}

TEST_P(KernelAnswers, ATagIsTakenWhereTheKernelDoesNotKnowIt) {
  for (std::size_t i = 0; i < records_.size(); ++i) {
    if (records_[i].label != "request" || records_[i].topic != kTagsAccepted) continue;
    const Ack recorded = parse_ack(test::only_message(recorded_answer(i).at(0))).value();
    EXPECT_EQ(recorded.error, EINVAL);
    EXPECT_EQ(recorded.ext.message, "Unknown attribute type");
    const Ack ours = parse_ack(test::only_message(answer(records_[i].bytes).at(0))).value();
    EXPECT_EQ(ours.error, EBADF);   // on to the next question: there is no fd 999
    return;
  }
  FAIL() << "not recorded";
}

}  // namespace
}  // namespace handshake::protocol
