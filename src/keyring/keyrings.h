// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "keyring/key.h"

namespace handshake::keyring {

/// The keyrings that keys for handshakes are looked for in: .nfs, .nfsd and .nvme, which their
/// modules create when they are loaded, and those configured. Each is linked into this process's
/// keyring when it is found, so that the keys in it are possessed and may be read. Belongs to one
/// thread (see keyring/key.h).
class Keyrings {
 public:
  /// Names or serials ("0x3b8c07b7", "999"), tried in this order before the three.
  explicit Keyrings(std::vector<std::string> configured);
  /// Lets go of what it has linked.
  ~Keyrings();
  Keyrings(const Keyrings&) = delete;
  Keyrings& operator=(const Keyrings&) = delete;

  /// The key with this serial; keyrings are looked for again before it is given up. Errors as
  /// read_key().
  [[nodiscard]] Result<Key> read(Serial serial, TimePoint now);

  /// The key of this type and description, in `first` (a request's own keyring) or one of ours.
  /// ENOKEY: in none of them; the detail says which there were. Others as read_key().
  [[nodiscard]] Result<Key> find(const std::string& type, const std::string& description,
                                 std::optional<Serial> first, TimePoint now);

  /// The kernel has linked a request's keyring into this process's when it handed over the request;
  /// this undoes it, unless the keyring is one of ours.
  void unlink_request_keyring(Serial serial) noexcept;

 private:
  struct Keyring {
    std::string name;
    std::optional<Serial> serial;  ///< linked
    std::string why_not;           ///< while it is not
  };
  /// Looks for those that are not there, or no longer; all names cost one walk through /proc/keys,
  /// so not more often than once a second. True: something was found.
  bool look_again(TimePoint now);
  [[nodiscard]] std::string searched(std::optional<Serial> first) const;

  std::vector<Keyring> keyrings_;
  std::optional<TimePoint> looked_;
};

}  // namespace handshake::keyring
