// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "protocol/message.h"

namespace handshake::protocol::test {

using Bytes = std::vector<std::byte>;

inline Bytes from_hex(std::string_view hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  }
  return bytes;
}

inline std::string to_hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (const std::byte byte : bytes) {
    hex += kDigits[std::to_integer<std::size_t>(byte >> 4)];
    hex += kDigits[std::to_integer<std::size_t>(byte & std::byte{15})];
  }
  return hex;
}

/// The messages of one datagram; a malformed one fails the test.
inline std::vector<MessageView> messages_in(std::span<const std::byte> datagram) {
  std::vector<MessageView> views;
  MessageReader reader(datagram);
  while (true) {
    const auto next = reader.next();
    if (!next) {
      ADD_FAILURE() << next.error().detail << ": " << to_hex(datagram);
      return views;
    }
    if (!next->has_value()) return views;
    views.push_back(**next);
  }
}

inline MessageView only_message(std::span<const std::byte> datagram) {
  const std::vector<MessageView> views = messages_in(datagram);
  EXPECT_EQ(views.size(), 1U) << to_hex(datagram);
  return views.empty() ? MessageView{} : views.front();
}

/// A request of the family registered under `type`, with `flags` besides NLM_F_REQUEST.
inline MessageHeader request_header(std::uint16_t type, std::uint8_t command,
                                    std::uint16_t flags = 0) {
  return MessageHeader{.type = type,
                       .flags = static_cast<std::uint16_t>(flags | 1U),
                       .sequence = 7,
                       .port = 0,
                       .command = command};
}

}  // namespace handshake::protocol::test
