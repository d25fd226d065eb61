// SPDX-License-Identifier: Apache-2.0
// For measuring only, on machines whose kernel has no kTLS: answers the calls that give a socket's
// record layer to the kernel as a kernel with kTLS would, and encrypts nothing. Preloaded into the
// daemon and its workers and linked into the bench itself, so that the whole path runs as it does in
// production, all but the kernel's own few microseconds. Does nothing unless the environment says
// HS_BENCH_PRETEND_KTLS=1. No other target may link it.
//
// What a socket has been given is kept on the socket, for other processes to see, in a number that
// means nothing on a loopback connection: TCP_USER_TIMEOUT.
#include <dlfcn.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace {

constexpr unsigned kMark = 0x7A000000;
constexpr unsigned kMarkMask = 0x7F000000;
constexpr unsigned kSending = 0x10000;
constexpr unsigned kReceiving = 0x20000;
constexpr unsigned kCipherMask = 0xFFFF;

using Set = int(int, int, int, const void*, socklen_t);
using Get = int(int, int, int, void*, socklen_t*);

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

bool pretending() {
  const char* value = std::getenv("HS_BENCH_PRETEND_KTLS");  // the bench sets it while it runs
  return value != nullptr && std::strcmp(value, "1") == 0;
}

int set_real(int fd, int level, int name, const void* value, socklen_t size) {
  static Set* const real = next<Set>("setsockopt");
  return real(fd, level, name, value, size);
}
int get_real(int fd, int level, int name, void* value, socklen_t* size) {
  static Get* const real = next<Get>("getsockopt");
  return real(fd, level, name, value, size);
}

/// 0: the socket has no upper layer.
unsigned mark_of(int fd) {
  unsigned mark = 0;
  socklen_t size = sizeof mark;
  if (get_real(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &mark, &size) != 0) return 0;
  return (mark & kMarkMask) == kMark ? mark : 0;
}
int set_mark(int fd, unsigned mark) {
  return set_real(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &mark, sizeof mark);
}
int refuse(int number) {
  errno = number;
  return -1;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int setsockopt(int fd, int level, int name, const void* value,
                                                                 socklen_t size) noexcept {
  if (!pretending()) return set_real(fd, level, name, value, size);
  if (level == IPPROTO_TCP && name == TCP_ULP) return mark_of(fd) != 0 ? refuse(EEXIST) : set_mark(fd, kMark);
  if (level == SOL_TLS && (name == TLS_TX || name == TLS_RX)) {
    const unsigned mark = mark_of(fd);
    tls_crypto_info info{};
    if (mark == 0) return refuse(ENOPROTOOPT);
    if (size < sizeof info) return refuse(EINVAL);
    std::memcpy(&info, value, sizeof info);
    return set_mark(fd, mark | info.cipher_type | (name == TLS_TX ? kSending : kReceiving));
  }
  return set_real(fd, level, name, value, size);
}

extern "C" __attribute__((visibility("default"))) int getsockopt(int fd, int level, int name, void* value,
                                                                 socklen_t* size) noexcept {
  if (!pretending()) return get_real(fd, level, name, value, size);
  if (level == IPPROTO_TCP && name == TCP_ULP && mark_of(fd) != 0 && *size >= 4) {
    std::memcpy(value, "tls", 4);
    *size = 4;
    return 0;
  }
  if (level == SOL_TLS && (name == TLS_TX || name == TLS_RX)) {
    const unsigned mark = mark_of(fd);
    if ((mark & (name == TLS_TX ? kSending : kReceiving)) == 0) return refuse(EBUSY);
    const tls_crypto_info info{TLS_1_3_VERSION, static_cast<unsigned short>(mark & kCipherMask)};
    if (*size < sizeof info) return refuse(EINVAL);
    std::memcpy(value, &info, sizeof info);
    return 0;
  }
  return get_real(fd, level, name, value, size);
}
