// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <utility>

#include <handshake/handshake.h>
#include <handshake/tagset.hpp>

/// libhandshake for C++17 and later: owners for the objects of handshake.h, whose conventions and
/// errno values hold here too, and nothing else. Header only; what is linked is the C library.
/// Throws nothing of its own.
namespace hs {

/// How a request ended, or why there is none. A value: copies share one result. Any thread.
class Outcome {
 public:
  /// Failed with `status`, a negative errno, before there was a result.
  explicit Outcome(int status = -EINVAL) noexcept : status_(status) {}
  /// Takes over a reference; `result` may be null.
  Outcome(int status, hs_result* result) noexcept : status_(status), result_(result) {}

  /// True only if there is a session.
  explicit operator bool() const noexcept { return status_ == 0 && result_ != nullptr; }
  int status() const noexcept { return status_; }
  /// False when the request was not accepted, or has not ended.
  bool ended() const noexcept { return result_ != nullptr; }

  int mode() const noexcept { return result_ ? hs_result_mode(get()) : HS_MODE_NONE; }
  int fd() const noexcept { return result_ ? hs_result_fd(get()) : -1; }
  std::uint64_t log_id() const noexcept { return result_ ? hs_result_log_id(get()) : 0; }
  const char* cipher() const noexcept { return result_ ? hs_result_cipher(get()) : ""; }
  const char* group() const noexcept { return result_ ? hs_result_group(get()) : ""; }
  const char* peer_subject() const noexcept { return result_ ? hs_result_peer_subject(get()) : ""; }
  const char* reason() const noexcept { return result_ ? hs_result_reason(get()) : ""; }
  int alert() const noexcept { return result_ ? hs_result_alert(get()) : -1; }
  bool alert_sent() const noexcept { return result_ && hs_result_alert_sent(get()) != 0; }
  std::size_t peer_identity_count() const noexcept {
    return result_ ? hs_result_peer_identity_count(get()) : 0;
  }
  std::uint32_t peer_identity(std::size_t index) const noexcept {
    return result_ ? hs_result_peer_identity(get(), index) : 0;
  }
  bool has_tag(const char* name) const noexcept {
    return result_ && hs_tagset_contains(hs_result_tags(get()), name) != 0;
  }
  /// The session's tags as a set of their own. Throws std::bad_alloc.
  handshake::TagSet tags() const {
    handshake::TagSet::Builder builder;
    const std::size_t count = result_ ? hs_tagset_count(hs_result_tags(get())) : 0;
    for (std::size_t i = 0; i < count; ++i) builder.add(hs_tagset_at(hs_result_tags(get()), i));
    return std::move(builder).finalize();
  }

  /// Null when nothing has ended; borrowed.
  const hs_result* get() const noexcept { return result_.get(); }

 private:
  class Reference {
   public:
    Reference() noexcept = default;
    explicit Reference(hs_result* result) noexcept : result_(result) {}
    Reference(const Reference& other) noexcept
        : result_(other.result_ != nullptr ? hs_result_ref(other.result_) : nullptr) {}
    Reference(Reference&& other) noexcept : result_(std::exchange(other.result_, nullptr)) {}
    Reference& operator=(Reference other) noexcept {
      std::swap(result_, other.result_);
      return *this;
    }
    ~Reference() { hs_result_unref(result_); }
    const hs_result* get() const noexcept { return result_; }
    explicit operator bool() const noexcept { return result_ != nullptr; }
    bool operator!=(std::nullptr_t) const noexcept { return result_ != nullptr; }

   private:
    hs_result* result_ = nullptr;
  };

  int status_;
  Reference result_;
};

/// One connection to the service. Any thread; destroyed by one that has it for itself.
class Context {
 public:
  using Done = std::function<void(const Outcome&)>;

  /// As hs_context_create(). Check it before use: error() says what happened.
  static Context connect(const char* path = nullptr) noexcept {
    Context context;
    hs_context* made = nullptr;
    context.error_ = hs_context_create(path, &made);
    context.context_.reset(made);
    return context;
  }

  explicit operator bool() const noexcept { return context_ != nullptr; }
  /// 0 or a negative errno.
  int error() const noexcept { return error_; }
  hs_context* get() const noexcept { return context_.get(); }
  int fd() const noexcept { return hs_fd(get()); }
  int dispatch() noexcept { return hs_dispatch(get()); }
  int cancel(std::uint64_t request) noexcept { return hs_cancel(get(), request); }
  /// `timeout_ms` -1: as long as it takes.
  Outcome wait(std::uint64_t request, int timeout_ms = -1) noexcept {
    hs_result* result = nullptr;
    const int status = hs_wait(get(), request, timeout_ms, &result);
    return Outcome(status, result);
  }

  /// Each twice: one waits for the handshake, one calls `done` from dispatch(). `done` must not
  /// throw; it is destroyed after it has run, or after a successful cancel().
  Outcome client_hello_anon(int fd, const hs_options& options) noexcept {
    return run(hs_client_hello_anon, fd, options);
  }
  Outcome client_hello_x509(int fd, const hs_options& options) noexcept {
    return run(hs_client_hello_x509, fd, options);
  }
  Outcome client_hello_psk(int fd, const hs_options& options) noexcept {
    return run(hs_client_hello_psk, fd, options);
  }
  Outcome server_hello_x509(int fd, const hs_options& options) noexcept {
    return run(hs_server_hello_x509, fd, options);
  }
  Outcome server_hello_psk(int fd, const hs_options& options) noexcept {
    return run(hs_server_hello_psk, fd, options);
  }

  int client_hello_anon(int fd, const hs_options& options, Done done,
                        std::uint64_t* request = nullptr) noexcept {
    return start(hs_client_hello_anon, fd, options, std::move(done), request);
  }
  int client_hello_x509(int fd, const hs_options& options, Done done,
                        std::uint64_t* request = nullptr) noexcept {
    return start(hs_client_hello_x509, fd, options, std::move(done), request);
  }
  int client_hello_psk(int fd, const hs_options& options, Done done,
                       std::uint64_t* request = nullptr) noexcept {
    return start(hs_client_hello_psk, fd, options, std::move(done), request);
  }
  int server_hello_x509(int fd, const hs_options& options, Done done,
                        std::uint64_t* request = nullptr) noexcept {
    return start(hs_server_hello_x509, fd, options, std::move(done), request);
  }
  int server_hello_psk(int fd, const hs_options& options, Done done,
                       std::uint64_t* request = nullptr) noexcept {
    return start(hs_server_hello_psk, fd, options, std::move(done), request);
  }

 private:
  using Submit = decltype(&hs_client_hello_anon);
  struct Destroy {
    void operator()(hs_context* context) const noexcept { hs_context_destroy(context); }
  };

  Context() noexcept = default;

  Outcome run(Submit submit, int fd, const hs_options& options) noexcept {
    std::uint64_t request = 0;
    const int error = submit(get(), fd, &options, nullptr, nullptr, nullptr, &request);
    return error != 0 ? Outcome(error) : wait(request);
  }

  int start(Submit submit, int fd, const hs_options& options, Done done,
            std::uint64_t* request) noexcept {
    if (!done) return -EINVAL;
    std::unique_ptr<Done> cookie(new (std::nothrow) Done(std::move(done)));
    if (cookie == nullptr) return -ENOMEM;
    const int error = submit(get(), fd, &options, call, cookie.get(), drop, request);
    // From here on the library owns it, and may have run and dropped it already.
    if (error == 0) static_cast<void>(cookie.release());
    return error;
  }
  static void call(void* cookie, const hs_result* result) noexcept {
    (*static_cast<Done*>(cookie))(Outcome(hs_result_status(result), hs_result_ref(result)));
  }
  static void drop(void* cookie) noexcept { delete static_cast<Done*>(cookie); }

  std::unique_ptr<hs_context, Destroy> context_;
  int error_ = -EINVAL;
};

/// A socket with a TLS session, owned. One thread may receive while one sends.
class Session {
 public:
  /// As hs_session_open(): takes over outcome.fd(), or fails and leaves it to the caller.
  static Session open(const Outcome& outcome) noexcept {
    Session session;
    hs_session* made = nullptr;
    session.error_ =
        outcome ? hs_session_open(outcome.fd(), outcome.get(), &made) : outcome.status();
    session.session_.reset(made);
    return session;
  }

  explicit operator bool() const noexcept { return session_ != nullptr; }
  /// 0 or a negative errno.
  int error() const noexcept { return error_; }
  int fd() const noexcept { return hs_session_fd(session_.get()); }
  /// The number of bytes, 0 at the peer's close_notify, or a negative errno.
  std::ptrdiff_t receive(void* buffer, std::size_t size, int flags = 0) noexcept {
    return hs_recv(session_.get(), buffer, size, flags);
  }
  std::ptrdiff_t send(const void* bytes, std::size_t size, int flags = 0) noexcept {
    return hs_send(session_.get(), bytes, size, flags);
  }
  int shutdown() noexcept { return hs_shutdown(session_.get()); }
  /// The destructor does the same and cannot tell.
  int close() noexcept { return hs_close(session_.release()); }
  int alert() const noexcept { return hs_session_alert(session_.get()); }

 private:
  struct Close {
    void operator()(hs_session* session) const noexcept { static_cast<void>(hs_close(session)); }
  };

  Session() noexcept = default;

  std::unique_ptr<hs_session, Close> session_;
  int error_ = -EINVAL;
};

}  // namespace hs
