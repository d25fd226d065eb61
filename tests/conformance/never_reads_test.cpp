// SPDX-License-Identifier: Apache-2.0
// A client that never reads its replies (REQUIREMENTS.md, last list), over real sockets.
#include <sys/socket.h>

#include <future>

#include "transport/packet_stream.h"
#include "transport/seqpacket.h"
#include "wire_fixture.h"

namespace handshake::testing {
namespace {

using protocol::kConsumerId;

class NeverReads : public WireTest {
 protected:
  /// A consumer's connection as the daemon has it. Belongs to the loop's thread.
  struct Connection {
    std::unique_ptr<transport::PacketStream> stream;
    std::unique_ptr<service::ConsumerEndpoint> endpoint;
    std::promise<Error> closed;
  };

  void SetUp() override {
    loop_ = EventLoop::create().value();
    thread_ = std::thread([this] { EXPECT_TRUE(loop_->run()); });
  }
  void TearDown() override {
    loop_->post([this] {
      connections_.clear();
      loop_->stop();
    });
    thread_.join();
    loop_.reset();
    WireTest::TearDown();
  }

  /// The client's end of a new connection, and what tells when the service cut it off.
  std::pair<UniqueFd, std::future<Error>> connect_client() {
    auto ends = transport::seqpacket_pair().value();
    auto connection = std::make_shared<Connection>();
    std::future<Error> closed = connection->closed.get_future();
    auto service_end = std::make_shared<UniqueFd>(std::move(ends.first));
    loop_->post([this, connection, service_end] {
      Connection* const raw = connection.get();
      raw->stream = transport::PacketStream::open(
                        *loop_, std::move(*service_end),
                        {.max_queued_bytes = 16'384,
                         .discard = [this](UniqueFd fd) { reaper_.close(std::move(fd)); }},
                        {[raw](protocol::Packet packet) {
                           EXPECT_TRUE(raw->endpoint->receive(std::move(packet)));
                         },
                         [raw](const Error& error) {
                           raw->endpoint.reset();
                           raw->closed.set_value(error);
                         }})
                        .value();
      raw->endpoint = std::make_unique<service::ConsumerEndpoint>(
          service(), reaper_, service::ConsumerInfo{.pid = 1, .uid = 0}, nullptr,
          [raw](Bytes bytes, std::vector<UniqueFd> fds) {
            raw->stream->send(std::move(bytes), std::move(fds));
          });
      connections_.push_back(connection);
    });
    return {std::move(ends.second), std::move(closed)};
  }

  /// Blocks until the service has read it; false when the service is gone.
  static bool send_message(const UniqueFd& client, const Bytes& bytes, const UniqueFd* socket) {
    const iovec body{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr header{};
    header.msg_iov = const_cast<iovec*>(&body);
    header.msg_iovlen = 1;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    if (socket != nullptr) {
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      cmsghdr* const rights = CMSG_FIRSTHDR(&header);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(sizeof(int));
      const int fd = socket->get();
      std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }
    return ::sendmsg(client.get(), &header, MSG_NOSIGNAL) >= 0;
  }
  static Outbox::Datagram read_message(const UniqueFd& client) {
    Outbox::Datagram datagram;
    datagram.bytes.resize(4096);
    const ssize_t size = ::recv(client.get(), datagram.bytes.data(), datagram.bytes.size(), 0);
    datagram.bytes.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    return datagram;
  }

  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
  std::vector<std::shared_ptr<Connection>> connections_;
};

TEST_F(NeverReads, IsCutOffAndDelaysNobody) {
  const TestAgent agent = listen();
  auto [silent, cut_off] = connect_client();
  auto [other, other_cut_off] = connect_client();
  const UniqueFd socket_fd = duplicate(socket());
  ASSERT_TRUE(send_message(silent, message(kConsumerId, submit_of(1)), &socket_fd));

  // Asks and asks, and never reads an answer.
  std::uint64_t asked = 0;
  protocol::consumer::CancelRequest cancel;
  cancel.id = 77;
  while (cut_off.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
    if (!send_message(silent, message(kConsumerId, cancel, 0), nullptr)) break;
    ASSERT_LT(++asked, 1'000'000u);
    if (asked % 100 != 0) continue;
    // Somebody else is served all the while.
    const UniqueFd other_socket = duplicate(socket());
    ASSERT_TRUE(send_message(other, message(kConsumerId, submit_of(asked)), &other_socket));
    EXPECT_EQ(read_message(other).ack().error, 0);
    Taken taken;
    do {
      taken = take(agent);
      if (done_errno(agent, taken.token) != 0) break;
    } while (taken.id == 1);
    EXPECT_EQ(read_message(other).as<protocol::consumer::CompleteEvent>().id, asked);
  }
  ASSERT_EQ(cut_off.wait_until(std::chrono::steady_clock::now() + std::chrono::seconds(60)),
            std::future_status::ready);
  EXPECT_EQ(cut_off.get().kind, ErrorKind::kTryAgain);
  EXPECT_EQ(other_cut_off.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
}

TEST_F(NeverReads, LosesItsRequestsWithItsConnection) {
  const TestAgent agent = listen();
  auto [silent, cut_off] = connect_client();
  const UniqueFd socket_fd = duplicate(socket());
  ASSERT_TRUE(send_message(silent, message(kConsumerId, submit_of(1)), &socket_fd));
  protocol::consumer::CancelRequest cancel;
  cancel.id = 77;
  while (send_message(silent, message(kConsumerId, cancel, 0), nullptr)) {
  }
  ASSERT_EQ(cut_off.wait_until(std::chrono::steady_clock::now() + std::chrono::seconds(60)),
            std::future_status::ready);
  EXPECT_EQ(service().live(), 0u);
  EXPECT_EQ(service().counters().cancelled, 1u);
}

}  // namespace
}  // namespace handshake::testing
