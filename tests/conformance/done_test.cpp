// SPDX-License-Identifier: Apache-2.0
// R1.6, R1.7, R4.2, R4.3: DONE, tokens, what the consumer is told.
#include <memory_resource>

#include "service_fixture.h"

namespace handshake::testing {
namespace {

using protocol::RelayMode;
using protocol::SessionMode;

class Done : public ServiceTest {
 protected:
  struct Running {
    Submitted submitted;
    Taken taken;
  };
  Running run(const TestAgent& agent, const std::function<void(Submission&)>& change =
                                          [](Submission&) {}) {
    Running running;
    running.submitted = submit_one(-1, change);
    running.taken = take(agent);
    return running;
  }
  static std::vector<std::string> numbered(int count) {
    std::vector<std::string> tags;
    for (int i = 0; i < count; ++i) tags.push_back("tag" + std::to_string(i));
    return tags;
  }
  int lines_with(const std::string& word) {
    const std::lock_guard lock(log_lines_.mutex);
    int count = 0;
    for (const std::string& line : log_lines_.lines) count += line.find(word) != line.npos;
    return count;
  }
};

TEST_F(Done, ReportsEverythingToTheConsumer) {
  const TestAgent agent = listen();
  const Running one = run(agent);
  DoneReport sent = report();
  sent.remote_auth = {9, 4294967295u, 9};
  sent.tags = {"staff", "admin", "staff"};
  sent.mode = SessionMode::kKtls;
  sent.cipher = "TLS_AES_128_GCM_SHA256";
  sent.group = "x25519";
  sent.peer_subject = "CN=peer";
  sent.certificate_algorithm = "ECDSA P-256";
  ASSERT_TRUE(agent->done(one.taken.token, std::move(sent)));
  const Completion got = one.submitted.seen->last();
  EXPECT_EQ(got.status, 0);
  EXPECT_EQ(got.remote_auth, (std::vector<std::uint32_t>{9, 4294967295u, 9}));
  EXPECT_EQ(std::vector<std::string>(got.tags.begin(), got.tags.end()),
            (std::vector<std::string>{"admin", "staff"}));
  EXPECT_EQ(got.mode, SessionMode::kKtls);
  EXPECT_EQ(got.cipher, "TLS_AES_128_GCM_SHA256");
  EXPECT_EQ(got.group, "x25519");
  EXPECT_EQ(got.peer_subject, "CN=peer");
  EXPECT_EQ(got.certificate_algorithm, "ECDSA P-256");
  EXPECT_EQ(got.request_id, one.submitted.id);
  EXPECT_FALSE(got.plain_end);
}

TEST_F(Done, ReportsAFailureWithItsReasonAndAlert) {
  const TestAgent agent = listen();
  const Running one = run(agent);
  DoneReport sent = report(EACCES);
  sent.reason = "certificate has expired";
  sent.alert = 45;
  sent.alert_sent = true;
  ASSERT_TRUE(agent->done(one.taken.token, std::move(sent)));
  const Completion got = one.submitted.seen->last();
  EXPECT_EQ(got.status, -EACCES);
  EXPECT_EQ(got.reason, "certificate has expired");
  EXPECT_EQ(got.alert, 45u);
  EXPECT_TRUE(got.alert_sent);
}

TEST_F(Done, ConvertsAPositiveErrnoToANegativeOneOnce) {
  const TestAgent agent = listen();
  for (const std::uint32_t number : {1u, 110u, 4095u}) {
    const Running one = run(agent);
    EXPECT_EQ(done_errno(agent, one.taken.token, number), 0);
    EXPECT_EQ(one.submitted.seen->status(), -static_cast<int>(number));
  }
}

TEST_F(Done, WithoutAStatusMeansEio) {
  const TestAgent agent = listen();
  const Running one = run(agent);
  EXPECT_EQ(done_errno(agent, one.taken.token, std::nullopt), 0);
  EXPECT_EQ(one.submitted.seen->status(), -EIO);
}

TEST_F(Done, WithAStatusThatIsNoErrnoIsEinvalAndEio) {
  const TestAgent agent = listen();
  const Running one = run(agent);
  EXPECT_EQ(done_errno(agent, one.taken.token, 4096), EINVAL);
  EXPECT_EQ(one.submitted.seen->status(), -EIO);
  EXPECT_EQ(done_errno(agent, one.taken.token, 0), EBUSY);
}

TEST_F(Done, OnAnUnknownTokenIsEbadf) {
  const TestAgent agent = listen();
  for (const std::int32_t token : {0, 1, -1, 999, 2147483647, -2147483647}) {
    EXPECT_EQ(done_errno(agent, token), EBADF) << token;
  }
  run(agent);
  EXPECT_EQ(done_errno(agent, 2), EBADF) << "not issued yet";
  EXPECT_EQ(service().counters().done_unknown_token, 7u);
}

TEST_F(Done, OnAFinishedRequestIsEbusyWhateverFinishedIt) {
  const TestAgent agent = listen();
  const Running done = run(agent);
  EXPECT_EQ(done_errno(agent, done.taken.token), 0);
  EXPECT_EQ(done_errno(agent, done.taken.token), EBUSY);
  const Running cancelled = run(agent);
  EXPECT_TRUE(service().cancel(cancelled.submitted.id));
  EXPECT_EQ(done_errno(agent, cancelled.taken.token), EBUSY);
  const Running timed_out = run(agent);
  pass(std::chrono::seconds(31));
  service().expire(now());
  EXPECT_EQ(done_errno(agent, timed_out.taken.token), EBUSY);
  EXPECT_EQ(timed_out.submitted.seen->status(), -ETIMEDOUT);
  EXPECT_EQ(service().counters().done_too_late, 3u);
}

TEST_F(Done, TokensIncreaseAndAreNotReused) {
  const TestAgent agent = listen();
  std::int32_t last = 0;
  for (int i = 0; i < 5; ++i) {
    const Running one = run(agent);
    EXPECT_GT(one.taken.token, last);
    last = one.taken.token;
    EXPECT_EQ(done_errno(agent, last), 0);
  }
}

TEST_F(Done, OnlyTheConnectionThatAcceptedCanFinish) {
  const TestAgent owner = listen();
  const TestAgent other = listen();
  const Running one = run(owner);
  EXPECT_EQ(done_errno(other, one.taken.token), EBADF);
  EXPECT_EQ(one.submitted.seen->completions, 0);
  // Its own first token is a request of its own, although the number is the same.
  const Running two = run(other);
  EXPECT_EQ(two.taken.token, one.taken.token);
  EXPECT_EQ(done_errno(other, two.taken.token, EACCES), 0);
  EXPECT_EQ(one.submitted.seen->completions, 0);
  EXPECT_EQ(two.submitted.seen->status(), -EACCES);
  EXPECT_EQ(done_errno(owner, one.taken.token), 0);
}

TEST_F(Done, RefusedBeforeItCouldBeReadFinishesItsRequestWithEio) {
  const TestAgent agent = listen();
  const Running one = run(agent);
  agent->done_refused(one.taken.token + 1, "nobody");
  EXPECT_EQ(one.submitted.seen->completions, 0);
  agent->done_refused(one.taken.token, "the agent's report was malformed");
  EXPECT_EQ(one.submitted.seen->status(), -EIO);
  EXPECT_EQ(done_errno(agent, one.taken.token), EBUSY);
}

TEST_F(Done, ARelayBringsItsPlainEnd) {
  const TestAgent agent = listen();
  const Running one = run(agent, [](Submission& s) { s.relay = RelayMode::kAllowed; });
  const TcpPair plain = tcp_pair();
  DoneReport sent = report();
  sent.mode = SessionMode::kRelay;
  sent.plain_end = duplicate(plain.client.get());
  ASSERT_TRUE(agent->done(one.taken.token, std::move(sent)));
  {
    Completion got = one.submitted.seen->last();
    EXPECT_EQ(got.mode, SessionMode::kRelay);
    ASSERT_TRUE(got.plain_end);
    EXPECT_EQ(inode_of(got.plain_end.get()), inode_of(plain.client.get()));
  }
  ASSERT_EQ(service().snapshot().size(), 1u);
  EXPECT_EQ(service().snapshot()[0].state, protocol::SessionState::kEstablished);
  EXPECT_EQ(service().live(), 0u) << "the request has ended, the relay has not";

  const TestAgent other = listen();
  EXPECT_EQ(other->relay_end(one.submitted.id, {}).error().number(), EBADF);
  EXPECT_EQ(agent->relay_end(one.submitted.id, {.status = 4096}).error().number(), EINVAL);
  ASSERT_TRUE(agent->relay_end(one.submitted.id, {.bytes_to_peer = 10, .bytes_from_peer = 20}));
  EXPECT_EQ(agent->relay_end(one.submitted.id, {}).error().number(), EBADF);
  EXPECT_TRUE(service().snapshot().empty());
  ASSERT_EQ(records().size(), 2u);
  EXPECT_EQ(records()[0].state, protocol::SessionState::kEstablished);
  EXPECT_EQ(records()[1].state, protocol::SessionState::kEnded);
  EXPECT_EQ(records()[1].bytes_from_peer, 20u);
}

TEST_F(Done, ARelayEndsWithItsAgent) {
  TestAgent agent = listen();
  const Running one = run(agent, [](Submission& s) { s.relay = RelayMode::kAlways; });
  DoneReport sent = report();
  sent.mode = SessionMode::kRelay;
  sent.plain_end = duplicate(last_pair().client.get());
  ASSERT_TRUE(agent->done(one.taken.token, std::move(sent)));
  agent.connection.reset();
  EXPECT_TRUE(service().snapshot().empty());
  ASSERT_EQ(records().size(), 2u);
  EXPECT_EQ(records()[1].relay_status, -ECONNRESET);
  EXPECT_EQ(one.submitted.seen->completions, 1);
}

TEST_F(Done, ARelayWithoutItsPlainEndIsEio) {
  const TestAgent agent = listen();
  const Running one = run(agent, [](Submission& s) { s.relay = RelayMode::kAllowed; });
  DoneReport sent = report();
  sent.mode = SessionMode::kRelay;
  EXPECT_EQ(agent->done(one.taken.token, std::move(sent)).error().number(), EINVAL);
  EXPECT_EQ(one.submitted.seen->status(), -EIO);
}

TEST_F(Done, ARelayThatTheConsumerForbadeIsEio) {
  const TestAgent agent = listen();
  const Running one = run(agent, [](Submission& s) { s.relay = RelayMode::kNever; });
  DoneReport sent = report();
  sent.mode = SessionMode::kRelay;
  sent.plain_end = duplicate(last_pair().client.get());
  EXPECT_EQ(agent->done(one.taken.token, std::move(sent)).error().number(), EINVAL);
  const Completion got = one.submitted.seen->last();
  EXPECT_EQ(got.status, -EIO);
  EXPECT_FALSE(got.plain_end);
}

TEST_F(Done, APlainEndThatGoesNowhereIsNotLeaked) {
  const TestAgent agent = listen();
  DoneReport unknown = report();
  unknown.plain_end = duplicate(socket());
  EXPECT_FALSE(agent->done(77, std::move(unknown)));
  const Running one = run(agent);
  DoneReport failed = report(EACCES);
  failed.plain_end = duplicate(last_pair().client.get());
  EXPECT_TRUE(agent->done(one.taken.token, std::move(failed)));
  EXPECT_FALSE(one.submitted.seen->last().plain_end);
}

TEST_F(Done, TheRecordSaysWhoAndWhat) {
  const TestAgent agent = listen();
  const Running one = run(agent, [](Submission& s) {
    s.uid = 1000;
    s.peername = "server.test";
    s.credential = "client";
  });
  pass(milliseconds(12));
  DoneReport sent = report();
  sent.mode = SessionMode::kKtls;
  sent.cipher = "TLS_AES_256_GCM_SHA384";
  sent.tags = {"a"};
  ASSERT_TRUE(agent->done(one.taken.token, std::move(sent)));
  ASSERT_EQ(records().size(), 1u);
  const SessionRecord record = records()[0];
  EXPECT_EQ(record.request_id, one.submitted.id);
  EXPECT_EQ(record.state, protocol::SessionState::kEnded);
  EXPECT_EQ(record.ending, Ending::kDone);
  EXPECT_EQ(record.handler_class, kTlshd);
  EXPECT_EQ(record.role, protocol::MessageType::kClienthello);
  EXPECT_EQ(record.peer.substr(0, 10), "127.0.0.1:");
  EXPECT_EQ(record.peername, "server.test");
  EXPECT_EQ(record.credential, "client");
  EXPECT_EQ(record.uid, 1000u);
  EXPECT_EQ(record.agent_pid, 1u);
  EXPECT_EQ(record.duration(), milliseconds(12));
  EXPECT_EQ(record.status, 0);
  EXPECT_EQ(record.cipher, "TLS_AES_256_GCM_SHA384");
  EXPECT_TRUE(record.tags.contains("a"));
}

TEST_F(Done, TheSnapshotShowsWhatIsUnderWayOldestFirst) {
  const TestAgent agent = listen();
  const Submitted a = submit_one();
  const Submitted b = submit_one();
  const Taken taken = take(agent);
  const auto records = service().snapshot();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].request_id, a.id);
  EXPECT_EQ(records[0].state, protocol::SessionState::kAccepted);
  EXPECT_EQ(records[1].request_id, b.id);
  EXPECT_EQ(records[1].state, protocol::SessionState::kPending);
}

class Tags : public Done {};

TEST_F(Tags, AMalformedOneIsEinvalToTheAgentAndEioToTheConsumer) {
  const TestAgent agent = listen();
  for (const std::string& bad :
       {std::string(), std::string(256, 'x'), std::string("a\0b", 3), std::string("a\0", 2)}) {
    const Running one = run(agent);
    DoneReport sent = report();
    sent.tags = {"good", bad};
    EXPECT_EQ(agent->done(one.taken.token, std::move(sent)).error().number(), EINVAL);
    const Completion got = one.submitted.seen->last();
    EXPECT_EQ(got.status, -EIO);
    EXPECT_TRUE(got.tags.empty());
  }
  EXPECT_EQ(service().counters().done_malformed, 4u);
}

TEST_F(Tags, AMalformedSixtyFifthIsEinval) {
  const TestAgent agent = listen();
  const Running one = run(agent);
  DoneReport sent = report();
  sent.tags = numbered(64);
  sent.tags.emplace_back();
  EXPECT_EQ(agent->done(one.taken.token, std::move(sent)).error().number(), EINVAL);
  EXPECT_EQ(one.submitted.seen->status(), -EIO);
}

TEST_F(Tags, AreLookedAtOnlyWhenTheStatusIsZero) {
  const TestAgent agent = listen();
  const Running one = run(agent);
  DoneReport sent = report(EACCES);
  sent.tags = {""};
  EXPECT_TRUE(agent->done(one.taken.token, std::move(sent)));
  const Completion got = one.submitted.seen->last();
  EXPECT_EQ(got.status, -EACCES);
  EXPECT_TRUE(got.tags.empty());
}

TEST_F(Tags, AboveSixtyFourTheFirstAreKeptAndOneWarningIsLogged) {
  const TestAgent agent = listen();
  for (int i = 0; i < 3; ++i) {
    const Running one = run(agent);
    DoneReport sent = report();
    sent.tags = numbered(70);
    EXPECT_TRUE(agent->done(one.taken.token, std::move(sent)));
    const Completion got = one.submitted.seen->last();
    EXPECT_EQ(got.status, 0) << "the session lives";
    EXPECT_EQ(got.tags.size(), 64u);
    EXPECT_TRUE(got.tags.contains("tag63"));
    EXPECT_FALSE(got.tags.contains("tag64"));
  }
  EXPECT_EQ(lines_with("64 tags"), 1);
  EXPECT_EQ(service().counters().tags_capped, 3u);
}

TEST_F(Tags, TheCapCountsDuplicatesAsSent) {
  const TestAgent agent = listen();
  const Running one = run(agent);
  DoneReport sent = report();
  sent.tags.assign(64, "same");
  sent.tags.emplace_back("beyond");
  EXPECT_TRUE(agent->done(one.taken.token, std::move(sent)));
  const Completion got = one.submitted.seen->last();
  EXPECT_EQ(got.tags.size(), 1u);
  EXPECT_FALSE(got.tags.contains("beyond"));
}

TEST_F(Tags, WithoutMemoryAreDroppedWithOneWarningAndTheSessionLives) {
  options_.tag_memory = std::pmr::null_memory_resource();
  const TestAgent agent = listen();
  for (int i = 0; i < 3; ++i) {
    const Running one = run(agent);
    DoneReport sent = report();
    sent.tags = {"a"};
    EXPECT_TRUE(agent->done(one.taken.token, std::move(sent)));
    const Completion got = one.submitted.seen->last();
    EXPECT_EQ(got.status, 0);
    EXPECT_TRUE(got.tags.empty());
  }
  EXPECT_EQ(lines_with("out of memory"), 1);
  EXPECT_EQ(service().counters().tags_dropped, 3u);
}

TEST_F(Tags, TheCompletionAlwaysHasAFinalizedSet) {
  TestAgent agent = listen();
  const Running none = run(agent);
  EXPECT_EQ(done_errno(agent, none.taken.token), 0);
  const Running failed = run(agent);
  EXPECT_EQ(done_errno(agent, failed.taken.token, EIO), 0);
  const Running died = run(agent);
  agent.connection.reset();
  for (const Running* one : {&none, &failed, &died}) {
    const TagSet tags = one->submitted.seen->last().tags;
    EXPECT_TRUE(tags.empty());
    EXPECT_FALSE(tags.contains("a"));
    EXPECT_FALSE(tags.intersects(tags));
  }
}

TEST_F(Tags, ACopyOutlivesTheCallback) {
  const TestAgent agent = listen();
  auto seen = new_seen();
  TagSet copy;
  Submission one = submission(socket(), seen);
  one.complete = [&](Completion completion) { copy = completion.tags; };
  ASSERT_TRUE(submit(std::move(one), seen));
  DoneReport sent = report();
  sent.tags = {"kept"};
  EXPECT_TRUE(agent->done(take(agent).token, std::move(sent)));
  EXPECT_TRUE(copy.contains("kept"));
}

}  // namespace
}  // namespace handshake::testing
