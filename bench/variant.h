// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "measure.h"

namespace handshake::bench {

/// What one round of handshakes is.
struct Load {
  std::size_t concurrency = 1;  ///< handshakes under way at a time
  bool mutual = false;          ///< the client shows a certificate too
};

/// What one round has cost. A handshake ends when both of its ends have.
struct Round {
  double wall_us = 0;                ///< per handshake
  double cpu_us = 0;                 ///< per handshake, both ends, all processes
  double switches = 0;               ///< voluntary context switches per handshake, all processes
  std::vector<double> latencies_us;  ///< from the first end's start to the second one's end
};

/// One way to shake hands on connected pairs.
class Variant {
 public:
  virtual ~Variant() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  /// Shakes hands once on every pair; connecting and closing them is the caller's and not measured.
  [[nodiscard]] virtual Result<Round> run(const Load& load, std::vector<TcpPair>& pairs) = 0;
};

/// Paths of tools/demo-pki's files: DIRECTORY/NAME.pem and .key.
[[nodiscard]] std::string pki_file(const std::string& directory, const std::string& name);

/// OpenSSL alone, one thread that drives both ends. The BIO reads and writes as the product's does.
[[nodiscard]] Result<std::unique_ptr<Variant>> bare_openssl(const std::string& pki);
/// The same with the product's tls::Session instead of bare OpenSSL.
[[nodiscard]] Result<std::unique_ptr<Variant>> tls_sessions(const std::string& pki);

/// The version of the TLS library in use.
[[nodiscard]] std::string tls_library();

}  // namespace handshake::bench
