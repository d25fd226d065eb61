// SPDX-License-Identifier: Apache-2.0
#include "service/socket_facts.h"

#include <gtest/gtest.h>

#include "../conformance/support.h"

namespace handshake::service {
namespace {

using testing::duplicate;
using testing::must;
using testing::tcp_pair;

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

UniqueFd make_socket(int domain, int type, int protocol = 0) {
  return UniqueFd(must(::socket(domain, type | SOCK_CLOEXEC, protocol), "socket"));
}

TEST(SocketFacts, OfAConnectedTcpSocket) {
  const auto pair = tcp_pair("127.0.0.7");
  const auto facts = read_socket_facts(pair.server.get());
  ASSERT_TRUE(facts);
  EXPECT_TRUE(facts->stream_tcp);
  EXPECT_TRUE(facts->connected);
  EXPECT_NE(facts->cookie, 0u);
  EXPECT_EQ(facts->netns_cookie, netns_cookie_of(pair.client.get()));
  EXPECT_EQ(facts->upper_layer, "");
  const auto other = read_socket_facts(pair.client.get());
  ASSERT_TRUE(other);
  EXPECT_NE(facts->cookie, other->cookie);
  EXPECT_EQ(facts->local_port, other->peer_port);
  EXPECT_EQ(facts->peer_port, other->local_port);
  EXPECT_EQ(to_text(facts->peer_address, facts->peer_port),
            "127.0.0.7:" + std::to_string(other->local_port));
}

TEST(SocketFacts, TwoDescriptorsOfOneSocketAreOneSocket) {
  const auto pair = tcp_pair();
  const UniqueFd again = duplicate(pair.client.get());
  EXPECT_EQ(read_socket_facts(pair.client.get())->cookie, read_socket_facts(again.get())->cookie);
}

TEST(SocketFacts, WhatIsNotTcpIsSaidToBeNone) {
  EXPECT_FALSE(read_socket_facts(make_socket(AF_INET, SOCK_DGRAM).get())->stream_tcp);
  EXPECT_FALSE(read_socket_facts(make_socket(AF_UNIX, SOCK_STREAM).get())->stream_tcp);
  EXPECT_FALSE(read_socket_facts(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)).get())
                   ->stream_tcp);
  EXPECT_FALSE(read_socket_facts(-1)->stream_tcp);
}

TEST(SocketFacts, MptcpIsNotTcp) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP));
  if (!socket) GTEST_SKIP() << "this kernel has no MPTCP";
  EXPECT_FALSE(read_socket_facts(socket.get())->stream_tcp);
}

TEST(SocketFacts, AnUnconnectedAndAListeningSocketAreNotConnected) {
  const UniqueFd socket = make_socket(AF_INET, SOCK_STREAM);
  EXPECT_TRUE(read_socket_facts(socket.get())->stream_tcp);
  EXPECT_FALSE(read_socket_facts(socket.get())->connected);
  must(::listen(socket.get(), 1), "listen");
  EXPECT_FALSE(read_socket_facts(socket.get())->connected);
}

TEST(SocketFacts, AnIpv4PeerOfAnIpv6SocketIsTheSameAddress) {
  const UniqueFd listener = make_socket(AF_INET6, SOCK_STREAM);
  const int off = 0;
  must(::setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off), "V6ONLY");
  must(::listen(listener.get(), 1), "listen");
  sockaddr_in6 bound{};
  socklen_t size = sizeof bound;
  must(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &size), "getsockname");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = bound.sin6_port;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const UniqueFd client = make_socket(AF_INET, SOCK_STREAM);
  must(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "connect");
  const UniqueFd server(must(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
  const auto facts = read_socket_facts(server.get());
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->peer_address, read_socket_facts(client.get())->peer_address);
}

TEST(SocketFacts, Ipv6AddressesAreWrittenInBrackets) {
  PeerAddress address{};
  address[0] = 0x20;
  address[1] = 0x01;
  address[15] = 1;
  EXPECT_EQ(to_text(address, 2049), "[2001::1]:2049");
}

TEST(SocketFacts, AnAfUnixSocketHasANamespaceToo) {
  int fds[2];
  must(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), "socketpair");
  const UniqueFd a(fds[0]);
  const UniqueFd b(fds[1]);
  const auto pair = tcp_pair();
  EXPECT_EQ(netns_cookie_of(a.get()), netns_cookie_of(pair.client.get()));
}

}  // namespace
}  // namespace handshake::service
