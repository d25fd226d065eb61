// SPDX-License-Identifier: Apache-2.0
#include "support/fake_kernel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include <gtest/gtest.h>

#include "protocol/message.h"
#include "support/sockets.h"
#include "transport/seqpacket.h"

namespace handshake::test {

namespace {

using protocol::AttributePolicy;
using protocol::AttributeType;
using protocol::FamilyInfo;
using protocol::OperationInfo;
using protocol::PolicyTable;

constexpr std::uint16_t kFamilyId = 34;
constexpr std::uint32_t kFirstGroup = 13;

// The three DONEs that have been seen or proposed.
constexpr AttributePolicy kStatus{.number = 1, .name = "status", .type = AttributeType::kU32, .max_unsigned = 4095};
constexpr AttributePolicy kSockfd{.number = 2,
                                  .name = "sockfd",
                                  .type = AttributeType::kS32,
                                  .min_signed = INT32_MIN,
                                  .max_signed = INT32_MAX};
constexpr AttributePolicy kRemoteAuth{
    .number = 3, .name = "remote-auth", .type = AttributeType::kU32, .max_unsigned = UINT32_MAX};
constexpr AttributePolicy kPlainDone[] = {kStatus, kSockfd, kRemoteAuth};
constexpr AttributePolicy kTagDone[] = {
    kStatus, kSockfd, kRemoteAuth,
    {.number = 4, .name = "tag", .type = AttributeType::kNulString, .max_length = 255}};
constexpr AttributePolicy kKeyUpdateDone[] = {
    kStatus, kSockfd, kRemoteAuth,
    {.number = 4, .name = "session-id", .type = AttributeType::kU32, .max_unsigned = UINT32_MAX}};
constexpr PolicyTable kPlainTable{"done", kPlainDone};
constexpr PolicyTable kTagTable{"done", kTagDone};
constexpr PolicyTable kKeyUpdateTable{"done", kKeyUpdateDone};
const PolicyTable* const kAcceptTable = &protocol::kernel::policy::kAcceptRequest;
const OperationInfo kPlainOperations[] = {
    {.command = 2, .name = "accept", .admin = true, .do_request = kAcceptTable},
    {.command = 3, .name = "done", .admin = true, .do_request = &kPlainTable}};
const OperationInfo kTagOperations[] = {
    {.command = 2, .name = "accept", .admin = true, .do_request = kAcceptTable},
    {.command = 3, .name = "done", .admin = true, .do_request = &kTagTable}};
const OperationInfo kKeyUpdateOperations[] = {
    {.command = 2, .name = "accept", .admin = true, .do_request = kAcceptTable},
    {.command = 3, .name = "done", .admin = true, .do_request = &kKeyUpdateTable}};
const FamilyInfo kPlain{.name = "handshake", .groups = protocol::kernel::kGroups, .operations = kPlainOperations};
const FamilyInfo kTags{.name = "handshake", .groups = protocol::kernel::kGroups, .operations = kTagOperations};
const FamilyInfo kKeyUpdate{
    .name = "handshake", .groups = protocol::kernel::kGroups, .operations = kKeyUpdateOperations};

const FamilyInfo& family_of(FakeKernel::Contested contested) {
  switch (contested) {
    case FakeKernel::Contested::kNothing: return kPlain;
    case FakeKernel::Contested::kSessionTags: return kTags;
    case FakeKernel::Contested::kKeyUpdate: return kKeyUpdate;
  }
  return kPlain;
}

std::vector<protocol::Controller::Registration> registrations(FakeKernel::Contested contested, bool with_family) {
  if (!with_family) return {};
  return {{kFamilyId, &family_of(contested), kFirstGroup}};
}

std::uint64_t cookie_of(int socket) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  EXPECT_EQ(::getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
  return cookie;
}

void send_all(int socket, std::span<const std::byte> bytes) {
  const auto sent = transport::send_packet(socket, bytes, {});
  EXPECT_TRUE(sent && *sent == transport::SendState::kSent);
}

}  // namespace

FakeKernel::FakeKernel(Contested contested, bool with_family)
    : contested_(contested), controller_(registrations(contested, with_family)), wake_(::eventfd(0, EFD_CLOEXEC)) {
  thread_ = std::thread([this] { run(); });
}

FakeKernel::~FakeKernel() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  EXPECT_EQ(::eventfd_write(wake_.get(), 1), 0);
  thread_.join();
}

const FamilyInfo& FakeKernel::family() const { return family_of(contested_); }

transport::NetlinkSocket FakeKernel::connect() {
  auto pair = transport::seqpacket_pair().value();
  const std::lock_guard lock(mutex_);
  servers_.push_back(std::move(pair.first));
  EXPECT_EQ(::eventfd_write(wake_.get(), 1), 0);
  return transport::NetlinkSocket(std::move(pair.second));
}

transport::NetlinkSocket FakeKernel::listen() {
  auto pair = transport::seqpacket_pair().value();
  const std::lock_guard lock(mutex_);
  listeners_.push_back(std::move(pair.first));
  return transport::NetlinkSocket(std::move(pair.second));
}

void FakeKernel::submit(Request request) {
  submit_silently(std::move(request));
  ready();
}

void FakeKernel::submit_silently(Request request) {
  const std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(request));
}

void FakeKernel::ready() {
  protocol::MessageHeader header;
  header.type = kFamilyId;
  protocol::kernel::ReadyEvent event;
  event.handler_class = protocol::HandlerClass::kTlshd;
  const auto bytes = protocol::build(header, event).value();
  const std::lock_guard lock(mutex_);
  // A listener that is gone is nobody's business.
  for (const UniqueFd& listener : listeners_) {
    static_cast<void>(transport::send_packet(listener.get(), bytes, {}));
  }
}

std::optional<FakeKernel::Done> FakeKernel::next_done(milliseconds patience) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, patience, [this] { return !dones_.empty(); })) return std::nullopt;
  Done done = std::move(dones_.front());
  dones_.pop_front();
  return done;
}

std::size_t FakeKernel::pending() const {
  const std::lock_guard lock(mutex_);
  return waiting_.size();
}

std::size_t FakeKernel::empty_accepts() const {
  const std::lock_guard lock(mutex_);
  return empty_accepts_;
}

std::vector<int> FakeKernel::refused() const {
  const std::lock_guard lock(mutex_);
  return refused_;
}

void FakeKernel::run() {
  while (true) {
    std::vector<pollfd> polled{{wake_.get(), POLLIN, 0}};
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      for (const UniqueFd& server : servers_) polled.push_back({server.get(), POLLIN, 0});
    }
    static_cast<void>(::poll(polled.data(), polled.size(), -1));
    if ((polled[0].revents & POLLIN) != 0) {
      eventfd_t woken = 0;
      EXPECT_EQ(::eventfd_read(wake_.get(), &woken), 0);
    }
    for (std::size_t i = 1; i < polled.size(); ++i) {
      if (polled[i].revents != 0) serve(polled[i].fd);
    }
  }
}

void FakeKernel::serve(int socket) {
  const auto packet = transport::receive_packet(socket);
  if (!packet) {  // closed
    const std::lock_guard lock(mutex_);
    std::erase_if(servers_, [socket](const UniqueFd& server) { return server.get() == socket; });
    return;
  }
  if (!*packet) return;
  protocol::MessageReader reader((*packet)->bytes);
  while (true) {
    const auto view = reader.next();
    EXPECT_TRUE(view);
    if (!view || !*view) return;
    answer(socket, **view);
  }
}

void FakeKernel::answer(int socket, const protocol::MessageView& request) {
  if (request.type != kFamilyId) {
    for (const auto& datagram : controller_.answer(request)) send_all(socket, datagram);
    return;
  }
  protocol::ExtAck ack;
  if (const auto checked = protocol::check(family(), request, ack); !checked) {
    {
      const std::lock_guard lock(mutex_);
      refused_.push_back(checked.error().number());
    }
    return send_all(socket, protocol::build_ack(request, checked.error().number(), ack));
  }
  if (request.command == protocol::kernel::AcceptRequest::kCommand) return accept(socket, request);
  const int failed = done(request);
  send_all(socket, protocol::build_ack(request, failed, ack));
  changed_.notify_all();
}

void FakeKernel::accept(int socket, const protocol::MessageView& view) {
  const std::lock_guard lock(mutex_);
  if (waiting_.empty()) {
    ++empty_accepts_;
    return send_all(socket, protocol::build_ack(view, EAGAIN, {}));
  }
  Request request = std::move(waiting_.front());
  waiting_.pop_front();
  const std::uint64_t cookie = cookie_of(request.socket.get());
  const int installed = ::fcntl(request.socket.get(), F_DUPFD_CLOEXEC, 0);
  if (installed < 0) {
    // What net/handshake does when it can install no descriptor.
    dones_.push_back(Done{cookie, -EIO, {}, {}, 0});
    changed_.notify_all();
    return send_all(socket, protocol::build_ack(view, EMFILE, {}));
  }
  accepted_[cookie] = std::move(request.socket);
  request.parameters.sockfd = installed;
  protocol::MessageHeader header;
  header.type = kFamilyId;
  header.sequence = view.sequence;
  header.command = protocol::kernel::AcceptReply::kCommand;
  auto bytes = protocol::build(header, request.parameters).value();
  bytes.insert(bytes.end(), request.more_attributes.begin(), request.more_attributes.end());
  const auto length = static_cast<std::uint32_t>(bytes.size());
  std::memcpy(bytes.data(), &length, sizeof length);  // nlmsg_len
  send_all(socket, bytes);
}

int FakeKernel::done(const protocol::MessageView& view) {
  protocol::ExtAck problem;
  // A number in attribute 4 is not ours to read.
  const auto parsed = protocol::kernel::DoneRequest::parse(view.attributes, protocol::Unknown::kSkip, problem);
  const std::lock_guard lock(mutex_);
  const auto refuse = [this](int number) {
    refused_.push_back(number);
    return number;
  };
  if (!parsed || !parsed->sockfd) return refuse(EINVAL);
  if (::fcntl(*parsed->sockfd, F_GETFD) < 0) return refuse(EBADF);
  const std::uint64_t cookie = cookie_of(*parsed->sockfd);
  const auto found = accepted_.find(cookie);
  if (found == accepted_.end()) return refuse(EBUSY);
  finished_.push_back(std::move(found->second));
  accepted_.erase(found);
  Done done;
  done.cookie = cookie;
  done.status = parsed->status ? -static_cast<int>(*parsed->status) : -EIO;
  done.remote_auth = parsed->remote_auth;
  done.tags = parsed->tag;
  done.descriptors = open_descriptors();
  dones_.push_back(std::move(done));
  return 0;
}

}  // namespace handshake::test
