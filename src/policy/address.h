// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace handshake::policy {

/// An IPv4 or IPv6 address. An IPv4-mapped IPv6 address (::ffff:192.0.2.1) is the IPv4 address:
/// what a socket calls its peer depends on how it was opened, not on who the peer is.
class IpAddress {
 public:
  /// 4 or 16 bytes in network order; nothing for any other length.
  [[nodiscard]] static std::optional<IpAddress> from_bytes(
      std::span<const std::uint8_t> bytes) noexcept;
  /// A literal; the zone of a scoped address ("%eth0") is dropped.
  [[nodiscard]] static std::optional<IpAddress> parse(std::string_view text);

  [[nodiscard]] bool is_v4() const noexcept { return size_ == kV4Bytes; }
  [[nodiscard]] std::span<const std::uint8_t> bytes() const noexcept {
    return {bytes_.data(), size_};
  }
  [[nodiscard]] std::string text() const;

  friend bool operator==(const IpAddress&, const IpAddress&) = default;

 private:
  static constexpr std::size_t kV4Bytes = 4;
  static constexpr std::size_t kV6Bytes = 16;

  std::array<std::uint8_t, kV6Bytes> bytes_{};  // unused ones are zero
  std::size_t size_ = kV4Bytes;
};

/// The addresses that share a prefix ("192.0.2.0/24"), or one address.
class Network {
 public:
  /// "ADDRESS" or "ADDRESS/BITS". On failure `problem` says what was expected.
  [[nodiscard]] static std::optional<Network> parse(std::string_view text, std::string& problem);

  /// An IPv4 network contains no IPv6 address and the other way round.
  [[nodiscard]] bool contains(const IpAddress& address) const noexcept;
  [[nodiscard]] std::string text() const;

  friend bool operator==(const Network&, const Network&) = default;

 private:
  IpAddress base_;
  unsigned bits_ = 0;
};

}  // namespace handshake::policy
