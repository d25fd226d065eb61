// SPDX-License-Identifier: Apache-2.0
// R7.5: a dummy agent under a second handler class, over real sockets, beside class tlshd.
#include "dummy/dummy_agent.h"

#include "dummy/messages.h"
#include "transport/packet_stream.h"
#include "transport/seqpacket.h"
#include "wire_fixture.h"

namespace handshake::testing {
namespace {

using protocol::kConsumerId;

/// An agent's connection as the daemon has it, on a loop of its own.
class DummyClass : public WireTest {
 protected:
  void SetUp() override {
    auto ends = transport::seqpacket_pair();
    ASSERT_TRUE(ends);
    loop_ = EventLoop::create().value();
    stream_ = transport::PacketStream::open(
                  *loop_, std::move(ends->first),
                  {.discard = [this](UniqueFd fd) { reaper_.close(std::move(fd)); }},
                  {[this](protocol::Packet packet) {
                     EXPECT_TRUE(endpoint_->receive(std::move(packet)));
                   },
                   [](const Error&) {}})
                  .value();
    endpoint_ = std::make_unique<service::AgentEndpoint>(
        service(), reaper_,
        AgentInfo{.pid = 3, .uid = 0,
                  .netns_cookie = *service::netns_cookie_of(stream_->fd())},
        [this](Bytes bytes, std::vector<UniqueFd> fds) {
          // From whichever thread submits: the stream belongs to the loop's.
          auto carried = std::make_shared<std::pair<Bytes, std::vector<UniqueFd>>>(
              std::move(bytes), std::move(fds));
          loop_->post([this, carried] {
            if (stream_ == nullptr) return;  // TearDown() came first
            stream_->send(std::move(carried->first), std::move(carried->second));
          });
        });
    loop_thread_ = std::thread([this] { EXPECT_TRUE(loop_->run()); });
    agent_thread_ = std::thread([this, socket = std::move(ends->second)]() mutable {
      dummy::DummyAgent agent(std::move(socket));
      const auto ended = agent.run();
      EXPECT_TRUE(ended) << (ended ? "" : ended.error().detail);
    });
    // Subscribed, it counts as a listener: wait for that.
    const TimePoint deadline = soon();
    int refused = ESRCH;
    while (refused == ESRCH && Clock::now() < deadline) {
      refused = submit_errno(socket(), [](Submission& s) { s.handler_class = kDummyClass; });
    }
    EXPECT_EQ(refused, 0);
  }

  void TearDown() override {
    loop_->post([this] {
      endpoint_.reset();
      stream_.reset();
      loop_->stop();
    });
    loop_thread_.join();
    agent_thread_.join();
    loop_.reset();
    WireTest::TearDown();
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<transport::PacketStream> stream_;
  std::unique_ptr<service::AgentEndpoint> endpoint_;
  std::thread loop_thread_;
  std::thread agent_thread_;
};

TEST_F(DummyClass, ItsRequestsAreCompletedWithoutTls) {
  WiredConsumer side = wired_consumer();
  for (std::uint64_t id = 1; id <= 20; ++id) {
    auto submit = submit_of(id);
    submit.handler_class = kDummyClass;
    EXPECT_EQ(ask(side, kConsumerId, submit, with(socket())).error, 0);
    const auto event = side.next().as<protocol::consumer::CompleteEvent>();
    EXPECT_EQ(event.id, id);
    EXPECT_EQ(event.status, 0u);
    EXPECT_EQ(event.session_mode, protocol::SessionMode::kNone);
    EXPECT_EQ(event.tag, (std::vector<std::string>{"dummy"}));
  }
}

TEST_F(DummyClass, MayRefuse) {
  WiredConsumer side = wired_consumer();
  auto submit = submit_of(1);
  submit.handler_class = kDummyClass;
  submit.peername = "refuse.test";
  EXPECT_EQ(ask(side, kConsumerId, submit, with(socket())).error, 0);
  const auto event = side.next().as<protocol::consumer::CompleteEvent>();
  EXPECT_EQ(event.status, static_cast<std::uint32_t>(EACCES));
  EXPECT_TRUE(event.tag.empty());
}

TEST_F(DummyClass, LeavesTheFirstClassAlone) {
  const TestAgent tlshd = listen(kTlshd);
  const Submitted first_class = submit_one();
  const Submitted second_class =
      submit_one(-1, [](Submission& s) { s.handler_class = kDummyClass; });
  const TimePoint deadline = soon();
  while (second_class.seen->releases == 0 && Clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(second_class.seen->completions, 1);
  EXPECT_EQ(first_class.seen->completions, 0) << "waits for an agent of its own class";
  EXPECT_EQ(take(tlshd).id, first_class.id);
  EXPECT_EQ(accept_errno(tlshd), EAGAIN);
}

TEST_F(DummyClass, WithoutItsAgentThereIsNoListener) {
  EXPECT_EQ(submit_errno(socket(), [](Submission& s) { s.handler_class = 101; }), ESRCH);
  EXPECT_EQ(submit_errno(socket()), ESRCH) << "nor does it listen for class tlshd";
}

}  // namespace
}  // namespace handshake::testing
