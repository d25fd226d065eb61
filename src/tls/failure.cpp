// SPDX-License-Identifier: Apache-2.0
#include "tls/failure.h"

#include <openssl/sslerr.h>
#include <openssl/x509_vfy.h>

#include <cstring>

#include <fmt/format.h>

#include "tls/alert.h"

namespace handshake::tls {
namespace {

constexpr std::uint8_t kHandshakeFailure = 40;
constexpr std::uint8_t kProtocolVersion = 70;

Error explain_rejected_certificate(const Evidence& evidence) {
  const Observations& seen = evidence.observations;
  std::string reason = X509_verify_cert_error_string(seen.verify_error);
  if (evidence.credential.trust_anchors() == 0) {
    reason = fmt::format("credential {} has no trust store, so nothing is trusted",
                         evidence.credential.name());
  }
  const bool name_matters = seen.verify_error == X509_V_ERR_HOSTNAME_MISMATCH ||
                            seen.verify_error == X509_V_ERR_IP_ADDRESS_MISMATCH;
  if (name_matters && evidence.expected_name) {
    reason += fmt::format(", it is not for {}", evidence.expected_name->text);
  }
  constexpr std::size_t kMaxSubject = 256;
  std::string subject = seen.verify_subject;
  if (subject.size() > kMaxSubject) subject.replace(kMaxSubject, std::string::npos, "...");
  return {ErrorKind::kRejected, fmt::format("peer's certificate rejected: {} ({}, depth {})", reason,
                                            subject.empty() ? "no subject" : subject,
                                            seen.verify_depth)};
}

/// The answer of many a server that has TLS 1.2 only: it looks at our suites, of which it has none,
/// and not at the version (GnuTLS does). A server of TLS 1.3 has something in common with what we
/// offer, as a rule.
bool refuses_our_hello(std::uint8_t alert, const Evidence& evidence) noexcept {
  return alert == kHandshakeFailure && evidence.side == Side::kClient &&
         !evidence.wire.received_handshake();
}

/// What the number alone does not tell.
std::string_view hint(std::uint8_t alert, const Evidence& evidence) {
  if (evidence.observations.psk) return "";
  if (kind_of_received_alert(alert) == ErrorKind::kRejected) {
    return evidence.credential.has_key_pair() ? ": it does not accept our certificate"
                                              : ": we have no certificate to show";
  }
  if (alert == kProtocolVersion) return ": it does not speak TLS 1.3";
  if (refuses_our_hello(alert, evidence)) {
    return ": it does not speak TLS 1.3, or shares no cipher suite, group or signature algorithm";
  }
  return "";
}

/// What the refusals of a server mean to a client with a pre-shared key; null for others.
const char* meaning_for_psk(std::uint8_t alert) noexcept {
  // RFC 8446 §6.2 has decrypt_error for a binder that does not verify; OpenSSL sends the other.
  constexpr std::uint8_t kIllegalParameter = 47;
  constexpr std::uint8_t kDecryptError = 51;
  switch (alert) {
    case kIllegalParameter:
    case kDecryptError: return "it has another key than ours for our identity";
    case kHandshakeFailure: return "it does not take our pre-shared key";
    default: return nullptr;
  }
}

Error explain_received_alert(std::uint8_t alert, const Evidence& evidence) {
  if (evidence.observations.psk) {
    if (const char* meaning = meaning_for_psk(alert)) {
      return {ErrorKind::kRejected,
              fmt::format("peer sent alert {} {}: {}", alert, alert_name(alert), meaning)};
    }
  }
  const ErrorKind kind = refuses_our_hello(alert, evidence) ? ErrorKind::kNotSupported
                                                            : kind_of_received_alert(alert);
  return {kind, fmt::format("peer sent alert {} {}{}", alert, alert_name(alert),
                            hint(alert, evidence))};
}

Error explain_errno(int number, const char* call) {
  const ErrorKind kind = number == ETIMEDOUT ? ErrorKind::kTimedOut
                         : number == ENOMEM  ? ErrorKind::kNoMemory
                                             : ErrorKind::kInputOutput;
  return {kind, fmt::format("{}: {}", call, std::strerror(number))};
}

Error explain_library_error(const Evidence& evidence) {
  const LibraryError& library = evidence.library;
  if (library.out_of_memory) return {ErrorKind::kNoMemory, "out of memory"};
  if (evidence.observations.psk && !evidence.observations.psk->refusal.empty()) {
    return {evidence.observations.psk->refusal_kind, evidence.observations.psk->refusal};
  }
  if (library.is(ERR_LIB_SSL, SSL_R_BINDER_DOES_NOT_VERIFY)) {
    return {ErrorKind::kRejected, "peer has another key than ours for its identity"};
  }
  if (library.is(ERR_LIB_SSL, SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)) {
    return {ErrorKind::kRejected, "peer presented no certificate, but one is required"};
  }
  const auto& alert = evidence.observations.alert;
  // The same alert goes to a peer whose later records carry a wrong version.
  if (alert == kProtocolVersion && !library.is(ERR_LIB_SSL, SSL_R_WRONG_VERSION_NUMBER)) {
    return {ErrorKind::kNotSupported, "peer does not speak TLS 1.3"};
  }
  const std::string text = library.text.empty() ? "unknown reason" : library.text;
  if (!alert) return {ErrorKind::kInputOutput, fmt::format("TLS failed: {}", text)};
  return {ErrorKind::kInputOutput,
          fmt::format("TLS failed: {} (sent alert {} {})", text, *alert, alert_name(*alert))};
}

/// Null when the socket is not to blame.
std::optional<Error> explain_trouble(const Wire& wire) {
  switch (wire.trouble()) {
    case Wire::Trouble::kNone: break;
    case Wire::Trouble::kEndOfStream:
      return Error{ErrorKind::kInputOutput,
                   wire.received_nothing()
                       ? "peer closed the connection before it sent anything"
                       : "peer closed the connection in the middle of the handshake"};
    case Wire::Trouble::kSocket: return explain_errno(wire.read_error(), "receive from peer");
    case Wire::Trouble::kNotTls:
      return Error{ErrorKind::kInputOutput,
                   fmt::format("peer does not speak TLS: it sent '{}'", wire.first_bytes())};
    case Wire::Trouble::kTooLong:
      return Error{ErrorKind::kInputOutput, fmt::format("peer's handshake is longer than {} bytes",
                                                        Wire::kMaxHandshakeBytes)};
    case Wire::Trouble::kNoMemory: return Error{ErrorKind::kNoMemory, "out of memory"};
  }
  if (wire.write_error() != 0) return explain_errno(wire.write_error(), "send to peer");
  return std::nullopt;
}

}  // namespace

Failure explain_handshake_failure(const Evidence& evidence) {
  const Observations& seen = evidence.observations;
  Failure failure{{}, seen.alert, seen.alert && seen.alert_sent};
  if (seen.out_of_memory) {
    failure.error = {ErrorKind::kNoMemory, "out of memory"};
  } else if (seen.alert && !seen.alert_sent) {
    failure.error = explain_received_alert(*seen.alert, evidence);
  } else if (seen.verify_error != X509_V_OK) {
    failure.error = explain_rejected_certificate(evidence);
  } else if (auto trouble = explain_trouble(evidence.wire)) {
    failure.error = std::move(*trouble);
  } else {
    failure.error = explain_library_error(evidence);
  }
  return failure;
}

Failure explain_stream_failure(const Evidence& evidence) {
  const Observations& seen = evidence.observations;
  Failure failure{{}, seen.alert, seen.alert && seen.alert_sent};
  const Wire& wire = evidence.wire;
  const int number = wire.trouble() == Wire::Trouble::kSocket ? wire.read_error()
                                                              : wire.write_error();
  if (seen.alert && !seen.alert_sent) {
    failure.error = explain_received_alert(*seen.alert, evidence);
  } else if (wire.trouble() == Wire::Trouble::kEndOfStream) {
    failure.error = {ErrorKind::kConnectionReset,
                     "peer ended the stream without close_notify: it may be truncated"};
  } else if (number == ECONNRESET || number == EPIPE) {
    failure.error = {ErrorKind::kConnectionReset, "peer reset the connection"};
  } else if (auto trouble = explain_trouble(wire)) {
    failure.error = std::move(*trouble);
  } else {
    failure.error = explain_library_error(evidence);
  }
  return failure;
}

Failure out_of_memory_failure() noexcept {
  // Short enough to need no memory itself.
  return {{ErrorKind::kNoMemory, "out of memory"}, std::nullopt, false};
}

}  // namespace handshake::tls
