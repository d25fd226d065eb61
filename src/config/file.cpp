// SPDX-License-Identifier: Apache-2.0
#include "config/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>

#include <fmt/format.h>

#include "base/unique_fd.h"

namespace handshake::config {

Result<std::string> read_file(const std::string& path, struct stat& file) {
  constexpr std::size_t kMaxFileSize = std::size_t{16} << 20;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return fail_errno(fmt::format("open {}", path));
  if (::fstat(fd.get(), &file) != 0) return fail_errno(fmt::format("stat {}", path));
  if (!S_ISREG(file.st_mode)) {
    return fail(ErrorKind::kInvalidArgument, fmt::format("{} is not a regular file", path));
  }
  std::string content;
  std::array<char, 65536> part;
  while (true) {
    const ssize_t count = ::read(fd.get(), part.data(), part.size());
    if (count < 0) return fail_errno(fmt::format("read {}", path));
    if (count == 0) return content;
    content.append(part.data(), static_cast<std::size_t>(count));
    if (content.size() > kMaxFileSize) {
      return fail(ErrorKind::kOutOfRange,
                  fmt::format("{} is larger than {} bytes", path, kMaxFileSize));
    }
  }
}

Result<std::string> read_file(const std::string& path) {
  struct stat file {};
  return read_file(path, file);
}

}  // namespace handshake::config
