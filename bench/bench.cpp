// SPDX-License-Identifier: Apache-2.0
// Measures what DESIGN.md says to keep in mind, and prints it; judges nothing.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>
#include <thread>

#include <fmt/format.h>

#include "micro.h"
#include "variant.h"
#include "whole.h"

namespace handshake::bench {

namespace {

struct Arguments {
  bool json = false;
  bool quick = false;
  std::string daemon;
  std::string pki;
  std::string directory;
  std::string only;  ///< "handshakes", "queue", "tagset"; empty: all
};

/// Messages that one handshake takes when nothing else is going on (counted with strace), both ends
/// together: SUBMIT, its ack, ACCEPT, its reply, DONE and COMPLETE for each; READY, and the ACCEPT that
/// finds nothing more and its answer, once for both.
constexpr double kMessages = 2 * 6 + 3;
/// Of these, with a descriptor beside them: SUBMIT and ACCEPT's reply.
constexpr double kDescriptors = 2 * 2;

/// All rounds of one variant under one load.
struct Measured {
  std::string name;
  std::vector<double> wall, cpu, switches, latencies;

  void add(Round round) {
    wall.push_back(round.wall_us);
    cpu.push_back(round.cpu_us);
    switches.push_back(round.switches);
    latencies.insert(latencies.end(), round.latencies_us.begin(), round.latencies_us.end());
  }
};

struct Comparison {
  Load load;
  std::vector<Measured> variants;  ///< the first one is the baseline

  [[nodiscard]] const Measured* find(std::string_view name) const {
    for (const Measured& variant : variants) {
      if (variant.name == name) return &variant;
    }
    return nullptr;
  }
};

/// Nothing here can go on after a failure; what runs beside us must be ended all the same.
struct Failed {
  Error error;
};
template <class T>
T need(Result<T> result) {
  if (!result) throw Failed{result.error()};
  return std::move(*result);
}

bool kernel_has_ktls() {
  auto pair = need(need(TcpPairs::create()).make());
  return ::setsockopt(pair.client.get(), IPPROTO_TCP, TCP_ULP, "tls", 3) == 0;
}

/// Rounds of all variants in turn, so that the machine's moods meet all of them.
Comparison compare(const Load& load, std::vector<std::unique_ptr<Variant>>& variants, bool quick) {
  const std::size_t rounds = quick ? 3 : 11;
  const std::size_t count = quick ? 64 : 256;
  Comparison comparison{load, {}};
  for (const auto& variant : variants) comparison.variants.push_back({variant->name(), {}, {}, {}, {}});
  auto pairs = need(TcpPairs::create());
  for (std::size_t round = 0; round < rounds + 1; ++round) {
    for (std::size_t i = 0; i < variants.size(); ++i) {
      std::vector<TcpPair> sockets;
      for (std::size_t n = 0; n < count; ++n) sockets.push_back(need(pairs.make()));
      Round measured = need(variants[i]->run(load, sockets));
      for (TcpPair& pair : sockets) close_abruptly(std::move(pair));
      std::this_thread::sleep_for(milliseconds(30));  // what others close because of that is nobody's round
      if (round > 0) comparison.variants[i].add(std::move(measured));  // the first one warms up
    }
  }
  return comparison;
}

void print(const Comparison& comparison) {
  const Measured& bare = comparison.variants.front();
  fmt::print("\n{}, {} at a time\n", comparison.load.mutual ? "both ends show a certificate" : "server's certificate only",
             comparison.load.concurrency);
  fmt::print("  {:<20} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n", "", "per s", "cpu us", "p50 us", "p99 us",
             "switches", "cpu x", "wall x");
  for (const Measured& variant : comparison.variants) {
    fmt::print("  {:<20} {:>9.0f} {:>9.0f} {:>9.0f} {:>9.0f} {:>9.1f} {:>9.2f} {:>9.2f}\n", variant.name,
               1e6 / median(variant.wall), median(variant.cpu), percentile(variant.latencies, 0.5),
               percentile(variant.latencies, 0.99), median(variant.switches), median(variant.cpu) / median(bare.cpu),
               median(variant.wall) / median(bare.wall));
  }
}

std::string json(const Comparison& comparison) {
  const Measured& bare = comparison.variants.front();
  std::vector<std::string> rows;
  for (const Measured& variant : comparison.variants) {
    rows.push_back(JsonObject()
                       .text("variant", variant.name)
                       .number("handshakes_per_second", 1e6 / median(variant.wall))
                       .number("cpu_us", median(variant.cpu))
                       .number("p50_us", percentile(variant.latencies, 0.5))
                       .number("p99_us", percentile(variant.latencies, 0.99))
                       .number("voluntary_switches", median(variant.switches))
                       .number("cpu_ratio", median(variant.cpu) / median(bare.cpu))
                       .number("wall_ratio", median(variant.wall) / median(bare.wall))
                       .str());
  }
  return JsonObject()
      .raw("mutual", comparison.load.mutual ? "true" : "false")
      .number("concurrency", static_cast<double>(comparison.load.concurrency))
      .raw("variants", json_array(rows))
      .str();
}

/// Where the processor time goes that the whole path takes beyond bare OpenSSL.
struct Share {
  std::string what;
  double cpu_us = 0;
};
std::vector<Share> explain(const Comparison& comparison, const MessageCosts& messages) {
  const double bare = median(comparison.variants.front().cpu);
  const Measured& whole = *comparison.find("whole path");
  const double difference = median(whole.cpu) - bare;
  std::vector<Share> shares;
  shares.push_back({"our TLS code: facts, secrets, verdicts", median(comparison.find("tls::Session")->cpu) - bare});
  shares.push_back({fmt::format("{:.0f} messages, sent and received", kMessages), kMessages * messages.plain});
  shares.push_back({fmt::format("{:.0f} descriptors beside them", kDescriptors),
                    kDescriptors * (messages.with_fd - messages.plain)});
  shares.push_back({fmt::format("{:.1f} waits for another process", median(whole.switches)),
                    median(whole.switches) * (messages.switched - messages.plain)});
  double rest = difference;
  for (const Share& share : shares) rest -= share.cpu_us;
  shares.push_back({"the rest: service, codecs, agent, epoll, logs", rest});
  shares.push_back({"together: whole path less bare OpenSSL", difference});
  return shares;
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments arguments;
  const std::map<std::string_view, bool*> flags{{"--json", &arguments.json}, {"--quick", &arguments.quick}};
  const std::map<std::string_view, std::string*> values{{"--daemon", &arguments.daemon},
                                                        {"--pki", &arguments.pki},
                                                        {"--directory", &arguments.directory},
                                                        {"--only", &arguments.only}};
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (const auto flag = flags.find(option); flag != flags.end()) {
      *flag->second = true;
    } else if (const auto value = values.find(option); value != values.end() && i + 1 < argc) {
      *value->second = argv[++i];
    } else {
      return std::nullopt;
    }
  }
  const bool complete = !arguments.daemon.empty() && !arguments.pki.empty() && !arguments.directory.empty();
  return complete ? std::optional(arguments) : std::nullopt;
}

/// Every part prints its table, or adds its member to the JSON object.
struct Report {
  bool json = false;
  JsonObject object;

  template <class... Parts>
  void line(fmt::format_string<Parts...> text, Parts&&... parts) const {
    if (!json) fmt::print(text, std::forward<Parts>(parts)...);
  }
};

void handshakes(const Arguments& arguments, Report& report) {
  const bool pretend = !kernel_has_ktls();
  const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::string preload = pretend ? (here / HS_PRETEND_LIBRARY).string() : "";
  if (pretend) ::setenv("HS_BENCH_PRETEND_KTLS", "1", 1);
  const std::string ktls = pretend ? "none in this kernel; the whole path runs with a stand-in that answers its calls"
                                   : "the kernel's";
  report.line("handshakes: ECDSA P-256, X25519; kTLS: {}\n", ktls);

  // Before there are other processes that might disturb it.
  const MessageCosts messages = need(measure_messages());
  const double plain_pair = need(measure_plain_pair());

  std::vector<Comparison> comparisons;
  {
    const auto daemon = need(Daemon::start({arguments.daemon, arguments.directory, arguments.pki,
                                            std::max(1U, std::thread::hardware_concurrency()), preload}));
    std::vector<std::unique_ptr<Variant>> variants;
    variants.push_back(need(bare_openssl(arguments.pki)));
    variants.push_back(need(tls_sessions(arguments.pki)));
    variants.push_back(need(whole_path(*daemon, false)));
    variants.push_back(need(whole_path(*daemon, true)));
    for (const bool mutual : {false, true}) {
      for (const std::size_t concurrency : {1U, 8U, 64U}) {
        comparisons.push_back(compare({concurrency, mutual}, variants, arguments.quick));
        if (!report.json) print(comparisons.back());
      }
    }
  }

  const Comparison& simple = comparisons.front();
  const auto shares = explain(simple, messages);
  const double relay = median(simple.find("whole path, relay")->cpu) - median(simple.find("whole path")->cpu);
  report.line("\nwhere the difference goes (server's certificate only, 1 at a time), cpu us per handshake\n");
  for (const Share& share : shares) report.line("  {:<48} {:>8.1f}\n", share.what, share.cpu_us);
  report.line("  apart: setting up two relays {:.1f}, of which two loopback pairs {:.1f}\n", relay, 2 * plain_pair);
  report.line("  one message {:.2f}, with a descriptor {:.2f}, to a process that waits {:.2f} ({:.2f} us later there)\n",
              messages.plain, messages.with_fd, messages.switched, messages.latency);

  std::vector<std::string> rows;
  for (const Comparison& comparison : comparisons) rows.push_back(json(comparison));
  std::vector<std::string> share_rows;
  for (const Share& share : shares) {
    share_rows.push_back(JsonObject().text("what", share.what).number("cpu_us", share.cpu_us).str());
  }
  report.object.text("ktls", ktls)
      .raw("handshakes", json_array(rows))
      .raw("difference", json_array(share_rows))
      .number("relay_setup_cpu_us", relay)
      .number("plain_pair_cpu_us", plain_pair)
      .raw("message", JsonObject()
                          .number("cpu_us", messages.plain)
                          .number("with_fd_cpu_us", messages.with_fd)
                          .number("to_waiting_process_cpu_us", messages.switched)
                          .number("to_waiting_process_wall_us", messages.latency)
                          .str());
}

void queue(Report& report) {
  report.line("\nthe service while others wait, ns\n  {:>9} {:>9} {:>9} {:>9} {:>9}\n", "pending", "submit", "accept",
              "done", "cancel");
  std::vector<std::string> rows;
  for (const std::size_t pending : {std::size_t{10}, std::size_t{1000}, std::size_t{100'000}}) {
    const QueueCosts costs = need(measure_queue(pending));
    report.line("  {:>9} {:>9.0f} {:>9.0f} {:>9.0f} {:>9.0f}\n", pending, costs.submit, costs.accept, costs.done,
                costs.cancel);
    rows.push_back(JsonObject()
                       .number("pending", static_cast<double>(pending))
                       .number("submit_ns", costs.submit)
                       .number("accept_ns", costs.accept)
                       .number("done_ns", costs.done)
                       .number("cancel_ns", costs.cancel)
                       .str());
  }
  report.object.raw("queue", json_array(rows));
}

void tagsets(Report& report) {
  std::vector<std::string> rows;
  report.line("\nsession tags, ns\n  {:>4} {:<20} {:>9} {:>9} {:>9} {:>10} {:>9}\n", "tags", "", "build", "contains",
              "misses", "intersects", "copy");
  for (const TagsetCosts& row : measure_tagsets()) {
    report.line("  {:>4} {:<20} {:>9.0f} {:>9.1f} {:>9.1f} {:>10.1f} {:>9.1f}\n", row.tags, row.container, row.build,
                row.contains, row.misses, row.intersects, row.copy);
    rows.push_back(JsonObject()
                       .text("container", row.container)
                       .number("tags", static_cast<double>(row.tags))
                       .number("build_ns", row.build)
                       .number("contains_ns", row.contains)
                       .number("misses_ns", row.misses)
                       .number("intersects_ns", row.intersects)
                       .number("copy_ns", row.copy)
                       .str());
  }
  report.object.raw("tagset", json_array(rows));
}

void run(const Arguments& arguments) {
  Report report;
  report.json = arguments.json;
  report.line("{}\n{}\n", machine(), tls_library());
  report.object.text("machine", machine()).text("tls_library", tls_library());
  const auto wanted = [&](std::string_view part) { return arguments.only.empty() || arguments.only == part; };
  if (wanted("handshakes")) handshakes(arguments, report);
  if (wanted("queue")) queue(report);
  if (wanted("tagset")) tagsets(report);
  if (report.json) fmt::print("{}\n", report.object.str());
}

}  // namespace

}  // namespace handshake::bench

int main(int argc, char** argv) {
  const auto arguments = handshake::bench::parse(argc, argv);
  if (!arguments) {
    fmt::print(stderr, "usage: {} --daemon HANDSHAKED --pki DIR --directory DIR [--json] [--quick] [--only handshakes|queue|tagset]\n", argv[0]);
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    handshake::bench::run(*arguments);
  } catch (const handshake::bench::Failed& failed) {
    fmt::print(stderr, "bench: {}\n", failed.error.detail);
    return 1;
  }
  return 0;
}
