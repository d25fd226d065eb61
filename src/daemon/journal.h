// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <deque>
#include <string>

#include "base/log.h"
#include "protocol/messages.h"
#include "service/session_record.h"

namespace handshake::daemon {

/// One line for a request that has ended, or a relay: everything an administrator asks of it, as
/// key=value (R6.3). What came from the peer is quoted; there is no key in a SessionRecord.
[[nodiscard]] std::string summary_line(const service::SessionRecord& record);

/// A record as the control protocol reports it.
[[nodiscard]] protocol::control::SessionsReply session_message(const service::SessionRecord& record);

/// Remembers the last sessions that ended and logs each one. Belongs to the loop's thread.
class Journal {
 public:
  explicit Journal(Log log) : log_(std::move(log)) {}
  /// Called by the service's observer.
  void add(const service::SessionRecord& record);
  /// Oldest first.
  [[nodiscard]] const std::deque<service::SessionRecord>& ended() const noexcept { return ended_; }

 private:
  static constexpr std::size_t kRemembered = 1000;
  Log log_;
  std::deque<service::SessionRecord> ended_;
};

}  // namespace handshake::daemon
