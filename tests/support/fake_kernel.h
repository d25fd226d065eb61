// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/unique_fd.h"
#include "protocol/controller.h"
#include "protocol/messages.h"
#include "transport/netlink_socket.h"

namespace handshake::test {

/// The kernel's side of the family `handshake` on a thread of the test's own process: the same bytes
/// over SEQPACKET pairs, descriptors installed into this process as the kernel would.
class FakeKernel {
 public:
  /// What the numbers DONE 4 and ACCEPT 10 mean there.
  enum class Contested { kNothing, kSessionTags, kKeyUpdate };

  /// `with_family` false: a kernel without net/handshake.
  explicit FakeKernel(Contested contested = Contested::kNothing, bool with_family = true);
  ~FakeKernel();
  FakeKernel(const FakeKernel&) = delete;
  FakeKernel& operator=(const FakeKernel&) = delete;

  /// A new socket whose requests this kernel answers.
  [[nodiscard]] transport::NetlinkSocket connect();
  /// A new socket that gets READY.
  [[nodiscard]] transport::NetlinkSocket listen();

  /// A consumer's request. The kernel keeps `socket` until the test ends.
  struct Request {
    UniqueFd socket;
    protocol::kernel::AcceptReply parameters;  ///< without sockfd
    /// Sent as they are, after the others: what a newer kernel might say.
    std::vector<std::byte> more_attributes;
  };
  /// Queues it and tells everybody who listens.
  void submit(Request request);
  /// Queues it, and the notification is lost.
  void submit_silently(Request request);
  /// Only the notification.
  void ready();

  struct Done {
    std::uint64_t cookie = 0;  ///< of the socket (SO_COOKIE)
    int status = 0;            ///< negative errno, as the consumer gets it
    std::vector<std::uint32_t> remote_auth;
    std::vector<std::string> tags;
    /// Descriptors of this process that were open when it came.
    std::size_t descriptors = 0;
  };
  /// The next completion, in order; nullopt when none comes within `patience`.
  [[nodiscard]] std::optional<Done> next_done(milliseconds patience = milliseconds(5000));
  /// Requests that nobody has accepted.
  [[nodiscard]] std::size_t pending() const;
  /// How many ACCEPTs found nothing.
  [[nodiscard]] std::size_t empty_accepts() const;
  /// Errors that DONE was answered with.
  [[nodiscard]] std::vector<int> refused() const;

 private:
  void serve(int socket);
  void answer(int socket, const protocol::MessageView& request);
  void accept(int socket, const protocol::MessageView& request);
  int done(const protocol::MessageView& request);
  void run();
  [[nodiscard]] const protocol::FamilyInfo& family() const;

  const Contested contested_;
  protocol::Controller controller_;
  UniqueFd wake_;
  std::thread thread_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::vector<UniqueFd> servers_;
  std::vector<UniqueFd> listeners_;
  std::deque<Request> waiting_;
  std::map<std::uint64_t, UniqueFd> accepted_;  ///< by the socket's cookie
  std::vector<UniqueFd> finished_;
  std::deque<Done> dones_;
  std::size_t empty_accepts_ = 0;
  std::vector<int> refused_;
};

}  // namespace handshake::test
