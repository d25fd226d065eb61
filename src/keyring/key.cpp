// SPDX-License-Identifier: Apache-2.0
#include "keyring/key.h"

#include <keyutils.h>

#include <charconv>
#include <cstring>
#include <string_view>
#include <vector>

#include <fmt/format.h>

namespace handshake::keyring {

namespace {

/// Nobody's private key is longer; a keyring's payload may be.
constexpr std::size_t kMaxPayload = std::size_t{64} * 1024;

tl::unexpected<Error> fail_key(int number, const std::string& which, std::string_view verb) {
  const char* const reason = std::strerror(number);
  switch (number) {
    case ENOKEY:
    case EKEYREVOKED:
    case EKEYEXPIRED:
      return fail(ErrorKind::kNoCredential, fmt::format("{}: {}", which, reason));
    case EACCES:
      return fail(ErrorKind::kRejected,
                  fmt::format("{}: may not be {}: it is in no keyring of this process, or its "
                              "permissions forbid it",
                              which, verb));
    case ENOMEM: return fail(ErrorKind::kNoMemory, fmt::format("{}: {}", which, reason));
    default: return fail(ErrorKind::kInputOutput, fmt::format("{}: {}", which, reason));
  }
}

}  // namespace

std::string serial_text(Serial serial) {
  return fmt::format("{:#010x}", static_cast<std::uint32_t>(serial));
}

Result<Description> describe_key(Serial serial) {
  const std::string which = "key " + serial_text(serial);
  std::vector<char> buffer(256);
  while (true) {
    const long length = ::keyctl_describe(serial, buffer.data(), buffer.size());
    if (length < 0) return fail_key(errno, which, "looked at");
    if (static_cast<std::size_t>(length) <= buffer.size()) break;
    buffer.resize(static_cast<std::size_t>(length));
  }
  // "type;uid;gid;permissions;description": only the last may have a semicolon in it.
  std::string_view rest(buffer.data());
  const auto next = [&rest] {
    const std::string_view field = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(rest.size(), field.size() + 1));
    return field;
  };
  Description what;
  what.type = next();
  const std::string_view owner = next();
  std::from_chars(owner.data(), owner.data() + owner.size(), what.owner);
  next();
  next();
  what.description = rest;
  return what;
}

Result<Key> read_key(Serial serial) {
  auto what = describe_key(serial);
  if (!what) return tl::unexpected(what.error());
  const std::string which =
      fmt::format("key {} ({} \"{}\")", serial_text(serial), what->type, what->description);
  std::vector<std::byte> payload(4096);
  while (true) {
    const long length =
        ::keyctl_read(serial, reinterpret_cast<char*>(payload.data()), payload.size());
    if (length < 0) return fail_key(errno, which, "read");
    if (length == 0) return fail(ErrorKind::kNoCredential, which + " is empty");
    const auto size = static_cast<std::size_t>(length);
    if (size > kMaxPayload) return fail(ErrorKind::kNoCredential, which + " is too long for a key");
    const bool whole = size <= payload.size();
    if (!whole) ::explicit_bzero(payload.data(), payload.size());
    payload.resize(size);  // shrinks in place, or grows what holds nothing yet
    if (whole) return Key{serial, std::move(*what), Secret(std::move(payload))};
  }
}

}  // namespace handshake::keyring
