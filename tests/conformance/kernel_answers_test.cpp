// SPDX-License-Identifier: Apache-2.0
// What real kernels were asked and said (tests/data/captures), asked of our service (R2.1).
//
// Where our answers may differ (DESIGN.md, "Questions settled"), each applied by name below:
//   kPortNumbers        whose port it is: masked on both sides
//   kFamilyNumbers      the family's and its groups' numbers: ours are put into what was recorded
//   kMaxTags            ACCEPT's reply has one more attribute at its end
//   kDonesPolicy        has the attribute tag: one more message in a policy dump, and a DONE that
//                       carries one is looked at further
//   kAckOptions         the stock agent's socket asked for no extended or capped acks; over AF_UNIX
//                       there is no such option and both are always on
// Sequence numbers are the request's own and not masked. Classes known are the kernel's here.
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "wire_fixture.h"

namespace handshake::testing {
namespace {

namespace kernel = protocol::kernel;
namespace nlctrl = protocol::nlctrl;
using protocol::Unknown;
using protocol::test::messages_in;
using protocol::test::to_hex;

struct Line {
  std::string topic;  ///< the comment above
  std::string label;
  Bytes bytes;
};

class KernelAnswers : public WireTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    std::ifstream file(std::string(HS_SOURCE_DIR) + "/tests/data/captures/" + GetParam());
    ASSERT_TRUE(file);
    std::string topic;
    for (std::string text; std::getline(file, text);) {
      if (text.starts_with("# family id ")) {
        recorded_family_ = static_cast<std::uint16_t>(std::stoi(text.substr(12)));
        continue;
      }
      if (text.starts_with("# ")) topic = text.substr(2);
      if (text.starts_with("## ")) topic = text.substr(3);
      if (text.empty() || text[0] == '#') continue;
      std::istringstream words(text);
      Line line{topic, {}, {}};
      std::string hex;
      words >> line.label >> hex;
      line.bytes = protocol::test::from_hex(hex);
      lines_.push_back(std::move(line));
    }
    ASSERT_NE(recorded_family_, 0);
  }

  static protocol::MessageHeader header_of(const MessageView& view) {
    return {view.type, view.flags, view.sequence, view.port, view.command, view.version};
  }
  template <class T>
  static void store(Bytes& bytes, std::size_t at, T value) {
    ASSERT_LE(at + sizeof value, bytes.size());
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }

  /// kFamilyNumbers: a recorded message with our numbers in it.
  Bytes with_our_numbers(const MessageView& view) const {
    ExtAck ignored;
    if (view.type == protocol::kControllerId && view.command == 1 && view.attributes.size() > 20) {
      auto reply = nlctrl::GetfamilyReply::parse(view.attributes, Unknown::kSkip, ignored);
      if (reply && reply->family_id == recorded_family_) {
        reply->family_id = protocol::kHandshakeId;
        for (std::uint32_t i = 0; i < reply->mcast_groups.size(); ++i) {
          reply->mcast_groups[i].id = protocol::kHandshakeGroups + i;
        }
        return protocol::build(header_of(view), *reply).value();
      }
    }
    Bytes bytes(view.whole.begin(), view.whole.end());
    if (view.type == recorded_family_) store(bytes, 4, protocol::kHandshakeId);
    // The header that an ack quotes.
    if (view.type == NLMSG_ERROR) {
      std::uint16_t quoted = 0;
      std::memcpy(&quoted, bytes.data() + 24, sizeof quoted);
      if (quoted == recorded_family_) store(bytes, 24, protocol::kHandshakeId);
    }
    // GETPOLICY and its replies begin with the family's number.
    if (view.type == protocol::kControllerId && view.command == 10) {
      store(bytes, 24, protocol::kHandshakeId);
    }
    return bytes;
  }

  /// kPortNumbers
  static std::string without_port(Bytes bytes) {
    for (std::size_t i = 12; i < 16; ++i) bytes[i] = std::byte{0};
    return to_hex(bytes);
  }
  static std::string without_port(const MessageView& view) {
    return without_port(Bytes(view.whole.begin(), view.whole.end()));
  }

  /// kDonesPolicy
  static bool is_tag_policy(const MessageView& view) {
    if (view.type != protocol::kControllerId || view.command != 10) return false;
    ExtAck ignored;
    const auto reply = nlctrl::GetpolicyReply::parse(view.attributes, Unknown::kSkip, ignored);
    return reply && reply->policy &&
           reply->policy->attr_id == static_cast<std::uint16_t>(kernel::DoneAttribute::kTag);
  }

  std::vector<Outbox::Datagram> ask_raw(WiredAgent& agent, const Bytes& request) {
    EXPECT_TRUE(agent.endpoint->receive(packet(with_our_numbers(messages_in(request).at(0)))));
    std::vector<Outbox::Datagram> answers;
    while (!agent.silent()) answers.push_back(agent.next());
    return answers;
  }

  std::uint16_t recorded_family_ = 0;
  std::vector<Line> lines_;
};

INSTANTIATE_TEST_SUITE_P(Kernels, KernelAnswers,
                         ::testing::Values("linux-6.12.txt", "linux-7.3.4.txt"),
                         [](const auto& file) {
                           return std::string(file.index == 0 ? "Linux612" : "Linux734");
                         });

TEST_P(KernelAnswers, RequestsByHandAreAnsweredAsTheKernelDid) {
  WiredAgent agent = wired_agent();
  int requests = 0;
  int tag_policies = 0;
  for (std::size_t i = 0; i < lines_.size(); ++i) {
    if (lines_[i].label != "request") continue;
    ++requests;
    std::string recorded;
    for (std::size_t r = i + 1; r < lines_.size() && lines_[r].label == "reply"; ++r) {
      for (const MessageView& view : messages_in(lines_[r].bytes)) {
        recorded += without_port(with_our_numbers(view)) + "\n";
      }
    }
    std::string ours;
    for (const Outbox::Datagram& datagram : ask_raw(agent, lines_[i].bytes)) {
      for (const MessageView& view : messages_in(datagram.bytes)) {
        if (is_tag_policy(view)) {
          ++tag_policies;
          continue;
        }
        ours += without_port(view) + "\n";
      }
    }
    if (lines_[i].topic == "DONE with a string in attribute 4") {  // kDonesPolicy
      EXPECT_NE(ours, recorded);
      EXPECT_EQ(protocol::parse_ack(messages_in(protocol::test::from_hex(
                                        ours.substr(0, ours.size() - 1))).at(0))->error,
                EBADF);
      continue;
    }
    EXPECT_EQ(ours, recorded) << lines_[i].topic;
  }
  EXPECT_EQ(requests, 12);
  EXPECT_EQ(tag_policies, 2) << "one in each of the two dumps";
}

TEST_P(KernelAnswers, TheStockAgentsProbesAreAnsweredAsTheKernelDid) {
  WiredAgent agent = wired_agent();
  int probes = 0;
  for (std::size_t i = 0; i + 1 < lines_.size(); ++i) {
    if (lines_[i].label != "DONE" || !lines_[i + 1].label.starts_with("ERROR")) continue;
    ++probes;
    const auto recorded = protocol::parse_ack(messages_in(lines_[i + 1].bytes).at(0));
    ASSERT_TRUE(recorded);
    const auto answers = ask_raw(agent, lines_[i].bytes);
    ASSERT_EQ(answers.size(), 1u);
    const protocol::Ack ours = answers[0].ack();
    EXPECT_EQ(ours.sequence, recorded->sequence);
    // kDonesPolicy: the first probe asks whether there are tags. kAckOptions: only the number is
    // compared.
    const bool asks_for_tags = recorded->error == EINVAL;
    EXPECT_EQ(ours.error, asks_for_tags ? EBADF : recorded->error);
  }
  EXPECT_EQ(probes, 4);
}

TEST_P(KernelAnswers, TheRecordedHandshakesRunAgainToTheByte) {
  // A request is submitted for every recorded ACCEPT and is as the recorded reply says; the
  // recorded ACCEPT gets that reply, and the recorded DONE finishes it.
  WiredAgent agent = listening_agent();
  std::map<std::uint32_t, const Line*> accepts;  // by sequence number
  std::map<std::int32_t, std::vector<std::pair<std::int32_t, Submitted>>> accepted;  // by sockfd
  int replies = 0;
  int dones = 0;
  for (const Line& line : lines_) {
    const MessageView view = messages_in(line.bytes).at(0);
    if (line.label == "ACCEPT") accepts[view.sequence] = &line;
    if (line.label == "ACCEPT-reply") {
      ++replies;
      ExtAck ignored;
      const auto recorded =
          kernel::AcceptReply::parse(view.attributes, Unknown::kRefuse, ignored).value();
      const Submitted one = submit_one(-1, [&](Submission& s) {
        s.message_type = *recorded.message_type;
        s.auth_mode = *recorded.auth_mode;
        s.peername = recorded.peername;
        s.keyring = recorded.keyring;
        s.peer_identities = recorded.peer_identity;
        s.certificates = recorded.certificate;
        if (recorded.timeout) s.timeout = milliseconds(*recorded.timeout);
      });
      const auto ready = agent.next();
      EXPECT_EQ(ready.view().command, kernel::ReadyEvent::kCommand);
      const Line& accept = *accepts.at(view.sequence);
      auto answers = ask_raw(agent, accept.bytes);
      ASSERT_EQ(answers.size(), 1u);
      ASSERT_EQ(answers[0].fds.size(), 1u);
      const std::int32_t token = *answers[0].as<kernel::AcceptReply>().sockfd;
      kernel::AcceptReply expected = recorded;
      expected.sockfd = token;        // the fd rides beside the message
      expected.max_tags = 64;         // kMaxTags
      const Bytes expected_bytes = protocol::build(header_of(view), expected).value();
      EXPECT_EQ(without_port(answers[0].bytes),
                without_port(with_our_numbers(messages_in(expected_bytes).at(0))));
      accepted[*recorded.sockfd].emplace_back(token, one);
      EXPECT_EQ(ask_raw(agent, accept.bytes).at(0).ack().error, EAGAIN) << "and drains";
    }
    if (line.label == "READY") {
      const auto ours = protocol::build({.type = protocol::kHandshakeId},
                                        kernel::ReadyEvent{protocol::HandlerClass::kTlshd});
      EXPECT_EQ(to_hex(*ours), to_hex(with_our_numbers(view)));
    }
    if (line.label == "DONE") {
      ExtAck ignored;
      auto done = kernel::DoneRequest::parse(view.attributes, Unknown::kRefuse, ignored).value();
      const auto found = accepted.find(*done.sockfd);
      if (found == accepted.end() || found->second.empty()) continue;  // a probe
      ++dones;
      const auto [token, one] = found->second.front();
      found->second.erase(found->second.begin());
      done.sockfd = token;
      const Bytes patched = protocol::build(header_of(view), done).value();
      EXPECT_TRUE(ask_raw(agent, patched).empty()) << "no ack was asked for";
      EXPECT_EQ(one.seen->completions, 1);
      const Completion got = one.seen->last();
      EXPECT_EQ(got.status, -static_cast<int>(*done.status));
      EXPECT_EQ(got.remote_auth, done.remote_auth);
    }
  }
  EXPECT_GE(replies, 6);
  EXPECT_EQ(dones, replies);
}

}  // namespace
}  // namespace handshake::testing
