// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/result.h"
#include "tls/cipher.h"

namespace handshake::tls {

/// Overwrites memory in a way that the compiler keeps.
void wipe(void* memory, std::size_t bytes) noexcept;

/// Up to `Capacity` bytes of key material that are overwritten when they are no longer needed. Can
/// be neither printed nor copied by accident; moving wipes the source.
template <std::size_t Capacity>
class SecretBytes {
 public:
  SecretBytes() noexcept = default;
  SecretBytes(SecretBytes&& other) noexcept { *this = std::move(other); }
  SecretBytes& operator=(SecretBytes&& other) noexcept {
    if (this != &other) {
      clear();
      bytes_ = other.bytes_;
      size_ = other.size_;
      other.clear();
    }
    return *this;
  }
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes() { clear(); }

  [[nodiscard]] std::span<const std::uint8_t> view() const noexcept { return {bytes_.data(), size_}; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  /// Makes it `size` bytes long, at most Capacity, for the caller to fill.
  [[nodiscard]] std::span<std::uint8_t> resize(std::size_t size) noexcept {
    clear();
    size_ = size < Capacity ? size : Capacity;
    return {bytes_.data(), size_};
  }
  void clear() noexcept {
    wipe(bytes_.data(), bytes_.size());
    size_ = 0;
  }

 private:
  std::array<std::uint8_t, Capacity> bytes_{};
  std::size_t size_ = 0;
};

/// 32 or 48 bytes, by the suite's hash.
using TrafficSecret = SecretBytes<48>;

/// client_application_traffic_secret_0 and server_application_traffic_secret_0 (RFC 8446 §7.1).
struct TrafficSecrets {
  TrafficSecret client;
  TrafficSecret server;
};

/// What protects the records of one direction.
struct RecordKeys {
  SecretBytes<32> key;
  SecretBytes<12> iv;
};

/// HKDF-Expand-Label of "key" and "iv" (RFC 8446 §7.3). EINVAL: the secret has not the size of the
/// suite's hash; EIO: the TLS library refused.
[[nodiscard]] Result<RecordKeys> derive_record_keys(Cipher cipher, const TrafficSecret& secret);

}  // namespace handshake::tls
