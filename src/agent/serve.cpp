// SPDX-License-Identifier: Apache-2.0
#include "agent/serve.h"

#include <sys/resource.h>
#include <sysexits.h>

#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/credentials.h"
#include "agent/warm_up.h"
#include "agent/worker.h"
#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "ktls/ktls.h"

namespace handshake::agent {

namespace {

// A relay takes two descriptors, and the usual soft limit of 1024 is for programs with select(2).
void raise_descriptor_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

void log_ktls(const ktls::ProbeResult& probe, const Log& log) {
  for (const tls::Cipher cipher : probe.ciphers) {
    log.debug(fmt::format("kTLS has {}", tls::to_string(cipher)));
  }
  if (!probe.reason.empty()) log.debug("kTLS: " + probe.reason);
}

}  // namespace

int run_worker(int channel_fd, const std::shared_ptr<const config::Settings>& settings,
               const Log& log) {
  UniqueFd channel(channel_fd);
  raise_descriptor_limit();
  auto credentials = CredentialSet::load(*settings);
  if (!credentials) {
    for (const Error& problem : credentials.error()) log.error(problem.detail);
    return EX_CONFIG;
  }
  if (const auto warm = warm_up(*credentials); !warm) {
    log.warning("the warm-up handshake failed: " + warm.error().detail);
  }
  Worker::Options options;
  options.default_timeout = settings->default_timeout;
  options.ktls = ktls::probe();
  log_ktls(options.ktls, log);

  auto loop = EventLoop::create();
  if (!loop) {
    log.error(loop.error().detail);
    return EX_SOFTWARE;
  }
  std::optional<Error> ended;
  const auto worker = Worker::open(**loop, std::move(channel), std::move(*credentials),
                                   std::move(options), log, [&](const Error& error) {
                                     ended = error;
                                     (*loop)->stop();
                                   });
  if (!worker) {
    log.error(worker.error().detail);
    return EX_SOFTWARE;
  }
  if (const auto run = (*loop)->run(); !run) {
    log.error(run.error().detail);
    return EX_SOFTWARE;
  }
  if (ended && ended->kind == ErrorKind::kConnectionReset) return EX_OK;
  log.error("worker ends: " + (ended ? ended->detail : std::string("stopped")));
  return EX_SOFTWARE;
}

}  // namespace handshake::agent
