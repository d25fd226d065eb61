// SPDX-License-Identifier: Apache-2.0
// The service alone, called directly: what it costs to queue, take and finish a request must not
// depend on how many others wait.
#include <fcntl.h>

#include <algorithm>

#include "micro.h"
#include "service/service.h"

namespace handshake::bench {

namespace {

using service::Submission;
using handshake::protocol::HandlerClass;

constexpr auto kClass = static_cast<std::uint32_t>(HandlerClass::kTlshd);
constexpr std::size_t kOperations = 2000;
/// Hardly any process may have 100,000 descriptors. Requests that only wait, and are never accepted
/// here, have the number of one that is not open, from here on.
constexpr int kNoSuchDescriptor = 1 << 20;

/// Times single calls; the clock's own time is taken off.
class Stopwatch {
 public:
  Stopwatch() : overhead_(nanoseconds_each([] { keep(Clock::now()); })) {}

  template <class Operation>
  auto time(Operation operation) {
    const TimePoint start = Clock::now();
    auto outcome = operation();
    times_.push_back(std::chrono::duration<double, std::nano>(Clock::now() - start).count() - overhead_);
    return outcome;
  }
  [[nodiscard]] double median_time() const { return median(times_); }

 private:
  double overhead_;
  std::vector<double> times_;
};

class Queue {
 public:
  Queue() : service_(options(), Log(), reaper_) {
    agent_ = service_.connect_agent({.own_worker = true}, [](std::uint32_t) {});
  }

  Result<void> listen(int any_socket) {
    auto netns = service::netns_cookie_of(any_socket);
    if (!netns) return tl::unexpected(netns.error());
    netns_ = *netns;
    return agent_->subscribe({.handler_classes = {kClass}, .every_netns = true});
  }

  /// A request on a socket, of which the service gets a descriptor of its own, as from a message.
  Result<Submission> submission(int fd) {
    UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) return fail_errno("F_DUPFD_CLOEXEC");
    return submission(std::move(copy));
  }
  Result<std::uint64_t> submit(Submission submission) {
    return service_.submit(std::move(submission), Clock::now());
  }
  /// One of those that only wait.
  Result<std::uint64_t> submit_bystander(int number) {
    service::SocketFacts facts;
    facts.stream_tcp = facts.connected = true;
    facts.cookie = (std::uint64_t{1} << 62) + static_cast<std::uint64_t>(number);
    facts.netns_cookie = netns_;
    return service_.submit(submission(UniqueFd(kNoSuchDescriptor + number)), facts, Clock::now());
  }
  bool cancel(std::uint64_t id) { return service_.cancel(id); }
  auto accept() { return agent_->accept(kClass); }
  Result<void> done(std::int32_t token) { return agent_->done(token, service::DoneReport{.status = 0U}); }

 private:
  static service::Options options() {
    service::Options options;
    options.limits.memory_bytes = std::size_t{4} << 30;
    options.limits.pending_per_uid = 0;
    options.limits.closing_per_uid = 0;
    options.limits.pending_per_address = 0;
    options.limits.in_flight_per_address = 0;
    options.default_timeout = std::chrono::hours(1);
    return options;
  }
  static Submission submission(UniqueFd socket) {
    Submission submission;
    submission.socket = std::move(socket);
    submission.message_type = protocol::MessageType::kClienthello;
    submission.auth_mode = protocol::Auth::kX509;
    submission.credential = "client";
    submission.peername = "server.test";
    submission.complete = [](service::Completion) {};
    return submission;
  }

  std::uint64_t netns_ = 0;
  service::Reaper reaper_;
  service::Service service_;
  std::unique_ptr<service::AgentConnection> agent_;
};

}  // namespace

Result<QueueCosts> measure_queue(std::size_t pending) {
  auto pairs = TcpPairs::create();
  if (!pairs) return tl::unexpected(pairs.error());
  std::vector<TcpPair> sockets;
  Queue queue;
  // The oldest are real: they will be accepted. Both ends of a pair are sockets of their own.
  const std::size_t real = std::min(pending, kOperations);
  for (std::size_t waiting = 0; waiting < real; waiting += 2) {
    auto pair = pairs->make();
    if (!pair) return tl::unexpected(pair.error());
    if (auto listening = queue.listen(pair->client.get()); !listening) return tl::unexpected(listening.error());
    for (const int fd : {pair->client.get(), pair->server.get()}) {
      auto submission = queue.submission(fd);
      if (!submission) return tl::unexpected(submission.error());
      if (auto id = queue.submit(std::move(*submission)); !id) return tl::unexpected(id.error());
    }
    sockets.push_back(std::move(*pair));
  }
  for (std::size_t waiting = real; waiting < pending; ++waiting) {
    if (auto id = queue.submit_bystander(static_cast<int>(waiting)); !id) return tl::unexpected(id.error());
  }

  Stopwatch submits;
  Stopwatch accepts;
  Stopwatch dones;
  Stopwatch cancels;
  for (std::size_t i = 0; i < kOperations; ++i) {
    // One more at the tail, the oldest from the head, so that as many wait as before.
    auto pair = pairs->make();
    if (!pair) return tl::unexpected(pair.error());
    auto first = queue.submission(pair->client.get());
    auto second = queue.submission(pair->server.get());
    if (!first) return tl::unexpected(first.error());
    if (!second) return tl::unexpected(second.error());
    auto id = submits.time([&] { return queue.submit(std::move(*first)); });
    if (!id) return tl::unexpected(id.error());
    auto withdrawn = queue.submit(std::move(*second));
    if (!withdrawn) return tl::unexpected(withdrawn.error());
    if (!cancels.time([&] { return queue.cancel(*withdrawn); })) {
      return fail(ErrorKind::kInputOutput, "cancel of a waiting request failed");
    }
    auto accepted = accepts.time([&] {
      auto next = queue.accept();
      if (next && !next->hand_over()) next = fail(ErrorKind::kInputOutput, "hand-over failed");
      return next;
    });
    if (!accepted) return tl::unexpected(accepted.error());
    accepted->take_socket().reset();
    const auto done = dones.time([&] { return queue.done(accepted->token()); });
    if (!done) return tl::unexpected(done.error());
    sockets.push_back(std::move(*pair));
  }
  for (TcpPair& pair : sockets) close_abruptly(std::move(pair));
  return QueueCosts{pending, submits.median_time(), accepts.median_time(), dones.median_time(),
                    cancels.median_time()};
}

}  // namespace handshake::bench
