// SPDX-License-Identifier: Apache-2.0
#pragma once

// Inside of service/service.h, for this room only.

#include <memory_resource>
#include <optional>
#include <string>
#include <string_view>

#include "service/done_report.h"
#include "service/session_record.h"
#include "service/submission.h"

namespace handshake::service {

/// What a DONE amounts to: all that takes memory or time, done before the gate.
struct Outcome {
  Completion completion;  ///< without request id and plain end
  SessionRecord text;     ///< the completion's texts again, for the request's record
  std::optional<std::string> fault;  ///< the report was malformed, and how
  bool tags_capped = false;
  bool tags_dropped = false;  ///< `tag_memory` was out
};

/// Pure but for `tag_memory`. `has_plain_end`: a descriptor came with the report. `allowed`: what
/// the consumer said. A malformed report becomes EIO without anything else that it says. Throws
/// std::bad_alloc.
[[nodiscard]] Outcome weigh(DoneReport report, bool has_plain_end, protocol::RelayMode allowed,
                            std::pmr::memory_resource* tag_memory);

/// Sets a text for people, or leaves it empty when memory is out.
void set_reason(std::string& reason, std::string_view text) noexcept;

}  // namespace handshake::service
