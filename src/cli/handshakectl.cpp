// SPDX-License-Identifier: Apache-2.0
//
// One program, one subcommand a file: this one only dispatches.

#include <csignal>
#include <exception>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/control.h"
#include "cli/exit_code.h"
#include "cli/netcat.h"
#include "cli/tags.h"
#include "daemon/daemon.h"

namespace handshake::cli {
namespace {

void add_netcat_options(CLI::App& command, NetcatOptions& options) {
  command.add_option("--credential", options.credential, "Name of the daemon's credential to use");
  command.add_option("--relay", options.relay, "Where the kernel cannot encrypt: never, allowed, always")
      ->check(CLI::IsMember({"never", "allowed", "always"}));
  command.add_option("--input", options.input, "File to send (default: standard input)");
  command.add_option("--output", options.output, "File for what arrives (default: standard output)");
  command.add_option("--timeout", options.timeout_ms, "For the handshake, milliseconds");
  command.add_flag("--quiet", options.quiet, "Do not describe the session");
}

void add_explain_options(CLI::App& command, ExplainOptions& options) {
  CLI::Option* certificate =
      command.add_option("certificate", options.certificate, "The peer's certificate (PEM or DER)");
  command.add_option("--chain", options.chain, "What it was issued by, up to the trust anchor")
      ->allow_extra_args(false);
  command.add_option("--psk", options.psk_identity, "The peer has a pre-shared key of this identity")
      ->excludes(certificate);
  command.add_option("--tags", options.tags, "Policy: file or directory (default: the configuration's)")
      ->allow_extra_args(false);
  command.add_option("-c,--config", options.config, "Configuration file (default: where the daemon looks)");
  command.add_option("--peer", options.peer, "The peer's address");
  command.add_option("--role", options.role, "Our side of the session")
      ->check(CLI::IsMember({"client", "server"}));
  command.add_option("--port", options.local_port, "Our port");
  command.add_option("--address", options.local_address, "Our address");
  command.add_option("--class", options.handler_class, "Handler class");
  command.add_flag("--json", options.json, "For programs");
}

int dispatch(int argc, char** argv) {
  CLI::App app{"handshakectl: ask handshaked, or have it encrypt a connection"};
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("handshakectl ") + daemon::kVersion);
  ControlOptions control;
  NetcatOptions connect;
  NetcatOptions listen;
  std::string runtime_dir;
  app.add_option("--runtime-dir", runtime_dir, "The daemon's directory of sockets")
      ->envname("HANDSHAKED_RUNTIME_DIR");

  CLI::App* status = app.add_subcommand("status", "What the daemon is doing");
  status->add_flag("--json", control.json, "For programs");
  CLI::App* sessions = app.add_subcommand("sessions", "Sessions under way and the last that ended");
  sessions->add_flag("--json", control.json, "For programs");
  CLI::App* reload = app.add_subcommand("reload", "Read the configuration again");

  CLI::App* connect_to = app.add_subcommand("connect", "Connect, encrypt, send and receive");
  connect_to->add_option("host", connect.host, "Host or address")->required();
  connect_to->add_option("port", connect.port, "Port")->required();
  connect_to->add_option("--name", connect.peername, "Name the server must prove (default: the host)");
  connect_to->add_flag("--anonymous", connect.anonymous, "Show no certificate");
  add_netcat_options(*connect_to, connect);

  CLI::App* listen_on = app.add_subcommand("listen", "Accept connections, encrypt, send and receive");
  listen_on->add_option("port", listen.port, "Port; 0 for any")->required();
  listen_on->add_option("--address", listen.host, "Address to bind (default: all)");
  listen_on->add_option("--client-auth", listen.client_auth,
                        "Client certificates: request, require, or default (as configured)")
      ->check(CLI::IsMember({"default", "request", "require"}));
  listen_on->add_flag("--once", listen.once, "Serve one connection and exit with its outcome");
  add_netcat_options(*listen_on, listen);

  CLI::App* tags = app.add_subcommand("tags", "Session tags and the rules that ask for them");
  tags->require_subcommand(1);
  ExplainOptions explain;
  CLI::App* explain_tags =
      tags->add_subcommand("explain", "What the policy makes of a peer: filters, tags, deciding rule");
  add_explain_options(*explain_tags, explain);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kSuccess : kUsage;
  }
  std::signal(SIGPIPE, SIG_IGN);
  if (!runtime_dir.empty()) {
    control.runtime_dir = runtime_dir;
    connect.socket = listen.socket = runtime_dir + "/consumer.sock";
  }
  Result<void> done;
  if (status->parsed()) {
    done = status_command(control);
  } else if (sessions->parsed()) {
    done = sessions_command(control);
  } else if (reload->parsed()) {
    done = reload_command(control);
  } else if (connect_to->parsed()) {
    done = connect_command(connect);
  } else if (listen_on->parsed()) {
    done = listen_command(listen);
  } else if (explain_tags->parsed()) {
    done = explain_command(explain);
  }
  if (done) return kSuccess;
  fmt::print(stderr, "handshakectl: {}\n", done.error().detail);
  return exit_code(done.error().kind);
}

}  // namespace
}  // namespace handshake::cli

int main(int argc, char** argv) {
  try {
    return handshake::cli::dispatch(argc, argv);
  } catch (const std::exception& bug) {
    fmt::print(stderr, "handshakectl: internal error: {}\n", bug.what());
    return handshake::cli::kFailed;
  }
}
