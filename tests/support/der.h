// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// DER by hand, for certificates that no library would write. Nothing is checked.
namespace handshake::test_der {

inline std::string tlv(unsigned char tag, std::string_view content) {
  std::string length;
  for (std::size_t rest = content.size(); rest > 0; rest >>= 8U) {
    length.insert(length.begin(), static_cast<char>(rest & 0xFFU));
  }
  std::string made(1, static_cast<char>(tag));
  if (content.size() < 0x80U) {
    made += static_cast<char>(content.size());
  } else {
    made += static_cast<char>(0x80U | length.size());
    made += length;
  }
  return made.append(content);
}

inline std::string sequence(std::string_view content) { return tlv(0x30, content); }
inline std::string set(std::string_view content) { return tlv(0x31, content); }
inline std::string integer(std::string_view octets) { return tlv(0x02, octets); }
inline std::string octet_string(std::string_view octets) { return tlv(0x04, octets); }
inline std::string bit_string(std::string_view octets, char unused_bits = 0) {
  return tlv(0x03, unused_bits + std::string(octets));
}
inline std::string utf8_string(std::string_view text) { return tlv(0x0C, text); }
inline std::string printable_string(std::string_view text) { return tlv(0x13, text); }
inline std::string utc_time(std::string_view text) { return tlv(0x17, text); }

/// "2.5.4.3".
inline std::string oid(std::string_view dotted) {
  std::vector<std::uint64_t> arcs{0};
  for (const char c : dotted) {
    if (c == '.') {
      arcs.push_back(0);
    } else {
      arcs.back() = arcs.back() * 10 + static_cast<std::uint64_t>(c - '0');
    }
  }
  std::string content;
  for (std::size_t i = 1; i < arcs.size(); ++i) {
    std::uint64_t arc = i == 1 ? arcs[0] * 40 + arcs[1] : arcs[i];
    std::string octets(1, static_cast<char>(arc & 0x7FU));
    for (arc >>= 7U; arc > 0; arc >>= 7U) {
      octets.insert(octets.begin(), static_cast<char>(0x80U | (arc & 0x7FU)));
    }
    content += octets;
  }
  return tlv(0x06, content);
}

/// A relative distinguished name of one attribute; `value` is DER.
inline std::string attribute(std::string_view type, std::string_view value) {
  return set(sequence(oid(type) + std::string(value)));
}

inline std::string extension(std::string_view type, std::string_view value) {
  return sequence(oid(type) + octet_string(value));
}

/// A certificate of an Ed25519 key. The signature is noise: nobody who only reads checks it.
struct Certificate {
  std::string serial_number{"\x01"};
  std::string issuer = attribute("2.5.4.3", utf8_string("issuer"));    ///< relative names
  std::string subject = attribute("2.5.4.3", utf8_string("subject"));  ///< relative names
  std::string not_before = utc_time("250901000000Z");
  std::string not_after = utc_time("260831000000Z");
  std::string algorithm = sequence(oid("1.3.101.112"));
  std::string public_key =
      sequence(sequence(oid("1.3.101.112")) + bit_string(std::string(32, 'k')));
  std::string extensions;  ///< one after the other

  [[nodiscard]] std::string der() const {
    const std::string version = tlv(0xA0, integer("\x02"));
    const std::string wrapped = extensions.empty() ? "" : tlv(0xA3, sequence(extensions));
    const std::string body =
        sequence(version + integer(serial_number) + algorithm + sequence(issuer) +
                 sequence(not_before + not_after) + sequence(subject) + public_key + wrapped);
    return sequence(body + algorithm + bit_string(std::string(64, 's')));
  }
};

}  // namespace handshake::test_der
