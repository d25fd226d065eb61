// SPDX-License-Identifier: Apache-2.0
#include "config/sealed.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace handshake::config {

namespace {

constexpr std::string_view kMagic = "handshaked settings 1\n";
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

/// Both directions of the format are one list of fields (transfer() below), so that they cannot
/// differ.
class Writer {
 public:
  static constexpr bool kReading = false;
  void number(const std::uint64_t& value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void string(const std::string& value) {
    number(value.size());
    text_ += value;
  }
  std::string& text() { return text_; }

 private:
  std::string text_;
};

class Reader {
 public:
  static constexpr bool kReading = true;
  explicit Reader(std::string_view text) : text_(text) {}
  void number(std::uint64_t& value) {
    value = 0;
    if (text_.size() < sizeof value) {
      ok_ = false;
      return;
    }
    std::memcpy(&value, text_.data(), sizeof value);
    text_.remove_prefix(sizeof value);
  }
  void string(std::string& value) {
    std::uint64_t size = 0;
    number(size);
    if (size > text_.size()) ok_ = false;
    if (!ok_) return;
    value = text_.substr(0, size);
    text_.remove_prefix(size);
  }
  [[nodiscard]] std::size_t left() const { return text_.size(); }
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  std::string_view text_;
  bool ok_ = true;
};

template <class Stream, class T>
void integer(Stream& stream, T& value) {
  if constexpr (Stream::kReading) {
    std::uint64_t wide = 0;
    stream.number(wide);
    value = static_cast<std::remove_const_t<T>>(wide);
  } else {
    stream.number(static_cast<std::uint64_t>(value));
  }
}

template <class Stream, class List, class Each>
void list(Stream& stream, List& values, Each each) {
  std::uint64_t count = values.size();
  stream.number(count);
  if constexpr (Stream::kReading) {
    // Every element takes eight bytes at least: a count beyond that is damage, not memory to ask for.
    if (count > stream.left() / sizeof(std::uint64_t)) count = 0;
    values.resize(count);
  }
  for (auto& value : values) each(stream, value);
}

constexpr auto kFile = [](auto& stream, auto& file) {
  stream.string(file.path);
  stream.string(file.content);
};
constexpr auto kInteger = [](auto& stream, auto& value) { integer(stream, value); };
constexpr auto kString = [](auto& stream, auto& value) { stream.string(value); };

constexpr auto kCredential = [](auto& stream, auto& credential) {
  stream.string(credential.name);
  integer(stream, credential.client);
  integer(stream, credential.server);
  list(stream, credential.key_pairs, [](auto& s, auto& pair) {
    kFile(s, pair.certificate);
    kFile(s, pair.private_key);
    integer(s, pair.post_quantum);
  });
  list(stream, credential.trust_store, kFile);
  list(stream, credential.crls, kFile);
  integer(stream, credential.require_client_certificate);
  integer(stream, credential.check_extended_key_usage);
  list(stream, credential.access.users, kInteger);
  list(stream, credential.access.groups, kInteger);
  integer(stream, credential.access.everybody);
  list(stream, credential.access.ports, [](auto& s, auto& range) {
    integer(s, range.first);
    integer(s, range.last);
  });
};

template <class Stream, class AnySettings>
void transfer(Stream& stream, AnySettings& settings) {
  stream.string(settings.path);
  integer(stream, settings.log_level);
  integer(stream, settings.workers);
  if constexpr (Stream::kReading) {
    std::uint64_t count = 0;
    stream.number(count);
    settings.default_timeout = milliseconds(count);
  } else {
    stream.number(static_cast<std::uint64_t>(settings.default_timeout.count()));
  }
  list(stream, settings.credentials, kCredential);
  integer(stream, settings.serve_kernel);
  list(stream, settings.kernel_credentials, [](auto& s, auto& kernel) {
    kCredential(s, kernel.credential);
    s.string(kernel.netns);
  });
  list(stream, settings.keyrings, kString);
  list(stream, settings.netns, kString);
  list(stream, settings.tags, kFile);
  integer(stream, settings.debug_tls);
  integer(stream, settings.debug_netlink);
}

}  // namespace

Result<UniqueFd> seal(const Settings& settings) {
  Writer writer;
  transfer(writer, settings);
  UniqueFd fd(::memfd_create("handshaked-settings", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail_errno("memfd_create");
  std::string whole(kMagic);
  whole += writer.text();
  std::string_view rest = whole;
  Result<void> written;
  while (!rest.empty() && written) {
    const ssize_t count = ::write(fd.get(), rest.data(), rest.size());
    if (count < 0) {
      written = fail_errno("write settings to memory");
    } else {
      rest.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  // The private keys stay only in the sealed file.
  ::explicit_bzero(whole.data(), whole.size());
  ::explicit_bzero(writer.text().data(), writer.text().size());
  if (!written) return tl::unexpected(written.error());
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno("F_ADD_SEALS");
  return fd;
}

Result<std::shared_ptr<const Settings>> unseal(int fd) {
  if ((::fcntl(fd, F_GET_SEALS) & kSeals) != kSeals) {
    return fail(ErrorKind::kInvalidArgument, "the settings are not in sealed memory");
  }
  struct stat file {};
  if (::fstat(fd, &file) != 0) return fail_errno("stat settings");
  const auto size = static_cast<std::size_t>(file.st_size);
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return fail_errno("map settings");
  std::string_view text(static_cast<const char*>(memory), size);
  auto settings = std::make_shared<Settings>();
  bool ok = text.starts_with(kMagic);
  if (ok) {
    Reader reader(text.substr(kMagic.size()));
    transfer(reader, *settings);
    ok = reader.ok() && reader.left() == 0;
  }
  ::munmap(memory, size);
  if (!ok) return fail(ErrorKind::kInvalidArgument, "the sealed settings are damaged");
  return settings;
}

}  // namespace handshake::config
