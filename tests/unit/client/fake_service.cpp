// SPDX-License-Identifier: Apache-2.0
#include "fake_service.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include <gtest/gtest.h>

#include "protocol/families.h"
#include "protocol/message.h"
#include "transport/seqpacket.h"

namespace handshake::test {

namespace {
// Not the real service's number: clients ask.
constexpr std::uint16_t kFamilyId = 77;
}  // namespace

FakeService::FakeService(Behaviour behaviour)
    : behaviour_(std::move(behaviour)),
      controller_(behaviour_.know_family
                      ? std::vector<protocol::Controller::Registration>{{kFamilyId,
                                                                         &protocol::consumer::kFamily,
                                                                         0}}
                      : std::vector<protocol::Controller::Registration>{}) {
  std::string pattern = (std::filesystem::temp_directory_path() / "fake-service-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) std::abort();
  directory_ = pattern;
  path_ = directory_ + "/consumer.sock";
  listener_ = transport::listen_seqpacket(path_, 0600).value();
  wake_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  thread_ = std::thread([this] { run(); });
}

FakeService::~FakeService() {
  stop_ = true;
  ::eventfd_write(wake_.get(), 1);
  thread_.join();
  std::filesystem::remove_all(directory_);
}

Submitted FakeService::next() {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, std::chrono::seconds(20), [this] { return !submitted_.empty(); })) {
    ADD_FAILURE() << "no submission arrived";
    return {};
  }
  Submitted first = std::move(submitted_.front());
  submitted_.erase(submitted_.begin());
  return first;
}

void FakeService::complete(const Submitted& submitted,
                           const protocol::consumer::CompleteEvent& event, UniqueFd fd) {
  protocol::consumer::CompleteEvent own = event;
  if (!own.id) own.id = submitted.request.id;
  protocol::MessageHeader header;
  header.type = kFamilyId;
  send(submitted.connection, protocol::build(header, own).value(), std::move(fd));
}

void FakeService::send(int connection, std::span<const std::byte> bytes, UniqueFd fd) {
  std::vector<UniqueFd> fds;
  if (fd) fds.push_back(std::move(fd));
  const std::lock_guard lock(mutex_);
  const UniqueFd& socket = connections_.at(static_cast<std::size_t>(connection));
  if (socket) static_cast<void>(transport::send_packet(socket.get(), bytes, fds));
}

void FakeService::hang_up(bool for_good) {
  const std::lock_guard lock(mutex_);
  // shutdown() and not close(): the thread may be polling them.
  for (const UniqueFd& connection : connections_) {
    if (connection) ::shutdown(connection.get(), SHUT_RDWR);
  }
  if (for_good) {
    ::unlink(path_.c_str());
    ::shutdown(listener_.get(), SHUT_RDWR);
  }
}

void FakeService::run() {
  while (!stop_) {
    std::vector<pollfd> waiting{{wake_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    std::vector<int> numbers;
    {
      const std::lock_guard lock(mutex_);
      for (std::size_t i = 0; i < connections_.size(); ++i) {
        if (!connections_[i]) continue;
        waiting.push_back({connections_[i].get(), POLLIN, 0});
        numbers.push_back(static_cast<int>(i));
      }
    }
    ::poll(waiting.data(), waiting.size(), -1);
    if ((waiting[1].revents & POLLIN) != 0) {
      UniqueFd accepted(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (accepted) {
        const std::lock_guard lock(mutex_);
        connections_.push_back(std::move(accepted));
        ++connections_seen_;
      }
    }
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (waiting[i + 2].revents == 0) continue;
      const int fd = waiting[i + 2].fd;
      while (true) {
        auto packet = transport::receive_packet(fd);
        if (packet && !*packet) break;
        if (!packet) {
          const std::lock_guard lock(mutex_);
          connections_[static_cast<std::size_t>(numbers[i])].reset();
          break;
        }
        std::vector<UniqueFd> fds = std::move((*packet)->fds);
        serve(numbers[i], **packet, std::move(fds));
      }
    }
  }
}

void FakeService::serve(int connection, const protocol::Packet& packet, std::vector<UniqueFd> fds) {
  const protocol::MessageView message = protocol::MessageReader(packet.bytes).next().value().value();
  if (message.type == protocol::kControllerId) {
    for (const auto& answer : controller_.answer(message)) send(connection, answer);
    return;
  }
  protocol::ExtAck ext;
  if (message.command == protocol::consumer::SubmitRequest::kCommand) {
    const auto request = protocol::consumer::SubmitRequest::parse(
        message.attributes, protocol::Unknown::kRefuse, ext);
    if (!request) {
      send(connection, protocol::build_ack(message, request.error().number(), ext));
      return;
    }
    Submitted submitted{*request, fds.empty() ? UniqueFd() : std::move(fds.front()), connection};
    const int error = behaviour_.submit(*request);
    if (error != 0) ext.message = behaviour_.refusal;
    if (behaviour_.answer_submit) send(connection, protocol::build_ack(message, error, ext));
    if (error != 0) return;
    if (behaviour_.submitted) {
      behaviour_.submitted(*this, std::move(submitted));
      return;
    }
    const std::lock_guard lock(mutex_);
    submitted_.push_back(std::move(submitted));
    changed_.notify_all();
    return;
  }
  const auto request = protocol::consumer::CancelRequest::parse(
      message.attributes, protocol::Unknown::kRefuse, ext);
  const auto verdict = behaviour_.cancel(request.value().id.value());
  if (!verdict) return;
  protocol::consumer::CancelReply reply;
  reply.id = request->id;
  reply.cancelled = *verdict ? 1 : 0;
  protocol::MessageHeader header;
  header.type = kFamilyId;
  header.sequence = message.sequence;
  send(connection, protocol::build(header, reply).value());
}

TcpPair tcp_pair() {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  TcpPair pair;
  pair.mine = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::bind(listener.get(), generic, length) != 0 || ::listen(listener.get(), 1) != 0 ||
      ::getsockname(listener.get(), generic, &length) != 0 ||
      ::connect(pair.mine.get(), generic, length) != 0) {
    ADD_FAILURE() << "no TCP over loopback";
    return pair;
  }
  pair.peer = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  return pair;
}

std::uint64_t cookie_of(int fd) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  EXPECT_EQ(::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
  return cookie;
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

bool readable(int fd, int timeout_ms) {
  pollfd waiting{fd, POLLIN, 0};
  return ::poll(&waiting, 1, timeout_ms) == 1;
}

}  // namespace handshake::test
