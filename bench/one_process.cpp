// SPDX-License-Identifier: Apache-2.0
#include "one_process.h"

#include <unistd.h>

#include <algorithm>

namespace handshake::bench {

std::string pki_file(const std::string& directory, const std::string& name) { return directory + "/" + name; }

namespace {

struct Slot {
  std::unique_ptr<End> client;
  std::unique_ptr<End> server;
  bool client_finished = false;
  bool server_finished = false;
  TimePoint start;
};

Result<void> begin(Slot& slot, Ends& ends, const TcpPair& pair, bool mutual) {
  slot = Slot{};
  slot.start = Clock::now();
  auto client = ends.client(pair.client.get(), mutual);
  if (!client) return tl::unexpected(client.error());
  auto server = ends.server(pair.server.get(), mutual);
  if (!server) return tl::unexpected(server.error());
  slot.client = std::move(*client);
  slot.server = std::move(*server);
  return {};
}

Result<bool> step(Slot& slot) {
  if (!slot.client_finished) {
    const auto finished = slot.client->advance();
    if (!finished) return tl::unexpected(finished.error());
    slot.client_finished = *finished;
  }
  if (!slot.server_finished) {
    const auto finished = slot.server->advance();
    if (!finished) return tl::unexpected(finished.error());
    slot.server_finished = *finished;
  }
  return slot.client_finished && slot.server_finished;
}

double microseconds(Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

}  // namespace

Result<Round> run_in_one_process(Ends& ends, const Load& load, std::vector<TcpPair>& pairs) {
  Round round;
  round.latencies_us.reserve(pairs.size());
  std::vector<Slot> slots(std::min(load.concurrency, pairs.size()));
  std::size_t next = 0;

  const auto switches = voluntary_switches(::getpid());
  const Nanoseconds cpu = own_cpu_time();
  const TimePoint start = Clock::now();
  for (Slot& slot : slots) {
    if (auto begun = begin(slot, ends, pairs[next++], load.mutual); !begun) return tl::unexpected(begun.error());
  }
  while (round.latencies_us.size() < pairs.size()) {
    for (Slot& slot : slots) {
      if (!slot.client) continue;
      const auto finished = step(slot);
      if (!finished) return tl::unexpected(finished.error());
      if (!*finished) continue;
      round.latencies_us.push_back(microseconds(Clock::now() - slot.start));
      slot = Slot{};
      if (next == pairs.size()) continue;
      if (auto begun = begin(slot, ends, pairs[next++], load.mutual); !begun) return tl::unexpected(begun.error());
    }
  }
  const auto count = static_cast<double>(pairs.size());
  round.wall_us = microseconds(Clock::now() - start) / count;
  round.cpu_us = std::chrono::duration<double, std::micro>(own_cpu_time() - cpu).count() / count;
  round.switches = static_cast<double>(voluntary_switches(::getpid()) - switches) / count;
  return round;
}

}  // namespace handshake::bench
