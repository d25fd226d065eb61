// SPDX-License-Identifier: Apache-2.0
// The same handshakes by the product's tls::Session, still in one process: what our own TLS code adds.
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "one_process.h"
#include "tls/credential.h"
#include "tls/session.h"

namespace handshake::bench {

namespace {

Result<tls::NamedBytes> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(ErrorKind::kNotFound, "open " + path);
  return tls::NamedBytes{path, std::string(std::istreambuf_iterator<char>(file), {})};
}

/// `pair` empty: a credential that only verifies.
Result<std::shared_ptr<const tls::Credential>> credential(const std::string& pki, const std::string& pair) {
  tls::CredentialSource source;
  source.name = pair;
  auto ca = read_file(pki_file(pki, "ca.pem"));
  if (!ca) return tl::unexpected(ca.error());
  source.trust_store.push_back(std::move(*ca));
  if (!pair.empty()) {
    auto certificate = read_file(pki_file(pki, pair + ".pem"));
    if (!certificate) return tl::unexpected(certificate.error());
    auto key = read_file(pki_file(pki, pair + ".key"));
    if (!key) return tl::unexpected(key.error());
    source.key_pairs.emplace_back(std::move(*certificate), std::move(*key));
  }
  return tls::load_credential(source);
}

class SessionEnd final : public End {
 public:
  explicit SessionEnd(std::unique_ptr<tls::Session> session) : session_(std::move(session)) {}
  Result<bool> advance() override {
    const auto progress = session_->advance();
    if (!progress) return tl::unexpected(progress.error().error);
    return *progress == tls::Session::Progress::kFinished;
  }

 private:
  std::unique_ptr<tls::Session> session_;
};

class SessionEnds final : public Ends {
 public:
  SessionEnds(std::shared_ptr<const tls::Credential> client, std::shared_ptr<const tls::Credential> server)
      : client_(std::move(client)), server_(std::move(server)) {}

  Result<std::unique_ptr<End>> client(int fd, bool mutual) override {
    tls::SessionParameters parameters;
    parameters.side = tls::Side::kClient;
    parameters.present_certificate = mutual;
    parameters.peername = "localhost";
    return make(fd, client_, parameters);
  }
  Result<std::unique_ptr<End>> server(int fd, bool mutual) override {
    tls::SessionParameters parameters;
    parameters.side = tls::Side::kServer;
    parameters.request_client_certificate = true;
    parameters.require_client_certificate = mutual;
    return make(fd, server_, parameters);
  }

 private:
  static Result<std::unique_ptr<End>> make(int fd, const std::shared_ptr<const tls::Credential>& credential,
                                           const tls::SessionParameters& parameters) {
    auto session = tls::Session::create(fd, credential, parameters);
    if (!session) return tl::unexpected(session.error());
    return std::make_unique<SessionEnd>(std::move(*session));
  }

  std::shared_ptr<const tls::Credential> client_;
  std::shared_ptr<const tls::Credential> server_;
};

class TlsSessions final : public Variant {
 public:
  explicit TlsSessions(std::unique_ptr<SessionEnds> ends) : ends_(std::move(ends)) {}
  std::string name() const override { return "tls::Session"; }
  Result<Round> run(const Load& load, std::vector<TcpPair>& pairs) override {
    return run_in_one_process(*ends_, load, pairs);
  }

 private:
  std::unique_ptr<SessionEnds> ends_;
};

}  // namespace

Result<std::unique_ptr<Variant>> tls_sessions(const std::string& pki) {
  auto client = credential(pki, "client-ecdsa");
  if (!client) return tl::unexpected(client.error());
  auto server = credential(pki, "server-ecdsa");
  if (!server) return tl::unexpected(server.error());
  return std::make_unique<TlsSessions>(std::make_unique<SessionEnds>(std::move(*client), std::move(*server)));
}

}  // namespace handshake::bench
