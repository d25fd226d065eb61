// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "protocol/controller.h"
#include "protocol/message.h"
#include "protocol/packet.h"
#include "service/dispatch.h"
#include "service/facts_reader.h"
#include "service/service.h"

namespace handshake::service {

/// Who is at the other end of a consumer's connection (SO_PEERCRED).
struct ConsumerInfo {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

/// Where the sockets of strangers (not root, not this process's own user) are looked at, and the
/// way back to the endpoint's thread. Without a reader they are looked at on the endpoint's own
/// thread, which may block.
struct OffThread {
  FactsReader* reader = nullptr;  ///< outlives the endpoint
  std::function<void(std::function<void()> work)> post;
};

/// One consumer's connection in terms of messages (spec/consumer.yaml): SUBMIT with the socket
/// beside it, CANCEL, and one COMPLETE for each acknowledged SUBMIT that was not cancelled. The
/// ack of a SUBMIT always goes before its COMPLETE.
///
/// receive() belongs to one thread, to which OffThread::post brings work back. `sink` is called
/// from there and from whichever thread completes a request, one call at a time, and not after the
/// destructor, which cancels what has not ended.
class ConsumerEndpoint {
 public:
  /// Takes one datagram and the descriptors that go beside it.
  using Sink = std::function<void(std::vector<std::byte> bytes, std::vector<UniqueFd> fds)>;
  /// May this submission be made? EPERM and why not. Called on the endpoint's thread.
  using Authorizer = std::function<Result<void>(const Submission&, const SocketFacts&)>;
  /// Memory was out when a COMPLETE had to be made: the connection is of no use any more. Called
  /// on any thread.
  using Broken = std::function<void(const Error&)>;

  ConsumerEndpoint(Service& service, Reaper& reaper, const ConsumerInfo& info,
                   Authorizer authorizer, Sink sink, OffThread off_thread = {},
                   Broken broken = {});
  ConsumerEndpoint(const ConsumerEndpoint&) = delete;
  ConsumerEndpoint& operator=(const ConsumerEndpoint&) = delete;
  ~ConsumerEndpoint();

  /// False: this was no netlink, memory is out in the middle of an answer, or this user's
  /// descriptors do not get closed; the connection is of no use any more.
  [[nodiscard]] bool receive(protocol::Packet packet);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace handshake::service
