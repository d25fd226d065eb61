// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "daemon/kernel_channel.h"
#include "keyring/keyrings.h"
#include "service/reaper.h"
#include "service/service.h"

namespace handshake::daemon {

/// Makes the kernel of one network namespace a consumer of our service: takes what its consumers
/// want until nothing waits, submits it, and answers with DONE. Belongs to the loop's thread, as
/// must whatever ends requests of the service.
///
/// What goes over a limit is refused at once, since it would block what stands behind it. Success is
/// reported for a socket whose kTLS has been looked at, and for no other (R3.4).
class KernelBridge {
 public:
  /// What all bridges have in common; outlives them.
  struct Context {
    EventLoop& loop;
    Log log;
    service::Service& service;
    service::Reaper& reaper;
    /// Called after requests were submitted: the service may have a new first deadline.
    std::function<void()> submitted;
    /// ktls::verify(), but for tests.
    std::function<Result<void>(int socket)> verify;
    /// Type of the keys that are pre-shared keys.
    std::string psk_type = "psk";
  };
  /// For requests to come; may change while others are under way.
  struct Settings {
    std::string client_credential;
    std::string server_credential;
    std::shared_ptr<keyring::Keyrings> keyrings;
  };

  /// `name` is the namespace's, for the log. `failed` is called from the loop when the kernel cannot
  /// be reached any more (EPERM: it does not want us); the bridge is of no use then. Errors: those
  /// of EventLoop::watch().
  [[nodiscard]] static Result<std::unique_ptr<KernelBridge>> open(
      const Context& context, std::string name, std::unique_ptr<KernelChannel> channel,
      Settings settings, std::function<void(const Error&)> failed);
  /// Ends what is under way with ETIMEDOUT, which consumers take for "try again".
  ~KernelBridge();
  KernelBridge(const KernelBridge&) = delete;
  KernelBridge& operator=(const KernelBridge&) = delete;

  void set_settings(Settings settings) { settings_ = std::move(settings); }
  /// Leaves what waits to the kernel, and so to the next agent.
  void stop_accepting();
  /// Requests that have not been answered.
  [[nodiscard]] std::size_t live() const noexcept { return requests_.size(); }

 private:
  /// A consumer's request; our copy of its socket is what DONE names.
  struct Request {
    UniqueFd socket;
    std::uint64_t service_id = 0;
    std::uint32_t max_tags = 0;
    std::optional<keyring::Serial> keyring;
    std::shared_ptr<keyring::Keyrings> keyrings;
  };

  KernelBridge(const Context& context, std::string name, std::unique_ptr<KernelChannel> channel,
               Settings settings, std::function<void(const Error&)> failed);
  void on_notification();
  void accept_all();
  void accept_later(Clock::duration delay);
  void begin(KernelChannel::Request accepted);
  void take(KernelChannel::Request accepted);
  [[nodiscard]] Result<service::Submission> submission_of(const KernelChannel::Request& accepted);
  [[nodiscard]] Result<service::PresharedKey> first_usable_psk(
      const protocol::kernel::AcceptReply& parameters);
  [[nodiscard]] Result<std::vector<service::RequestKeyPair>> key_pairs_of(
      const protocol::kernel::AcceptReply& parameters);
  void complete(int socket, service::Completion completion);
  [[nodiscard]] KernelChannel::Report report_of(int socket, service::Completion completion);
  void refuse(int socket, const Error& error);
  void finish(int socket, KernelChannel::Report report);
  void fail_later(Error error);
  [[nodiscard]] std::string field() const { return log_field("netns", name_); }

  const Context& context_;
  const std::string name_;
  const std::unique_ptr<KernelChannel> channel_;
  Settings settings_;
  std::function<void(const Error&)> failed_;
  bool accepting_ = true;
  bool starved_ = false;  ///< ACCEPT fails, and that has been logged
  std::map<int, Request> requests_;  ///< by descriptor
  /// How many of them were given this keyring.
  std::map<keyring::Serial, std::size_t> keyring_users_;
  EventLoop::Timer again_;
  EventLoop::Timer failure_;
  EventLoop::Watch watch_;
};

/// What a kernel consumer is told of a request that our service refused: its errno, but ETIMEDOUT for
/// what may be better in a moment (a limit, no memory, a daemon that is stopping), because that is
/// what NFS and NVMe try again after. Positive.
[[nodiscard]] int kernel_status(const Error& refusal) noexcept;

}  // namespace handshake::daemon
