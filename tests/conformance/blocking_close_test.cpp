// SPDX-License-Identifier: Apache-2.0
// R1.15: a received fd whose close blocks delays nobody else's request. No clock decides here: the
// others are served while the close is shown to be blocked still.
#include "fuse_file.h"
#include "wire_fixture.h"

namespace handshake::testing {
namespace {

using protocol::kConsumerId;
using protocol::kWorkerId;

constexpr uid_t kHostile = 4242;

class BlockingClose : public WireTest {
 protected:
  /// Submits, serves and completes a request of somebody else's.
  void others_are_served(const TestAgent& agent) {
    WiredConsumer other = wired_consumer();
    for (std::uint64_t id = 1; id <= 10; ++id) {
      EXPECT_EQ(ask(other, kConsumerId, submit_of(id), with(socket())).error, 0);
      EXPECT_EQ(done_errno(agent, take(agent).token), 0);
      EXPECT_EQ(other.next().as<protocol::consumer::CompleteEvent>().status, 0u);
    }
  }
  /// Every close but the blocked one has come to its end.
  void other_closes_end(std::uint64_t closed_before) {
    const TimePoint deadline = soon();
    while (reaper_.counts().closed < closed_before + 10 && Clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_GE(reaper_.counts().closed, closed_before + 10);
  }
};

/// A connection on which close(client) blocks: the peer does not read, and the closer lingers.
TcpPair lingering_pair() {
  TcpPair pair = tcp_pair("127.0.0.1", 4096);
  const linger forever{1, 3600};
  must(::setsockopt(pair.client.get(), SOL_SOCKET, SO_LINGER, &forever, sizeof forever),
       "SO_LINGER");
  const std::array<char, 65536> bytes{};
  while (::send(pair.client.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
  }
  return pair;
}

TEST_F(BlockingClose, OfALingeringSocketWithAFullQueueDelaysNobody) {
  const TestAgent agent = listen();
  WiredConsumer hostile = wired_consumer({}, {.pid = 1, .uid = kHostile});
  TcpPair pair = lingering_pair();
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(pair.client));  // the message's descriptor is the consumer's last
  EXPECT_EQ(ask(hostile, kConsumerId, submit_of(1), std::move(fds)).error, 0);
  {
    Taken taken = take(agent);
    taken.socket.reset();  // not the last one: the service has its copy
    EXPECT_EQ(done_errno(agent, taken.token, EIO), 0);
  }
  EXPECT_EQ(hostile.next().as<protocol::consumer::CompleteEvent>().status,
            static_cast<std::uint32_t>(EIO))
      << "its own completion does not wait for the close either";
  const std::uint64_t closed = reaper_.counts().closed;
  others_are_served(agent);
  other_closes_end(closed);
  EXPECT_EQ(reaper_.outstanding(kHostile), 1u) << "still inside close()";
  EXPECT_EQ(reaper_.counts().closing, 1u);
  // The peer resets the connection: that ends the close.
  const linger abortive{1, 0};
  must(::setsockopt(pair.server.get(), SOL_SOCKET, SO_LINGER, &abortive, sizeof abortive),
       "SO_LINGER");
  pair.server.reset();
  EXPECT_TRUE(reaper_.wait_idle(soon()));
}

TEST_F(BlockingClose, OfALingeringSocketThatIsCancelledDelaysNobody) {
  const TestAgent agent = listen();
  WiredConsumer hostile = wired_consumer({}, {.pid = 1, .uid = kHostile});
  TcpPair pair = lingering_pair();
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(pair.client));
  EXPECT_EQ(ask(hostile, kConsumerId, submit_of(1), std::move(fds)).error, 0);
  hostile.endpoint.reset();
  const std::uint64_t closed = reaper_.counts().closed;
  others_are_served(agent);
  other_closes_end(closed);
  EXPECT_EQ(reaper_.outstanding(kHostile), 1u);
  pair.server.reset();
  EXPECT_TRUE(reaper_.wait_idle(soon()));
}

TEST_F(BlockingClose, OfALingeringSocketWhoseSubmitFailsDelaysNobody) {
  const TestAgent agent = listen();
  WiredConsumer hostile = wired_consumer(
      [](const Submission&, const SocketFacts&) -> Result<void> {
        return fail(ErrorKind::kNotPermitted, "no");
      },
      {.pid = 1, .uid = kHostile});
  TcpPair pair = lingering_pair();
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(pair.client));
  EXPECT_EQ(ask(hostile, kConsumerId, submit_of(1), std::move(fds)).error, EPERM);
  const std::uint64_t closed = reaper_.counts().closed;
  others_are_served(agent);
  other_closes_end(closed);
  EXPECT_EQ(reaper_.outstanding(kHostile), 1u);
  pair.server.reset();
  EXPECT_TRUE(reaper_.wait_idle(soon()));
}

TEST_F(BlockingClose, OfAFuseFileDelaysNobody) {
  const std::unique_ptr<FuseFile> fuse = FuseFile::mount();
  if (fuse == nullptr) GTEST_SKIP() << "mounting FUSE needs /dev/fuse and CAP_SYS_ADMIN";
  const TestAgent agent = listen();
  WiredConsumer hostile = wired_consumer({}, {.pid = 1, .uid = kHostile});
  std::vector<UniqueFd> fds;
  fds.push_back(fuse->open());
  EXPECT_EQ(ask(hostile, kConsumerId, submit_of(1), std::move(fds)).error, EINVAL);
  ASSERT_TRUE(fuse->wait_for_close());
  const std::uint64_t closed = reaper_.counts().closed;
  others_are_served(agent);
  other_closes_end(closed);
  EXPECT_TRUE(fuse->is_blocking());
  EXPECT_EQ(reaper_.outstanding(kHostile), 1u);
  fuse->let_go();
  EXPECT_TRUE(reaper_.wait_idle(soon()));
}

TEST_F(BlockingClose, OfAnAgentsSuperfluousFuseFileDelaysNobody) {
  const std::unique_ptr<FuseFile> fuse = FuseFile::mount();
  if (fuse == nullptr) GTEST_SKIP() << "mounting FUSE needs /dev/fuse and CAP_SYS_ADMIN";
  const TestAgent agent = listen();
  WiredAgent hostile = wired_agent();
  std::vector<UniqueFd> fds;
  fds.push_back(fuse->open());
  EXPECT_EQ(ask(hostile, kWorkerId, done_of(1), std::move(fds)).error, EBADF);
  ASSERT_TRUE(fuse->wait_for_close());
  others_are_served(agent);
  EXPECT_TRUE(fuse->is_blocking());
  fuse->let_go();
  EXPECT_TRUE(reaper_.wait_idle(soon()));
}

TEST_F(BlockingClose, SomebodyWhoseSocketsDoNotCloseIsRefusedAlone) {
  options_.limits.closing_per_uid = 1;
  const TestAgent agent = listen();
  WiredConsumer hostile = wired_consumer({}, {.pid = 1, .uid = kHostile});
  TcpPair pair = lingering_pair();
  std::vector<UniqueFd> fds;
  fds.push_back(std::move(pair.client));
  EXPECT_EQ(ask(hostile, kConsumerId, submit_of(1), std::move(fds)).error, 0);
  protocol::consumer::CancelRequest cancel;
  cancel.id = 1;
  tell(hostile, kConsumerId, cancel, 0);
  EXPECT_EQ(hostile.next().as<protocol::consumer::CancelReply>().cancelled, 1u);
  EXPECT_EQ(ask(hostile, kConsumerId, submit_of(2), with(socket())).error, EAGAIN);
  EXPECT_EQ(service().counters().limited_closing, 1u);
  WiredConsumer other = wired_consumer({}, {.pid = 1, .uid = kHostile + 1});
  EXPECT_EQ(ask(other, kConsumerId, submit_of(2), with(socket())).error, 0);
  pair.server.reset();
  EXPECT_TRUE(reaper_.wait_idle(soon()));
}

}  // namespace
}  // namespace handshake::testing
