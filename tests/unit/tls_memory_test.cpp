// SPDX-License-Identifier: Apache-2.0
// What a peer that stalls costs: every byte that the TLS library and we hold for one session, at
// each point where a peer can stop. A program of its own, as it counts all allocations.
#include <gtest/gtest.h>

#include <openssl/crypto.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>
#include <vector>

#include "support/tls_credentials.h"
#include "support/tls_peer.h"

namespace {

long allocated_bytes = 0;

// The size goes in front of each block.
constexpr std::size_t kHeader = alignof(std::max_align_t);

void* counted_alloc(std::size_t size) noexcept {
  auto* block = static_cast<char*>(std::malloc(size + kHeader));
  if (block == nullptr) return nullptr;
  *reinterpret_cast<std::size_t*>(block) = size;
  allocated_bytes += static_cast<long>(size);
  return block + kHeader;
}

void counted_free(void* memory) noexcept {
  if (memory == nullptr) return;
  auto* block = static_cast<char*>(memory) - kHeader;
  allocated_bytes -= static_cast<long>(*reinterpret_cast<std::size_t*>(block));
  std::free(block);
}

void* counted_realloc(void* memory, std::size_t size) noexcept {
  if (memory == nullptr) return counted_alloc(size);
  auto* block = static_cast<char*>(memory) - kHeader;
  const std::size_t old = *reinterpret_cast<std::size_t*>(block);
  auto* moved = static_cast<char*>(std::realloc(block, size + kHeader));
  if (moved == nullptr) return nullptr;
  *reinterpret_cast<std::size_t*>(moved) = size;
  allocated_bytes += static_cast<long>(size) - static_cast<long>(old);
  return moved + kHeader;
}

// Before the library allocates anything, that is before main().
const bool counting = CRYPTO_set_mem_functions(
                          [](std::size_t size, const char*, int) { return counted_alloc(size); },
                          [](void* memory, std::size_t size, const char*, int) {
                            return counted_realloc(memory, size);
                          },
                          [](void* memory, const char*, int) { counted_free(memory); }) == 1;

}  // namespace

void* operator new(std::size_t size) {
  if (void* memory = counted_alloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { counted_free(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { counted_free(memory); }

namespace handshake {
namespace {

using test_pki::Authority;
using test_pki::KeyType;
using test_tls::Link;
using test_tls::Peer;
using tls::Session;
using tls::Side;

constexpr long kBudgetBytes = 64 * 1024;
constexpr long kBudgetWithPeersChain = 96 * 1024;  // two RSA certificates, parsed
constexpr int kSessions = 20;

struct World {
  Authority ca{"test CA"};
  Authority intermediate = ca.intermediate("intermediate");
  // RSA certificates are the long ones.
  test_pki::Issued identity = intermediate.issue(
      {.common_name = "both", .dns_names = {"server.test"}, .key_type = KeyType::kRsa2048});
  std::shared_ptr<const tls::Credential> credential =
      test_tls::load(test_tls::source({identity}, {ca.certificate_pem()}));
};
const World& world() {
  static const World made;
  return made;
}

tls::SessionParameters parameters_for(Side side) {
  tls::SessionParameters parameters =
      side == Side::kClient ? test_tls::client_for("server.test") : test_tls::server();
  parameters.present_certificate = true;
  parameters.require_client_certificate = true;
  return parameters;
}


struct Stalled {
  Link link = Link::unix_pair();
  std::unique_ptr<Session> session;
};

/// Bytes per session when the peer has sent `prepare`d bytes and then nothing.
long cost(Side side, const std::function<void(Session&, const Link&)>& prepare) {
  // The first ones fill what the library keeps for all.
  std::vector<Stalled> stalled(kSessions + 2);
  long before = 0;
  for (std::size_t i = 0; i < stalled.size(); ++i) {
    if (i == 2) before = allocated_bytes;
    auto& [link, session] = stalled[i];
    session = std::move(
        Session::create(link.session_end.get(), world().credential, parameters_for(side)).value());
    EXPECT_TRUE(session->advance());
    prepare(*session, link);
  }
  return (allocated_bytes - before) / kSessions;
}

void nothing(Session& /*session*/, const Link& /*link*/) {}

void report(const char* where, long bytes) {
  std::printf("%-58s %6ld bytes\n", where, bytes);
  testing::Test::RecordProperty(where, static_cast<int>(bytes));
}

test_tls::PeerOptions peer_options(Side side) {
  test_tls::PeerOptions options;
  options.server = side == Side::kClient;
  options.identity = &world().identity;
  options.ask_for_certificate = true;
  return options;
}

TEST(StalledPeer, CostsNoMoreThanTheBudget) {
  ASSERT_TRUE(counting);
  static_cast<void>(world());

  const long silent_client = cost(Side::kServer, nothing);
  report("server, client is silent", silent_client);
  EXPECT_LT(silent_client, kBudgetBytes);

  const long silent_server = cost(Side::kClient, nothing);
  report("client, server is silent after our hello", silent_server);
  EXPECT_LT(silent_server, kBudgetBytes);

  std::vector<std::unique_ptr<Peer>> peers;  // made ahead: they are not what is counted
  for (int i = 0; i < kSessions + 2; ++i) {
    peers.push_back(std::make_unique<Peer>(peer_options(Side::kServer)));
  }
  std::vector<std::string> hellos;
  for (auto& peer : peers) hellos.push_back(peer->take_output());
  peers.clear();

  std::size_t next = 0;
  const long half_hello = cost(Side::kServer, [&](Session& session, const Link& link) {
    link.send(hellos[next].substr(0, hellos[next].size() / 2));
    ++next;
    EXPECT_TRUE(session.advance());
  });
  report("server, after half a ClientHello", half_hello);
  EXPECT_LT(half_hello, kBudgetBytes);

  next = 0;
  const long after_hello = cost(Side::kServer, [&](Session& session, const Link& link) {
    link.send(hellos[next++]);
    EXPECT_TRUE(session.advance());
  });
  report("server, after the ClientHello, with a chain of two", after_hello);
  EXPECT_LT(after_hello, kBudgetBytes);

  std::vector<std::unique_ptr<Peer>> clients;
  for (int i = 0; i < kSessions + 2; ++i) {
    clients.push_back(std::make_unique<Peer>(peer_options(Side::kServer)));
  }
  next = 0;
  long peers_part = 0;
  const long certificate = cost(Side::kServer, [&](Session& session, const Link& link) {
    Peer& peer = *clients[next];
    link.send(peer.take_output());
    EXPECT_TRUE(session.advance());
    const long before = allocated_bytes;
    peer.receive(link.receive());
    const std::string flight = peer.take_output();
    if (next++ >= 2) peers_part += allocated_bytes - before;
    link.send(flight.substr(0, flight.size() - 1));
    EXPECT_TRUE(session.advance());
  }) - peers_part / kSessions;
  report("server, before the last byte of the client's Finished", certificate);
  EXPECT_LT(certificate, kBudgetWithPeersChain);

  // Claims that would make the library reserve memory.
  const long claimed = cost(Side::kServer, [](Session& session, const Link& link) {
    link.send(std::string("\x16\x03\x01\x00\x04\x01\x02\x01\x00", 9));  // 131,328 bytes to come
    EXPECT_TRUE(session.advance());
  });
  report("server, after a claim of a 128 KiB ClientHello", claimed);
  EXPECT_LT(claimed, kBudgetBytes);

  const long record = cost(Side::kServer, [](Session& session, const Link& link) {
    link.send(std::string("\x16\x03\x01\x40\x00\x01\x00\x3f\xfc", 9));  // a full record to come
    EXPECT_TRUE(session.advance());
  });
  report("server, after a claim of a 16 KiB record", record);
  EXPECT_LT(record, kBudgetBytes);
}

TEST(FinishedSession, CostsLittleWhileItIsIdle) {
  static_cast<void>(world());
  for (const Side side : {Side::kServer, Side::kClient}) {
    // Two rounds: with and without session tell the peer's part from ours.
    std::vector<std::unique_ptr<Stalled>> finished;
    std::vector<std::unique_ptr<Peer>> peers;
    for (int i = 0; i < kSessions; ++i) {
      finished.push_back(std::make_unique<Stalled>());
      auto& [link, session] = *finished.back();
      peers.push_back(std::make_unique<Peer>(peer_options(side)));
      session = std::move(Session::create(link.session_end.get(), world().credential,
                                          parameters_for(side))
                              .value());
      const auto outcome = test_tls::shake_hands(*session, *peers.back(), link);
      ASSERT_TRUE(outcome) << outcome.error().error.detail;
      ASSERT_EQ(*outcome, Session::Progress::kFinished);
    }
    const long with = allocated_bytes;
    for (auto& one : finished) one->session.reset();
    const long each = (with - allocated_bytes) / kSessions;
    report(side == Side::kServer ? "server, finished, mutual" : "client, finished, mutual", each);
    EXPECT_LT(each, kBudgetBytes);
  }
}

TEST(Sessions, LeaveNothingBehind) {
  static_cast<void>(world());
  const auto once = [](Side side, bool fails) {
    Stalled one;
    Peer peer(peer_options(side));
    one.session = std::move(Session::create(one.link.session_end.get(), world().credential,
                                            parameters_for(side))
                                .value());
    if (fails) {
      one.link.send("GET / HTTP/1.1\r\n");
      EXPECT_FALSE(one.session->advance());
    } else {
      EXPECT_TRUE(test_tls::shake_hands(*one.session, peer, one.link));
    }
  };
  for (const Side side : {Side::kServer, Side::kClient}) {
    for (const bool fails : {false, true}) {
      for (int i = 0; i < 5; ++i) once(side, fails);
      const long before = allocated_bytes;
      for (int i = 0; i < 20; ++i) once(side, fails);
      EXPECT_EQ(allocated_bytes, before);
    }
  }
}

}  // namespace
}  // namespace handshake
