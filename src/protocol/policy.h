// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "protocol/numbers.h"

namespace handshake::protocol {

struct PolicyTable;

/// What one attribute may be. Generated from spec/*.yaml; immutable, lives as long as the program.
struct AttributePolicy {
  std::uint16_t number = 0;
  std::string_view name;
  AttributeType type = AttributeType::kInvalid;
  /// Range of a signed type, the type's own where the spec says nothing.
  std::int64_t min_signed = 0;
  std::int64_t max_signed = 0;
  /// Range of an unsigned type.
  std::uint64_t min_unsigned = 0;
  std::uint64_t max_unsigned = 0;
  /// Bytes of a string (without a terminating NUL) or of binary data; 0: not limited.
  std::uint32_t min_length = 0;
  std::uint32_t max_length = 0;
  /// What is inside: of a nest, directly; of a nested array, in each element; of a chain of nests
  /// whose numbers are values, below `levels` of them.
  const PolicyTable* nested = nullptr;
  std::uint8_t levels = 0;
};

/// The attributes of one message or nest, ascending by number.
struct PolicyTable {
  std::string_view name;
  std::span<const AttributePolicy> attributes;

  /// The highest attribute number known here; 0 for an empty table.
  [[nodiscard]] constexpr std::uint16_t max_type() const noexcept {
    return attributes.empty() ? std::uint16_t{0} : attributes.back().number;
  }
  [[nodiscard]] constexpr const AttributePolicy* find(std::uint16_t number) const noexcept {
    for (const AttributePolicy& attribute : attributes) {
      if (attribute.number == number) return &attribute;
    }
    return nullptr;
  }
};

/// One command of a family and what its requests may carry; a null table means that there is no
/// such request.
struct OperationInfo {
  std::uint8_t command = 0;
  std::string_view name;
  bool admin = false;
  const PolicyTable* do_request = nullptr;
  const PolicyTable* dump_request = nullptr;
};

/// A generic netlink family. Generated.
struct FamilyInfo {
  std::string_view name;
  std::uint8_t version = 1;
  std::span<const std::string_view> groups;
  std::span<const OperationInfo> operations;

  [[nodiscard]] constexpr const OperationInfo* find(std::uint8_t command) const noexcept {
    for (const OperationInfo& operation : operations) {
      if (operation.command == command) return &operation;
    }
    return nullptr;
  }
};

}  // namespace handshake::protocol
