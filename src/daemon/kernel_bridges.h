// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "config/settings.h"
#include "daemon/kernel_bridge.h"
#include "keyring/keyrings.h"
#include "transport/netns.h"

namespace handshake::daemon {

/// One bridge for each network namespace that the settings name, for as long as the namespace is
/// there. Belongs to the loop's thread.
///
/// Names are looked at twice a second: that is a stat(2) each, works for any path, and notices a
/// namespace that was made anew; inotify would see /run/netns only, and see a name before there is a
/// namespace behind it. Letting go when the name goes is what lets the kernel free the namespace.
class KernelBridges {
 public:
  /// Where requests come from; replaced by tests.
  using OpenSockets = std::function<Result<KernelChannel::Sockets>()>;

  /// `context` outlives it.
  explicit KernelBridges(const KernelBridge::Context& context,
                         OpenSockets open_sockets = &KernelChannel::open_sockets);
  KernelBridges(const KernelBridges&) = delete;
  KernelBridges& operator=(const KernelBridges&) = delete;

  /// At start and after each reload. Nothing here is an error: a kernel without the family, a
  /// namespace that is not there and missing privilege are said in the log.
  void configure(const config::Settings& settings);
  /// What waits is left to the kernel.
  void stop_accepting();
  /// Namespaces served now.
  [[nodiscard]] std::vector<std::string> served() const;

 private:
  struct Served {
    std::string name;  ///< as the settings have it
    /// Which namespace it was; empty while there is none, and for our own.
    std::optional<std::pair<dev_t, ino_t>> identity;
    bool given_up = false;  ///< this namespace cannot be served; the next one of its name may
    std::string last_error;
    std::unique_ptr<KernelBridge> bridge;
  };

  void look_at_all();
  void look_at(Served& served);
  void open(Served& served, const transport::Netns* netns);
  void lose(Served& served, const Error& error);
  void complain(Served& served, const Error& error);
  [[nodiscard]] KernelBridge::Settings settings_for(const std::string& netns) const;

  const KernelBridge::Context& context_;
  const OpenSockets open_sockets_;
  bool no_family_ = false;
  bool stopped_ = false;
  bool trace_ = false;
  std::vector<config::KernelCredential> credentials_;  ///< their names only
  std::shared_ptr<keyring::Keyrings> keyrings_;
  std::vector<std::unique_ptr<Served>> served_;
  EventLoop::Timer timer_;
};

}  // namespace handshake::daemon
