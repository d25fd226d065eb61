// SPDX-License-Identifier: Apache-2.0
// R1.1, R1.2, R1.13: what submitting a socket does.
#include "service_fixture.h"

namespace handshake::testing {
namespace {

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

class Submit : public ServiceTest {};

TEST_F(Submit, AfterSuccessExactlyOneCompletionFollows) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  EXPECT_EQ(one.seen->completions, 0);
  const Taken taken = take(agent);
  EXPECT_EQ(taken.id, one.id);
  EXPECT_EQ(done_errno(agent, taken.token), 0);
  EXPECT_EQ(one.seen->completions, 1);
  EXPECT_EQ(one.seen->status(), 0);
  // Everything else that could end it is too late.
  EXPECT_EQ(done_errno(agent, taken.token), EBUSY);
  EXPECT_FALSE(service().cancel(one.id));
  pass(std::chrono::hours(1));
  EXPECT_EQ(service().expire(now()), std::nullopt);
  service().drain();
  EXPECT_EQ(one.seen->completions, 1);
}

TEST_F(Submit, WithoutASocketIsEinval) {
  const TestAgent agent = listen();
  EXPECT_EQ(submit_errno(socket(), [](Submission& s) { s.socket.reset(); }), EINVAL);
}

TEST_F(Submit, OfAnythingButTcpIsEinval) {
  const TestAgent agent = listen();
  const UniqueFd udp(must(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
  EXPECT_EQ(submit_errno(udp.get()), EINVAL);
  const UniqueFd local(must(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  EXPECT_EQ(submit_errno(local.get()), EINVAL);
  const UniqueFd file(must(::open("/dev/null", O_RDWR | O_CLOEXEC), "open"));
  EXPECT_EQ(submit_errno(file.get()), EINVAL);
  if (const UniqueFd mptcp{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP)}) {
    EXPECT_EQ(submit_errno(mptcp.get()), EINVAL);
  }
}

TEST_F(Submit, OfAnUnconnectedSocketIsEinval) {
  const TestAgent agent = listen();
  const UniqueFd fresh(must(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  EXPECT_EQ(submit_errno(fresh.get()), EINVAL);
  must(::listen(fresh.get(), 1), "listen");
  EXPECT_EQ(submit_errno(fresh.get()), EINVAL);
}

TEST_F(Submit, OfAResetConnectionIsEinval) {
  const TestAgent agent = listen();
  TcpPair pair = tcp_pair();
  const linger abortive{1, 0};
  must(::setsockopt(pair.client.get(), SOL_SOCKET, SO_LINGER, &abortive, sizeof abortive),
       "SO_LINGER");
  pair.client.reset();
  EXPECT_EQ(submit_errno(pair.server.get()), EINVAL);
}

TEST_F(Submit, WithBadArgumentsIsEinval) {
  const TestAgent agent = listen();
  const int fd = socket();
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.handler_class = 0; }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.message_type = {}; }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.message_type = protocol::MessageType{3}; }),
            EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.auth_mode = {}; }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.auth_mode = protocol::Auth{4}; }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.peername = ""; }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.peername = std::string(256, 'a'); }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.peername = std::string("a\0b", 3); }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.credential = ""; }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.credential = std::string(256, 'a'); }), EINVAL);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.timeout = milliseconds(-1); }), EINVAL);
  EXPECT_EQ(service().counters().refused_invalid, 11u);
  EXPECT_EQ(submit_errno(fd, [](Submission& s) { s.peername = std::string(255, 'a'); }), 0);
}

TEST_F(Submit, OfASocketWithAnUpperLayerProtocolIsEexist) {
  // A kernel with kTLS has the real thing; elsewhere no unprivileged one can be set, and what is
  // read from the socket is made up.
  const int fd = socket();
  if (::setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") != 0) {
    options_.read_socket = [](int socket) {
      auto facts = service::read_socket_facts(socket);
      facts->upper_layer = "tls";
      return facts;
    };
  }
  const TestAgent agent = listen();
  EXPECT_EQ(submit_errno(fd), EEXIST);
  EXPECT_EQ(service().counters().refused_upper_layer, 1u);
}

TEST_F(Submit, OfASocketThatHasALiveRequestIsEbusy) {
  const TestAgent agent = listen();
  const int fd = socket();
  const Submitted one = submit_one(fd);
  EXPECT_EQ(submit_errno(fd), EBUSY);
  const Taken taken = take(agent);
  EXPECT_EQ(submit_errno(fd), EBUSY);
  EXPECT_EQ(service().counters().refused_busy, 2u);
  EXPECT_EQ(done_errno(agent, taken.token), 0);
}

TEST_F(Submit, WithoutAListenerIsEsrch) {
  EXPECT_EQ(submit_errno(socket()), ESRCH);
  TestAgent agent = listen(kTlshd);
  EXPECT_EQ(submit_errno(socket(), [](Submission& s) { s.handler_class = 2; }), ESRCH);
  agent.connection.reset();
  EXPECT_EQ(submit_errno(socket()), ESRCH);
  EXPECT_EQ(service().counters().refused_no_agent, 3u);
}

TEST_F(Submit, WithoutAListenerIsFineForAClassThatIsKept) {
  service().keep_listening(kTlshd);
  const Submitted one = submit_one();
  const TestAgent agent = listen();
  EXPECT_EQ(*agent.readies, 1);
  EXPECT_EQ(take(agent).id, one.id);
  service().keep_listening(kTlshd, false);
  agent->retire();
  EXPECT_EQ(submit_errno(socket()), ESRCH);
}

TEST_F(Submit, WhenDrainingIsEopnotsupp) {
  const TestAgent agent = listen();
  service().drain();
  EXPECT_EQ(submit_errno(socket()), EOPNOTSUPP);
  EXPECT_EQ(service().counters().refused_draining, 1u);
}

TEST_F(Submit, ThatIsNotAllowedIsEperm) {
  const TestAgent agent = listen();
  const int fd = socket();
  std::uint16_t port = 0;
  const auto refuse = [&port](Submission& s) {
    s.credential = "nfs";
    s.authorize = [&port](const Submission& what, const SocketFacts& facts) -> Result<void> {
      EXPECT_EQ(what.credential, "nfs");
      port = facts.local_port;
      return fail(ErrorKind::kNotPermitted, "credential nfs: not yours");
    };
  };
  EXPECT_EQ(submit_errno(fd, refuse), EPERM);
  EXPECT_NE(port, 0);
  EXPECT_EQ(service().counters().refused_not_permitted, 1u);
  EXPECT_EQ(service().live(), 0u);
}

TEST_F(Submit, WithoutMemoryIsEnomem) {
  options_.read_socket = [](int) -> Result<SocketFacts> { throw std::bad_alloc(); };
  const TestAgent agent = listen();
  EXPECT_EQ(submit_errno(socket()), ENOMEM);
  EXPECT_EQ(service().counters().refused_memory, 1u);
}

TEST_F(Submit, TwoDescriptorsOfOneSocketAreOneSocket) {
  const TestAgent agent = listen();
  const int fd = socket();
  const Submitted one = submit_one(fd);
  const UniqueFd again = duplicate(fd);
  EXPECT_EQ(submit_errno(again.get()), EBUSY);
}

TEST_F(Submit, OfBothEndsOfAConnectionAreTwoSockets) {
  const TestAgent agent = listen();
  submit_one(socket());
  submit_one(last_pair().client.get());
  EXPECT_EQ(service().live(), 2u);
}

TEST_F(Submit, IsPossibleAgainAfterEveryKindOfEnd) {
  TestAgent agent = listen();
  const int fd = socket();

  Submitted one = submit_one(fd);
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  one = submit_one(fd);
  EXPECT_TRUE(service().cancel(one.id));
  one = submit_one(fd);
  take(agent);
  EXPECT_TRUE(service().cancel(one.id));
  one = submit_one(fd);
  pass(std::chrono::seconds(31));
  service().expire(now());
  EXPECT_EQ(one.seen->status(), -ETIMEDOUT);
  one = submit_one(fd);
  const TestAgent second = listen();
  take(agent);
  agent.connection.reset();
  EXPECT_EQ(one.seen->status(), -EIO);
  one = submit_one(fd);
  EXPECT_EQ(service().live(), 1u);
}

TEST_F(Submit, IsPossibleAgainFromInsideTheCompletion) {
  const TestAgent agent = listen();
  const int fd = socket();
  int result = -1;
  auto seen = new_seen();
  Submission first = submission(fd, seen);
  first.complete = [&](Completion) {
    ++seen->completions;
    result = submit_errno(fd);
  };
  ASSERT_TRUE(submit(std::move(first), seen));
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(result, 0);
}

TEST_F(Submit, RequestIdsAreNeverUsedAgain) {
  const TestAgent agent = listen();
  std::uint64_t last = 0;
  for (int i = 0; i < 10; ++i) {
    const Submitted one = submit_one();
    EXPECT_GT(one.id, last);
    last = one.id;
    EXPECT_TRUE(service().cancel(one.id));
  }
}

TEST_F(Submit, AFailedSubmitNeitherCompletesNorReleases) {
  const TestAgent agent = listen();
  const int fd = socket();
  const Submitted one = submit_one(fd);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(submit_errno(fd), EBUSY);
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(one.seen->releases, 1);
}

class Release : public ServiceTest {};

TEST_F(Release, RunsOnceAfterTheCompletion) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  const Taken taken = take(agent);
  EXPECT_EQ(one.seen->releases, 0);
  EXPECT_EQ(done_errno(agent, taken.token), 0);
  EXPECT_EQ(one.seen->releases, 1);
  EXPECT_FALSE(one.seen->released_first);
}

TEST_F(Release, RunsOnceAfterASuccessfulCancel) {
  const TestAgent agent = listen();
  const Submitted one = submit_one();
  EXPECT_TRUE(service().cancel(one.id));
  EXPECT_EQ(one.seen->releases, 1);
  EXPECT_EQ(one.seen->completions, 0);
}

TEST_F(Release, RunsOnceWhateverEndsTheRequest) {
  TestAgent agent = listen();
  const Submitted timed_out = submit_one(-1, [](Submission& s) { s.timeout = milliseconds(5); });
  const Submitted died = submit_one();
  pass(milliseconds(5));
  service().expire(now());
  EXPECT_EQ(timed_out.seen->releases, 1);
  EXPECT_EQ(take(agent).id, died.id);
  agent.connection.reset();
  EXPECT_EQ(died.seen->releases, 1);
  const TestAgent next = listen();
  const Submitted drained = submit_one();
  service().drain();
  EXPECT_EQ(drained.seen->releases, 1);
}

TEST_F(Release, RunsAlthoughTheCompletionThrows) {
  const TestAgent agent = listen();
  auto seen = new_seen();
  Submission one = submission(socket(), seen);
  one.complete = [](Completion) { throw std::bad_alloc(); };
  ASSERT_TRUE(submit(std::move(one), seen));
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(seen->releases, 1);
}

TEST_F(Release, MayBeAbsent) {
  const TestAgent agent = listen();
  auto seen = new_seen();
  Submission one = submission(socket(), seen);
  one.release = nullptr;
  ASSERT_TRUE(service().submit(std::move(one), now()));
  EXPECT_EQ(done_errno(agent, take(agent).token), 0);
  EXPECT_EQ(seen->completions, 1);
}

TEST_F(Release, TheServicesOwnEndEndsWhatIsLeft) {
  auto seen = new_seen();
  auto accepted_seen = new_seen();
  {
    Service mine(options_, Log(), reaper_);
    auto agent = mine.connect_agent({.own_worker = true}, [](std::uint32_t) {});
    ASSERT_TRUE(agent->subscribe({.handler_classes = {kTlshd}, .every_netns = true}));
    ASSERT_TRUE(mine.submit(submission(socket(), accepted_seen), now()));
    auto accepted = agent->accept(kTlshd);
    ASSERT_TRUE(accepted);
    ASSERT_TRUE(accepted->hand_over());
    ASSERT_TRUE(mine.submit(submission(socket(), seen), now()));
  }
  for (const auto& one : {seen, accepted_seen}) {
    EXPECT_EQ(one->completions, 1);
    EXPECT_EQ(one->releases, 1);
  }
  EXPECT_EQ(seen->status(), -ETIMEDOUT);
}

}  // namespace
}  // namespace handshake::testing
