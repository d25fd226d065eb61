// SPDX-License-Identifier: Apache-2.0
#include "service/facts_reader.h"

#include <memory>
#include <new>
#include <utility>

namespace handshake::service {
namespace {

struct Read final : BlockingPool::Job {
  Read(ReapedFd given, FactsReader::Done callback)
      : socket(std::move(given)), done(std::move(callback)) {}

  void run() noexcept override {
    Result<SocketFacts> facts = [this]() -> Result<SocketFacts> {
      try {
        return read_socket_facts(socket.get());
      } catch (const std::bad_alloc&) {
        return fail(ErrorKind::kNoMemory, {});
      }
    }();
    done(std::move(socket), std::move(facts));
  }

  ReapedFd socket;
  FactsReader::Done done;
};

}  // namespace

Result<void> FactsReader::read(ReapedFd socket, Owner owner, Done done) {
  if (pool_.outstanding(owner) >= max_per_owner_) {
    return fail(ErrorKind::kTryAgain, "too many sockets of this user are being looked at");
  }
  try {
    pool_.submit(std::make_unique<Read>(std::move(socket), std::move(done)), owner);
  } catch (const std::bad_alloc&) {
    return fail(ErrorKind::kNoMemory, {});
  }
  return {};
}

}  // namespace handshake::service
