/* SPDX-License-Identifier: Apache-2.0 */
/* The header and the library as a C11 program sees them. */
#include <handshake/handshake.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int failures;

#define EXPECT(condition)                                                        \
  do {                                                                           \
    if (!(condition)) {                                                          \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);    \
      ++failures;                                                                \
    }                                                                            \
  } while (0)

static void done(void *cookie, const hs_result *result) {
  (void)result;
  ++*(int *)cookie;
}
static void release(void *cookie) { ++*(int *)cookie; }

int main(void) {
  hs_options initialized = HS_OPTIONS_INIT;
  hs_options zeroed;
  hs_context *context = NULL;
  hs_tagset *tags = NULL;
  const char *names[] = {"b", "a", "b"};
  int cookie = 0;

  memset(&zeroed, 0, sizeof zeroed);
  zeroed.size = sizeof zeroed;
  EXPECT(memcmp(&initialized, &zeroed, sizeof zeroed) == 0);

  EXPECT(hs_context_create("/nonexistent/consumer.sock", &context) == -ENOENT);
  EXPECT(context == NULL);
  EXPECT(strstr(hs_last_error(), "/nonexistent/consumer.sock") != NULL);
  EXPECT(hs_client_hello_x509(NULL, 0, &initialized, done, &cookie, release, NULL) == -EINVAL);
  EXPECT(cookie == 0);

  EXPECT(hs_tagset_create(names, 3, &tags) == 0);
  EXPECT(hs_tagset_count(tags) == 2);
  EXPECT(strcmp(hs_tagset_at(tags, 0), "a") == 0);
  EXPECT(hs_tagset_contains(tags, "b") == 1);
  EXPECT(hs_tagset_contains(tags, "c") == 0);
  hs_tagset_free(tags);

  EXPECT(strcmp(hs_alert_name(40), "handshake_failure") == 0);
  EXPECT(hs_close(NULL) == 0);
  hs_context_destroy(NULL);
  return failures == 0 ? 0 : 1;
}
