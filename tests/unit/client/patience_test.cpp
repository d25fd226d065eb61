// SPDX-License-Identifier: Apache-2.0
// What becomes of callers when the service does not do its part in time.
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "client/connection.h"
#include "client/context.h"
#include "fake_service.h"
#include "transport/seqpacket.h"

namespace handshake::client {
namespace {

TEST(Patience, AServiceThatDoesNotAnswerTheFirstQuestionIsNone) {
  std::string pattern = (std::filesystem::temp_directory_path() / "silent-XXXXXX").string();
  const std::string directory = ::mkdtemp(pattern.data());
  const std::string path = directory + "/silent.sock";
  const UniqueFd listener = transport::listen_seqpacket(path, 0600).value();
  const auto connection = connect_service(path, milliseconds(50));
  ASSERT_FALSE(connection);
  EXPECT_EQ(connection.error().number, EIO);
  EXPECT_NE(connection.error().detail.find("does not answer"), std::string::npos);
  std::filesystem::remove_all(directory);
}

TEST(Patience, AListenerThatAcceptsNobodyIsNoService) {
  std::string pattern = (std::filesystem::temp_directory_path() / "full-XXXXXX").string();
  const std::string directory = ::mkdtemp(pattern.data());
  const std::string path = directory + "/full.sock";
  const UniqueFd listener = transport::listen_seqpacket(path, 0600).value();
  ASSERT_EQ(::listen(listener.get(), 0), 0);
  const auto queued = transport::connect_seqpacket(path, milliseconds(50));
  ASSERT_TRUE(queued);
  const auto connection = connect_service(path, milliseconds(50));
  ASSERT_FALSE(connection);
  EXPECT_EQ(connection.error().number, ETIMEDOUT);
  std::filesystem::remove_all(directory);
}

TEST(Patience, AServiceThatStopsAnsweringIsGoneForEverybody) {
  test::FakeService::Behaviour behaviour;

  behaviour.cancel = [](std::uint64_t) { return std::optional<bool>(); };
  test::FakeService service(behaviour);
  auto context = Context::create(service.path(), milliseconds(50));
  ASSERT_TRUE(context) << context.error().detail;
  const test::TcpPair pair = test::tcp_pair();
  Submission submission;
  submission.fd = pair.mine.get();
  submission.message_type = protocol::MessageType::kClienthello;
  submission.auth_mode = protocol::Auth::kX509;
  const auto request = (*context)->submit(submission);
  ASSERT_TRUE(request) << request.error().detail;
  EXPECT_FALSE((*context)->cancel(*request).value());
  const auto result = (*context)->wait(*request, milliseconds(20'000));
  ASSERT_TRUE(result);
  EXPECT_EQ((*result)->status, -EIO);
  EXPECT_EQ((*result)->reason, "the service does not answer");
}

TEST(Patience, ASubmissionThatIsNotAnsweredFails) {
  test::FakeService::Behaviour behaviour;
  behaviour.answer_submit = false;
  test::FakeService service(behaviour);
  auto context = Context::create(service.path(), milliseconds(50));
  ASSERT_TRUE(context);
  const test::TcpPair pair = test::tcp_pair();
  Submission submission;
  submission.fd = pair.mine.get();
  const auto request = (*context)->submit(submission);
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().number, EIO);
  EXPECT_EQ(request.error().detail, "the service does not answer");
}

/// Eight threads submit messages so large that the socket cannot hold them all, while the service
/// is busy with a first one: it comes back before the answers, or only after them.
enum class ComesBack : std::uint8_t { kBefore, kAfter };
std::vector<int> flood(milliseconds patience, ComesBack comes_back) {
  std::promise<void> release;
  std::shared_future<void> released(release.get_future());
  std::atomic<bool> busy = false;
  test::FakeService::Behaviour behaviour;
  behaviour.submit = [&](const auto&) {
    busy = true;
    released.wait();
    return EPERM;
  };
  test::FakeService service(behaviour);
  auto context = Context::create(service.path(), patience).value();
  const auto submit = [&context](std::string peername) {
    const test::TcpPair pair = test::tcp_pair();
    Submission submission;
    submission.fd = pair.mine.get();
    submission.peername = std::move(peername);
    const auto request = context->submit(submission);
    return request ? 0 : request.error().number;
  };
  std::vector<std::future<int>> answers;
  answers.push_back(std::async(std::launch::async, submit, "first"));
  while (!busy) std::this_thread::yield();
  for (int i = 0; i < 8; ++i) {
    answers.push_back(std::async(std::launch::async, submit, std::string(60'000, 'p')));
  }
  if (comes_back == ComesBack::kBefore) release.set_value();
  std::vector<int> numbers;
  for (auto& answer : answers) numbers.push_back(answer.get());
  if (comes_back == ComesBack::kAfter) release.set_value();
  return numbers;
}

TEST(Patience, CallersWaitForAServiceThatIsSlowToRead) {
  const std::vector<int> numbers = flood(milliseconds(20'000), ComesBack::kBefore);
  EXPECT_EQ(numbers.front(), EPERM);
  // Longer than the policy allows: the service itself has said so.
  for (std::size_t i = 1; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], EINVAL);
}

TEST(Patience, CallersOfAServiceThatDoesNotReadGetEio) {
  // A thread that finds the connection lost connects again, and loses its patience there.
  for (const int number : flood(milliseconds(50), ComesBack::kAfter)) EXPECT_EQ(number, EIO);
}

}  // namespace
}  // namespace handshake::client
