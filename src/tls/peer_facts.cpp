// SPDX-License-Identifier: Apache-2.0
#include "tls/peer_facts.h"

#include <new>

#include "tls/certificate_facts.h"
#include "tls/files.h"

namespace handshake::tls {

Result<policy::PeerFacts> read_peer_facts(const NamedBytes& certificate,
                                          const std::vector<NamedBytes>& chain) {
  try {
    const auto own = read_certificates(certificate);
    if (!own) return tl::unexpected(own.error());
    policy::PeerFacts facts;
    facts.identity_proved = true;
    facts.certificate = certificate_facts(own->front().get());
    for (const X509Ptr& each : *own) facts.chain.push_back(fingerprint_of(each.get()));
    for (const NamedBytes& file : chain) {
      const auto others = read_certificates(file);
      if (!others) return tl::unexpected(others.error());
      for (const X509Ptr& each : *others) facts.chain.push_back(fingerprint_of(each.get()));
    }
    return facts;
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kNoMemory, "out of memory");
  }
}

}  // namespace handshake::tls
