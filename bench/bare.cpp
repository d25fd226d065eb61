// SPDX-License-Identifier: Apache-2.0
// The baseline: OpenSSL and nothing else, with the settings that the product gives it.
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>

#include "one_process.h"

namespace handshake::bench {

namespace {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* object) const noexcept {
    Free(object);
  }
};
using SslPtr = std::unique_ptr<SSL, Deleter<SSL_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>>;
using BioMethodPtr = std::unique_ptr<BIO_METHOD, Deleter<BIO_meth_free>>;

tl::unexpected<Error> fail_openssl(const std::string& what) {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = ERR_reason_error_string(code);
  return fail(ErrorKind::kInputOutput, what + ": " + (reason != nullptr ? reason : "unknown"));
}

int socket_of(BIO* bio) { return static_cast<int>(reinterpret_cast<std::intptr_t>(BIO_get_data(bio))); }

/// A BIO as the product's: never waits, changes no flag, reads no more than asked for.
int bio_read(BIO* bio, char* buffer, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t count = ::recv(socket_of(bio), buffer, static_cast<std::size_t>(size), MSG_DONTWAIT);
  if (count < 0 && errno == EAGAIN) BIO_set_retry_read(bio);
  return static_cast<int>(count);
}
int bio_write(BIO* bio, const char* buffer, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t count = ::send(socket_of(bio), buffer, static_cast<std::size_t>(size), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (count < 0 && errno == EAGAIN) BIO_set_retry_write(bio);
  return static_cast<int>(count);
}
long bio_control(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BioMethodPtr make_bio_method() {
  BioMethodPtr method(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bench"));
  if (method) {
    BIO_meth_set_read(method.get(), bio_read);
    BIO_meth_set_write(method.get(), bio_write);
    BIO_meth_set_ctrl(method.get(), bio_control);
  }
  return method;
}

class OpenSslEnd final : public End {
 public:
  explicit OpenSslEnd(SslPtr ssl) : ssl_(std::move(ssl)) {}

  Result<bool> advance() override {
    ERR_clear_error();
    const int status = SSL_do_handshake(ssl_.get());
    if (status == 1) return true;
    const int error = SSL_get_error(ssl_.get(), status);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return false;
    return fail_openssl("handshake");
  }

 private:
  SslPtr ssl_;
};

/// `name` is the pair to show; without it the context is a client's that shows none.
Result<SslContextPtr> make_context(const std::string& pki, const SSL_METHOD* method, const std::string& name = {}) {
  SslContextPtr context(SSL_CTX_new(method));
  if (!context) return fail_openssl("SSL_CTX_new");
  SSL_CTX* raw = context.get();
  const bool ready =
      SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION) == 1 &&
      SSL_CTX_set_ciphersuites(raw, "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:"
                                    "TLS_AES_128_CCM_SHA256") == 1 &&
      SSL_CTX_set1_groups_list(raw, "X25519:P-256:P-384:P-521") == 1 &&
      SSL_CTX_load_verify_locations(raw, pki_file(pki, "ca.pem").c_str(), nullptr) == 1 &&
      (name.empty() ||
       (SSL_CTX_use_certificate_chain_file(raw, pki_file(pki, name + ".pem").c_str()) == 1 &&
        SSL_CTX_use_PrivateKey_file(raw, pki_file(pki, name + ".key").c_str(), SSL_FILETYPE_PEM) == 1));
  if (!ready) return fail_openssl("TLS context " + name);
  SSL_CTX_set_options(raw, SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 0);
  return context;
}

class OpenSslEnds final : public Ends {
 public:
  OpenSslEnds(BioMethodPtr method, SslContextPtr anonymous, SslContextPtr client, SslContextPtr server)
      : method_(std::move(method)),
        anonymous_(std::move(anonymous)),
        client_(std::move(client)),
        server_(std::move(server)) {}

  Result<std::unique_ptr<End>> client(int fd, bool mutual) override {
    SslPtr ssl(SSL_new(mutual ? client_.get() : anonymous_.get()));
    if (!ssl || !attach(ssl.get(), fd)) return fail_openssl("SSL_new");
    SSL_set_connect_state(ssl.get());
    SSL_set_verify(ssl.get(), SSL_VERIFY_PEER, nullptr);
    const std::string name = "localhost";
    if (SSL_set1_host(ssl.get(), name.c_str()) != 1 || SSL_set_tlsext_host_name(ssl.get(), name.c_str()) != 1) {
      return fail_openssl(name);
    }
    return std::make_unique<OpenSslEnd>(std::move(ssl));
  }

  Result<std::unique_ptr<End>> server(int fd, bool mutual) override {
    SslPtr ssl(SSL_new(server_.get()));
    if (!ssl || !attach(ssl.get(), fd)) return fail_openssl("SSL_new");
    SSL_set_accept_state(ssl.get());
    // The product's server asks for a certificate whether or not it needs one.
    SSL_set_verify(ssl.get(), SSL_VERIFY_PEER | (mutual ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
    return std::make_unique<OpenSslEnd>(std::move(ssl));
  }

 private:
  bool attach(SSL* ssl, int fd) {
    BIO* bio = BIO_new(method_.get());
    if (bio == nullptr) return false;
    BIO_set_data(bio, reinterpret_cast<void*>(static_cast<std::intptr_t>(fd)));
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return true;
  }

  BioMethodPtr method_;
  SslContextPtr anonymous_;
  SslContextPtr client_;
  SslContextPtr server_;
};

class BareOpenSsl final : public Variant {
 public:
  explicit BareOpenSsl(std::unique_ptr<OpenSslEnds> ends) : ends_(std::move(ends)) {}
  std::string name() const override { return "bare OpenSSL"; }
  Result<Round> run(const Load& load, std::vector<TcpPair>& pairs) override {
    return run_in_one_process(*ends_, load, pairs);
  }

 private:
  std::unique_ptr<OpenSslEnds> ends_;
};

}  // namespace

Result<std::unique_ptr<Variant>> bare_openssl(const std::string& pki) {
  auto method = make_bio_method();
  if (!method) return fail_openssl("BIO_meth_new");
  auto anonymous = make_context(pki, TLS_client_method());
  if (!anonymous) return tl::unexpected(anonymous.error());
  auto client = make_context(pki, TLS_client_method(), "client-ecdsa");
  if (!client) return tl::unexpected(client.error());
  auto server = make_context(pki, TLS_server_method(), "server-ecdsa");
  if (!server) return tl::unexpected(server.error());
  return std::make_unique<BareOpenSsl>(std::make_unique<OpenSslEnds>(std::move(method), std::move(*anonymous),
                                                                     std::move(*client), std::move(*server)));
}

std::string tls_library() { return OpenSSL_version(OPENSSL_VERSION); }

}  // namespace handshake::bench
