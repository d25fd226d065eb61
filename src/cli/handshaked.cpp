// SPDX-License-Identifier: Apache-2.0
//
// The daemon, and, under --worker, one of the processes that it starts.

#include <exception>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "agent/serve.h"
#include "base/log.h"
#include "cli/exit_code.h"
#include "config/load.h"
#include "config/sealed.h"
#include "daemon/daemon.h"
#include "daemon/runtime_dir.h"
#include "daemon/workers.h"

namespace handshake::cli {
namespace {

int complain(const Error& error) {
  fmt::print(stderr, "handshaked: {}\n", error.detail);
  return exit_code(error.kind);
}

int worker_main() {
  const auto settings = config::unseal(daemon::kWorkerSettingsFd);
  if (!settings) return complain(settings.error());
  ::close(daemon::kWorkerSettingsFd);
  const Log log = stderr_log((*settings)->log_level, fmt::format("handshaked-worker[{}]", ::getpid()));
  return agent::run_worker(daemon::kWorkerChannelFd, *settings, log);
}

int daemon_main(int argc, char** argv) {
  CLI::App app{"handshaked: TLS handshakes for sockets that others own"};
  std::string config_path;
  std::string runtime_dir;
  unsigned workers = 0;
  bool check = false;
  bool worker = false;
  app.add_option("-c,--config", config_path,
                 "Configuration file (default: /etc/handshaked/config, then /etc/tlshd/config)");
  app.add_option("--runtime-dir", runtime_dir,
                 "Directory of the sockets (default: /run/handshaked, or $XDG_RUNTIME_DIR/handshaked)");
  app.add_option("--workers", workers, "Worker processes (default: one per core)")
      ->check(CLI::Range(1U, 1024U));
  app.add_flag("--check", check, "Report every problem of the configuration and exit");
  app.add_flag("--worker", worker, "")->group("");
  app.set_version_flag("--version", std::string("handshaked ") + daemon::kVersion);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kSuccess : kUsage;
  }
  if (worker) return worker_main();

  if (config_path.empty()) config_path = config::default_path();
  if (config_path.empty()) {
    fmt::print(stderr, "handshaked: no configuration: give --config FILE or write /etc/handshaked/config\n");
    return kUsage;
  }
  daemon::Checked checked = daemon::load_checked(config_path);
  for (const config::Problem& problem : checked.problems) fmt::print(stderr, "{}\n", problem.text());
  if (!checked.settings) return kUsage;
  if (check) {
    fmt::print("{}: no errors\n", config_path);
    return kSuccess;
  }
  if (runtime_dir.empty()) {
    auto found = daemon::default_runtime_dir();
    if (!found) return complain(found.error());
    runtime_dir = std::move(*found);
  }
  daemon::Options options;
  options.config_path = config_path;
  options.settings = std::move(checked.settings);
  options.runtime_dir = runtime_dir;
  options.workers = workers;
  const auto ran = daemon::run(std::move(options));
  return ran ? kSuccess : complain(ran.error());
}

}  // namespace
}  // namespace handshake::cli

int main(int argc, char** argv) {
  try {
    return handshake::cli::daemon_main(argc, argv);
  } catch (const std::exception& bug) {
    fmt::print(stderr, "handshaked: internal error: {}\n", bug.what());
    return handshake::cli::kFailed;
  }
}
