// SPDX-License-Identifier: Apache-2.0
#include "daemon/kernel_bridges.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace handshake::daemon {

namespace {

constexpr milliseconds kLook{500};
const std::string kSelf = "self";

}  // namespace

KernelBridges::KernelBridges(const KernelBridge::Context& context, OpenSockets open_sockets)
    : context_(context), open_sockets_(std::move(open_sockets)) {}

void KernelBridges::configure(const config::Settings& settings) {
  if (stopped_) return;
  trace_ = settings.debug_netlink;
  credentials_.clear();
  for (const config::KernelCredential& kernel : settings.kernel_credentials) {
    config::KernelCredential name_only;
    name_only.credential.name = kernel.credential.name;
    name_only.credential.client = kernel.credential.client;
    name_only.netns = kernel.netns;
    credentials_.push_back(std::move(name_only));
  }
  // Requests under way keep the one they began with.
  keyrings_ = std::make_shared<keyring::Keyrings>(settings.keyrings);

  std::vector<std::unique_ptr<Served>> before = std::exchange(served_, {});
  if (!settings.serve_kernel) return;
  for (const std::string& name : settings.netns) {
    const auto known = std::find_if(before.begin(), before.end(), [&](const auto& served) {
      return served != nullptr && served->name == name;
    });
    if (known == before.end()) {
      served_.push_back(std::make_unique<Served>());
      served_.back()->name = name;
      continue;
    }
    served_.push_back(std::move(*known));
    served_.back()->given_up = false;  // whoever reloads may have changed what was wrong
    served_.back()->last_error.clear();
    if (served_.back()->bridge) served_.back()->bridge->set_settings(settings_for(name));
  }
  look_at_all();
}

KernelBridge::Settings KernelBridges::settings_for(const std::string& netns) const {
  const auto name_of = [&](bool client) {
    std::string name;
    for (const config::KernelCredential& kernel : credentials_) {
      if (kernel.credential.client != client) continue;
      if (kernel.netns == netns) return kernel.credential.name;
      if (kernel.netns.empty()) name = kernel.credential.name;
    }
    return name;
  };
  return {name_of(true), name_of(false), keyrings_};
}

void KernelBridges::look_at_all() {
  for (const auto& served : served_) look_at(*served);
  const bool more_to_see = std::any_of(served_.begin(), served_.end(), [](const auto& served) {
    return served->name != kSelf || (served->bridge == nullptr && !served->given_up);
  });
  timer_ = more_to_see && !no_family_ && !stopped_
               ? context_.loop.after(kLook, [this] { look_at_all(); })
               : EventLoop::Timer();
}

void KernelBridges::look_at(Served& served) {
  if (no_family_ || stopped_) return;
  if (served.name == kSelf) {
    if (served.bridge == nullptr && !served.given_up) open(served, nullptr);
    return;
  }
  const auto netns = transport::open_netns(served.name);
  const auto identity = netns ? std::optional(std::pair(netns->device, netns->inode)) : std::nullopt;
  if (identity != served.identity) {
    if (served.bridge) {
      context_.log.info(fmt::format("{} the network namespace has gone", log_field("netns", served.name)));
    }
    served.bridge.reset();
    served.given_up = false;
    served.last_error.clear();
    served.identity = identity;
  }
  if (!netns) {
    // A name without a namespace is what ip-netns(8) makes first, and what it leaves last.
    const bool absent = netns.error().kind == ErrorKind::kNotFound ||
                        netns.error().kind == ErrorKind::kInvalidArgument;
    if (!absent) complain(served, netns.error());
    return;
  }
  if (served.bridge == nullptr && !served.given_up) open(served, &*netns);
}

void KernelBridges::open(Served& served, const transport::Netns* netns) {
  Result<KernelChannel::Sockets> sockets = fail(ErrorKind::kInputOutput, "no socket");
  if (netns == nullptr) {
    sockets = open_sockets_();
  } else if (auto entered = transport::in_netns(*netns, [&] { sockets = open_sockets_(); }); !entered) {
    served.given_up = entered.error().kind == ErrorKind::kNotPermitted;
    return complain(served, entered.error());
  }
  if (!sockets) return complain(served, sockets.error());
  auto channel = KernelChannel::open(std::move(*sockets), context_.log, trace_);
  if (!channel && channel.error().kind == ErrorKind::kNotFound) {
    no_family_ = true;
    return context_.log.info("this kernel has no handshake family: its consumers are not served");
  }
  if (!channel) return complain(served, channel.error());
  const bool tags = (*channel)->capabilities().session_tags;
  auto bridge = KernelBridge::open(context_, served.name, std::move(*channel), settings_for(served.name),
                                   [this, &served](const Error& error) { lose(served, error); });
  if (!bridge) return complain(served, bridge.error());
  served.bridge = std::move(*bridge);
  served.last_error.clear();
  context_.log.info(fmt::format("{} kernel consumers are served session-tags={}",
                                log_field("netns", served.name), tags ? "yes" : "no"));
}

void KernelBridges::lose(Served& served, const Error& error) {
  served.given_up = error.kind == ErrorKind::kNotPermitted;
  complain(served, error);
  served.bridge.reset();
  if (!timer_) timer_ = context_.loop.after(kLook, [this] { look_at_all(); });
}

/// Says once what is looked at twice a second.
void KernelBridges::complain(Served& served, const Error& error) {
  if (served.last_error == error.detail) return;
  served.last_error = error.detail;
  context_.log.warning(fmt::format("{} kernel consumers are not served: {}",
                                   log_field("netns", served.name), error.detail));
}

void KernelBridges::stop_accepting() {
  stopped_ = true;
  timer_.reset();
  for (const auto& served : served_) {
    if (served->bridge) served->bridge->stop_accepting();
  }
}

std::vector<std::string> KernelBridges::served() const {
  std::vector<std::string> names;
  for (const auto& served : served_) {
    if (served->bridge) names.push_back(served->name);
  }
  return names;
}

}  // namespace handshake::daemon
