// SPDX-License-Identifier: Apache-2.0
#pragma once

// Inside of the endpoints, for this room only.

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "protocol/controller.h"
#include "protocol/message.h"

namespace handshake::service {

/// What a handler says of a request: 0, a positive errno, or that the answer comes later.
using Answer = int;
inline constexpr Answer kAnswersLater = -1;

/// Handles one request of a known family whose headers are there. Whatever it says about an error
/// beyond the number goes into the ack.
using Handler = std::function<Answer(const protocol::MessageView& request,
                                     const protocol::Controller::Registration& family,
                                     protocol::ExtAck& ack)>;
using SendBytes = std::function<void(std::vector<std::byte>)>;

/// Handles the messages of one datagram in order, as the kernel does those of a netlink datagram:
/// requests only, the controller's answered from `families`, each acknowledged if that was asked
/// for or if it failed. False: what follows in the datagram is no netlink.
[[nodiscard]] bool dispatch(std::span<const std::byte> datagram,
                            const protocol::Controller& families, const SendBytes& send,
                            const Handler& handle);

/// The acknowledgement that `answer` calls for, if any.
[[nodiscard]] std::optional<std::vector<std::byte>> acknowledgement(
    const protocol::MessageView& request, Answer answer, const protocol::ExtAck& ack);

/// The errno of a failure; its detail becomes the ack's message unless there is one.
[[nodiscard]] Answer explain(const Error& error, protocol::ExtAck& ack);

/// Refusal of a message whose descriptors the kernel dropped because this process had none free.
[[nodiscard]] Answer descriptors_lost(protocol::ExtAck& ack);

}  // namespace handshake::service
