// SPDX-License-Identifier: Apache-2.0
// The programs in examples/, as they are, against a service that relays in the clear.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "fake_service.h"

namespace handshake {
namespace {

using protocol::SessionMode;
using protocol::consumer::CompleteEvent;
using test::FakeService;
using test::Submitted;
using test::TcpPair;
using test::tcp_pair;

/// A program with pipes for its input and output.
class Program {
 public:
  Program(const std::vector<std::string>& arguments, const std::string& service) {
    ::setenv("HANDSHAKED_SOCKET", service.c_str(), 1);
    std::array<int, 2> input{};
    std::array<int, 2> output{};
    EXPECT_EQ(::pipe2(input.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(output.data(), O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, input[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, output[1], STDERR_FILENO);
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    EXPECT_EQ(::posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(input[0]);
    ::close(output[1]);
    input_ = UniqueFd(input[1]);
    output_ = UniqueFd(output[0]);
  }
  ~Program() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  void write(const std::string& text) {
    EXPECT_EQ(::write(input_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void end_input() { input_.reset(); }
  /// Everything it prints until it ends, and how it ended.
  std::string output() {
    std::string text;
    std::array<char, 4096> chunk{};
    ssize_t count = 0;
    while ((count = ::read(output_.get(), chunk.data(), chunk.size())) > 0) {
      text.append(chunk.data(), static_cast<std::size_t>(count));
    }
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return text;
  }
  int exit_code = -1;

 private:
  pid_t pid_ = -1;
  UniqueFd input_;
  UniqueFd output_;
};

CompleteEvent relayed() {
  CompleteEvent event;
  event.status = 0;
  event.session_mode = SessionMode::kRelay;
  event.cipher = "TLS_AES_128_GCM_SHA256";
  event.peer_subject = "CN=peer";
  return event;
}

UniqueFd listen_on_loopback(std::string& port) {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(::bind(listener.get(), generic, length), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  EXPECT_EQ(::getsockname(listener.get(), generic, &length), 0);
  port = std::to_string(ntohs(address.sin_port));
  return listener;
}

TEST(Examples, ConnectSendsItsInputAndPrintsTheAnswer) {
  FakeService service;
  std::string port;
  const UniqueFd listener = listen_on_loopback(port);
  Program connect({HS_EXAMPLE_CONNECT, "127.0.0.1", port, "web"}, service.path());
  const Submitted submitted = service.next();
  EXPECT_EQ(submitted.request.peername, "127.0.0.1");
  EXPECT_EQ(submitted.request.credential, "web");
  TcpPair plain = tcp_pair();
  service.complete(submitted, relayed(), std::move(plain.mine));
  connect.write("question\n");
  connect.end_input();
  std::string received;
  std::array<char, 64> chunk{};
  ssize_t count = 0;
  while ((count = ::recv(plain.peer.get(), chunk.data(), chunk.size(), 0)) > 0) {
    received.append(chunk.data(), static_cast<std::size_t>(count));
  }
  EXPECT_EQ(received, "question\n");
  ASSERT_EQ(::send(plain.peer.get(), "answer\n", 7, 0), 7);
  plain.peer.reset();
  EXPECT_EQ(connect.output(), "TLS_AES_128_GCM_SHA256, CN=peer\nanswer\n");
  EXPECT_EQ(connect.exit_code, 0);
}

TEST(Examples, ConnectSaysWhyItFailed) {
  FakeService service;
  std::string port;
  const UniqueFd listener = listen_on_loopback(port);
  Program connect({HS_EXAMPLE_CONNECT, "127.0.0.1", port, "web"}, service.path());
  CompleteEvent event;
  event.status = EACCES;
  event.reason = "certificate has expired";
  service.complete(service.next(), event);
  EXPECT_EQ(connect.output(), "connect: certificate has expired\n");
  EXPECT_EQ(connect.exit_code, 1);
}

TEST(Examples, EchoServesSeveralAtOnce) {
  FakeService service;
  std::string port;
  // A port that was free a moment ago; the example takes no listening socket from outside.
  listen_on_loopback(port).reset();
  Program echo({HS_EXAMPLE_ECHO, port, "web"}, service.path());
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
  std::vector<UniqueFd> clients;
  std::vector<TcpPair> relays;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    // Until it listens.
    const TimePoint deadline = Clock::now() + std::chrono::seconds(20);
    while (::connect(clients.back().get(), reinterpret_cast<sockaddr*>(&address), sizeof address) !=
           0) {
      ASSERT_EQ(errno, ECONNREFUSED);
      ASSERT_LT(Clock::now(), deadline);
      std::this_thread::yield();
    }
  }
  for (std::size_t i = 0; i < clients.size(); ++i) {
    const Submitted submitted = service.next();
    EXPECT_EQ(submitted.request.message_type, protocol::MessageType::kServerhello);
    relays.push_back(tcp_pair());
    service.complete(submitted, relayed(), std::move(relays.back().mine));
  }
  for (const TcpPair& relay : relays) {
    ASSERT_EQ(::send(relay.peer.get(), "echo", 4, 0), 4);
    std::array<char, 8> got{};
    EXPECT_EQ(::recv(relay.peer.get(), got.data(), got.size(), 0), 4);
    EXPECT_STREQ(got.data(), "echo");
  }
}

}  // namespace
}  // namespace handshake
