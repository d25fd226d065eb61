// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "protocol/controller.h"
#include "protocol/messages.h"
#include "protocol/packet.h"

namespace handshake::test {

/// A submission as it arrived: what was asked, the socket that came with it, where it came from.
struct Submitted {
  protocol::consumer::SubmitRequest request;
  UniqueFd socket;
  int connection = 0;
};

/// The consumer's side of a service that does what a test tells it: spec/consumer.yaml over a
/// real listening socket in a directory of its own. It answers on a thread; the test says what.
class FakeService {
 public:
  /// What becomes of a SUBMIT (a positive errno refuses it) and of a CANCEL (nullopt: no answer).
  struct Behaviour {
    std::function<int(const protocol::consumer::SubmitRequest&)> submit = [](const auto&) {
      return 0;
    };
    std::string refusal;  ///< the extended ack's sentence
    std::function<std::optional<bool>(std::uint64_t id)> cancel = [](std::uint64_t) {
      return std::optional<bool>(true);
    };
    /// Called on the service's thread after the ack of a submission.
    std::function<void(FakeService&, Submitted)> submitted;
    bool answer_submit = true;
    bool know_family = true;
  };

  FakeService() : FakeService(Behaviour{}) {}
  explicit FakeService(Behaviour behaviour);
  ~FakeService();
  FakeService(const FakeService&) = delete;
  FakeService& operator=(const FakeService&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// The next submission that no `submitted` behaviour has taken. Fails the test after 20 s.
  [[nodiscard]] Submitted next();
  void complete(const Submitted& submitted, const protocol::consumer::CompleteEvent& event,
                UniqueFd fd = UniqueFd());
  void send(int connection, std::span<const std::byte> bytes, UniqueFd fd = UniqueFd());
  /// Closes every connection, and with `for_good` the listener too.
  void hang_up(bool for_good = false);
  [[nodiscard]] int connections_seen() const { return connections_seen_; }

 private:
  void run();
  void serve(int connection, const protocol::Packet& packet, std::vector<UniqueFd> fds);

  Behaviour behaviour_;
  std::string directory_;
  std::string path_;
  protocol::Controller controller_;
  UniqueFd listener_;
  UniqueFd wake_;
  std::atomic<int> connections_seen_ = 0;
  std::atomic<bool> stop_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<UniqueFd> connections_;  // by number; closed ones stay as empty places
  std::vector<Submitted> submitted_;
  std::thread thread_;  // last: it uses all of the above
};

/// A connected TCP pair over loopback: the consumer's socket and its peer's.
struct TcpPair {
  UniqueFd mine;
  UniqueFd peer;
};
[[nodiscard]] TcpPair tcp_pair();

[[nodiscard]] std::uint64_t cookie_of(int fd);
[[nodiscard]] std::size_t open_descriptors();
/// Waits until `fd` is readable; false after 20 s.
[[nodiscard]] bool readable(int fd, int timeout_ms = 20'000);

}  // namespace handshake::test
