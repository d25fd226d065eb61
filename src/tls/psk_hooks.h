// SPDX-License-Identifier: Apache-2.0
// For tls/*.cpp only: what the TLS library asks of a session with a pre-shared key.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tls/openssl.h"
#include "tls/psk.h"

namespace handshake::tls {

/// Of one session; found through its Observations.
struct PskState {
  std::shared_ptr<const PresharedKey> key;
  std::vector<Cipher> ciphers;        ///< that may be used, whatever the key
  std::vector<std::string> offered;   ///< a server's client: identities in its order
  bool wanted = false;                ///< the session waits for a key
  bool answered = false;              ///< `key` is the answer, null when there is none
  std::string refusal;                ///< why the ClientHello was refused, one line
  ErrorKind refusal_kind = ErrorKind::kInputOutput;
};

/// SSL_CTX_set_psk_use_session_callback
int on_psk_wanted(SSL* ssl, const EVP_MD* hash, const unsigned char** identity, std::size_t* size,
                  SSL_SESSION** session) noexcept;
/// SSL_CTX_set_psk_find_session_callback
int on_psk_offered(SSL* ssl, const unsigned char* identity, std::size_t size,
                   SSL_SESSION** session) noexcept;
/// SSL_CTX_set_client_hello_cb: pauses the handshake until the key is there.
int on_client_hello(SSL* ssl, int* alert, void* unused) noexcept;

}  // namespace handshake::tls
