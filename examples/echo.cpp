// SPDX-License-Identifier: Apache-2.0
// echo PORT CREDENTIAL: a TLS echo server; handshakes run from its own poll loop, many at once.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <iostream>
#include <thread>

#include <handshake/handshake.hpp>

static void serve(hs::Session session) {
  std::array<char, 16384> data{};
  std::ptrdiff_t size = 0;
  while ((size = session.receive(data.data(), data.size())) > 0) {
    for (std::ptrdiff_t sent = 0, count = 0; sent < size; sent += count) {
      count = session.send(data.data() + sent, static_cast<std::size_t>(size - sent));
      if (count < 0) return;
    }
  }
}

static void ended(const hs::Outcome& outcome) {
  std::cerr << outcome.fd() << ": " << (outcome ? outcome.peer_subject() : outcome.reason()) << '\n';
  hs::Session session = hs::Session::open(outcome);
  if (!session) ::close(outcome.fd());
  if (session) std::thread(serve, std::move(session)).detach();
}

int main(int argc, char** argv) {
  hs::Context context = hs::Context::connect();
  if (argc != 3 || !context) return std::cerr << "echo PORT CREDENTIAL: " << hs_last_error() << '\n', 1;
  sockaddr_in address{AF_INET, htons(static_cast<std::uint16_t>(std::atoi(argv[1]))), {}, {}};
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return 1;
  ::listen(listener, 64);
  hs_options options = HS_OPTIONS_INIT;
  options.credential = argv[2];
  std::array<pollfd, 2> ready{{{listener, POLLIN, 0}, {context.fd(), POLLIN, 0}}};
  while (::poll(ready.data(), ready.size(), -1) > 0) {
    if (ready[1].revents != 0) context.dispatch();
    if (ready[0].revents == 0) continue;
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0 && context.server_hello_x509(fd, options, ended) != 0) ::close(fd);
  }
}
