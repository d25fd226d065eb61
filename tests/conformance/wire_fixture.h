// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/netlink.h>

#include <condition_variable>
#include <deque>

#include "../unit/protocol_bytes.h"
#include "protocol/families.h"
#include "protocol/messages.h"
#include "service/agent_endpoint.h"
#include "service/consumer_endpoint.h"
#include "service_fixture.h"

namespace handshake::testing {

using protocol::ExtAck;
using protocol::MessageView;
using protocol::test::Bytes;

/// What an endpoint has sent, in the order on the wire.
class Outbox {
 public:
  struct Datagram {
    Bytes bytes;
    std::vector<UniqueFd> fds;

    MessageView view() const { return protocol::test::only_message(bytes); }
    /// The datagram as a message of one type; a failure of the test if it is none.
    template <class M>
    M as() const {
      ExtAck ack;
      const auto parsed = M::parse(view().attributes, protocol::Unknown::kRefuse, ack);
      EXPECT_EQ(view().command, M::kCommand);
      EXPECT_TRUE(parsed) << protocol::test::to_hex(bytes);
      return parsed.value_or(M{});
    }
    protocol::Ack ack() const {
      const auto parsed = protocol::parse_ack(view());
      EXPECT_TRUE(parsed) << protocol::test::to_hex(bytes);
      return parsed.value_or(protocol::Ack{});
    }
  };

  void put(Bytes bytes, std::vector<UniqueFd> fds) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({std::move(bytes), std::move(fds)});
    changed_.notify_all();
  }
  /// The next one; waits for another thread to send it.
  Datagram next() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, soon(), [this] { return !waiting_.empty(); })) {
      ADD_FAILURE() << "nothing was sent";
      return {};
    }
    Datagram first = std::move(waiting_.front());
    waiting_.pop_front();
    return first;
  }
  bool empty() {
    const std::lock_guard lock(mutex_);
    return waiting_.empty();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Datagram> waiting_;
};

/// Services with endpoints instead of function calls.
class WireTest : public ServiceTest {
 protected:
  struct WiredAgent {
    std::shared_ptr<Outbox> out = std::make_shared<Outbox>();
    std::unique_ptr<service::AgentEndpoint> endpoint;
    Outbox::Datagram next() const { return out->next(); }
    bool silent() const { return out->empty(); }
  };
  struct WiredConsumer {
    std::shared_ptr<Outbox> out = std::make_shared<Outbox>();
    std::unique_ptr<service::ConsumerEndpoint> endpoint;
    Outbox::Datagram next() const { return out->next(); }
    bool silent() const { return out->empty(); }
  };

  WiredAgent wired_agent(AgentInfo info = {.pid = 1, .uid = 0, .own_worker = true}) {
    WiredAgent agent;
    agent.endpoint = std::make_unique<service::AgentEndpoint>(
        service(), reaper_, info, [out = agent.out](Bytes bytes, std::vector<UniqueFd> fds) {
          out->put(std::move(bytes), std::move(fds));
        });
    return agent;
  }
  WiredAgent listening_agent(std::uint32_t handler_class = kTlshd) {
    WiredAgent agent = wired_agent();
    protocol::worker::SubscribeRequest subscribe;
    subscribe.handler_class = {handler_class};
    subscribe.every_netns = true;
    EXPECT_EQ(ask(agent, protocol::kWorkerId, subscribe).error, 0);
    return agent;
  }
  WiredConsumer wired_consumer(service::ConsumerEndpoint::Authorizer authorizer = {},
                               service::ConsumerInfo info = {.pid = 2, .uid = 0, .gid = 0},
                               service::OffThread off_thread = {}) {
    WiredConsumer consumer;
    consumer.endpoint = std::make_unique<service::ConsumerEndpoint>(
        service(), reaper_, info, std::move(authorizer),
        [out = consumer.out](Bytes bytes, std::vector<UniqueFd> fds) {
          out->put(std::move(bytes), std::move(fds));
        },
        std::move(off_thread));
    return consumer;
  }

  template <class M>
  Bytes message(std::uint16_t family, const M& body, std::uint16_t flags = NLM_F_ACK) {
    return protocol::build({.type = family,
                            .flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags),
                            .sequence = ++sequence_},
                           body)
        .value();
  }
  static protocol::Packet packet(Bytes bytes, std::vector<UniqueFd> fds = {}) {
    return {std::move(bytes), std::move(fds), false};
  }
  template <class... Fds>
  static std::vector<UniqueFd> with(Fds... fds) {
    std::vector<UniqueFd> list;
    (list.push_back(duplicate(fds)), ...);
    return list;
  }

  template <class Side, class M>
  void tell(Side& side, std::uint16_t family, const M& body, std::uint16_t flags = NLM_F_ACK,
            std::vector<UniqueFd> fds = {}) {
    EXPECT_TRUE(side.endpoint->receive(packet(message(family, body, flags), std::move(fds))));
  }
  /// Sends and takes the acknowledgement.
  template <class Side, class M>
  protocol::Ack ask(Side& side, std::uint16_t family, const M& body,
                    std::vector<UniqueFd> fds = {}) {
    tell(side, family, body, NLM_F_ACK, std::move(fds));
    const protocol::Ack ack = side.next().ack();
    EXPECT_EQ(ack.sequence, sequence_);
    return ack;
  }

  /// The next request as an agent of the worker's vocabulary gets it.
  protocol::worker::AcceptReply accept_reply(WiredAgent& agent,
                                             std::uint32_t handler_class = kTlshd) {
    protocol::worker::AcceptRequest request;
    request.handler_class = handler_class;
    tell(agent, protocol::kWorkerId, request, 0);
    Outbox::Datagram reply = agent.next();
    EXPECT_EQ(reply.fds.size(), 1u);
    return reply.as<protocol::worker::AcceptReply>();
  }
  static protocol::worker::DoneRequest done_of(std::int32_t token,
                                               std::optional<std::uint32_t> status = 0) {
    protocol::worker::DoneRequest done;
    done.sockfd = token;
    done.status = status;
    return done;
  }
  static protocol::consumer::SubmitRequest submit_of(std::uint64_t id) {
    protocol::consumer::SubmitRequest submit;
    submit.id = id;
    submit.message_type = protocol::MessageType::kClienthello;
    submit.auth_mode = protocol::Auth::kX509;
    return submit;
  }

  std::uint32_t sequence_ = 100;
};

}  // namespace handshake::testing
