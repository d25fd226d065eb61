// SPDX-License-Identifier: Apache-2.0
#include "transport/netns.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <system_error>
#include <thread>

#include <fmt/format.h>

namespace handshake::transport {

Result<Netns> open_netns(const std::string& name_or_path) {
  const std::string path =
      name_or_path.starts_with('/') ? name_or_path : "/run/netns/" + name_or_path;
  Netns netns;
  netns.fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!netns.fd) return fail_errno(fmt::format("open network namespace {}", path));
  // ip-netns(8) makes a plain file first and mounts the namespace on it then.
  if (::ioctl(netns.fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET) {
    return fail(ErrorKind::kInvalidArgument, fmt::format("{} is no network namespace", path));
  }
  struct stat file {};
  if (::fstat(netns.fd.get(), &file) != 0) return fail_errno(fmt::format("stat {}", path));
  netns.device = file.st_dev;
  netns.inode = file.st_ino;
  return netns;
}

Result<void> in_netns(const Netns& netns, const std::function<void()>& work) {
  Result<void> entered;
  try {
    std::thread([&] {
      if (::setns(netns.fd.get(), CLONE_NEWNET) != 0) {
        entered = fail_errno("enter the network namespace");
        return;
      }
      work();
    }).join();
  } catch (const std::system_error&) {
    return fail(ErrorKind::kNoMemory, "no thread to enter a network namespace with");
  }
  return entered;
}

}  // namespace handshake::transport
