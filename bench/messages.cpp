// SPDX-License-Identifier: Apache-2.0
// What it costs to say something to another process: the part of the whole path that no code of ours can
// avoid.
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "ktls/plain_pair.h"
#include "micro.h"
#include "transport/seqpacket.h"

namespace handshake::bench {

namespace {

/// As large as an ACCEPT reply with a credential and a peername.
constexpr std::size_t kMessageBytes = 160;
constexpr int kRoundTrips = 20'000;

using transport::receive_packet;
using transport::send_packet;

Result<void> receive_one(int fd) {
  while (true) {
    auto packet = receive_packet(fd);
    if (!packet) return tl::unexpected(packet.error());
    if (*packet) return {};
    pollfd wait{fd, POLLIN, 0};
    ::poll(&wait, 1, -1);
  }
}

Result<void> send_one(int fd, std::span<const UniqueFd> fds = {}) {
  static const std::array<std::byte, kMessageBytes> message{};
  const auto sent = send_packet(fd, message, fds);
  if (!sent) return tl::unexpected(sent.error());
  return {};
}

/// Answers every message until the other end is closed.
[[noreturn]] void echo(int fd) {
  while (receive_one(fd) && send_one(fd)) {
  }
  ::_exit(0);
}

double microseconds(Nanoseconds time) { return std::chrono::duration<double, std::micro>(time).count(); }

}  // namespace

Result<MessageCosts> measure_messages() {
  MessageCosts costs;
  auto pair = transport::seqpacket_pair();
  if (!pair) return tl::unexpected(pair.error());
  const int left = pair->first.get();
  const int right = pair->second.get();
  bool failed = false;
  const auto hop = [&](std::span<const UniqueFd> fds) { failed |= !send_one(left, fds) || !receive_one(right); };
  std::array<UniqueFd, 1> passenger{UniqueFd(::fcntl(left, F_DUPFD_CLOEXEC, 0))};
  costs.plain = nanoseconds_each([&] { hop({}); }) / 1000;
  costs.with_fd = nanoseconds_each([&] { hop(passenger); }) / 1000;
  if (failed) return fail(ErrorKind::kInputOutput, "a message did not arrive");

  passenger[0].reset();  // a copy of it in the child would keep the child from seeing the end
  const pid_t child = ::fork();
  if (child < 0) return fail_errno("fork");
  if (child == 0) {
    pair->first.reset();
    echo(right);
  }
  pair->second.reset();
  const auto round_trip = [&] { failed |= !send_one(left) || !receive_one(left); };
  for (int i = 0; i < kRoundTrips / 10; ++i) round_trip();
  const Nanoseconds cpu = own_cpu_time() + cpu_time(child);
  const TimePoint start = Clock::now();
  for (int i = 0; i < kRoundTrips; ++i) round_trip();
  const auto wall = Clock::now() - start;
  costs.switched = microseconds(own_cpu_time() + cpu_time(child) - cpu) / (2.0 * kRoundTrips);
  costs.latency = microseconds(wall) / (2.0 * kRoundTrips);
  pair->first.reset();
  ::waitpid(child, nullptr, 0);
  if (failed) return fail(ErrorKind::kInputOutput, "a message was not answered");
  return costs;
}

Result<double> measure_plain_pair() {
  constexpr int kPairs = 500;
  const Nanoseconds cpu = own_cpu_time();
  for (int i = 0; i < kPairs; ++i) {
    const auto pair = ktls::make_plain_pair();
    if (!pair) return tl::unexpected(pair.error());
  }
  return microseconds(own_cpu_time() - cpu) / kPairs;
}

}  // namespace handshake::bench
