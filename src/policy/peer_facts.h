// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/address.h"

namespace handshake::policy {

/// Whether a part of a certificate could be read. Malformed, or there twice: then nothing may be
/// concluded from it, neither that it says something nor that it does not.
enum class Presence : std::uint8_t { kAbsent, kPresent, kUnreadable };

/// One attribute of a distinguished name (RFC 5280 §4.1.2.4).
struct NameAttribute {
  std::string oid;  ///< "2.5.4.10"
  /// The value as UTF-8, whatever string type the certificate uses. Any character, NUL among them.
  std::string value;
  bool readable =
      true;         ///< false: not text, or not valid in its string type; `value` is empty then
  std::string der;  ///< the value as it stands in the certificate, with its tag

  friend bool operator==(const NameAttribute&, const NameAttribute&) = default;
};

/// In the certificate's order: the country usually first. Most relative names have one attribute.
using RelativeName = std::vector<NameAttribute>;
using DistinguishedName = std::vector<RelativeName>;

/// The bits of keyUsage, numbered as in RFC 5280 §4.2.1.3.
enum class KeyUsage : std::uint8_t {
  kDigitalSignature = 0,
  kNonRepudiation = 1,
  kKeyEncipherment = 2,
  kDataEncipherment = 3,
  kKeyAgreement = 4,
  kKeyCertSign = 5,
  kCrlSign = 6,
  kEncipherOnly = 7,
  kDecipherOnly = 8,
};

[[nodiscard]] constexpr std::uint16_t key_usage_bit(KeyUsage usage) noexcept {
  return static_cast<std::uint16_t>(1U << static_cast<unsigned>(usage));
}

/// subjectAltName (RFC 5280 §4.2.1.6): the bytes that the certificate has, whole.
struct AlternativeNames {
  Presence presence = Presence::kAbsent;
  std::vector<std::string> dns;
  std::vector<std::string> uri;
  std::vector<std::string> email;
  std::vector<IpAddress> ip;
};

/// Lower-case hexadecimal digits, no separators.
struct Fingerprint {
  std::string sha1;
  std::string sha256;
};

/// What filters can see of the peer's own certificate.
struct CertificateFacts {
  int version = 0;  ///< 1, 2, 3
  /// The octets of the INTEGER: a negative number starts with 8 or above, "00" stands before a
  /// positive one that would. Lower-case hexadecimal digits.
  std::string serial_number;
  std::string signature_algorithm;      ///< "ECDSA-SHA256", "RSA-PSS-SHA256"; empty: unknown
  std::string signature_algorithm_oid;  ///< "1.2.840.10045.4.3.2"
  DistinguishedName issuer;
  DistinguishedName subject;
  std::optional<std::chrono::sys_seconds> not_before;  ///< nothing: unreadable
  std::optional<std::chrono::sys_seconds> not_after;
  std::string
      public_key_algorithm;      ///< "RSA", "RSA-PSS", "ECDSA", "Ed25519", "Ed448"; empty: unknown
  unsigned public_key_bits = 0;  ///< 0: unknown
  Presence key_usage_presence = Presence::kAbsent;
  std::uint16_t key_usage = 0;  ///< key_usage_bit()s
  Presence extended_key_usage_presence = Presence::kAbsent;
  std::vector<std::string> extended_key_usage;  ///< OIDs
  AlternativeNames alternative_names;
  Fingerprint fingerprint;
};

/// Which side of the session we are.
enum class Role : std::uint8_t { kClient, kServer };

/// Everything that a policy can see of one session. A plain value: made once, after the handshake,
/// and only looked at from then on. Its strings come from the peer.
struct PeerFacts {
  /// The peer has proved who it is: a verified certificate, or a PSK. Without that there are no
  /// tags.
  bool identity_proved = false;
  std::optional<CertificateFacts> certificate;
  /// Of every certificate of the verified chain, the peer's own first, the trust anchor last.
  std::vector<Fingerprint> chain;
  std::optional<std::string> psk_identity;

  std::optional<IpAddress> peer_address;
  std::optional<IpAddress> local_address;
  std::optional<std::uint16_t> local_port;
  Role role = Role::kServer;
  std::string handler_class;  ///< "tlshd": the name in spec/handshake.yaml, or its number
};

}  // namespace handshake::policy
