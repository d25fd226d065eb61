// SPDX-License-Identifier: Apache-2.0
#include "daemon/daemon.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <map>
#include <set>
#include <thread>

#include <fmt/format.h>

#include "agent/credentials.h"
#include "base/event_loop.h"
#include "base/log.h"
#include "config/load.h"
#include "daemon/authorizer.h"
#include "daemon/control.h"
#include "daemon/journal.h"
#include "daemon/listener.h"
#include "daemon/runtime_dir.h"
#include "daemon/workers.h"
#include "protocol/messages.h"
#include "service/agent_endpoint.h"
#include "service/consumer_endpoint.h"
#include "service/facts_reader.h"
#include "service/reaper.h"
#include "service/service.h"
#include "transport/packet_stream.h"

namespace handshake::daemon {

const char* const kVersion = HS_VERSION;

namespace {

/// How long accepted requests have after SIGTERM.
constexpr milliseconds kDrainTime{5000};
constexpr auto kTlshdClass = static_cast<std::uint32_t>(protocol::HandlerClass::kTlshd);

/// Many sockets at once need many descriptors: the soft limit is raised to the hard one.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// The signals that the daemon takes as events, blocked for all threads.
Result<UniqueFd> signal_descriptor() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&set, number);
  if (const int failed = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); failed != 0) {
    return fail_errno(failed, "block signals");
  }
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno("signalfd");
  return fd;
}

/// The privileged process: sockets, queue and workers on one loop. What a method does not do is
/// wait: everything that could block is elsewhere (reaper, workers).
class Daemon {
 public:
  Daemon(Options options, EventLoop& loop)
      : options_(std::move(options)),
        loop_(loop),
        log_(stderr_log(options_.settings->log_level, fmt::format("handshaked[{}]", ::getpid()))),
        settings_(options_.settings),
        journal_(log_),
        service_(service_options(), log_, reaper_),
        workers_(loop, log_, "/proc/self/exe", {"handshaked", "--worker"},
                 Workers::Handlers{
                     [this](Workers::WorkerId id, pid_t pid, UniqueFd channel) {
                       worker_started(id, pid, std::move(channel));
                     },
                     [this](Workers::WorkerId id) { worker_retires(id); },
                     [this](Workers::WorkerId id) { worker_ended(id); }}),
        started_(Clock::now()) {
    control_source_.status = [this] { return status(); };
    control_source_.sessions = [this] { return sessions(); };
    control_source_.reload = [this] { return reload(); };
  }
  ~Daemon() {
    // Connections hold handlers that point here.
    consumers_.clear();
    agents_.clear();
    controls_.clear();
  }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  Result<void> run() {
    raise_descriptor_limit();
    auto signals = signal_descriptor();
    if (!signals) return tl::unexpected(signals.error());
    signals_ = std::move(*signals);
    auto watch = loop_.watch(signals_.get(), EPOLLIN, [this](std::uint32_t) { on_signal(); });
    if (!watch) return tl::unexpected(watch.error());
    signal_watch_ = std::move(*watch);

    if (auto made = make_runtime_dir(options_.runtime_dir); !made) return made;
    if (auto opened = open_listeners(); !opened) return opened;
    service_.keep_listening(kTlshdClass);
    if (auto begun = workers_.start_generation(settings_, worker_count()); !begun) return begun;
    log_.info(fmt::format("serving {} {}", log_field("dir", options_.runtime_dir),
                          log_field("config", options_.config_path)));
    return loop_.run();
  }

 private:
  struct Consumer {
    std::unique_ptr<transport::PacketStream> stream;
    std::unique_ptr<service::ConsumerEndpoint> endpoint;
  };
  struct Agent {
    std::unique_ptr<transport::PacketStream> stream;
    std::unique_ptr<service::AgentEndpoint> endpoint;
  };
  struct Control {
    std::unique_ptr<transport::PacketStream> stream;
    std::unique_ptr<ControlEndpoint> endpoint;
  };
  struct WorkerView {
    pid_t pid = 0;
    std::uint64_t connection = 0;
    bool retiring = false;
    std::uint64_t served = 0;
  };

  service::Options service_options() {
    service::Options options;
    options.default_timeout = settings_->default_timeout;
    options.observer = [this](const service::SessionRecord& record) { on_record(record); };
    return options;
  }

  unsigned worker_count() const {
    if (options_.workers != 0) return options_.workers;
    if (settings_->workers != 0) return settings_->workers;
    return std::max(1U, std::thread::hardware_concurrency());
  }

  // --- Sockets -----------------------------------------------------------------------------------

  Result<void> open_listeners() {
    const auto open = [this](const char* name, mode_t mode, Listener::Accepted accepted) -> Result<void> {
      auto listener = Listener::open(loop_, log_, options_.runtime_dir + "/" + name, mode, std::move(accepted));
      if (!listener) return tl::unexpected(listener.error());
      listeners_.push_back(std::move(*listener));
      return {};
    };
    if (auto done = open("consumer.sock", 0666, [this](UniqueFd fd, transport::PeerCredentials peer) {
          consumer_connected(std::move(fd), peer);
        }); !done) return done;
    if (auto done = open("agent.sock", 0600, [this](UniqueFd fd, transport::PeerCredentials peer) {
          agent_connected(std::move(fd), peer);
        }); !done) return done;
    return open("control.sock", 0600, [this](UniqueFd fd, transport::PeerCredentials peer) {
      control_connected(std::move(fd), peer);
    });
  }

  transport::PacketStream::Options stream_options() {
    transport::PacketStream::Options options;
    options.discard = [this](UniqueFd fd) { reaper_.close(std::move(fd)); };
    return options;
  }

  /// Agents and control connections: root's or our own.
  bool trusted(const transport::PeerCredentials& peer) const {
    return peer.uid == 0 || peer.uid == ::geteuid();
  }

  void consumer_connected(UniqueFd fd, const transport::PeerCredentials& peer) {
    const std::uint64_t id = next_connection_++;
    Caller caller{peer.uid, peer.gid, peer_groups(fd.get())};
    auto stream = transport::PacketStream::open(
        loop_, std::move(fd), stream_options(),
        {[this, id](protocol::Packet packet) {
           const auto found = consumers_.find(id);
           if (!found->second.endpoint->receive(std::move(packet))) consumers_.erase(found);
           arm_deadline();
         },
         [this, id](const Error&) { consumers_.erase(id); }});
    if (!stream) return log_.warning(stream.error().detail);
    transport::PacketStream* raw = stream->get();
    auto endpoint = std::make_unique<service::ConsumerEndpoint>(
        service_, reaper_, service::ConsumerInfo{peer.pid, peer.uid, peer.gid},
        [this, caller](const service::Submission& submission, const service::SocketFacts& facts) {
          const bool server = submission.message_type == protocol::MessageType::kServerhello;
          return may_use(*settings_, caller, submission.credential.value_or(""),
                         submission.message_type, server ? facts.local_port : facts.peer_port);
        },
        [raw](std::vector<std::byte> bytes, std::vector<UniqueFd> fds) {
          raw->send(std::move(bytes), std::move(fds));
        },
        service::OffThread{&facts_reader_,
                                             [this](std::function<void()> work) {
                                               loop_.post([this, work = std::move(work)] {
                                                 work();
                                                 arm_deadline();
                                               });
                                             }},
        [this, id](const Error&) { loop_.post([this, id] { consumers_.erase(id); }); });
    consumers_.emplace(id, Consumer{std::move(*stream), std::move(endpoint)});
  }

  void agent_connected(UniqueFd fd, const transport::PeerCredentials& peer) {
    if (!trusted(peer)) {
      return log_.warning(fmt::format("agent of uid {} refused: not root and not ours", peer.uid));
    }
    add_agent(std::move(fd), peer.pid, peer.uid, false);
  }

  std::uint64_t add_agent(UniqueFd fd, pid_t pid, uid_t uid, bool own_worker) {
    const std::uint64_t id = next_connection_++;
    service::AgentInfo info;
    info.pid = static_cast<std::uint32_t>(pid);
    info.uid = uid;
    info.own_worker = own_worker;
    if (auto cookie = service::netns_cookie_of(fd.get())) info.netns_cookie = *cookie;
    auto stream = transport::PacketStream::open(
        loop_, std::move(fd), stream_options(),
        {[this, id](protocol::Packet packet) {
           const auto found = agents_.find(id);
           if (!found->second.endpoint->receive(std::move(packet))) {
             log_.warning("an agent broke the protocol");
             agents_.erase(found);
           }
           arm_deadline();
         },
         [this, id](const Error&) { agents_.erase(id); }});
    if (!stream) {
      log_.warning(stream.error().detail);
      return 0;
    }
    transport::PacketStream* raw = stream->get();
    auto endpoint = std::make_unique<service::AgentEndpoint>(
        service_, reaper_, info, [raw](std::vector<std::byte> bytes, std::vector<UniqueFd> fds) {
          raw->send(std::move(bytes), std::move(fds));
        });
    agents_.emplace(id, Agent{std::move(*stream), std::move(endpoint)});
    return id;
  }

  void control_connected(UniqueFd fd, const transport::PeerCredentials& peer) {
    if (!trusted(peer)) return;
    const std::uint64_t id = next_connection_++;
    auto stream = transport::PacketStream::open(
        loop_, std::move(fd), stream_options(),
        {[this, id](protocol::Packet packet) {
           const auto found = controls_.find(id);
           if (!found->second.endpoint->receive(packet)) controls_.erase(found);
         },
         [this, id](const Error&) { controls_.erase(id); }});
    if (!stream) return log_.warning(stream.error().detail);
    transport::PacketStream* raw = stream->get();
    auto endpoint = std::make_unique<ControlEndpoint>(
        control_source_, [raw](std::vector<std::byte> bytes) { raw->send(std::move(bytes)); });
    controls_.emplace(id, Control{std::move(*stream), std::move(endpoint)});
  }

  // --- Workers -----------------------------------------------------------------------------------

  void worker_started(Workers::WorkerId id, pid_t pid, UniqueFd channel) {
    worker_views_[id] = WorkerView{pid, add_agent(std::move(channel), pid, ::geteuid(), true), false, 0};
  }

  void worker_retires(Workers::WorkerId id) {
    WorkerView& view = worker_views_.at(id);
    view.retiring = true;
    if (const auto agent = agents_.find(view.connection); agent != agents_.end()) {
      agent->second.endpoint->retire();
    }
    dismiss_idle_workers();
  }

  void worker_ended(Workers::WorkerId id) {
    const auto found = worker_views_.find(id);
    if (found == worker_views_.end()) return;
    agents_.erase(found->second.connection);
    worker_views_.erase(found);
    if (stopping_) finish_if_drained();
  }

  struct Load {
    std::uint32_t accepted = 0;
    std::uint32_t relays = 0;
  };
  /// What each worker holds, by process id.
  std::map<std::uint32_t, Load> loads() const {
    std::map<std::uint32_t, Load> loads;
    for (const service::SessionRecord& record : service_.snapshot()) {
      if (record.state == protocol::SessionState::kAccepted) ++loads[record.agent_pid].accepted;
      if (record.state == protocol::SessionState::kEstablished) ++loads[record.agent_pid].relays;
    }
    return loads;
  }

  /// A worker of an old generation goes when it has neither a handshake nor a relay.
  void dismiss_idle_workers() {
    const auto held = loads();
    for (const auto& [id, view] : worker_views_) {
      if (view.retiring && !held.contains(static_cast<std::uint32_t>(view.pid))) workers_.dismiss(id);
    }
  }

  // --- The service -------------------------------------------------------------------------------

  void on_record(const service::SessionRecord& record) {
    journal_.add(record);
    bool retiring = false;
    for (auto& [id, view] : worker_views_) {
      if (static_cast<std::uint32_t>(view.pid) != record.agent_pid) continue;
      if (record.relay_status == 0 || record.ending != service::Ending::kNone) ++view.served;
      retiring = retiring || view.retiring;
    }
    if (retiring || stopping_) {
      // Not from inside the service's callback: the records it holds are about to change.
      loop_.post([this] {
        dismiss_idle_workers();
        if (stopping_) finish_if_drained();
      });
    }
  }

  void arm_deadline() {
    const auto next = service_.next_deadline();
    if (next == armed_) return;
    armed_ = next;
    deadline_.reset();
    if (next) {
      deadline_ = loop_.at(*next, [this] {
        armed_.reset();
        [[maybe_unused]] const auto later = service_.expire(Clock::now());
        arm_deadline();
      });
    }
  }

  // --- Control -----------------------------------------------------------------------------------

  protocol::control::StatusReply status() const {
    protocol::control::StatusReply reply;
    reply.version = kVersion;
    reply.pid = static_cast<std::uint32_t>(::getpid());
    reply.uptime = static_cast<std::uint64_t>(
        std::chrono::duration_cast<milliseconds>(Clock::now() - started_).count());
    reply.config = settings_->path;
    const auto held = loads();
    for (const auto& [id, view] : worker_views_) {
      protocol::control::Worker worker;
      worker.pid = static_cast<std::uint32_t>(view.pid);
      const auto load = held.find(*worker.pid);
      worker.accepted = load == held.end() ? 0 : load->second.accepted;
      worker.relays = load == held.end() ? 0 : load->second.relays;
      worker.served = view.served;
      reply.worker.push_back(std::move(worker));
    }
    const service::Counters counters = service_.counters();
    for (const auto& [name, member] : service::kCounterNames) {
      protocol::control::Counter counter;
      counter.name = std::string(name);
      counter.value = counters.*member;
      reply.counter.push_back(std::move(counter));
    }
    return reply;
  }

  std::vector<protocol::control::SessionsReply> sessions() const {
    std::vector<protocol::control::SessionsReply> replies;
    for (const service::SessionRecord& record : journal_.ended()) replies.push_back(session_message(record));
    for (const service::SessionRecord& record : service_.snapshot()) replies.push_back(session_message(record));
    return replies;
  }

  Result<void> reload() {
    Checked checked = load_checked(options_.config_path);
    std::string first;
    for (const config::Problem& problem : checked.problems) {
      log_.write(problem.fatal ? LogLevel::kError : LogLevel::kWarning, problem.text());
      if (problem.fatal && first.empty()) first = problem.text();
    }
    if (!checked.settings) {
      log_.error("reload failed, the old settings stay in force");
      return fail(ErrorKind::kInvalidArgument, first);
    }
    settings_ = std::move(checked.settings);
    if (auto begun = workers_.start_generation(settings_, worker_count()); !begun) return begun;
    log_.info(fmt::format("reloaded {}", log_field("config", options_.config_path)));
    return {};
  }

  // --- The end -----------------------------------------------------------------------------------

  void on_signal() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (info.ssi_signo == SIGHUP) {
        [[maybe_unused]] const auto reloaded = reload();  // it logs what was wrong
      } else {
        stop();
      }
    }
  }

  void stop() {
    if (std::exchange(stopping_, true)) return loop_.stop();  // asked twice: at once
    log_.info("stopping");
    listeners_.clear();
    service_.drain();
    drained_ = loop_.after(kDrainTime, [this] { loop_.stop(); });
    finish_if_drained();
  }

  void finish_if_drained() {
    if (service_.live() == 0) loop_.stop();
  }

  Options options_;
  EventLoop& loop_;
  Log log_;
  std::shared_ptr<const config::Settings> settings_;
  Journal journal_;
  service::Reaper reaper_;
  service::FactsReader facts_reader_;
  service::Service service_;
  Workers workers_;
  TimePoint started_;
  ControlSource control_source_;
  UniqueFd signals_;
  EventLoop::Watch signal_watch_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  std::uint64_t next_connection_ = 1;
  std::map<std::uint64_t, Consumer> consumers_;
  std::map<std::uint64_t, Agent> agents_;
  std::map<std::uint64_t, Control> controls_;
  std::map<Workers::WorkerId, WorkerView> worker_views_;
  std::optional<TimePoint> armed_;
  EventLoop::Timer deadline_;
  EventLoop::Timer drained_;
  bool stopping_ = false;
};

}  // namespace

Checked load_checked(const std::string& path) {
  config::Loaded loaded = config::load(path);
  Checked checked{std::move(loaded.settings), std::move(loaded.problems)};
  if (!checked.settings) return checked;
  const auto credentials = agent::CredentialSet::load(*checked.settings);
  if (credentials) return checked;
  for (const Error& error : credentials.error()) {
    checked.problems.push_back(config::Problem{path, 0, 0, "", error.detail});
  }
  checked.settings = nullptr;
  return checked;
}

Result<void> run(Options options) {
  auto loop = EventLoop::create();
  if (!loop) return tl::unexpected(loop.error());
  Daemon daemon(std::move(options), **loop);
  return daemon.run();
}

}  // namespace handshake::daemon
