// SPDX-License-Identifier: Apache-2.0
// hs_dummy_agent SOCKET - the dummy agent beside a running handshaked (its agent.sock).
#include <cstdio>

#include "dummy_agent.h"
#include "transport/seqpacket.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: hs_dummy_agent SOCKET\n");
    return 2;
  }
  auto service = handshake::transport::connect_seqpacket(argv[1]);
  if (!service) {
    std::fprintf(stderr, "hs_dummy_agent: %s\n", service.error().detail.c_str());
    return 1;
  }
  handshake::dummy::DummyAgent agent(std::move(*service));
  if (const auto ended = agent.run(); !ended) {
    std::fprintf(stderr, "hs_dummy_agent: %s\n", ended.error().detail.c_str());
    return 1;
  }
  return 0;
}
