// SPDX-License-Identifier: Apache-2.0
#include "tls/files.h"

#include <openssl/pemerr.h>

#include <climits>
#include <functional>
#include <span>

#include <fmt/format.h>

namespace handshake::tls {
namespace {

using Der = std::span<const unsigned char>;

Der bytes_of(const NamedBytes& file) noexcept {
  return {reinterpret_cast<const unsigned char*>(file.content.data()), file.content.size()};
}

bool is_pem(const NamedBytes& file) noexcept {
  return file.content.find("-----BEGIN ") != std::string::npos;
}

/// What every reader checks first.
Result<void> check_shape(const NamedBytes& file) {
  if (file.content.empty()) {
    return fail(ErrorKind::kInvalidArgument, fmt::format("{}: the file is empty", file.name));
  }
  constexpr unsigned char kSequence = 0x30;
  if (!is_pem(file) && bytes_of(file).front() != kSequence) {
    return fail(ErrorKind::kInvalidArgument, fmt::format("{}: neither PEM nor DER", file.name));
  }
  if (file.content.size() > INT_MAX) {
    return fail(ErrorKind::kInvalidArgument, fmt::format("{}: the file is too long", file.name));
  }
  return {};
}

BioPtr reader(const NamedBytes& file) {
  return BioPtr(BIO_new_mem_buf(file.content.data(), static_cast<int>(file.content.size())));
}

struct PemBlock {
  OpensslPtr<char> label;
  OpensslPtr<char> header;
  OpensslPtr<unsigned char> content;
  long size = 0;

  [[nodiscard]] Der der() const noexcept { return {content.get(), static_cast<std::size_t>(size)}; }
};

/// Calls `visit` for each block until it is done or returns an error.
Result<void> for_each_pem_block(const NamedBytes& file,
                                const std::function<Result<void>(const PemBlock&)>& visit) {
  const BioPtr bio = reader(file);
  if (!bio) return fail_openssl(ErrorKind::kNoMemory, file.name);
  for (int number = 1;; ++number) {
    char* label = nullptr;
    char* header = nullptr;
    unsigned char* content = nullptr;
    long size = 0;
    const int read = PEM_read_bio(bio.get(), &label, &header, &content, &size);
    const PemBlock block{OpensslPtr<char>(label), OpensslPtr<char>(header),
                         OpensslPtr<unsigned char>(content), size};
    if (read != 1) {
      const LibraryError error = drain_errors();
      if (error.is(ERR_LIB_PEM, PEM_R_NO_START_LINE)) return {};
      if (error.out_of_memory) return fail(ErrorKind::kNoMemory, file.name + ": out of memory");
      return fail(ErrorKind::kInvalidArgument,
                  fmt::format("{}: PEM block {} is broken: {}", file.name, number, error.text));
    }
    if (auto visited = visit(block); !visited) return visited;
  }
}

template <class Pointer, auto Decode>
Result<Pointer> decode(Der der, const NamedBytes& file, std::string_view what,
                       std::size_t* used = nullptr) {
  const unsigned char* position = der.data();
  Pointer object(Decode(nullptr, &position, static_cast<long>(der.size())));
  if (!object) {
    return fail_openssl(ErrorKind::kInvalidArgument,
                        fmt::format("{}: cannot read the {}", file.name, what));
  }
  const auto length = static_cast<std::size_t>(position - der.data());
  if (used != nullptr) {
    *used = length;
  } else if (length != der.size()) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{}: bytes follow the {}", file.name, what));
  }
  return object;
}

template <class Pointer, auto Decode>
Result<std::vector<Pointer>> read_all(const NamedBytes& file, std::string_view what,
                                      const std::function<bool(std::string_view)>& wanted) {
  if (auto shape = check_shape(file); !shape) return tl::unexpected(shape.error());
  std::vector<Pointer> objects;
  if (is_pem(file)) {
    std::string seen;
    auto read = for_each_pem_block(file, [&](const PemBlock& block) -> Result<void> {
      if (!wanted(block.label.get())) {
        if (seen.empty()) seen = fmt::format(", only {}", block.label.get());
        return {};
      }
      auto object = decode<Pointer, Decode>(block.der(), file, what);
      if (!object) return tl::unexpected(object.error());
      objects.push_back(std::move(*object));
      return {};
    });
    if (!read) return tl::unexpected(read.error());
    if (objects.empty()) {
      return fail(ErrorKind::kInvalidArgument,
                  fmt::format("{}: there is no {} in it{}", file.name, what, seen));
    }
    return objects;
  }
  for (Der rest = bytes_of(file); !rest.empty();) {
    std::size_t used = 0;
    auto object = decode<Pointer, Decode>(rest, file, what, &used);
    if (!object) return tl::unexpected(object.error());
    objects.push_back(std::move(*object));
    rest = rest.subspan(used);
  }
  return objects;
}

/// PEM's callback for passwords; it only notes that one was wanted.
int refuse_password(char* /*buffer*/, int /*size*/, int /*writing*/, void* wanted) noexcept {
  *static_cast<bool*>(wanted) = true;
  return -1;
}

tl::unexpected<Error> fail_password(const NamedBytes& file) {
  return fail(ErrorKind::kInvalidArgument,
              fmt::format("{}: the private key is protected by a password; a service cannot ask "
                          "for it: store the key without one, readable by its owner only",
                          file.name));
}

Result<PkeyPtr> read_pem_key(const NamedBytes& file) {
  const BioPtr bio = reader(file);
  if (!bio) return fail_openssl(ErrorKind::kNoMemory, file.name);
  bool password_wanted = false;
  PkeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, refuse_password, &password_wanted));
  if (key) return key;
  const LibraryError error = drain_errors();
  if (password_wanted) return fail_password(file);
  if (error.out_of_memory) return fail(ErrorKind::kNoMemory, file.name + ": out of memory");
  if (file.content.find("PRIVATE KEY-----") == std::string::npos) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{}: there is no private key in it", file.name));
  }
  return fail(ErrorKind::kInvalidArgument,
              fmt::format("{}: cannot read the private key: {}", file.name, error.text));
}

Result<PkeyPtr> read_der_key(const NamedBytes& file) {
  const Der der = bytes_of(file);
  const unsigned char* position = der.data();
  PkeyPtr key(d2i_AutoPrivateKey(nullptr, &position, static_cast<long>(der.size())));
  if (key) {
    if (position == der.data() + der.size()) return key;
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{}: bytes follow the private key", file.name));
  }
  const LibraryError error = drain_errors();
  position = der.data();
  const X509SigPtr encrypted(d2i_X509_SIG(nullptr, &position, static_cast<long>(der.size())));
  drain_errors();
  if (encrypted) return fail_password(file);
  return fail(error.out_of_memory ? ErrorKind::kNoMemory : ErrorKind::kInvalidArgument,
              fmt::format("{}: cannot read the private key: {}", file.name, error.text));
}

}  // namespace

Result<std::vector<X509Ptr>> read_certificates(const NamedBytes& file) {
  return read_all<X509Ptr, d2i_X509>(file, "certificate", [](std::string_view label) {
    return label == PEM_STRING_X509 || label == PEM_STRING_X509_OLD;
  });
}

Result<std::vector<X509CrlPtr>> read_crls(const NamedBytes& file) {
  return read_all<X509CrlPtr, d2i_X509_CRL>(
      file, "revocation list",
      [](std::string_view label) { return label == PEM_STRING_X509_CRL; });
}

Result<PkeyPtr> read_private_key(const NamedBytes& file) {
  if (auto shape = check_shape(file); !shape) return tl::unexpected(shape.error());
  return is_pem(file) ? read_pem_key(file) : read_der_key(file);
}

}  // namespace handshake::tls
