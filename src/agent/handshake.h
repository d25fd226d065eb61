// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/closer.h"
#include "agent/credentials.h"
#include "base/clock.h"
#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "ktls/ktls.h"
#include "ktls/relay.h"
#include "protocol/messages.h"
#include "tls/psk.h"
#include "tls/session.h"

namespace handshake::agent {

/// One request, from ACCEPT's reply to what DONE says. Belongs to its loop's thread.
///
/// It never waits and changes nothing on the socket that outlives it: no flag (O_NONBLOCK belongs
/// to the open file description, which the consumer shares) and no option; with kTLS the upper
/// layer is what was asked for. It reads no byte beyond the handshake (R3.3, R3.12).
class Handshake {
 public:
  /// What all handshakes of a worker have in common; outlives them.
  struct Context {
    EventLoop& loop;
    Closer& closer;
    const CredentialSet& credentials;
    const ktls::ProbeResult& ktls;
    /// The service can hand a plain end to the consumer.
    bool service_knows_relays = false;
    milliseconds default_timeout{30'000};
  };

  struct Outcome {
    /// Complete: token, status, and what is known about the session or its failure.
    protocol::worker::DoneRequest report;
    /// With a relay: it waits for start(), and its plain end goes to the consumer with DONE.
    std::unique_ptr<ktls::Relay> relay;
    UniqueFd plain_end;
  };
  /// Called once; may destroy the handshake. The worker's copy of the socket is closed by then,
  /// or owned by the relay (R3.11).
  using Finished = std::function<void(Outcome)>;
  /// Looks for the pre-shared key of one of a client's identities; key_found() is the answer, later
  /// from the loop.
  using FindKey = std::function<void(const std::vector<std::string>& identities)>;

  Handshake(const Context& context, protocol::worker::AcceptReply request, UniqueFd socket);
  Handshake(const Handshake&) = delete;
  Handshake& operator=(const Handshake&) = delete;
  /// Abandons one under way: nothing is sent, nothing is reported.
  ~Handshake();

  /// Calls `finished` from the loop, or from here when it fails, or ends, at once.
  /// Without `find_key` a server with pre-shared keys knows none.
  void start(Finished finished, FindKey find_key = {});
  /// Null: there is none. Nothing happens to a handshake that has not asked.
  void key_found(std::optional<protocol::worker::PresharedKey> key);

 private:
  /// True: the handshake is finished and so is everything after it.
  using Progress = tl::expected<bool, tls::Failure>;

  void run(Progress (Handshake::*step)());
  [[nodiscard]] Progress begin();
  [[nodiscard]] Progress advance();
  [[nodiscard]] Result<void> prepare();
  [[nodiscard]] Result<void> check_authentication() const;
  [[nodiscard]] Result<std::shared_ptr<const tls::Credential>> credential_of(
      const NamedCredential& named);
  [[nodiscard]] Progress ask_for_key();
  [[nodiscard]] std::shared_ptr<const tls::PresharedKey> take_key(
      protocol::worker::PresharedKey& key);
  [[nodiscard]] Result<void> choose_mode();
  [[nodiscard]] tls::SessionParameters parameters(const NamedCredential& credential);
  [[nodiscard]] Result<void> complete();
  [[nodiscard]] Result<void> install_ktls();
  [[nodiscard]] Result<void> make_relay();
  void report(const tls::Failure& failure);
  void finish();

  const Context& context_;
  protocol::worker::AcceptReply request_;
  UniqueFd socket_;
  tls::Side side_ = tls::Side::kClient;
  bool for_kernel_ = false;
  bool asked_for_key_ = false;
  FindKey find_key_;
  std::optional<std::uint32_t> psk_serial_;  ///< of the key in use
  bool with_relay_ = false;
  std::unique_ptr<tls::Session> session_;
  Outcome outcome_;
  Finished finished_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  ///< asked by a late close
  EventLoop::Timer deadline_;
  EventLoop::Watch watch_;  // goes before the socket is closed
};

}  // namespace handshake::agent
