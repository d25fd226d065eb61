// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// The numbers under which our service registers its families (nlmsghdr.nlmsg_type). As with the
/// kernel's, a client does not rely on them: it asks the controller, whose own number is fixed.
namespace handshake::protocol {

inline constexpr std::uint16_t kControllerId = 16;   ///< GENL_ID_CTRL
inline constexpr std::uint16_t kHandshakeId = 32;
inline constexpr std::uint16_t kWorkerId = 33;
inline constexpr std::uint16_t kConsumerId = 34;
inline constexpr std::uint16_t kControlId = 35;

/// First multicast group of the families above. Over AF_UNIX nobody joins a group by its number;
/// the controller shows them all the same.
inline constexpr std::uint32_t kHandshakeGroups = 1;
inline constexpr std::uint32_t kWorkerGroups = 16;

}  // namespace handshake::protocol
