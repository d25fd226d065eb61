// SPDX-License-Identifier: Apache-2.0
#include "service/outcome.h"

#include <new>
#include <utility>

namespace handshake::service {
namespace {

/// What an agent says for people is cut here: the consumer's message has a maximum.
constexpr std::size_t kMaxTextBytes = 1024;

/// What is wrong with a report.
std::optional<std::string> find_fault(const DoneReport& report, bool has_plain_end,
                                      protocol::RelayMode allowed) {
  if (report.status && *report.status > protocol::kMaxErrno) {
    return "status " + std::to_string(*report.status) + " is no error number";
  }
  if (report.status != 0u) return std::nullopt;
  if (const auto bad = find_malformed_tag(report.tags)) {
    return "tag " + std::to_string(*bad + 1) + " of " + std::to_string(report.tags.size()) +
           " is malformed";
  }
  const bool relay = report.mode == protocol::SessionMode::kRelay;
  if (relay && allowed == protocol::RelayMode::kNever) {
    return "a relay although the consumer wants none";
  }
  if (relay && !has_plain_end) return "a relay without its plain end";
  if (!relay && has_plain_end) return "a plain end without a relay";
  return std::nullopt;
}

std::string cut(std::string text) {
  if (text.size() > kMaxTextBytes) text.resize(kMaxTextBytes);
  return text;
}

}  // namespace

Outcome weigh(DoneReport report, bool has_plain_end, protocol::RelayMode allowed,
              std::pmr::memory_resource* tag_memory) {
  Outcome outcome;
  Completion& completion = outcome.completion;
  outcome.fault = find_fault(report, has_plain_end, allowed);
  if (outcome.fault) {
    completion.status = -EIO;
    completion.reason = "the agent's report was malformed: " + *outcome.fault;
  } else {
    completion.status = consumer_status(report.status);
    completion.remote_auth = std::move(report.remote_auth);
    completion.cipher = cut(std::move(report.cipher));
    completion.group = cut(std::move(report.group));
    completion.peer_subject = cut(std::move(report.peer_subject));
    completion.certificate_algorithm = cut(std::move(report.certificate_algorithm));
    completion.reason = cut(std::move(report.reason));
    completion.alert = report.alert;
    completion.alert_sent = report.alert_sent;
  }
  if (completion.status == 0) {
    completion.mode = report.mode;
    try {
      completion.tags = collect_tags(report.tags, tag_memory);
      outcome.tags_capped = report.tags.size() > kMaxTags;
    } catch (const std::bad_alloc&) {
      outcome.tags_dropped = !report.tags.empty();
    }
  }
  outcome.text.cipher = completion.cipher;
  outcome.text.group = completion.group;
  outcome.text.peer_subject = completion.peer_subject;
  outcome.text.certificate_algorithm = completion.certificate_algorithm;
  outcome.text.reason = completion.reason;
  return outcome;
}

void set_reason(std::string& reason, std::string_view text) noexcept {
  try {
    reason = text;
  } catch (const std::bad_alloc&) {
    reason.clear();
  }
}

}  // namespace handshake::service
