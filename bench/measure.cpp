// SPDX-License-Identifier: Apache-2.0
#include "measure.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

namespace handshake::bench {

namespace {

constexpr std::size_t kListeners = 16;

Nanoseconds read_clock(clockid_t clock) noexcept {
  timespec time{};
  if (::clock_gettime(clock, &time) != 0) return Nanoseconds(0);
  return std::chrono::seconds(time.tv_sec) + Nanoseconds(time.tv_nsec);
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

Nanoseconds cpu_time(pid_t process) noexcept {
  clockid_t clock{};
  if (::clock_getcpuclockid(process, &clock) != 0) return Nanoseconds(0);
  return read_clock(clock);
}

Nanoseconds own_cpu_time() noexcept { return read_clock(CLOCK_PROCESS_CPUTIME_ID); }

std::uint64_t voluntary_switches(pid_t process) {
  std::uint64_t total = 0;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", process), error)) {
    std::ifstream status(task.path() / "status");
    for (std::string line; std::getline(status, line);) {
      constexpr std::string_view kKey = "voluntary_ctxt_switches:";
      if (line.starts_with(kKey)) total += std::stoull(line.substr(kKey.size()));
    }
  }
  return total;
}

std::vector<pid_t> children_of(pid_t process) {
  std::vector<pid_t> children;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string stat;
    std::getline(file, stat);
    // The name in parentheses may hold anything: state and parent follow the last one.
    const auto close = stat.rfind(')');
    if (close == std::string::npos) continue;
    std::istringstream rest(stat.substr(close + 1));
    char state = 0;
    pid_t parent = 0;
    if (rest >> state >> parent && parent == process) children.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return children;
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto index = static_cast<std::ptrdiff_t>(std::lround(share * static_cast<double>(values.size() - 1)));
  std::nth_element(values.begin(), values.begin() + index, values.end());
  return values[static_cast<std::size_t>(index)];
}

Result<TcpPairs> TcpPairs::create() {
  TcpPairs pairs;
  for (std::size_t i = 0; i < kListeners; ++i) {
    Listener listener;
    listener.fd.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!listener.fd) return fail_errno("socket");
    listener.address = ::htonl(INADDR_LOOPBACK + static_cast<std::uint32_t>(i));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = listener.address;
    socklen_t size = sizeof(address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener.fd.get(), generic, size) != 0) return fail_errno("bind");
    if (::listen(listener.fd.get(), 16) != 0) return fail_errno("listen");
    if (::getsockname(listener.fd.get(), generic, &size) != 0) return fail_errno("getsockname");
    listener.port = address.sin_port;
    pairs.listeners_.push_back(std::move(listener));
  }
  return pairs;
}

Result<TcpPair> TcpPairs::make() {
  const Listener& listener = listeners_[next_++ % listeners_.size()];
  TcpPair pair;
  pair.client.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!pair.client) return fail_errno("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = listener.address;
  address.sin_port = listener.port;
  if (::connect(pair.client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno("connect");
  }
  pair.server.reset(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!pair.server) return fail_errno("accept");
  const int on = 1;
  for (const int fd : {pair.client.get(), pair.server.get()}) {
    if (::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) return fail_errno("TCP_NODELAY");
  }
  return pair;
}

void close_abruptly(TcpPair pair) noexcept {
  const linger reset{1, 0};
  ::setsockopt(pair.client.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  pair.client.reset();
  pair.server.reset();
}

JsonObject& JsonObject::raw(const std::string& key, const std::string& json) {
  body_ += (body_.empty() ? "" : ", ") + quoted(key) + ": " + json;
  return *this;
}
JsonObject& JsonObject::number(const std::string& key, double value) {
  return raw(key, std::isfinite(value) ? fmt::format("{:.6g}", value) : "null");
}
JsonObject& JsonObject::text(const std::string& key, const std::string& value) { return raw(key, quoted(value)); }

std::string json_array(const std::vector<std::string>& items) {
  return fmt::format("[{}]", fmt::join(items, ", "));
}

std::string machine() {
  std::string model = "unknown processor";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    model = line.substr(line.find(':') + 2);
    break;
  }
  utsname system{};
  ::uname(&system);
  return fmt::format("{} x {}, Linux {}", ::sysconf(_SC_NPROCESSORS_ONLN), model, system.release);
}

}  // namespace handshake::bench
