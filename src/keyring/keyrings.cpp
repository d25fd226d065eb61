// SPDX-License-Identifier: Apache-2.0
#include "keyring/keyrings.h"

#include <keyutils.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string_view>

#include <fmt/format.h>

namespace handshake::keyring {

namespace {

constexpr milliseconds kLookAgain{1000};

std::optional<Serial> serial_of(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    text.remove_prefix(2);
    base = 16;
  }
  Serial serial = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), serial, base);
  if (error != std::errc() || end != text.data() + text.size() || serial <= 0) return std::nullopt;
  return serial;
}

/// Keyrings by name, of root's and our own: a name is anybody's to take, but for those that begin
/// with a dot.
std::multimap<std::string, Serial> keyrings_in_sight() {
  std::multimap<std::string, Serial> found;
  std::ifstream keys("/proc/keys");
  for (std::string line; std::getline(keys, line);) {
    std::istringstream words(line);
    std::string serial_hex, flags, usage, timeout, permissions, owner, group, type;
    words >> serial_hex >> flags >> usage >> timeout >> permissions >> owner >> group >> type;
    if (type != "keyring") continue;
    const auto serial = serial_of("0x" + serial_hex);
    if (!serial) continue;
    const auto what = describe_key(*serial);
    if (what && (what->owner == 0 || what->owner == ::geteuid())) {
      found.emplace(what->description, *serial);
    }
  }
  return found;
}

bool is_gone(Serial serial) { return ::keyctl_describe(serial, nullptr, 0) < 0; }

}  // namespace

Keyrings::Keyrings(std::vector<std::string> configured) {
  for (const char* name : {".nvme", ".nfsd", ".nfs"}) {
    if (std::find(configured.begin(), configured.end(), name) == configured.end()) {
      configured.emplace_back(name);
    }
  }
  for (std::string& name : configured) keyrings_.push_back(Keyring{std::move(name), {}, "not there"});
}

Keyrings::~Keyrings() {
  for (const Keyring& keyring : keyrings_) {
    if (keyring.serial) ::keyctl_unlink(*keyring.serial, KEY_SPEC_PROCESS_KEYRING);
  }
}

bool Keyrings::look_again(TimePoint now) {
  if (looked_ && now - *looked_ < kLookAgain) return false;
  looked_ = now;
  std::optional<std::multimap<std::string, Serial>> by_name;
  bool news = false;
  for (Keyring& keyring : keyrings_) {
    // A module that is unloaded revokes its keyring and makes another one when it comes back.
    if (keyring.serial && is_gone(*keyring.serial)) {
      ::keyctl_unlink(*keyring.serial, KEY_SPEC_PROCESS_KEYRING);
      keyring.serial.reset();
      keyring.why_not = "gone";
    }
    if (keyring.serial) continue;
    std::vector<Serial> candidates;
    if (const auto serial = serial_of(keyring.name)) {
      candidates.push_back(*serial);
    } else {
      if (!by_name) by_name = keyrings_in_sight();
      const auto [first, last] = by_name->equal_range(keyring.name);
      for (auto found = first; found != last; ++found) candidates.push_back(found->second);
    }
    for (const Serial serial : candidates) {
      if (::keyctl_link(serial, KEY_SPEC_PROCESS_KEYRING) == 0) {
        keyring.serial = serial;
        news = true;
        break;
      }
      keyring.why_not =
          fmt::format("{} cannot be linked: {}", serial_text(serial), std::strerror(errno));
    }
  }
  return news;
}

Result<Key> Keyrings::read(Serial serial, TimePoint now) {
  if (!looked_) look_again(now);
  auto key = read_key(serial);
  if (key || !look_again(now)) return key;
  return read_key(serial);
}

Result<Key> Keyrings::find(const std::string& type, const std::string& description,
                           std::optional<Serial> first, TimePoint now) {
  const auto search = [&](Serial keyring) {
    return static_cast<Serial>(::keyctl_search(keyring, type.c_str(), description.c_str(), 0));
  };
  const auto search_all = [&]() -> Serial {
    if (first) {
      if (const Serial found = search(*first); found > 0) return found;
    }
    for (const Keyring& keyring : keyrings_) {
      if (!keyring.serial) continue;
      if (const Serial found = search(*keyring.serial); found > 0) return found;
    }
    return 0;
  };
  if (!looked_) look_again(now);
  Serial found = search_all();
  if (found == 0 && look_again(now)) found = search_all();
  if (found != 0) return read_key(found);
  return fail(ErrorKind::kNoCredential,
              fmt::format("no key of type {} for \"{}\" in any keyring ({})", type, description,
                          searched(first)));
}

std::string Keyrings::searched(std::optional<Serial> first) const {
  std::string text;
  if (first) text = "the request's " + serial_text(*first);
  for (const Keyring& keyring : keyrings_) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", keyring.name,
                        keyring.serial ? serial_text(*keyring.serial) : keyring.why_not);
  }
  return text;
}

void Keyrings::unlink_request_keyring(Serial serial) noexcept {
  const bool ours = std::any_of(keyrings_.begin(), keyrings_.end(), [serial](const Keyring& keyring) {
    return keyring.serial == serial;
  });
  if (!ours) ::keyctl_unlink(serial, KEY_SPEC_PROCESS_KEYRING);
}

}  // namespace handshake::keyring
