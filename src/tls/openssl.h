// SPDX-License-Identifier: Apache-2.0
// For tls/*.cpp only: the one header of the project that shows the TLS library's types.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace handshake::tls {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* object) const noexcept {
    Free(object);
  }
};

// BIO_free and friends return an int, or are macros: give all of them one shape.
inline void free_bio(BIO* bio) noexcept { BIO_free(bio); }
inline void free_openssl(void* memory) noexcept { OPENSSL_free(memory); }

using BioPtr = std::unique_ptr<BIO, Deleter<free_bio>>;
using BioMethodPtr = std::unique_ptr<BIO_METHOD, Deleter<BIO_meth_free>>;
using KdfPtr = std::unique_ptr<EVP_KDF, Deleter<EVP_KDF_free>>;
using KdfContextPtr = std::unique_ptr<EVP_KDF_CTX, Deleter<EVP_KDF_CTX_free>>;
using PkeyPtr = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, Deleter<SSL_free>>;
using X509CrlPtr = std::unique_ptr<X509_CRL, Deleter<X509_CRL_free>>;
using X509Ptr = std::unique_ptr<X509, Deleter<X509_free>>;
using X509SigPtr = std::unique_ptr<X509_SIG, Deleter<X509_SIG_free>>;
using X509StorePtr = std::unique_ptr<X509_STORE, Deleter<X509_STORE_free>>;
template <class T = char>
using OpensslPtr = std::unique_ptr<T, Deleter<free_openssl>>;

/// The oldest entry of this thread's error queue, where the trouble started.
struct LibraryError {
  int library = 0;  ///< ERR_LIB_*; 0: the queue was empty
  int reason = 0;
  std::string text;  ///< "certificate verify failed"
  bool out_of_memory = false;

  [[nodiscard]] bool is(int which_library, int which_reason) const noexcept {
    return library == which_library && reason == which_reason;
  }
};

/// Empties the error queue. The only place that touches it.
LibraryError drain_errors();

/// "<what>: <the library's reason>", ENOMEM or `kind`. Drains the queue.
[[nodiscard]] tl::unexpected<Error> fail_openssl(ErrorKind kind, std::string_view what);

/// The distinguished name as RFC 4514 has it: UTF-8, control characters escaped.
[[nodiscard]] std::string distinguished_name(const X509_NAME* name);

/// "RSA 2048", "ECDSA P-256", "Ed25519".
[[nodiscard]] std::string key_algorithm(EVP_PKEY* key);

}  // namespace handshake::tls
