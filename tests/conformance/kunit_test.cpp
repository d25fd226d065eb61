// SPDX-License-Identifier: Apache-2.0
// R7.4: what the kernel's own unit tests of net/handshake check, as behaviours of ours.
#include "service_fixture.h"

namespace handshake::testing {
namespace {

class KernelUnitTests : public ServiceTest {};

TEST_F(KernelUnitTests, AllocationWithBadProtocolDescriptionsIsRefused) {
  // The kernel's description of a protocol is part of our submission: its handler class and what
  // is called at the end.
  const TestAgent agent = listen();
  const int fd = socket();
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.handler_class = 0; }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.complete = nullptr; }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.handler_class = 0xffffffff; }), ESRCH);
  EXPECT_EQ(submit_errno(fd), 0);
}

TEST_F(KernelUnitTests, SubmitWithoutRequestIsRefused) {
  const TestAgent agent = listen();
  const auto result = service().submit(Submission{}, now());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().number(), EINVAL);
}

TEST_F(KernelUnitTests, SubmitWithoutSocketIsRefused) {
  const TestAgent agent = listen();
  EXPECT_EQ(submit_errno(socket(), [](Submission& s) { s.socket.reset(); }), EINVAL);
}

TEST_F(KernelUnitTests, SubmitWithoutFileIsRefused) {
  // A descriptor that has no socket behind it.
  const TestAgent agent = listen();
  const UniqueFd no_socket(must(::open("/dev/null", O_RDWR | O_CLOEXEC), "open"));
  EXPECT_EQ(submit_errno(no_socket.get()), EINVAL);
}

TEST_F(KernelUnitTests, LookupFindsTheOneSubmitted) {
  const TestAgent agent = listen();
  const int fd = socket();
  const Submitted one = submit_one(fd);
  const Submitted other = submit_one();
  const UniqueFd again = duplicate(fd);
  EXPECT_EQ(submit_errno(again.get()), EBUSY) << "found by its socket";
  EXPECT_TRUE(service().cancel(one.id)) << "found by its id";
  ASSERT_EQ(service().snapshot().size(), 1u);
  EXPECT_EQ(service().snapshot()[0].request_id, other.id);
}

TEST_F(KernelUnitTests, TooManyPendingAreRefused) {
  options_.limits.pending_per_netns = 4;
  const TestAgent agent = listen();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(submit_errno(socket()), 0);
  EXPECT_EQ(submit_errno(socket()), EAGAIN);
}

TEST_F(KernelUnitTests, ASecondSubmitIsRefused) {
  const TestAgent agent = listen();
  const int fd = socket();
  submit_one(fd);
  EXPECT_EQ(submit_errno(fd), EBUSY);
}

TEST_F(KernelUnitTests, CancelBeforeAcceptIsTrue) {
  const TestAgent agent = listen();
  EXPECT_TRUE(service().cancel(submit_one().id));
}

TEST_F(KernelUnitTests, CancelAfterAcceptIsTrue) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  take(agent);
  EXPECT_TRUE(service().cancel(one.id));
}

TEST_F(KernelUnitTests, CancelAfterDoneIsFalse) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_FALSE(service().cancel(one.id));
}

TEST_F(KernelUnitTests, TheDestructorRuns) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  EXPECT_TRUE(service().cancel(one.id));
  EXPECT_EQ(one.seen->releases, 1);
}

TEST_F(KernelUnitTests, ReferencesBalance) {
  // What the callbacks hold is let go when the request has ended, also in a relay that goes on.
  TestAgent agent = listen();
  auto held = std::make_shared<int>(0);
  const auto hold = [&held](Submission& s) {
    s.relay = protocol::RelayMode::kAllowed;
    s.release = [inner = std::move(s.release), mine = held] { inner(); };
  };
  const Submitted done = submit_one(-1, hold);
  const Submitted cancelled = submit_one(-1, hold);
  const Submitted relayed = submit_one(-1, hold);
  EXPECT_EQ(held.use_count(), 4);
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(held.use_count(), 3);
  EXPECT_TRUE(service().cancel(cancelled.id));
  EXPECT_EQ(held.use_count(), 2);
  DoneReport relay = report();
  relay.mode = protocol::SessionMode::kRelay;
  relay.plain_end = duplicate(last_pair().client.get());
  ASSERT_TRUE(agent->done(take(agent).token, std::move(relay)));
  EXPECT_EQ(held.use_count(), 1);
  agent.connection.reset();
}

}  // namespace
}  // namespace handshake::testing
