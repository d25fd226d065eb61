// SPDX-License-Identifier: Apache-2.0
// The C functions of handshake.h: checks arguments, keeps exceptions in, remembers the last error.
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "client/alert.h"
#include "client/context.h"
#include "client/failure.h"
#include "client/result.h"
#include "client/service_path.h"
#include "client/session.h"
#include "client/socket.h"
#include "handshake/handshake.h"

using handshake::UniqueFd;
using handshake::milliseconds;
using handshake::client::Context;
using handshake::client::Expected;
using handshake::client::Session;
using handshake::client::Submission;
using handshake::client::last_error;
using handshake::client::refuse;
using handshake::client::report;
using handshake::protocol::Auth;
using handshake::protocol::ClientAuth;
using handshake::protocol::MessageType;
using handshake::protocol::RelayMode;

struct hs_context {
  std::unique_ptr<Context> context;
};

struct hs_session {
  Session session;
};

namespace {

/// hs_options as of the first version of the library; it only grows.
constexpr std::size_t kSmallestOptions =
    offsetof(hs_options, handler_class) + sizeof(hs_options::handler_class);

template <class Body>
auto guarded(Body body) noexcept -> decltype(body()) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return report(ENOMEM, "out of memory");
  } catch (...) {
    return report(EIO, "an internal error");
  }
}

Expected<Submission> read_options(const hs_options* given) {
  hs_options options = HS_OPTIONS_INIT;
  if (given != nullptr) {
    if (given->size < kSmallestOptions) {
      return refuse(EINVAL, "hs_options.size is " + std::to_string(given->size) +
                                ": start from HS_OPTIONS_INIT");
    }
    const auto* bytes = reinterpret_cast<const char*>(given);
    if (given->size > sizeof options &&
        std::any_of(bytes + sizeof options, bytes + given->size, [](char c) { return c != 0; })) {
      return refuse(E2BIG, "hs_options has a field that this version of the library does not know");
    }
    std::memcpy(&options, given, std::min(given->size, sizeof options));
  }
  Submission submission;
  if (options.credential != nullptr) submission.credential = options.credential;
  if (options.peername != nullptr) submission.peername = options.peername;
  submission.timeout_ms = options.timeout_ms;
  submission.handler_class = options.handler_class;
  switch (options.relay) {
    case HS_RELAY_ALLOWED: submission.relay = RelayMode::kAllowed; break;
    case HS_RELAY_NEVER: submission.relay = RelayMode::kNever; break;
    case HS_RELAY_ALWAYS: submission.relay = RelayMode::kAlways; break;
    default: return refuse(EINVAL, "hs_options.relay is " + std::to_string(options.relay));
  }
  switch (options.client_auth) {
    case HS_CLIENT_AUTH_DEFAULT: submission.client_auth = ClientAuth::kDefault; break;
    case HS_CLIENT_AUTH_REQUEST: submission.client_auth = ClientAuth::kRequest; break;
    case HS_CLIENT_AUTH_REQUIRE: submission.client_auth = ClientAuth::kRequire; break;
    default:
      return refuse(EINVAL, "hs_options.client_auth is " + std::to_string(options.client_auth));
  }
  return submission;
}

int submit(MessageType type, Auth auth, hs_context* context, int fd, const hs_options* options,
           hs_done* done, void* cookie, hs_release* release, std::uint64_t* request) noexcept {
  return guarded([&]() -> int {
    if (context == nullptr) return report(EINVAL, "no context");
    auto submission = read_options(options);
    if (!submission) return report(submission.error());
    submission->fd = fd;
    submission->message_type = type;
    submission->auth_mode = auth;
    submission->done = done;
    submission->cookie = cookie;
    submission->release = release;
    const auto submitted = context->context->submit(*submission, request);
    return submitted ? 0 : report(submitted.error());
  });
}

}  // namespace

extern "C" {

int hs_context_create(const char* path, hs_context** context) {
  return guarded([&]() -> int {
    if (context == nullptr) return report(EINVAL, "no place for the context");
    *context = nullptr;
    auto created =
        Context::create(path != nullptr ? path : handshake::client::default_service_path());
    if (!created) return report(created.error());
    *context = new hs_context{std::move(*created)};
    return 0;
  });
}

void hs_context_destroy(hs_context* context) { delete context; }

int hs_fd(const hs_context* context) {
  return context != nullptr ? context->context->fd() : report(EINVAL, "no context");
}

int hs_dispatch(hs_context* context) {
  return context != nullptr ? context->context->dispatch() : report(EINVAL, "no context");
}

int hs_client_hello_anon(hs_context* context, int fd, const hs_options* options, hs_done* done,
                         void* cookie, hs_release* release, uint64_t* request) {
  return submit(MessageType::kClienthello, Auth::kUnauth, context, fd, options, done, cookie,
                release, request);
}

int hs_client_hello_x509(hs_context* context, int fd, const hs_options* options, hs_done* done,
                         void* cookie, hs_release* release, uint64_t* request) {
  return submit(MessageType::kClienthello, Auth::kX509, context, fd, options, done, cookie, release,
                request);
}

int hs_client_hello_psk(hs_context* context, int fd, const hs_options* options, hs_done* done,
                        void* cookie, hs_release* release, uint64_t* request) {
  return submit(MessageType::kClienthello, Auth::kPsk, context, fd, options, done, cookie, release,
                request);
}

int hs_server_hello_x509(hs_context* context, int fd, const hs_options* options, hs_done* done,
                         void* cookie, hs_release* release, uint64_t* request) {
  return submit(MessageType::kServerhello, Auth::kX509, context, fd, options, done, cookie, release,
                request);
}

int hs_server_hello_psk(hs_context* context, int fd, const hs_options* options, hs_done* done,
                        void* cookie, hs_release* release, uint64_t* request) {
  return submit(MessageType::kServerhello, Auth::kPsk, context, fd, options, done, cookie, release,
                request);
}

int hs_wait(hs_context* context, uint64_t request, int timeout_ms, hs_result** result) {
  return guarded([&]() -> int {
    if (result != nullptr) *result = nullptr;
    if (context == nullptr) return report(EINVAL, "no context");
    std::optional<milliseconds> timeout;
    if (timeout_ms >= 0) timeout = milliseconds(timeout_ms);
    auto ended = context->context->wait(request, timeout);
    if (!ended) return report(ended.error());
    const int status = (*ended)->status;
    if (status != 0) static_cast<void>(report(-status, (*ended)->reason));
    if (result != nullptr) *result = ended->release();
    return status;
  });
}

int hs_cancel(hs_context* context, uint64_t request) {
  return guarded([&]() -> int {
    if (context == nullptr) return report(EINVAL, "no context");
    const auto cancelled = context->context->cancel(request);
    if (!cancelled) return report(cancelled.error());
    return *cancelled ? 1 : 0;
  });
}

hs_result* hs_result_ref(const hs_result* result) {
  result->references.fetch_add(1, std::memory_order_relaxed);
  // References are counted on what everybody sees as constant.
  return const_cast<hs_result*>(result);
}

void hs_result_unref(hs_result* result) {
  if (result != nullptr) handshake::client::UnrefResult{}(result);
}

int hs_result_status(const hs_result* result) { return result->status; }
int hs_result_mode(const hs_result* result) { return result->mode; }
int hs_result_fd(const hs_result* result) { return result->fd; }
uint64_t hs_result_log_id(const hs_result* result) { return result->log_id; }
const char* hs_result_cipher(const hs_result* result) { return result->cipher.c_str(); }
const char* hs_result_group(const hs_result* result) { return result->group.c_str(); }
const char* hs_result_peer_subject(const hs_result* result) { return result->peer_subject.c_str(); }
const char* hs_result_reason(const hs_result* result) { return result->reason.c_str(); }
int hs_result_alert(const hs_result* result) { return result->alert; }
int hs_result_alert_sent(const hs_result* result) { return result->alert_sent ? 1 : 0; }

size_t hs_result_peer_identity_count(const hs_result* result) {
  return result->peer_identities.size();
}

uint32_t hs_result_peer_identity(const hs_result* result, size_t index) {
  return index < result->peer_identities.size() ? result->peer_identities[index] : 0;
}

const hs_tagset* hs_result_tags(const hs_result* result) { return &result->tags; }

size_t hs_tagset_count(const hs_tagset* tags) { return tags->tags.size(); }

const char* hs_tagset_at(const hs_tagset* tags, size_t index) {
  return index < tags->tags.size() ? (tags->tags.begin() + index)->data() : nullptr;
}

int hs_tagset_contains(const hs_tagset* tags, const char* name) {
  return tags->tags.contains(std::string_view(name, std::strlen(name) + 1)) ? 1 : 0;
}

int hs_tagset_intersects(const hs_tagset* a, const hs_tagset* b) {
  return a->tags.intersects(b->tags) ? 1 : 0;
}

hs_tagset* hs_tagset_copy(const hs_tagset* tags) {
  auto* copy = new (std::nothrow) hs_tagset(*tags);
  if (copy == nullptr) static_cast<void>(report(ENOMEM, "out of memory"));
  return copy;
}

int hs_tagset_create(const char* const* names, size_t count, hs_tagset** tags) {
  return guarded([&]() -> int {
    if (tags == nullptr) return report(EINVAL, "no place for the set");
    *tags = nullptr;
    if (count != 0 && names == nullptr) return report(EINVAL, "no names");
    const auto made = hs_tagset::of(std::vector<std::string>(names, names + count));
    if (!made) return report(made.error());
    *tags = new hs_tagset(*made);
    return 0;
  });
}

void hs_tagset_free(hs_tagset* tags) { delete tags; }

int hs_session_open(int fd, const hs_result* result, hs_session** session) {
  return guarded([&]() -> int {
    if (session == nullptr || result == nullptr) return report(EINVAL, "no result, or no place");
    *session = nullptr;
    if (result->status != 0) return report(EINVAL, "the handshake failed: there is no session");
    const auto identity = handshake::client::socket_identity(fd);
    if (!identity) return report(identity.error());
    if (*identity != result->socket_identity) {
      return report(EINVAL, "the result is of another socket");
    }
    // Allocated before the descriptor is taken: after a failure it is still the caller's.
    *session = new hs_session{Session(
        UniqueFd(fd), result->role,
        result->mode == HS_MODE_KTLS ? &handshake::client::kernel_record_io : nullptr)};
    return 0;
  });
}

int hs_session_fd(const hs_session* session) { return session->session.fd(); }

ssize_t hs_recv(hs_session* session, void* buffer, size_t size, int flags) {
  if (session == nullptr || buffer == nullptr || size == 0 || (flags & ~MSG_DONTWAIT) != 0) {
    return report(EINVAL, "hs_recv: no session, no buffer, or an unknown flag");
  }
  return session->session.receive({static_cast<std::byte*>(buffer), size}, flags);
}

ssize_t hs_send(hs_session* session, const void* buffer, size_t size, int flags) {
  if (session == nullptr || (buffer == nullptr && size != 0) ||
      (flags & ~(MSG_DONTWAIT | MSG_MORE)) != 0) {
    return report(EINVAL, "hs_send: no session, no buffer, or an unknown flag");
  }
  return session->session.send({static_cast<const std::byte*>(buffer), size}, flags);
}

int hs_shutdown(hs_session* session) {
  return session != nullptr ? session->session.shutdown() : report(EINVAL, "no session");
}

int hs_close(hs_session* session) {
  if (session == nullptr) return 0;
  const std::unique_ptr<hs_session> owned(session);
  return owned->session.close();
}

int hs_session_alert(const hs_session* session) { return session->session.alert(); }

const char* hs_alert_name(int alert) { return handshake::client::alert_name(alert); }

const char* hs_last_error(void) { return last_error(); }

}  // extern "C"
