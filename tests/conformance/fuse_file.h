// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/fuse.h>
#include <sys/mount.h>

#include <array>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "support.h"

namespace handshake::testing {

/// A file system with one file whose close() blocks until let_go(): its FLUSH is not answered.
/// Speaks the FUSE protocol (linux/fuse.h) itself, so that no library is needed; mounting needs
/// CAP_SYS_ADMIN.
class FuseFile {
 public:
  /// Null when this machine does not let us.
  static std::unique_ptr<FuseFile> mount() {
    std::unique_ptr<FuseFile> made(new FuseFile);
    made->device_.reset(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    if (!made->device_) return nullptr;
    std::string directory = "/tmp/hs-fuse-XXXXXX";
    if (::mkdtemp(directory.data()) == nullptr) return nullptr;
    const std::string options = "fd=" + std::to_string(made->device_.get()) +
                                ",rootmode=40000,user_id=0,group_id=0";
    if (::mount("hs-test", directory.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
      ::rmdir(directory.c_str());
      return nullptr;
    }
    made->directory_ = directory;
    made->server_ = std::thread([raw = made.get()] { raw->serve(); });
    return made;
  }

  ~FuseFile() {
    if (directory_.empty()) return;
    let_go();
    ::umount2(directory_.c_str(), MNT_DETACH);
    server_.join();
    ::rmdir(directory_.c_str());
  }

  UniqueFd open() const {
    return UniqueFd(must(::open((directory_ + "/file").c_str(), O_RDWR | O_CLOEXEC), "open"));
  }

  /// Waits until somebody is inside close().
  bool wait_for_close() {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, soon(), [this] { return !held_.empty(); });
  }
  bool is_blocking() {
    const std::lock_guard lock(mutex_);
    return !held_.empty();
  }
  void let_go() {
    std::vector<std::uint64_t> held;
    {
      const std::lock_guard lock(mutex_);
      open_ = true;
      held.swap(held_);
    }
    for (const std::uint64_t unique : held) reply(unique, 0);
  }

 private:
  FuseFile() = default;

  void serve() {
    alignas(8) std::array<char, 65536> buffer;
    for (;;) {
      const ssize_t size = ::read(device_.get(), buffer.data(), buffer.size());
      if (size < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
      if (size < static_cast<ssize_t>(sizeof(fuse_in_header))) return;  // unmounted
      fuse_in_header header;
      std::memcpy(&header, buffer.data(), sizeof header);
      answer(header, buffer.data() + sizeof header);
    }
  }

  void answer(const fuse_in_header& header, const char* body) {
    switch (header.opcode) {
      case FUSE_INIT: {
        fuse_init_in asked;
        std::memcpy(&asked, body, sizeof asked);
        fuse_init_out out{};
        out.major = FUSE_KERNEL_VERSION;
        out.minor = asked.minor < FUSE_KERNEL_MINOR_VERSION ? asked.minor
                                                            : FUSE_KERNEL_MINOR_VERSION;
        out.max_write = 4096;
        return reply(header.unique, 0, &out, sizeof out);
      }
      case FUSE_LOOKUP: {
        fuse_entry_out out{};
        out.nodeid = kFile;
        out.attr = attributes(kFile);
        return reply(header.unique, 0, &out, sizeof out);
      }
      case FUSE_GETATTR: {
        fuse_attr_out out{};
        out.attr = attributes(header.nodeid);
        return reply(header.unique, 0, &out, sizeof out);
      }
      case FUSE_OPEN: {
        const fuse_open_out out{};
        return reply(header.unique, 0, &out, sizeof out);
      }
      case FUSE_FLUSH: {
        {
          const std::lock_guard lock(mutex_);
          if (!open_) {
            held_.push_back(header.unique);
            changed_.notify_all();
            return;
          }
        }
        return reply(header.unique, 0);
      }
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT: return;  // have no answer
      case FUSE_RELEASE: return reply(header.unique, 0);
      default: return reply(header.unique, -ENOSYS);
    }
  }

  static fuse_attr attributes(std::uint64_t node) {
    fuse_attr attr{};
    attr.ino = node;
    attr.mode = node == kFile ? S_IFREG | 0666 : S_IFDIR | 0777;
    attr.nlink = 1;
    return attr;
  }

  void reply(std::uint64_t unique, int error, const void* body = nullptr, std::size_t size = 0) {
    std::array<char, 512> bytes{};
    fuse_out_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + size);
    header.error = error;
    header.unique = unique;
    std::memcpy(bytes.data(), &header, sizeof header);
    if (size != 0) std::memcpy(bytes.data() + sizeof header, body, size);
    // Fails when whoever asked has been killed: then there is nobody to tell.
    [[maybe_unused]] const ssize_t written = ::write(device_.get(), bytes.data(), header.len);
  }

  static constexpr std::uint64_t kFile = 2;

  UniqueFd device_;
  std::string directory_;
  std::thread server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint64_t> held_;  // FLUSHes without an answer
  bool open_ = false;
};

}  // namespace handshake::testing
