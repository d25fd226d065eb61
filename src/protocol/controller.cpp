// SPDX-License-Identifier: Apache-2.0
#include "protocol/controller.h"

#include <linux/netlink.h>

#include <algorithm>

#include <fmt/format.h>

#include "protocol/describe.h"
#include "protocol/families.h"
#include "protocol/messages.h"

namespace handshake::protocol {
namespace {

using Registration = Controller::Registration;
using Datagrams = std::vector<std::vector<std::byte>>;

/// As much as the kernel puts into one datagram of a dump, whatever the reader's buffer.
constexpr std::size_t kDatagramBytes = 4096;

/// Collects the parts of a dump into datagrams.
class Dump {
 public:
  Dump(const MessageView& request, std::uint8_t version) : request_(request) {
    header_.type = kControllerId;
    header_.flags = NLM_F_MULTI;
    header_.sequence = request.sequence;
    header_.port = request.port;
    header_.version = version;
  }

  template <class M>
  [[nodiscard]] Result<void> add(const M& message) {
    const Result<std::vector<std::byte>> bytes = build(header_, message);
    if (!bytes) return tl::unexpected<Error>(bytes.error());
    if (datagrams_.empty() || datagrams_.back().size() + bytes->size() > kDatagramBytes) {
      datagrams_.emplace_back();
    }
    datagrams_.back().insert(datagrams_.back().end(), bytes->begin(), bytes->end());
    return {};
  }

  [[nodiscard]] Datagrams finish() && {
    datagrams_.push_back(build_dump_end(request_));
    return std::move(datagrams_);
  }

 private:
  const MessageView& request_;
  MessageHeader header_;
  Datagrams datagrams_;
};

bool has_policy(const PolicyTable* table) noexcept {
  return table != nullptr && !table->attributes.empty();
}

nlctrl::Operation describe_operation(const OperationInfo& operation) {
  std::uint32_t flags = operation.admin ? OpFlags::kAdminPerm : 0;
  if (operation.do_request != nullptr) flags |= OpFlags::kCmdCapDo;
  if (operation.dump_request != nullptr) flags |= OpFlags::kCmdCapDump;
  if (has_policy(operation.do_request) || has_policy(operation.dump_request)) {
    flags |= OpFlags::kCmdCapHaspol;
  }
  return nlctrl::Operation{.id = operation.command, .flags = flags};
}

nlctrl::GetfamilyReply describe_family(const Registration& registration) {
  nlctrl::GetfamilyReply reply;
  reply.family_name = std::string(registration.family->name);
  reply.family_id = registration.id;
  reply.version = registration.family->version;
  reply.hdrsize = 0;
  reply.maxattr = 0;
  for (const OperationInfo& operation : registration.family->operations) {
    reply.ops.push_back(describe_operation(operation));
  }
  std::uint32_t group = registration.first_group;
  for (const std::string_view name : registration.family->groups) {
    reply.mcast_groups.push_back(nlctrl::Group{.id = group++, .name = std::string(name)});
  }
  return reply;
}

/// The policies that a dump shows, each once, numbered in the order found: an operation's, then
/// those nested in them, then the next operation's.
class PolicyIndex {
 public:
  void add(const PolicyTable* table) {
    if (!has_policy(table)) return;
    note(table);
    for (std::size_t i = 0; i < tables_.size(); ++i) {
      for (const AttributePolicy& attribute : tables_[i]->attributes) {
        if (has_policy(attribute.nested)) note(attribute.nested);
      }
    }
  }
  [[nodiscard]] std::uint32_t of(const PolicyTable* table) const {
    return static_cast<std::uint32_t>(std::find(tables_.begin(), tables_.end(), table) -
                                      tables_.begin());
  }
  [[nodiscard]] const std::vector<const PolicyTable*>& tables() const noexcept { return tables_; }

 private:
  void note(const PolicyTable* table) {
    if (std::find(tables_.begin(), tables_.end(), table) == tables_.end()) {
      tables_.push_back(table);
    }
  }
  std::vector<const PolicyTable*> tables_;
};

Result<void> dump_operations(const Registration& registration,
                             const std::vector<const OperationInfo*>& operations,
                             const PolicyIndex& index, Dump& dump) {
  for (const OperationInfo* operation : operations) {
    if (!has_policy(operation->do_request) && !has_policy(operation->dump_request)) continue;
    nlctrl::OpPolicyEntry entry;
    entry.op_id = operation->command;
    if (has_policy(operation->do_request)) entry.value.do_ = index.of(operation->do_request);
    if (has_policy(operation->dump_request)) entry.value.dump = index.of(operation->dump_request);
    nlctrl::GetpolicyReply reply;
    reply.family_id = registration.id;
    reply.op_policy = entry;
    if (Result<void> ok = dump.add(reply); !ok) return ok;
  }
  return {};
}

Result<void> dump_attributes(const Registration& registration, const PolicyIndex& index,
                             Dump& dump) {
  for (const PolicyTable* table : index.tables()) {
    for (const AttributePolicy& attribute : table->attributes) {
      nlctrl::PolicyEntry entry;
      entry.policy_id = static_cast<std::uint16_t>(index.of(table));
      entry.attr_id = attribute.number;
      entry.value = describe_policy(attribute);
      if (has_policy(attribute.nested)) {
        entry.value.policy_idx = index.of(attribute.nested);
        entry.value.policy_maxtype = attribute.nested->max_type();
      }
      nlctrl::GetpolicyReply reply;
      reply.family_id = registration.id;
      reply.policy = entry;
      if (Result<void> ok = dump.add(reply); !ok) return ok;
    }
  }
  return {};
}

/// The family that a request names by number, by name or, as the kernel takes it, by the name if
/// it gives both.
template <class Request>
Result<const Registration*> named_family(const Controller& controller, const Request& request) {
  if (!request.family_id && !request.family_name) {
    return fail(ErrorKind::kInvalidArgument, "nlctrl: no family named");
  }
  const Registration* found = request.family_name ? controller.find(*request.family_name)
                                                  : controller.find(*request.family_id);
  if (found == nullptr) return fail(ErrorKind::kNotFound, "nlctrl: no such family");
  return found;
}

struct Answer {
  Datagrams datagrams;
  bool ack_wanted = false;   ///< a dump's end is its acknowledgement
};

Result<Answer> get_family(const Controller& controller, const MessageView& message, ExtAck& ack) {
  const auto request = nlctrl::GetfamilyRequest::parse(message.attributes, Unknown::kRefuse, ack);
  if (!request) return tl::unexpected<Error>(request.error());
  const Result<const Registration*> found = named_family(controller, *request);
  if (!found) return tl::unexpected<Error>(found.error());
  MessageHeader header;
  header.type = kControllerId;
  header.sequence = message.sequence;
  header.port = message.port;
  header.version = nlctrl::kFamily.version;
  Result<std::vector<std::byte>> reply = build(header, describe_family(**found));
  if (!reply) return tl::unexpected<Error>(reply.error());
  Answer answer;
  answer.datagrams.push_back(std::move(*reply));
  answer.ack_wanted = (message.flags & NLM_F_ACK) != 0;
  return answer;
}

Result<Answer> dump_families(std::span<const Registration> families, const MessageView& message) {
  Dump dump(message, nlctrl::kFamily.version);
  for (const Registration& registration : families) {
    if (Result<void> ok = dump.add(describe_family(registration)); !ok) {
      return tl::unexpected<Error>(ok.error());
    }
  }
  return Answer{std::move(dump).finish(), false};
}

Result<Answer> dump_policies(const Controller& controller, const MessageView& message,
                             ExtAck& ack) {
  const auto request = nlctrl::GetpolicyRequest::parse(message.attributes, Unknown::kRefuse, ack);
  if (!request) return tl::unexpected<Error>(request.error());
  const Result<const Registration*> found = named_family(controller, *request);
  if (!found) return tl::unexpected<Error>(found.error());
  std::vector<const OperationInfo*> operations;
  PolicyIndex index;
  for (const OperationInfo& operation : (*found)->family->operations) {
    if (request->op && *request->op != operation.command) continue;
    operations.push_back(&operation);
    index.add(operation.do_request);
    index.add(operation.dump_request);
  }
  if (operations.empty()) return fail(ErrorKind::kNotFound, "nlctrl: no such operation");
  Dump dump(message, nlctrl::kFamily.version);
  if (Result<void> ok = dump_operations(**found, operations, index, dump); !ok) {
    return tl::unexpected<Error>(ok.error());
  }
  if (Result<void> ok = dump_attributes(**found, index, dump); !ok) {
    return tl::unexpected<Error>(ok.error());
  }
  return Answer{std::move(dump).finish(), false};
}

Result<Answer> answer_request(const Controller& controller,
                              std::span<const Registration> families, const MessageView& message,
                              ExtAck& ack) {
  if (Result<void> ok = check(nlctrl::kFamily, message, ack); !ok) {
    return tl::unexpected<Error>(ok.error());
  }
  if (message.command == nlctrl::GetpolicyRequest::kCommand) {
    return dump_policies(controller, message, ack);
  }
  return is_dump(message) ? dump_families(families, message)
                          : get_family(controller, message, ack);
}

}  // namespace

Controller::Controller(std::vector<Registration> families) : families_(std::move(families)) {
  families_.push_back(Registration{kControllerId, &nlctrl::kFamily, 0});
  std::sort(families_.begin(), families_.end(),
            [](const Registration& a, const Registration& b) { return a.id < b.id; });
}

const Registration* Controller::find(std::uint16_t id) const noexcept {
  const auto found = std::find_if(families_.begin(), families_.end(),
                                  [&](const Registration& entry) { return entry.id == id; });
  return found == families_.end() ? nullptr : &*found;
}

const Registration* Controller::find(std::string_view name) const noexcept {
  const auto found =
      std::find_if(families_.begin(), families_.end(),
                   [&](const Registration& entry) { return entry.family->name == name; });
  return found == families_.end() ? nullptr : &*found;
}

Datagrams Controller::answer(const MessageView& request) const {
  ExtAck ack;
  Result<Answer> answer = answer_request(*this, families_, request, ack);
  if (!answer) {
    Datagrams refusal;
    refusal.push_back(build_ack(request, answer.error().number(), ack));
    return refusal;
  }
  if (answer->ack_wanted) answer->datagrams.push_back(build_ack(request, 0, ack));
  return std::move(answer->datagrams);
}

}  // namespace handshake::protocol
