// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tls/cipher.h"

/// A record layer of TLS 1.3 as small as it can be (RFC 8446 §5.2, §5.3), to do with the keys that a
/// test was given what the kernel will do with them.
namespace handshake::test_tls {

struct DirectionKeys {
  tls::Cipher cipher = tls::Cipher::kAes128Gcm;
  std::vector<std::uint8_t> key;
  std::vector<std::uint8_t> iv;  ///< 12 bytes
};

struct Record {
  std::uint8_t type = 0;  ///< 21 alert, 22 handshake, 23 application data
  std::string content;

  friend bool operator==(const Record&, const Record&) = default;
};

/// Decrypts all records of `stream`, the first one being number `sequence`; nothing when one cannot
/// be decrypted or the last one is not whole.
[[nodiscard]] std::optional<std::vector<Record>> open_records(const DirectionKeys& keys,
                                                              const std::string& stream,
                                                              std::uint64_t sequence = 0);

[[nodiscard]] std::string seal_record(const DirectionKeys& keys, const Record& record,
                                      std::uint64_t sequence);

}  // namespace handshake::test_tls
