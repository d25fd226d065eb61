// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "support/fake_kernel.h"
#include "transport/netlink_family.h"
#include "transport/netlink_socket.h"
#include "transport/netns.h"
#include "transport/seqpacket.h"

namespace handshake::transport {
namespace {

using protocol::kernel::AcceptRequest;
using protocol::kernel::DoneRequest;
using test::FakeKernel;
using Answer = NetlinkSocket::Answer;

AcceptRequest accept_request() {
  AcceptRequest request;
  request.handler_class = protocol::HandlerClass::kTlshd;
  return request;
}

// --- The kernel that runs this test ----------------------------------------------------------------

TEST(NetlinkSocket, AsksARealKernelsController) {
  auto socket = NetlinkSocket::open();
  ASSERT_TRUE(socket) << socket.error().detail;
  EXPECT_NE(::fcntl(socket->fd(), F_GETFD) & FD_CLOEXEC, 0);
  const auto family = resolve_family(*socket, "nlctrl");
  ASSERT_TRUE(family) << family.error().detail;
  EXPECT_EQ(family->id, GENL_ID_CTRL);
  EXPECT_EQ(family->version, 2);
  EXPECT_TRUE(family->groups.contains("notify"));
}

TEST(NetlinkSocket, SaysWhichFamilyARealKernelDoesNotHave) {
  auto socket = NetlinkSocket::open().value();
  const auto family = resolve_family(socket, "no-such-one");
  ASSERT_FALSE(family);
  EXPECT_EQ(family.error().kind, ErrorKind::kNotFound);
}

TEST(NetlinkSocket, ReadsARealKernelsPolicyDump) {
  auto socket = NetlinkSocket::open().value();
  const auto capabilities = read_capabilities(socket, GENL_ID_CTRL);
  ASSERT_TRUE(capabilities) << capabilities.error().detail;
  EXPECT_FALSE(capabilities->session_tags);
}

TEST(NetlinkSocket, JoinsAGroupOfARealKernelOrSaysThatThereIsNone) {
  auto socket = NetlinkSocket::open().value();
  const auto family = resolve_family(socket, "nlctrl").value();
  EXPECT_TRUE(socket.join(family.groups.at("notify")));
  EXPECT_FALSE(socket.join(0x7fffffff));
}

TEST(NetlinkSocket, IgnoresWhatIsNotFromTheKernel) {
  auto socket = NetlinkSocket::open().value();
  sockaddr_nl address{};
  socklen_t length = sizeof address;
  ASSERT_EQ(::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  const UniqueFd stranger(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
  protocol::MessageHeader header;
  header.type = 34;
  protocol::kernel::ReadyEvent event;
  const auto bytes = protocol::build(header, event).value();
  if (::sendto(stranger.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<sockaddr*>(&address),
               sizeof address) < 0) {
    GTEST_SKIP() << "this machine lets nobody send to another netlink socket: " << errno_name(errno);
  }
  const auto received = socket.receive();
  ASSERT_TRUE(received && *received);
  EXPECT_TRUE((*received)->bytes.empty());
  EXPECT_FALSE((*received)->overrun);
}

TEST(NetlinkSocket, LostNotificationsAreReportedOnce) {
  // A socket with room for nothing, and more answers than that.
  auto socket = NetlinkSocket::open().value();
  const int smallest = 1;
  ASSERT_EQ(::setsockopt(socket.fd(), SOL_SOCKET, SO_RCVBUF, &smallest, sizeof smallest), 0);
  const auto family = resolve_family(socket, "nlctrl").value();
  protocol::nlctrl::GetfamilyRequest request;
  request.family_name = "no-such-one";
  protocol::MessageHeader header;
  header.type = family.id;
  header.version = family.version;
  header.flags = NLM_F_REQUEST;
  const auto bytes = protocol::build(header, request).value();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(::send(socket.fd(), bytes.data(), bytes.size(), MSG_DONTWAIT), static_cast<ssize_t>(bytes.size()));
  }
  int overruns = 0;
  while (true) {
    const auto received = socket.receive();
    ASSERT_TRUE(received) << received.error().detail;
    if (!*received) break;
    if ((*received)->overrun) ++overruns;
  }
  EXPECT_EQ(overruns, 1);
}

// --- A fake one --------------------------------------------------------------------------------------

TEST(NetlinkSocket, TheKernelsRefusalIsAnErrorWithItsWords) {
  FakeKernel kernel;
  auto socket = kernel.connect();
  const auto family = resolve_family(socket, "handshake").value();
  DoneRequest done;
  done.status = 0;
  done.sockfd = 1;
  done.tag = {"x"};
  const auto refused = socket.request(family.id, family.version, done, Answer::kAck);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalidArgument);
  EXPECT_EQ(refused.error().detail, "done: Unknown attribute type");
}

TEST(NetlinkSocket, AnAnswerToAnEarlierRequestIsPassedOver) {
  auto pair = seqpacket_pair().value();
  NetlinkSocket socket(std::move(pair.first));
  std::thread kernel([end = std::move(pair.second)] {
    Result<std::optional<protocol::Packet>> packet;
    while (!(packet = receive_packet(end.get())) || !*packet) std::this_thread::yield();
    protocol::MessageReader reader((*packet)->bytes);
    protocol::MessageView view = *reader.next().value();
    const std::uint32_t sequence = view.sequence;
    view.sequence = sequence - 1;
    EXPECT_TRUE(send_packet(end.get(), protocol::build_ack(view, EPERM, {}), {}));
    view.sequence = sequence;
    EXPECT_TRUE(send_packet(end.get(), protocol::build_ack(view, EAGAIN, {}), {}));
  });
  const auto answer = socket.request(34, 1, accept_request(), Answer::kReply);
  kernel.join();
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, ErrorKind::kTryAgain);
}

TEST(NetlinkSocket, AnAnswerThatIsNoMessageIsAnError) {
  auto pair = seqpacket_pair().value();
  NetlinkSocket socket(std::move(pair.first));
  const std::vector<std::byte> rubbish(7, std::byte{0xff});
  ASSERT_TRUE(send_packet(pair.second.get(), rubbish, {}));
  EXPECT_EQ(socket.request(34, 1, accept_request(), Answer::kReply).error().kind, ErrorKind::kInvalidArgument);
}

TEST(NetlinkSocket, AnEndThatHasGoneIsAnError) {
  auto pair = seqpacket_pair().value();
  NetlinkSocket socket(std::move(pair.first));
  pair.second.reset();
  EXPECT_FALSE(socket.request(34, 1, accept_request(), Answer::kReply));
}

// --- Capabilities (R2.5) -----------------------------------------------------------------------------

Result<KernelCapabilities> capabilities_of_fake(FakeKernel::Contested contested) {
  FakeKernel kernel(contested);
  auto socket = kernel.connect();
  return read_capabilities(socket, resolve_family(socket, "handshake").value().id);
}

TEST(KernelCapabilities, AKernelWhoseDoneFourIsAStringHasSessionTags) {
  EXPECT_TRUE(capabilities_of_fake(FakeKernel::Contested::kSessionTags).value().session_tags);
}

TEST(KernelCapabilities, AKernelWhoseDoneFourIsANumberHasNone) {
  EXPECT_FALSE(capabilities_of_fake(FakeKernel::Contested::kKeyUpdate).value().session_tags);
}

TEST(KernelCapabilities, AKernelWithoutDoneFourHasNone) {
  EXPECT_FALSE(capabilities_of_fake(FakeKernel::Contested::kNothing).value().session_tags);
}

TEST(KernelCapabilities, AKernelWithoutTheFamilyIsNotFound) {
  FakeKernel kernel(FakeKernel::Contested::kNothing, false);
  auto socket = kernel.connect();
  EXPECT_EQ(resolve_family(socket, "handshake").error().kind, ErrorKind::kNotFound);
}

/// The parts of the first policy dump that a kernel was recorded giving.
std::vector<protocol::nlctrl::GetpolicyReply> recorded_dump(const std::string& file) {
  std::ifstream capture(std::string(HS_SOURCE_DIR) + "/tests/data/captures/" + file);
  EXPECT_TRUE(capture) << file;
  std::vector<protocol::nlctrl::GetpolicyReply> dump;
  bool inside = false;
  for (std::string line; std::getline(capture, line);) {
    if (line.starts_with("# ")) inside = line.starts_with("# GETPOLICY dump for the family");
    if (!inside || !line.starts_with("reply ")) continue;
    std::vector<std::byte> bytes;
    for (std::size_t at = 6; at + 1 < line.size(); at += 2) {
      bytes.push_back(static_cast<std::byte>(std::stoi(line.substr(at, 2), nullptr, 16)));
    }
    protocol::MessageReader reader(bytes);
    while (const auto view = reader.next().value()) {
      if (view->is_control()) continue;
      protocol::ExtAck ack;
      dump.push_back(
          protocol::nlctrl::GetpolicyReply::parse(view->attributes, protocol::Unknown::kRefuse, ack).value());
    }
  }
  return dump;
}

class RecordedKernel : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(KernelCapabilities, RecordedKernel,
                         testing::Values("linux-6.12.txt", "linux-7.3.4.txt"),
                         [](const auto& parameter) { return parameter.index == 0 ? "Linux612" : "Linux734"; });

TEST_P(RecordedKernel, HasNoSessionTags) {
  const auto dump = recorded_dump(GetParam());
  ASSERT_EQ(dump.size(), 6U);
  EXPECT_FALSE(capabilities_of(dump).session_tags);
}

TEST_P(RecordedKernel, WouldHaveThemIfItsDoneHadAString) {
  auto dump = recorded_dump(GetParam());
  const auto done = std::find_if(dump.begin(), dump.end(), [](const auto& part) {
    return part.op_policy && part.op_policy->op_id == DoneRequest::kCommand;
  });
  ASSERT_NE(done, dump.end());
  const auto done_policy = static_cast<std::uint16_t>(done->op_policy->value.do_.value());
  protocol::nlctrl::PolicyEntry four;
  four.attr_id = 4;
  four.value.type = static_cast<std::uint32_t>(protocol::AttributeType::kNulString);
  dump.emplace_back();
  four.policy_id = static_cast<std::uint16_t>(done_policy + 1);  // somebody else's
  dump.back().policy = four;
  EXPECT_FALSE(capabilities_of(dump).session_tags);
  four.policy_id = done_policy;
  dump.back().policy = four;
  EXPECT_TRUE(capabilities_of(dump).session_tags);
}

// --- Network namespaces --------------------------------------------------------------------------------

std::uint64_t netns_cookie(int socket) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  EXPECT_EQ(::getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length), 0);
  return cookie;
}

/// A process in a network namespace of its own, until it goes out of scope.
class OtherNetns {
 public:
  OtherNetns() {
    int ready[2];
    int stay[2];
    EXPECT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(stay, O_CLOEXEC), 0);
    child_ = ::fork();
    if (child_ == 0) {
      char byte = ::unshare(CLONE_NEWNET) == 0 ? 'y' : 'n';
      if (::write(ready[1], &byte, 1) != 1) ::_exit(1);
      ::close(stay[1]);
      ::_exit(::read(stay[0], &byte, 1) == 0 ? 0 : 1);
    }
    ::close(ready[1]);
    ::close(stay[0]);
    stay_.reset(stay[1]);
    char byte = 'n';
    made_ = ::read(ready[0], &byte, 1) == 1 && byte == 'y';
    ::close(ready[0]);
  }
  ~OtherNetns() {
    stay_.reset();
    ::waitpid(child_, nullptr, 0);
  }
  [[nodiscard]] bool made() const { return made_; }
  [[nodiscard]] std::string path() const { return "/proc/" + std::to_string(child_) + "/ns/net"; }

 private:
  pid_t child_ = 0;
  UniqueFd stay_;
  bool made_ = false;
};

TEST(Netns, ASocketIsMadeInAnotherNamespaceAndThisThreadStaysInItsOwn) {
  const OtherNetns other;
  if (!other.made()) GTEST_SKIP() << "making a network namespace needs CAP_SYS_ADMIN";
  const auto netns = open_netns(other.path());
  ASSERT_TRUE(netns) << netns.error().detail;
  const auto own = NetlinkSocket::open().value();
  Result<NetlinkSocket> there = fail(ErrorKind::kInputOutput, "not run");
  const auto entered = in_netns(*netns, [&] { there = NetlinkSocket::open(); });
  ASSERT_TRUE(entered) << entered.error().detail;
  ASSERT_TRUE(there) << there.error().detail;
  EXPECT_NE(netns_cookie(there->fd()), netns_cookie(own.fd()));
  EXPECT_EQ(netns_cookie(NetlinkSocket::open().value().fd()), netns_cookie(own.fd()));
}

TEST(Netns, TwoOfThemAreToldApart) {
  const OtherNetns other;
  if (!other.made()) GTEST_SKIP() << "making a network namespace needs CAP_SYS_ADMIN";
  const auto own = open_netns("/proc/self/ns/net").value();
  EXPECT_TRUE(own.same_as(open_netns("/proc/self/ns/net").value()));
  EXPECT_FALSE(own.same_as(open_netns(other.path()).value()));
}

TEST(Netns, WhatIsNotThereIsNotFound) {
  EXPECT_EQ(open_netns("/proc/self/ns/absent").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(open_netns("no-namespace-of-this-name").error().kind, ErrorKind::kNotFound);
}

TEST(Netns, WhatIsNoNetworkNamespaceIsRefused) {
  EXPECT_EQ(open_netns("/proc/self/ns/mnt").error().kind, ErrorKind::kInvalidArgument);
  EXPECT_EQ(open_netns("/dev/null").error().kind, ErrorKind::kInvalidArgument);
}

}  // namespace
}  // namespace handshake::transport
