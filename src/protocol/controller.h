// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "protocol/message.h"

namespace handshake::protocol {

/// The generic netlink controller of one endpoint: says which families are spoken there and what
/// they accept, as the kernel's does (GETFAMILY, GETPOLICY). Immutable once made; any thread.
class Controller {
 public:
  /// A family under a number; its multicast groups are numbered from `first_group` up.
  struct Registration {
    std::uint16_t id = 0;
    const FamilyInfo* family = nullptr;   ///< borrowed; the generated ones live forever
    std::uint32_t first_group = 0;
  };

  /// The controller's own family is added to those given.
  explicit Controller(std::vector<Registration> families);

  /// The registered family with that number; nullptr if there is none.
  [[nodiscard]] const Registration* find(std::uint16_t id) const noexcept;
  [[nodiscard]] const Registration* find(std::string_view name) const noexcept;

  /// The datagrams that answer `request`, whose type is kControllerId: replies or the parts of a
  /// dump, and an acknowledgement if it was asked for or something is wrong.
  [[nodiscard]] std::vector<std::vector<std::byte>> answer(const MessageView& request) const;

 private:
  std::vector<Registration> families_;   // ascending by id
};

}  // namespace handshake::protocol
