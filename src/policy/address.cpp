// SPDX-License-Identifier: Apache-2.0
#include "policy/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace handshake::policy {
namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};

/// Whether the first `bits` bits are the same. Both have that many.
bool same_prefix(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                 unsigned bits) noexcept {
  const std::size_t whole = bits / 8;
  if (!std::equal(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(whole), b.begin()))
    return false;
  const unsigned rest = bits % 8;
  if (rest == 0) return true;
  const unsigned mask = (0xFFU << (8 - rest)) & 0xFFU;
  return ((a[whole] ^ b[whole]) & mask) == 0;
}

}  // namespace

std::optional<IpAddress> IpAddress::from_bytes(std::span<const std::uint8_t> bytes) noexcept {
  if (bytes.size() == kV6Bytes &&
      std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin())) {
    bytes = bytes.subspan(kMappedPrefix.size());
  }
  if (bytes.size() != kV4Bytes && bytes.size() != kV6Bytes) return std::nullopt;
  IpAddress address;
  std::copy(bytes.begin(), bytes.end(), address.bytes_.begin());
  address.size_ = bytes.size();
  return address;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  std::array<std::uint8_t, kV6Bytes> bytes{};
  if (::inet_pton(AF_INET, std::string(text).c_str(), bytes.data()) == 1) {
    return from_bytes({bytes.data(), kV4Bytes});
  }
  const std::string without_zone(text.substr(0, text.find('%')));
  if (::inet_pton(AF_INET6, without_zone.c_str(), bytes.data()) == 1) return from_bytes(bytes);
  return std::nullopt;
}

std::string IpAddress::text() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const char* printed =
      ::inet_ntop(is_v4() ? AF_INET : AF_INET6, bytes_.data(), text.data(), text.size());
  return printed != nullptr ? printed : "";
}

std::optional<Network> Network::parse(std::string_view text, std::string& problem) {
  const auto slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) {
    problem = fmt::format(
        "\"{}\" is not an address, expected one like 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
        text);
    return std::nullopt;
  }
  const auto all_bits = static_cast<unsigned>(address->bytes().size() * 8);
  Network network;
  network.base_ = *address;
  network.bits_ = all_bits;
  if (slash == std::string_view::npos) return network;
  const std::string_view bits = text.substr(slash + 1);
  const auto [end, error] = std::from_chars(bits.data(), bits.data() + bits.size(), network.bits_);
  if (error != std::errc() || end != bits.data() + bits.size() || network.bits_ > all_bits) {
    problem = fmt::format("\"{}\": expected a prefix length from 0 to {} after the slash", text,
                          all_bits);
    return std::nullopt;
  }
  std::array<std::uint8_t, 16> kept{};
  std::copy(address->bytes().begin(), address->bytes().end(), kept.begin());
  for (unsigned bit = network.bits_; bit < all_bits; ++bit) {
    kept.at(bit / 8) &= static_cast<std::uint8_t>(~(0x80U >> (bit % 8)));
  }
  const auto base = IpAddress::from_bytes({kept.data(), address->bytes().size()});
  if (!base || *base != *address) {
    problem = fmt::format("\"{}\" has bits set behind its prefix, expected {}/{}", text,
                          base ? base->text() : "", network.bits_);
    return std::nullopt;
  }
  return network;
}

bool Network::contains(const IpAddress& address) const noexcept {
  return address.is_v4() == base_.is_v4() && same_prefix(base_.bytes(), address.bytes(), bits_);
}

std::string Network::text() const {
  return bits_ == base_.bytes().size() * 8 ? base_.text()
                                           : fmt::format("{}/{}", base_.text(), bits_);
}

}  // namespace handshake::policy
