// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/closer.h"
#include "agent/credentials.h"
#include "agent/handshake.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "ktls/ktls.h"
#include "ktls/relay.h"
#include "protocol/message.h"
#include "protocol/messages.h"
#include "protocol/packet.h"
#include "transport/packet_stream.h"

namespace handshake::agent {

/// An agent at the other end of a SEQPACKET channel from a service: takes requests while it has
/// room for them, performs them, reports, and carries the relays that came of them. Belongs to
/// its loop's thread.
///
/// It asks the service's controller what is spoken there. With the family handshake-worker it
/// subscribes and uses all of spec/worker.yaml; with handshake alone it keeps to the kernel's
/// attributes, and then there are no named credentials and no relays.
class Worker {
 public:
  struct Options {
    std::uint32_t handler_class = static_cast<std::uint32_t>(protocol::HandlerClass::kTlshd);
    /// Subscribe to all network namespaces; otherwise to the connection's own.
    bool every_netns = true;
    std::size_t max_handshakes = 10'000;
    /// Descriptors that handshakes and relays may use together; 0: what RLIMIT_NOFILE leaves.
    std::size_t max_descriptors = 0;
    milliseconds default_timeout{30'000};
    ktls::ProbeResult ktls;
  };
  struct Counters {
    std::uint64_t accepted = 0;
    std::uint64_t succeeded = 0;
    std::uint64_t failed = 0;
    std::uint64_t relays_ended = 0;
    std::uint64_t refused_reports = 0;     ///< DONE for what had ended meanwhile
    std::uint64_t unknown_attributes = 0;  ///< skipped in replies (R2.3)
    std::uint64_t lost_descriptors = 0;    ///< requests that came without their socket
  };
  /// Once, from the loop: the channel is closed or unusable, and everything under way with it.
  /// May destroy the worker.
  using Stopped = std::function<void(const Error&)>;

  /// Errors: those of EventLoop::watch().
  [[nodiscard]] static Result<std::unique_ptr<Worker>> open(EventLoop& loop, UniqueFd channel,
                                                            CredentialSet credentials,
                                                            Options options, Log log,
                                                            Stopped stopped);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();

  [[nodiscard]] const Counters& counters() const noexcept { return counters_; }
  [[nodiscard]] std::size_t handshakes() const noexcept { return handshakes_.size(); }
  [[nodiscard]] std::size_t relays() const noexcept { return relays_.size(); }

 private:
  /// A question to the controller, and its answer: 0 while there is none, or no such family.
  struct Family {
    std::optional<std::uint32_t> asked;
    std::uint16_t id = 0;
  };
  struct CarriedRelay {
    std::optional<std::uint64_t> request_id;
    std::unique_ptr<ktls::Relay> relay;
  };
  using HandshakeId = std::uint64_t;

  Worker(EventLoop& loop, CredentialSet credentials, Options options, Log log, Stopped stopped);
  template <class M>
  std::optional<std::uint32_t> send(std::uint16_t family, const M& message, bool acknowledge,
                                    UniqueFd fd = {});
  [[nodiscard]] std::uint32_t next_sequence();

  void ask_for(Family& family, std::string_view name);
  void on_packet(protocol::Packet packet);
  void on_message(const protocol::MessageView& message, protocol::Packet& packet);
  void on_family(const protocol::MessageView& message);
  void on_ack(const protocol::Ack& ack);
  void on_families_known();
  void on_ready(const protocol::MessageView& message);
  void on_accept_reply(const protocol::MessageView& message, protocol::Packet& packet);
  void on_accept_refused(int error);
  void accept_next();
  void accept_later();
  [[nodiscard]] bool has_room() const noexcept;
  void begin(protocol::worker::AcceptReply request, UniqueFd socket);
  void search_key(HandshakeId id, std::optional<std::int32_t> token,
                  const std::vector<std::string>& identities);
  void on_key(const protocol::MessageView& message);
  void answer_search(std::uint32_t sequence, std::optional<protocol::worker::PresharedKey> key);
  void on_finished(HandshakeId id, std::optional<std::uint64_t> request_id,
                   Handshake::Outcome outcome);
  [[nodiscard]] std::optional<std::uint32_t> report(const protocol::worker::DoneRequest& report,
                                                    UniqueFd plain_end = {});
  void report_failure(std::int32_t token, int error, std::string reason);
  void on_relay_ended(std::uint32_t key, const ktls::Relay::Outcome& outcome);
  void stop(const Error& error);

  EventLoop& loop_;
  const CredentialSet credentials_;
  const Options options_;
  const Log log_;
  Stopped stopped_;
  Counters counters_;

  Family handshake_family_;
  Family worker_family_;
  std::uint32_t sequence_ = 0;
  std::optional<std::uint32_t> subscribing_;  ///< sequence of SUBSCRIBE
  std::optional<std::uint32_t> accepting_;    ///< sequence of the ACCEPT under way
  bool may_accept_ = false;                   ///< set up; nothing is accepted before
  bool more_waits_ = true;                    ///< requests, as far as is known
  bool ready_meanwhile_ = false;              ///< READY came while ACCEPT was under way
  EventLoop::Timer retry_;
  EventLoop::Timer farewell_;

  Closer closer_;
  Handshake::Context context_;
  HandshakeId next_handshake_ = 0;
  std::unordered_map<HandshakeId, std::unique_ptr<Handshake>> handshakes_;
  std::unordered_map<std::uint32_t, HandshakeId> searches_;  ///< FIND-KEY by sequence number
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  ///< asked by posted work
  /// By the sequence number of the DONE that handed the plain end over.
  std::unordered_map<std::uint32_t, CarriedRelay> relays_;
  std::unique_ptr<transport::PacketStream> channel_;
};

}  // namespace handshake::agent
