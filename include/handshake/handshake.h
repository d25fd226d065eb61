/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HANDSHAKE_HANDSHAKE_H
#define HANDSHAKE_HANDSHAKE_H

/*
 * libhandshake: TLS 1.3 on a connected TCP socket, without a TLS library and without a key in
 * your process. You hand the socket to the service (handshaked), its agent shakes hands, and you
 * get the socket back encrypted, with the peer's identity and the administrator's tags.
 *
 * Conventions
 *
 *  1. Results. A function that can fail returns 0 (or a count) on success and a negative errno on
 *     failure; errno itself is left alone. hs_last_error() has a sentence about the calling
 *     thread's last failure. Numbers the caller may meet: -EINVAL bad argument, -ENOMEM, -EMFILE no
 *     free descriptor, -EIO the service is gone or said something impossible; others are listed
 *     with each function.
 *
 *  2. Types. Opaque but for hs_options, which begins with its own size, so that fields can be
 *     added: start from HS_OPTIONS_INIT, or from zeroes and set `size`. Enumerations only grow;
 *     the library takes and returns them as int.
 *
 *  3. Threads. Every function may be called from any thread, several at once, on one context.
 *     Two exceptions: hs_context_destroy() needs the context for itself, and one session has at
 *     most one thread receiving and one sending, and nobody else in hs_close(). Callbacks run
 *     inside hs_dispatch() on its caller's thread and nowhere else; they may call anything but
 *     hs_context_destroy() on their own context, and must not throw.
 *
 *  4. Completions. A submission that returns 0 is followed by exactly one end: the callback (or
 *     hs_wait() for a submission without one), or a hs_cancel() that returned 1, or
 *     hs_context_destroy(). A submission that fails is followed by nothing.
 *
 *  5. The cookie. release(cookie) runs exactly once after that end, on the thread that caused it:
 *     after the callback, in hs_wait(), in hs_cancel(), in hs_context_destroy(). After a
 *     submission that failed the cookie is still the caller's and release is not called.
 *
 *  6. The socket stays the caller's and must stay open until the end of the request. From
 *     submission to its end nobody in the program touches it: no read, no write, no close, no
 *     setsockopt, no fd duplicated from it in use. The agent speaks TLS on it; a byte read or
 *     written here would be missing or surplus there. Take it out of every epoll set first. After
 *     an end without success it may be in any state: close it. (A failed submission has not
 *     touched it.)
 *
 *  7. After success the same fd number is the session, always. With kTLS it is the same socket;
 *     with a relay the library has put another socket in its place (dup3): close-on-exec,
 *     O_NONBLOCK and the SO_RCVTIMEO and SO_SNDTIMEO of the old one are carried over, other
 *     options are not, getpeername() names the relay, and duplicates of the old fd still name the
 *     unencrypted socket.
 *
 *  8. fork. A context belongs to the process that made it; a child leaves it alone. All
 *     descriptors are close-on-exec.
 *
 *  9. Text that came from the peer (hs_result_peer_subject) or the service is UTF-8 at best and
 *     hostile at worst: quote it before you print it. Strings belong to the object they were
 *     got from and live as long as it does.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#if defined(__GNUC__)
#define HS_API __attribute__((visibility("default")))
#else
#define HS_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* One connection to the service. */
typedef struct hs_context hs_context;
/* How a request ended. Immutable, counted: hs_result_ref(), hs_result_unref(). */
typedef struct hs_result hs_result;
/* A finalized set of session tags. Immutable. */
typedef struct hs_tagset hs_tagset;
/* A socket with a TLS session on it, for reading and writing. */
typedef struct hs_session hs_session;

/* What may be done where the kernel cannot encrypt the socket itself. */
enum hs_relay {
  HS_RELAY_ALLOWED = 0, /* kTLS where there is kTLS, otherwise a relay: hs_recv does both */
  HS_RELAY_NEVER = 1,   /* kTLS or -EOPNOTSUPP: nobody but the kernel sees the plaintext */
  HS_RELAY_ALWAYS = 2   /* a relay also where there is kTLS: plain read() and write() do */
};

/* What a server asks of the client. */
enum hs_client_auth {
  HS_CLIENT_AUTH_DEFAULT = 0, /* what the credential's configuration says */
  HS_CLIENT_AUTH_REQUEST = 1, /* a certificate is asked for, its absence accepted */
  HS_CLIENT_AUTH_REQUIRE = 2  /* a client without a certificate is refused */
};

/* Who encrypts the session's records. */
enum hs_mode {
  HS_MODE_NONE = 0, /* there is no session */
  HS_MODE_KTLS = 1, /* the kernel, on the caller's socket: use hs_recv() and hs_send() */
  HS_MODE_RELAY = 2 /* the agent; the fd is a plain socket to it */
};

/* Parameters of a handshake. Borrowed for the call. All zero but for size is a good default. */
typedef struct hs_options {
  size_t size;            /* sizeof(hs_options) */
  const char *credential; /* name of one of the agent's credentials, at most 255 bytes; NULL: none */
  const char *peername;   /* client: DNS name or IP literal that the server's certificate must
                             have, sent as SNI if a name. NULL: the peer's address */
  uint32_t timeout_ms;    /* from submission; 0: the service's default (30 s) */
  uint32_t relay;         /* enum hs_relay */
  uint32_t client_auth;   /* enum hs_client_auth; for a server */
  uint32_t handler_class; /* 0: TLS 1.3 over TCP */
} hs_options;

#define HS_OPTIONS_INIT \
  { sizeof(hs_options), NULL, NULL, 0, HS_RELAY_ALLOWED, HS_CLIENT_AUTH_DEFAULT, 0 }

/* The end of a request. `result` is valid during the call; hs_result_ref() keeps it. */
typedef void hs_done(void *cookie, const hs_result *result);
typedef void hs_release(void *cookie);

/* ---- The connection to the service ---- */

/*
 * Connects to the service's socket: `path`, or if it is NULL the first that applies of
 * $HANDSHAKED_SOCKET, $HANDSHAKED_RUNTIME_DIR/consumer.sock, $XDG_RUNTIME_DIR/handshaked/consumer.sock
 * if that exists, /run/handshaked/consumer.sock (a set-user-ID program ignores the environment).
 * -ENOENT nobody listens there, -EACCES, -ETIMEDOUT or -EIO the service does not answer within 10 s.
 *
 * Should the service go away, every outstanding request ends with -EIO, and the next submission
 * connects again.
 */
HS_API int hs_context_create(const char *path, hs_context **context);

/*
 * Disconnects and frees. What has not ended by then ends here without a callback; whatever was
 * waiting for hs_dispatch() too: close those sockets. NULL is fine.
 */
HS_API void hs_context_destroy(hs_context *context);

/*
 * Readable (poll, epoll, level- or edge-triggered) when hs_dispatch() has something to do. Borrowed;
 * the same number for the life of the context. Poll it, nothing else.
 */
HS_API int hs_fd(const hs_context *context);

/*
 * Takes in what has arrived and runs the callbacks that are due. Never waits. Returns how many ran.
 */
HS_API int hs_dispatch(hs_context *context);

/* ---- Submitting ---- */

/*
 * Each submits one handshake on the connected TCP socket `fd` and returns once the service has
 * taken or refused it (a local round trip; after 10 s without an answer the service counts as
 * gone). `options` may be NULL. `done` NULL: hs_wait() collects the result. `request`, if not
 * NULL, receives the name of the request for hs_wait() and hs_cancel(), before any callback.
 *
 * -EINVAL not a connected TCP socket or bad options, -E2BIG options of a newer library with a field
 * set that this one does not know, -EEXIST the socket already has an upper layer protocol, -EBUSY it
 * has a request that has not ended, -ESRCH no agent serves this class here, -EAGAIN too many
 * pending, -EOPNOTSUPP the service is draining or cannot do this, -EPERM you may not use this
 * credential, -ENOENT the service is not running, -EIO it went away.
 */

/* Client that shows no certificate; verifies the server with the credential's trust store. */
HS_API int hs_client_hello_anon(hs_context *context, int fd, const hs_options *options,
                                hs_done *done, void *cookie, hs_release *release,
                                uint64_t *request);
/* Client with the credential's certificate. */
HS_API int hs_client_hello_x509(hs_context *context, int fd, const hs_options *options,
                                hs_done *done, void *cookie, hs_release *release,
                                uint64_t *request);
/* Client with the credential's pre-shared key. */
HS_API int hs_client_hello_psk(hs_context *context, int fd, const hs_options *options,
                               hs_done *done, void *cookie, hs_release *release,
                               uint64_t *request);
/* Server with the credential's certificate. */
HS_API int hs_server_hello_x509(hs_context *context, int fd, const hs_options *options,
                                hs_done *done, void *cookie, hs_release *release,
                                uint64_t *request);
/* Server with the credential's pre-shared keys. */
HS_API int hs_server_hello_psk(hs_context *context, int fd, const hs_options *options,
                               hs_done *done, void *cookie, hs_release *release,
                               uint64_t *request);

/*
 * Waits for the end of a request that was submitted without a callback, at most `timeout_ms`
 * (-1: as long as it takes). Returns the handshake's status: 0 only if there is a session. *result
 * (may be NULL) receives the result, to be given back with hs_result_unref(), or NULL when the
 * request has not ended: -EAGAIN the time is over, wait again or cancel; -ECANCELED cancelled by
 * another thread; -ENOENT no such request, or collected already; -EBUSY another thread waits for
 * it; -EINVAL it has a callback. A signal does not end the wait.
 */
HS_API int hs_wait(hs_context *context, uint64_t request, int timeout_ms, hs_result **result);

/*
 * Ends a request: 1 it is cancelled and no callback will come; 0 too late, it has ended or its
 * callback is about to run; -EINVAL never submitted. At most one call returns 1. The agent may be
 * at work on the socket: close it. A local round trip.
 */
HS_API int hs_cancel(hs_context *context, uint64_t request);

/* ---- The result ---- */

HS_API hs_result *hs_result_ref(const hs_result *result);
HS_API void hs_result_unref(hs_result *result); /* NULL is fine */

/*
 * 0: there is a session, and the library has checked it: the kernel has keys for both directions,
 * or the fd is the relay's. Otherwise -EACCES a certificate was rejected or failed verification,
 * -ETIMEDOUT, -ENOKEY no credential, -EKEYREJECTED unknown PSK identity, -EOPNOTSUPP, -EIO.
 */
HS_API int hs_result_status(const hs_result *result);
HS_API int hs_result_mode(const hs_result *result); /* enum hs_mode; HS_MODE_NONE unless status is 0 */
HS_API int hs_result_fd(const hs_result *result);   /* the fd that was submitted */
/* The service's name for the request, as in its logs and in handshakectl sessions; 0: unknown. */
HS_API uint64_t hs_result_log_id(const hs_result *result);
/* "" where unknown. */
HS_API const char *hs_result_cipher(const hs_result *result);       /* "TLS_AES_256_GCM_SHA384" */
HS_API const char *hs_result_group(const hs_result *result);        /* "X25519MLKEM768" */
HS_API const char *hs_result_peer_subject(const hs_result *result); /* RFC 4514; untrusted text */
HS_API const char *hs_result_reason(const hs_result *result);       /* why it failed, one line */
/* The TLS alert that ended the handshake, -1 for none; and who sent it: 1 this side, 0 the peer. */
HS_API int hs_result_alert(const hs_result *result);
HS_API int hs_result_alert_sent(const hs_result *result);
/* Serial numbers of keys that stand for the peer; none when the peer proved no identity. */
HS_API size_t hs_result_peer_identity_count(const hs_result *result);
HS_API uint32_t hs_result_peer_identity(const hs_result *result, size_t index); /* 0 beyond the end */
/* The session's tags, empty where there are none. Lives as long as the result. */
HS_API const hs_tagset *hs_result_tags(const hs_result *result);

/* ---- Tags: names that the administrator's policy gave to this session ---- */

HS_API size_t hs_tagset_count(const hs_tagset *tags);
/* In byte order, each once; NULL beyond the end. */
HS_API const char *hs_tagset_at(const hs_tagset *tags, size_t index);
HS_API int hs_tagset_contains(const hs_tagset *tags, const char *name); /* 1 or 0 */
HS_API int hs_tagset_intersects(const hs_tagset *a, const hs_tagset *b); /* 1 or 0 */
/* A set of its own that outlives the result; NULL without memory. Give it to hs_tagset_free(). */
HS_API hs_tagset *hs_tagset_copy(const hs_tagset *tags);
/* A set from `count` names, duplicates allowed. -EINVAL a name is not 1 to 255 bytes. */
HS_API int hs_tagset_create(const char *const *names, size_t count, hs_tagset **tags);
HS_API void hs_tagset_free(hs_tagset *tags); /* NULL is fine */

/* ---- Using the session ---- */

/*
 * plain read() on a kTLS socket fails for good at the first session ticket, reports a clean close
 * as EIO and a cut connection as the end. These calls know the difference, and do the same over a
 * relay. They block or not as the fd does (O_NONBLOCK, MSG_DONTWAIT: -EAGAIN), never raise SIGPIPE,
 * and return -EINTR as recv() and send() do. Nothing is buffered here: poll() on the fd is right,
 * but what makes a kTLS socket readable may be a ticket, so poll with a non-blocking fd.
 */

/*
 * Makes a session of `fd` and a successful `result` for it. The session owns the fd from then on;
 * after a failure it is still the caller's. -EINVAL the result is not a success, or not of this
 * socket. One session per socket.
 */
HS_API int hs_session_open(int fd, const hs_result *result, hs_session **session);

HS_API int hs_session_fd(const hs_session *session); /* for polling; borrowed */

/*
 * Receives up to `size` bytes (more than 0); flags: 0 or MSG_DONTWAIT. 0 is the end: the peer sent
 * close_notify. Session tickets are skipped. After anything but -EAGAIN and -EINTR the receiving
 * direction has ended and every further call says the same. What the buffer holds beyond the
 * returned count is undefined.
 *
 * -ECONNRESET the connection ended without close_notify: something may be missing. -EKEYEXPIRED
 * the peer changed its keys (KeyUpdate), which is not followed yet. -EACCES, -EKEYREJECTED, -EIO the
 * peer ended the session with the alert that hs_session_alert() names (in TLS 1.3 a server refuses
 * a client's certificate this way, after the client's handshake has succeeded). -EPROTO the peer
 * broke the protocol, -EBADMSG a record failed authentication; it has been told.
 */
HS_API ssize_t hs_recv(hs_session *session, void *buffer, size_t size, int flags);

/*
 * Sends up to `size` bytes and returns how many were taken; flags: 0, MSG_DONTWAIT, MSG_MORE.
 * -EPIPE after hs_shutdown(), or after an alert ended the session; -ECONNRESET the peer is gone.
 */
HS_API ssize_t hs_send(hs_session *session, const void *buffer, size_t size, int flags);

/*
 * Ends the sending direction with close_notify; receiving goes on. -EAGAIN: call again when the fd
 * is writable. Done already: 0.
 */
HS_API int hs_shutdown(hs_session *session);

/*
 * hs_shutdown() if that has not been done, then closes the fd and frees the session, whatever it
 * returns: 0, or why close_notify could not be sent. To be sure that the peer has everything: first
 * hs_shutdown(), then hs_recv() until 0. NULL is fine.
 */
HS_API int hs_close(hs_session *session);

/* The alert with which the peer ended the session, -1 while there is none (close_notify is none). */
HS_API int hs_session_alert(const hs_session *session);

/* "certificate_required" for 116 (RFC 8446 section 6); "unknown_alert" for what has no name. */
HS_API const char *hs_alert_name(int alert);

/*
 * One line about the last call of this thread that failed; "" before any has. Valid until the
 * thread's next call into the library.
 */
HS_API const char *hs_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
