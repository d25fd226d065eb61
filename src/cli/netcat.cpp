// SPDX-License-Identifier: Apache-2.0
#include "cli/netcat.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <memory>
#include <span>
#include <vector>

#include <fmt/format.h>

#include <handshake/handshake.h>

#include "base/log.h"
#include "base/unique_fd.h"

namespace handshake::cli {

namespace {

struct ContextDeleter {
  void operator()(hs_context* context) const noexcept { hs_context_destroy(context); }
};
using ContextPtr = std::unique_ptr<hs_context, ContextDeleter>;
struct ResultDeleter {
  void operator()(hs_result* result) const noexcept { hs_result_unref(result); }
};
using ResultPtr = std::unique_ptr<hs_result, ResultDeleter>;
struct SessionDeleter {
  void operator()(hs_session* session) const noexcept { hs_close(session); }
};
using SessionPtr = std::unique_ptr<hs_session, SessionDeleter>;
struct AddressesDeleter {
  void operator()(addrinfo* list) const noexcept { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, AddressesDeleter>;

/// The failure of a library call that returned `status` (negative errno).
tl::unexpected<Error> library_failure(int status, std::string what) {
  const std::string_view detail = hs_last_error();
  return fail(kind_of_errno(-status),
              fmt::format("{}: {}{}{}", what, errno_name(-status), detail.empty() ? "" : ": ", detail));
}

Result<ContextPtr> open_context(const NetcatOptions& options) {
  hs_context* context = nullptr;
  const int status =
      hs_context_create(options.socket.empty() ? nullptr : options.socket.c_str(), &context);
  if (status != 0) return library_failure(status, "handshaked is not reachable");
  return ContextPtr(context);
}

Result<Addresses> resolve(const NetcatOptions& options, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_ADDRCONFIG;
  addrinfo* list = nullptr;
  const int failed = ::getaddrinfo(options.host.empty() ? nullptr : options.host.c_str(),
                                   options.port.c_str(), &hints, &list);
  if (failed == EAI_ADDRFAMILY || failed == EAI_NONAME) {
    // AI_ADDRCONFIG leaves loopback-only machines without any address.
    hints.ai_flags = flags;
    if (::getaddrinfo(options.host.empty() ? nullptr : options.host.c_str(), options.port.c_str(),
                      &hints, &list) == 0) {
      return Addresses(list);
    }
  }
  if (failed != 0) {
    return fail(ErrorKind::kInvalidArgument,
                fmt::format("{} port {}: {}", options.host, options.port, ::gai_strerror(failed)));
  }
  return Addresses(list);
}

std::string text_of(const sockaddr* address, socklen_t length) {
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getnameinfo(address, length, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "?";
  }
  return address->sa_family == AF_INET6 ? fmt::format("[{}]:{}", host.data(), port.data())
                                        : fmt::format("{}:{}", host.data(), port.data());
}

Result<UniqueFd> open_input(const NetcatOptions& options) {
  if (options.input.empty()) return UniqueFd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
  UniqueFd fd(::open(options.input.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(fmt::format("open input {}", options.input));
  return fd;
}

Result<UniqueFd> open_output(const NetcatOptions& options) {
  if (options.output.empty()) return UniqueFd(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
  UniqueFd fd(::open(options.output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!fd) return fail_errno(fmt::format("open output {}", options.output));
  return fd;
}

std::uint32_t relay_of(const std::string& word) {
  if (word == "never") return HS_RELAY_NEVER;
  return word == "always" ? HS_RELAY_ALWAYS : HS_RELAY_ALLOWED;
}

std::uint32_t client_auth_of(const std::string& word) {
  if (word == "require") return HS_CLIENT_AUTH_REQUIRE;
  return word == "request" ? HS_CLIENT_AUTH_REQUEST : HS_CLIENT_AUTH_DEFAULT;
}

std::string describe(const hs_result* result) {
  std::string line = fmt::format("session: {} {} {}",
                                 hs_result_mode(result) == HS_MODE_KTLS ? "ktls" : "relay",
                                 hs_result_cipher(result), hs_result_group(result));
  if (const std::string_view subject = hs_result_peer_subject(result); !subject.empty()) {
    line += ' ' + log_field("peer", subject);
  }
  const hs_tagset* tags = hs_result_tags(result);
  for (std::size_t i = 0; i < hs_tagset_count(tags); ++i) {
    line += ' ' + log_field("tag", hs_tagset_at(tags, i));
  }
  return line;
}

enum class Role : std::uint8_t { kClient, kServer };

/// Hands the socket over and waits for it to come back encrypted.
Result<SessionPtr> shake_hands(hs_context* context, UniqueFd socket, Role role,
                               const NetcatOptions& options) {
  hs_options parameters = HS_OPTIONS_INIT;
  parameters.credential = options.credential.empty() ? nullptr : options.credential.c_str();
  const std::string& peername = options.peername.empty() ? options.host : options.peername;
  parameters.peername = role == Role::kClient ? peername.c_str() : nullptr;
  parameters.timeout_ms = options.timeout_ms;
  parameters.relay = relay_of(options.relay);
  parameters.client_auth = client_auth_of(options.client_auth);
  const auto submit = role == Role::kServer ? &hs_server_hello_x509
                      : options.anonymous   ? &hs_client_hello_anon
                                            : &hs_client_hello_x509;
  std::uint64_t request = 0;
  int status = submit(context, socket.get(), &parameters, nullptr, nullptr, nullptr, &request);
  if (status != 0) return library_failure(status, "the service refused the request");
  hs_result* raw = nullptr;
  status = hs_wait(context, request, -1, &raw);
  const ResultPtr result(raw);
  if (status != 0) {
    std::string reason = result ? hs_result_reason(result.get()) : "";
    if (result && hs_result_alert(result.get()) >= 0) {
      const int alert = hs_result_alert(result.get());
      reason += fmt::format(" ({} alert {} {})",
                            hs_result_alert_sent(result.get()) != 0 ? "sent" : "received", alert,
                            hs_alert_name(alert));
    }
    return fail(kind_of_errno(-status), fmt::format("handshake failed: {}: {}", errno_name(-status),
                                                    log_field("reason", reason)));
  }
  if (!options.quiet) fmt::print(stderr, "{}\n", describe(result.get()));
  hs_session* session = nullptr;
  status = hs_session_open(socket.get(), result.get(), &session);
  if (status != 0) return library_failure(status, "open the session");
  [[maybe_unused]] const int owned_by_session = socket.release();
  return SessionPtr(session);
}

Result<void> write_all(int fd, std::span<const char> data) {
  while (!data.empty()) {
    const ssize_t count = ::write(fd, data.data(), data.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("write output");
    data = data.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

/// Carries both directions until both have ended.
class Pump {
 public:
  Pump(hs_session* session, int input, int output)
      : session_(session), input_(input), output_(output) {}

  Result<void> run() {
    while (!received_all_ || !sent_all_) {
      const bool want_input = !input_ended_ && pending_.empty();
      const bool want_send = !sent_all_ && (!pending_.empty() || input_ended_);
      std::array<pollfd, 2> fds{};
      const auto events = static_cast<short>((received_all_ ? 0 : POLLIN) | (want_send ? POLLOUT : 0));
      fds[0] = pollfd{events != 0 ? hs_session_fd(session_) : -1, events, 0};
      fds[1] = pollfd{want_input ? input_ : -1, POLLIN, 0};
      if (::poll(fds.data(), fds.size(), -1) < 0) {
        if (errno == EINTR) continue;
        return fail_errno("poll");
      }
      if (fds[1].revents != 0) {
        if (auto done = read_input(); !done) return done;
      }
      if (!sent_all_ && (!pending_.empty() || input_ended_)) {
        if (auto done = send_some(); !done) return done;
      }
      if (!received_all_ && (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        if (auto done = receive_some(); !done) return done;
      }
    }
    return {};
  }

 private:
  static constexpr std::size_t kBuffer = 65536;

  Result<void> read_input() {
    const ssize_t count = ::read(input_, input_buffer_.data(), input_buffer_.size());
    if (count < 0) return errno == EINTR || errno == EAGAIN ? Result<void>() : fail_errno("read input");
    if (count == 0) input_ended_ = true;
    pending_ = std::span<const char>(input_buffer_).first(static_cast<std::size_t>(count));
    return {};
  }

  Result<void> send_some() {
    if (pending_.empty()) {
      const int status = hs_shutdown(session_);
      if (status == -EAGAIN) return {};
      if (status != 0) return library_failure(status, "end sending");
      sent_all_ = true;
      return {};
    }
    const ssize_t count = hs_send(session_, pending_.data(), pending_.size(), MSG_DONTWAIT);
    if (count == -EAGAIN || count == -EINTR) return {};
    if (count < 0) return library_failure(static_cast<int>(count), "send");
    pending_ = pending_.subspan(static_cast<std::size_t>(count));
    return {};
  }

  Result<void> receive_some() {
    const ssize_t count = hs_recv(session_, output_buffer_.data(), output_buffer_.size(), MSG_DONTWAIT);
    if (count == -EAGAIN || count == -EINTR) return {};
    if (count < 0) return library_failure(static_cast<int>(count), "receive");
    if (count == 0) {
      received_all_ = true;
      return {};
    }
    return write_all(output_, std::span<const char>(output_buffer_).first(static_cast<std::size_t>(count)));
  }

  hs_session* session_;
  int input_;
  int output_;
  std::vector<char> input_buffer_ = std::vector<char>(kBuffer);
  std::vector<char> output_buffer_ = std::vector<char>(kBuffer);
  std::span<const char> pending_;
  bool input_ended_ = false;
  bool sent_all_ = false;
  bool received_all_ = false;
};

Result<void> exchange(hs_context* context, UniqueFd socket, Role role, const NetcatOptions& options) {
  auto session = shake_hands(context, std::move(socket), role, options);
  if (!session) return tl::unexpected(session.error());
  auto input = open_input(options);
  if (!input) return tl::unexpected(input.error());
  auto output = open_output(options);
  if (!output) return tl::unexpected(output.error());
  return Pump(session->get(), input->get(), output->get()).run();
}

}  // namespace

Result<void> connect_command(const NetcatOptions& options) {
  auto context = open_context(options);
  if (!context) return tl::unexpected(context.error());
  auto addresses = resolve(options, 0);
  if (!addresses) return tl::unexpected(addresses.error());
  UniqueFd socket;
  Error last{ErrorKind::kNotFound, "no address"};
  for (const addrinfo* one = addresses->get(); one != nullptr && !socket; one = one->ai_next) {
    UniqueFd candidate(::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol));
    if (candidate && ::connect(candidate.get(), one->ai_addr, one->ai_addrlen) == 0) {
      socket = std::move(candidate);
    } else {
      const int number = errno;
      last = Error{ErrorKind::kInputOutput,
                   fail_errno(number, fmt::format("connect {}", text_of(one->ai_addr, one->ai_addrlen)))
                       .value().detail};
    }
  }
  if (!socket) return tl::unexpected(last);
  return exchange(context->get(), std::move(socket), Role::kClient, options);
}

Result<void> listen_command(const NetcatOptions& options) {
  auto context = open_context(options);
  if (!context) return tl::unexpected(context.error());
  auto addresses = resolve(options, AI_PASSIVE);
  if (!addresses) return tl::unexpected(addresses.error());
  const addrinfo& address = **addresses;
  const UniqueFd listener(::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC, address.ai_protocol));
  if (!listener) return fail_errno("socket");
  const int on = 1;
  ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(listener.get(), address.ai_addr, address.ai_addrlen) != 0 ||
      ::listen(listener.get(), SOMAXCONN) != 0) {
    return fail_errno(fmt::format("listen on {}", text_of(address.ai_addr, address.ai_addrlen)));
  }
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &length);
  fmt::print(stderr, "listening on {}\n", text_of(reinterpret_cast<sockaddr*>(&bound), length));
  while (true) {
    sockaddr_storage peer{};
    length = sizeof peer;
    UniqueFd socket(::accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer), &length, SOCK_CLOEXEC));
    if (!socket) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return fail_errno("accept");
    }
    const std::string who = text_of(reinterpret_cast<sockaddr*>(&peer), length);
    auto done = exchange(context->get(), std::move(socket), Role::kServer, options);
    if (!done) done.error().detail = fmt::format("{}: {}", who, done.error().detail);
    if (options.once) return done;
    if (!done) fmt::print(stderr, "{}\n", done.error().detail);
  }
}

}  // namespace handshake::cli
