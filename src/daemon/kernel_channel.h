// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "protocol/messages.h"
#include "transport/netlink_family.h"
#include "transport/netlink_socket.h"

namespace handshake::daemon {

/// The kernel's service of one network namespace in terms of requests: READY, ACCEPT and DONE over
/// two netlink sockets. Belongs to one thread; every call is answered before it returns.
class KernelChannel {
 public:
  /// Commands and notifications apart: READYs that are lost must not cost an answer.
  struct Sockets {
    transport::NetlinkSocket commands;
    transport::NetlinkSocket notifications;
  };
  /// Of the calling thread's namespace. Errors: those of NetlinkSocket::open().
  [[nodiscard]] static Result<Sockets> open_sockets();

  /// Finds the family, learns what it can do and asks to be told of requests of the class tlshd.
  /// With `trace` every message is logged. Errors: ENOENT (a kernel without the family), EPERM.
  [[nodiscard]] static Result<std::unique_ptr<KernelChannel>> open(Sockets sockets, Log log,
                                                                   bool trace);

  [[nodiscard]] const transport::KernelCapabilities& capabilities() const noexcept {
    return capabilities_;
  }
  /// Readable when take_notifications() has something to say.
  [[nodiscard]] int notifications_fd() const noexcept { return sockets_.notifications.fd(); }
  /// Takes all there are. True: a request may wait. Errors: those of NetlinkSocket::receive().
  [[nodiscard]] Result<bool> take_notifications();

  /// A consumer's request. The descriptor is this process's own copy of the consumer's socket; DONE
  /// names it by its number, so it stays open until then.
  struct Request {
    UniqueFd socket;
    protocol::kernel::AcceptReply parameters;
    /// Not empty: the reply could not be understood; finish it with EOPNOTSUPP.
    std::string problem;
  };
  /// The next one; nullopt when none waits. Errors: EMFILE as EAGAIN (no descriptor is free: the
  /// kernel would end a request for that, so it was not asked), EPERM, EIO.
  [[nodiscard]] Result<std::optional<Request>> accept();

  struct Report {
    int socket = -1;
    int status = 0;  ///< 0 or a positive errno up to 4095
    std::vector<std::uint32_t> remote_auth;
    std::vector<std::string> tags;  ///< left out where the kernel has no session tags
  };
  /// Errors: EBUSY (finished before, by a cancel), EBADF; after EINVAL the request has been
  /// finished with EIO.
  [[nodiscard]] Result<void> done(const Report& report);

 private:
  KernelChannel(Sockets sockets, Log log) : sockets_(std::move(sockets)), log_(std::move(log)) {}
  [[nodiscard]] bool reserve_descriptor();
  [[nodiscard]] Result<void> send_done(const protocol::kernel::DoneRequest& request);

  Sockets sockets_;
  Log log_;
  transport::NetlinkFamily family_;
  transport::KernelCapabilities capabilities_;
  UniqueFd spare_;
};

}  // namespace handshake::daemon
