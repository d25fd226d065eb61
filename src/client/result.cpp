// SPDX-License-Identifier: Apache-2.0
#include "client/result.h"

namespace {
// handshake.yaml: tag, max-len.
constexpr std::size_t kMaxTagBytes = 255;
}  // namespace

handshake::client::Expected<hs_tagset> hs_tagset::of(std::span<const std::string> names) {
  handshake::TagSet::Builder builder;
  for (const std::string& name : names) {
    if (name.empty() || name.size() > kMaxTagBytes || name.find('\0') != std::string::npos) {
      return handshake::client::refuse(EINVAL, "a tag is not 1 to 255 bytes without NUL");
    }
    builder.add(std::string_view(name.c_str(), name.size() + 1));
  }
  return hs_tagset{std::move(builder).finalize()};
}
