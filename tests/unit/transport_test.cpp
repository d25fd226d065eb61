// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>

#include "transport/packet_stream.h"
#include "transport/seqpacket.h"

namespace handshake::transport {
namespace {

std::vector<std::byte> bytes_of(std::string_view text) {
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  return {first, first + text.size()};
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

UniqueFd some_fd() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

ino_t inode(int fd) {
  struct stat file {};
  EXPECT_EQ(::fstat(fd, &file), 0);
  return file.st_ino;
}

TEST(Seqpacket, CarriesADatagramAndItsDescriptors) {
  auto pair = seqpacket_pair().value();
  std::vector<UniqueFd> fds;
  fds.push_back(some_fd());
  ASSERT_EQ(send_packet(pair.first.get(), bytes_of("hello"), fds).value(), SendState::kSent);
  auto packet = receive_packet(pair.second.get());
  ASSERT_TRUE(packet && packet->has_value());
  EXPECT_EQ((*packet)->bytes, bytes_of("hello"));
  ASSERT_EQ((*packet)->fds.size(), 1U);
  EXPECT_FALSE((*packet)->fds_lost);
  EXPECT_EQ(inode((*packet)->fds[0].get()), inode(fds[0].get()));
  EXPECT_NE(::fcntl((*packet)->fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(Seqpacket, NothingWaitingIsNotAnError) {
  auto pair = seqpacket_pair().value();
  const auto packet = receive_packet(pair.first.get());
  ASSERT_TRUE(packet);
  EXPECT_FALSE(packet->has_value());
}

TEST(Seqpacket, WhatWasSentBeforeAResetStillArrives) {
  auto pair = seqpacket_pair().value();
  ASSERT_TRUE(send_packet(pair.first.get(), bytes_of("unread"), {}));
  ASSERT_TRUE(send_packet(pair.second.get(), bytes_of("last words"), {}));
  pair.second.reset();  // with "unread" in its queue: the near end sees ECONNRESET first
  const auto packet = receive_packet(pair.first.get());
  ASSERT_TRUE(packet && packet->has_value());
  EXPECT_EQ((*packet)->bytes, bytes_of("last words"));
  EXPECT_EQ(receive_packet(pair.first.get()).error().kind, ErrorKind::kConnectionReset);
}

TEST(Seqpacket, DescriptorsLostForWantOfFreeOnesAreReported) {
  auto pair = seqpacket_pair().value();
  std::vector<UniqueFd> fds;
  for (int i = 0; i < 4; ++i) fds.push_back(some_fd());
  ASSERT_EQ(send_packet(pair.first.get(), bytes_of("x"), fds).value(), SendState::kSent);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = static_cast<rlim_t>(fds.back().get()) + 2;  // room for one more
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  auto packet = receive_packet(pair.second.get());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(packet && packet->has_value());
  EXPECT_TRUE((*packet)->fds_lost);
  EXPECT_LT((*packet)->fds.size(), 4U);
}

TEST(Seqpacket, AListenerReplacesAStaleFileAndRefusesALiveOne) {
  std::string directory = (std::filesystem::temp_directory_path() / "hs-seq-XXXXXX").string();
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  const std::string path = directory + "/s";
  auto first = listen_seqpacket(path, 0600);
  ASSERT_TRUE(first);
  struct stat file {};
  ASSERT_EQ(::stat(path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777U, 0600U);
  const auto second = listen_seqpacket(path, 0600);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, ErrorKind::kBusy);
  EXPECT_TRUE(connect_seqpacket(path));
  first->reset();
  EXPECT_EQ(connect_seqpacket(path).error().kind, ErrorKind::kNotFound);
  EXPECT_TRUE(listen_seqpacket(path, 0600));
  std::filesystem::remove_all(directory);
}

TEST(Seqpacket, APathThatDoesNotFitIsRefusedByName) {
  const auto refused = connect_seqpacket("/" + std::string(200, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::kInvalidArgument);
}

class PacketStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = open_descriptors();
    loop_ = std::move(EventLoop::create().value());
    guard_ = loop_->after(std::chrono::seconds(20), [this] {
      ADD_FAILURE() << "the loop was never stopped";
      loop_->stop();
    });
    auto pair = seqpacket_pair().value();
    far_ = std::move(pair.second);
    near_socket_ = std::move(pair.first);
  }
  void TearDown() override {
    guard_.reset();
    stream_.reset();
    far_.reset();
    received_.clear();
    loop_.reset();
    EXPECT_EQ(open_descriptors(), before_);
  }
  void open(PacketStream::Options options = {}) {
    PacketStream::Handlers handlers;
    handlers.packet = [this](protocol::Packet packet) {
      received_.push_back(std::move(packet));
      if (received_.size() == wanted_) loop_->stop();
    };
    handlers.closed = [this](const Error& error) {
      closed_.push_back(error);
      loop_->stop();
    };
    stream_ = std::move(PacketStream::open(*loop_, std::move(near_socket_), std::move(options),
                                           std::move(handlers)).value());
  }
  std::size_t before_ = 0;
  std::unique_ptr<EventLoop> loop_;
  EventLoop::Timer guard_;
  UniqueFd near_socket_;
  UniqueFd far_;
  std::unique_ptr<PacketStream> stream_;
  std::vector<protocol::Packet> received_;
  std::vector<Error> closed_;
  std::size_t wanted_ = 0;
};

TEST_F(PacketStreamTest, DeliversDatagramsInOrder) {
  open();
  wanted_ = 3;
  for (const char* text : {"a", "b", "c"}) ASSERT_TRUE(send_packet(far_.get(), bytes_of(text), {}));
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(received_[0].bytes, bytes_of("a"));
  EXPECT_EQ(received_[2].bytes, bytes_of("c"));
}

TEST_F(PacketStreamTest, QueuesForAPeerThatReadsLate) {
  open();
  constexpr int kCount = 1000;  // far more than the socket holds
  for (int i = 0; i < kCount; ++i) {
    std::vector<UniqueFd> fds;
    if (i % 100 == 0) fds.push_back(some_fd());
    stream_->send(bytes_of(std::to_string(i)), std::move(fds));
  }
  EXPECT_GT(stream_->queued_bytes(), 0U);
  int next = 0;
  auto reader = std::move(loop_->watch(far_.get(), 1 /* EPOLLIN */, [&](std::uint32_t) {
                                  auto packet = receive_packet(far_.get());
                                  ASSERT_TRUE(packet && packet->has_value());
                                  EXPECT_EQ((*packet)->bytes, bytes_of(std::to_string(next)));
                                  EXPECT_EQ((*packet)->fds.size(), next % 100 == 0 ? 1U : 0U);
                                  if (++next == kCount) loop_->stop();
                                }).value());
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(next, kCount);
  EXPECT_EQ(stream_->queued_bytes(), 0U);
}

TEST_F(PacketStreamTest, AClientThatNeverReadsItsRepliesIsClosed) {
  PacketStream::Options options;
  options.max_queued_bytes = 1000;
  std::size_t discarded = 0;
  options.discard = [&](UniqueFd) { ++discarded; };
  open(std::move(options));
  for (int i = 0; i < 5000; ++i) {
    std::vector<UniqueFd> fds;
    fds.push_back(some_fd());
    stream_->send(bytes_of("0123456789"), std::move(fds));
    EXPECT_TRUE(closed_.empty()) << "never from inside send()";
  }
  ASSERT_TRUE(loop_->run());
  ASSERT_EQ(closed_.size(), 1U);
  EXPECT_EQ(closed_[0].kind, ErrorKind::kTryAgain);
  EXPECT_EQ(discarded, 5000U);
}

TEST_F(PacketStreamTest, ThePeersEndIsReportedOnceAndItsLastDatagramFirst) {
  open();
  ASSERT_TRUE(send_packet(far_.get(), bytes_of("bye"), {}));
  far_.reset();
  ASSERT_TRUE(loop_->run());
  ASSERT_EQ(received_.size(), 1U);
  ASSERT_EQ(closed_.size(), 1U);
  EXPECT_EQ(closed_[0].kind, ErrorKind::kConnectionReset);
}

TEST_F(PacketStreamTest, AHandlerMayDestroyTheStream) {
  PacketStream::Handlers handlers;
  handlers.packet = [this](protocol::Packet) {
    stream_.reset();
    loop_->stop();
  };
  stream_ = std::move(
      PacketStream::open(*loop_, std::move(near_socket_), {}, std::move(handlers)).value());
  ASSERT_TRUE(send_packet(far_.get(), bytes_of("a"), {}));
  ASSERT_TRUE(send_packet(far_.get(), bytes_of("b"), {}));
  ASSERT_TRUE(loop_->run());
  EXPECT_EQ(stream_, nullptr);
}

}  // namespace
}  // namespace handshake::transport
