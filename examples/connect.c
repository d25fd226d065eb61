/* SPDX-License-Identifier: Apache-2.0 */
/* connect HOST PORT CREDENTIAL: sends its input over TLS, prints the answer. No TLS library here. */
#include <handshake/handshake.h>
#include <netdb.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: connect HOST PORT CREDENTIAL\n"), 2;
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *address;
  if (getaddrinfo(argv[1], argv[2], &hints, &address) != 0) return perror(argv[1]), 1;
  int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, address->ai_addr, address->ai_addrlen) != 0) return perror(argv[1]), 1;
  freeaddrinfo(address);

  hs_context *context;
  hs_result *result = NULL;
  hs_session *session;
  uint64_t request;
  hs_options options = HS_OPTIONS_INIT;
  options.peername = argv[1];
  options.credential = argv[3];
  if (hs_context_create(NULL, &context) != 0 ||
      hs_client_hello_anon(context, fd, &options, NULL, NULL, NULL, &request) != 0 ||
      hs_wait(context, request, -1, &result) != 0 || hs_session_open(fd, result, &session) != 0)
    return fprintf(stderr, "connect: %s\n", hs_last_error()), 1;
  fprintf(stderr, "%s, %s\n", hs_result_cipher(result), hs_result_peer_subject(result));
  hs_result_unref(result);
  hs_context_destroy(context);

  char data[16384];
  ssize_t size;
  while ((size = read(STDIN_FILENO, data, sizeof data)) > 0)
    for (ssize_t sent = 0, count; sent < size; sent += count)
      if ((count = hs_send(session, data + sent, (size_t)(size - sent), 0)) < 0)
        return fprintf(stderr, "connect: %s\n", hs_last_error()), 1;
  hs_shutdown(session);
  while ((size = hs_recv(session, data, sizeof data, 0)) > 0) fwrite(data, 1, (size_t)size, stdout);
  if (size < 0) fprintf(stderr, "connect: %s\n", hs_last_error());
  hs_close(session);
  return size < 0;
}
