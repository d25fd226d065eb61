// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace handshake::bench {

using Nanoseconds = std::chrono::nanoseconds;

/// Processor time that a process, all its threads included, has used since it started.
/// Zero for one that is gone.
[[nodiscard]] Nanoseconds cpu_time(pid_t process) noexcept;
/// The same of the calling process.
[[nodiscard]] Nanoseconds own_cpu_time() noexcept;
/// How often all threads of a process gave up the processor on their own.
[[nodiscard]] std::uint64_t voluntary_switches(pid_t process);

/// The direct children of a process.
[[nodiscard]] std::vector<pid_t> children_of(pid_t process);

/// `share` 0.5 is the median; 0 when there are no values.
[[nodiscard]] double percentile(std::vector<double> values, double share);
[[nodiscard]] inline double median(std::vector<double> values) { return percentile(std::move(values), 0.5); }

/// Both ends of a TCP connection over the loopback device, TCP_NODELAY.
struct TcpPair {
  UniqueFd client;
  UniqueFd server;
};

/// Makes connected pairs. Spreads them over several addresses of 127.0.0.0/8, so that a hundred
/// thousand fit into the range of local ports. Not thread-safe.
class TcpPairs {
 public:
  [[nodiscard]] static Result<TcpPairs> create();
  [[nodiscard]] Result<TcpPair> make();

 private:
  struct Listener {
    UniqueFd fd;
    std::uint32_t address = 0;  // network byte order
    std::uint16_t port = 0;
  };
  std::vector<Listener> listeners_;
  std::size_t next_ = 0;
};

/// Closes so that nothing lingers in TIME_WAIT: tens of thousands of those would slow down what is
/// measured next.
void close_abruptly(TcpPair pair) noexcept;

/// One line of JSON: values are numbers or strings. Enough for what the programs here print.
class JsonObject {
 public:
  JsonObject& number(const std::string& key, double value);
  JsonObject& text(const std::string& key, const std::string& value);
  JsonObject& raw(const std::string& key, const std::string& json);
  [[nodiscard]] std::string str() const { return "{" + body_ + "}"; }

 private:
  std::string body_;
};
[[nodiscard]] std::string json_array(const std::vector<std::string>& items);

/// "2 x Intel(R) Xeon(R) ..., Linux 6.18, OpenSSL is named elsewhere".
[[nodiscard]] std::string machine();

}  // namespace handshake::bench
