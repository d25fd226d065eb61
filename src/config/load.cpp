// SPDX-License-Identifier: Apache-2.0
#include "config/load.h"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "base/result.h"
#include "config/file.h"
#include "config/tags.h"

namespace handshake::config {

namespace {

constexpr std::string_view kSystemTrustStore = "/etc/ssl/certs/ca-certificates.crt";
constexpr std::string_view kCredentialPrefix = "credential ";
constexpr std::string_view kClientSection = "authenticate.client";
constexpr std::string_view kServerSection = "authenticate.server";

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Words separated by blanks, commas or semicolons (tlshd's lists use the latter).
std::vector<std::string_view> words_of(std::string_view text, std::string_view separators = " \t,;") {
  std::vector<std::string_view> words;
  while (true) {
    const auto first = text.find_first_not_of(separators);
    if (first == std::string_view::npos) return words;
    text.remove_prefix(first);
    const auto end = std::min(text.find_first_of(separators), text.size());
    words.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

class Loader {
 public:
  explicit Loader(std::string path) {
    settings_.path = std::move(path);
    directory_ = std::filesystem::path(settings_.path).parent_path();
  }

  Loaded run() {
    struct stat file {};
    const auto text = read_file(settings_.path, file);
    if (!text) {
      problems_.push_back(Problem{settings_.path, 0, 0, "", text.error().detail});
      return finish();
    }
    const IniFile ini = parse_ini(settings_.path, *text, problems_);
    for (const IniSection& section : ini.sections) read_section(section);
    make_kernel_credentials();
    settings_.tags = read_tags_of(ini, tag_problems_);
    return finish();
  }

 private:
  using KeyHandler = std::function<void(const IniEntry&)>;
  using Keys = std::map<std::string_view, KeyHandler>;

  Loaded finish() {
    std::stable_sort(problems_.begin(), problems_.end(),
                     [](const Problem& a, const Problem& b) { return a.line < b.line; });
    // Workers compile the policy again; here it shows its problems, whose lines are those of its files.
    std::vector<Problem> of_policy = load_policy(settings_.tags).problems;
    for (std::vector<Problem>* more : {&tag_problems_, &of_policy}) {
      std::move(more->begin(), more->end(), std::back_inserter(problems_));
    }
    Loaded loaded;
    const bool fatal = std::any_of(problems_.begin(), problems_.end(),
                                   [](const Problem& problem) { return problem.fatal; });
    if (!fatal) loaded.settings = std::make_shared<const Settings>(std::move(settings_));
    loaded.problems = std::move(problems_);
    return loaded;
  }

  void problem(const IniEntry& entry, std::string reason, bool fatal = true) {
    problems_.push_back(Problem{settings_.path, entry.line, fatal ? entry.value_column : entry.key_column,
                                entry.key, std::move(reason), fatal});
  }

  void read_section(const IniSection& section) {
    if (section.name == "debug") return read_debug(section);
    if (section.name == "service") return read_service(section);
    if (section.name.starts_with(kCredentialPrefix)) return read_credential(section);
    if (section.name == "authenticate") return read_authenticate(section);
    if (is_kernel_section(section.name)) return gather_kernel_section(section);
    if (section.name == "main") {
      return section_problem(section.name, section.line,
                             "not used since ktls-utils 0.10: see [debug]", false);
    }
    section_problem(section.name, section.line,
                    "unknown section, expected [debug], [service], [credential NAME] or tlshd's "
                    "[authenticate], [authenticate.client], [authenticate.server]");
  }

  void section_problem(const std::string& name, std::size_t line, std::string reason, bool fatal = true) {
    problems_.push_back(Problem{settings_.path, line, 1, "[" + name + "]", std::move(reason), fatal});
  }

  /// Walks the entries of one of our sections: unknown and repeated keys are errors, except that
  /// the keys in `repeatable` may stand several times.
  void read_keys(const IniSection& section, const Keys& keys,
                 const std::set<std::string_view>& repeatable = {}) {
    std::map<std::string_view, std::size_t> seen;
    for (const IniEntry& entry : section.entries) {
      const auto found = keys.find(entry.key);
      if (found == keys.end()) {
        std::string known;
        for (const auto& [key, handler] : keys) known += fmt::format("{}{}", known.empty() ? "" : ", ", key);
        problems_.push_back(Problem{settings_.path, entry.line, entry.key_column, entry.key,
                                    fmt::format("unknown key in [{}], expected one of: {}",
                                                section.name, known)});
        continue;
      }
      const auto [first, added] = seen.emplace(found->first, entry.line);
      if (!added && !repeatable.contains(found->first)) {
        problems_.push_back(Problem{settings_.path, entry.line, entry.key_column, entry.key,
                                    fmt::format("already set in line {}", first->second)});
        continue;
      }
      found->second(entry);
    }
  }

  // --- tlshd's sections ---------------------------------------------------------------------------
  //
  // They were written for a reader that takes no offence (GLib's key file): sections and keys that
  // stand twice, unknown keys and malformed numbers are warnings here.

  void read_debug(const IniSection& section) {
    for (const IniEntry& entry : section.entries) {
      if (entry.key == "loglevel") {
        settings_.log_level = debug_level(entry) ? LogLevel::kDebug : LogLevel::kInfo;
      } else if (entry.key == "tls") {
        settings_.debug_tls = debug_level(entry);
      } else if (entry.key == "nl") {
        settings_.debug_netlink = debug_level(entry);
      } else if (entry.key != "delay_done") {
        problem(entry, "unknown key in tlshd's section [debug]", false);
      }
    }
  }

  bool debug_level(const IniEntry& entry) {
    const auto level = number_of(entry.value);
    if (!level) {
      problem(entry, fmt::format("\"{}\" is not a number, taken as 0; 0 is terse, 1 and up is debug",
                                 entry.value), false);
    }
    return level.value_or(0) > 0;
  }

  void read_authenticate(const IniSection& section) {
    settings_.serve_kernel = true;
    for (const IniEntry& entry : section.entries) {
      if (entry.key != "keyrings") {
        problem(entry, "unknown key in tlshd's section [authenticate]", false);
        continue;
      }
      settings_.keyrings.clear();
      for (std::string_view name : words_of(entry.value, ";")) {
        name.remove_prefix(std::min(name.find_first_not_of(" \t"), name.size()));
        name = name.substr(0, name.find_last_not_of(" \t") + 1);
        if (!name.empty()) settings_.keyrings.emplace_back(name);
      }
    }
  }

  /// Possibly "authenticate.server blue": for the kernel requests of one namespace.
  static bool is_kernel_section(const std::string& name) {
    for (const std::string_view role : {kClientSection, kServerSection}) {
      if (name == role || name.starts_with(std::string(role) + " ")) return true;
    }
    return false;
  }

  void gather_kernel_section(const IniSection& section) {
    settings_.serve_kernel = true;
    IniSection& whole = kernel_sections_.try_emplace(section.name, IniSection{section.name, section.line, {}})
                            .first->second;
    whole.entries.insert(whole.entries.end(), section.entries.begin(), section.entries.end());
  }

  void make_kernel_credentials() {
    if (!settings_.serve_kernel) return;
    for (const std::string_view role : {kClientSection, kServerSection}) {
      const std::string name(role);
      kernel_sections_.try_emplace(name, IniSection{name, 0, {}});
    }
    for (const auto& [name, section] : kernel_sections_) make_kernel_credential(section);
  }

  void make_kernel_credential(const IniSection& section) {
    KernelCredential kernel;
    CredentialSettings& credential = kernel.credential;
    credential.name = section.name;
    credential.client = section.name.starts_with(kClientSection);
    credential.server = !credential.client;
    if (const auto blank = section.name.find(' '); blank != std::string::npos) {
      kernel.netns = section.name.substr(section.name.find_first_not_of(' ', blank));
      if (std::find(settings_.netns.begin(), settings_.netns.end(), kernel.netns) == settings_.netns.end()) {
        section_problem(section.name, section.line,
                        fmt::format("\"{}\" is not in netns of [service]", kernel.netns));
      }
    }
    // The last one counts, as in tlshd.
    std::map<std::string_view, const IniEntry*> last;
    constexpr std::array<std::string_view, 8> kKnown{
        "x509.truststore", "x509.crl", "x509.certificate", "x509.private_key", "x509.pq.certificate",
        "x509.pq.private_key", "x509.extended_key_usage", "client_auth"};
    for (const IniEntry& entry : section.entries) {
      if (std::find(kKnown.begin(), kKnown.end(), entry.key) == kKnown.end()) {
        problem(entry, fmt::format("unknown key in tlshd's section [{}]", section.name), false);
      } else if (const IniEntry*& known = last[entry.key]; std::exchange(known, &entry) != nullptr) {
        problem(entry, "stands above already; this line counts", false);
      }
    }
    const auto given = [&](std::string_view key) -> const IniEntry* {
      const auto found = last.find(key);
      if (found == last.end()) return nullptr;
      if (!found->second->value.empty()) return found->second;
      problem(*found->second, "empty, taken as not set", false);
      return nullptr;
    };
    if (const IniEntry* entry = given("x509.truststore")) {
      if (auto file = content_of(*entry)) credential.trust_store.push_back(std::move(*file));
    } else {
      read_system_trust(credential, section);
    }
    if (const IniEntry* entry = given("x509.crl")) {
      if (auto file = content_of(*entry)) credential.crls.push_back(std::move(*file));
    }
    read_kernel_pair(credential, given("x509.pq.certificate"), given("x509.pq.private_key"), true);
    read_kernel_pair(credential, given("x509.certificate"), given("x509.private_key"), false);
    if (const IniEntry* entry = given("x509.extended_key_usage")) read_extended_key_usage(*entry, credential);
    if (const IniEntry* entry = given("client_auth")) {
      if (credential.client) {
        problem(*entry, "is for [authenticate.server]", false);
      } else {
        read_client_auth(*entry, credential);
      }
    }
    settings_.kernel_credentials.push_back(std::move(kernel));
  }

  void read_kernel_pair(CredentialSettings& credential, const IniEntry* certificate,
                        const IniEntry* private_key, bool post_quantum) {
    if (certificate == nullptr && private_key == nullptr) return;
    if (certificate == nullptr || private_key == nullptr) {
      const IniEntry& alone = certificate != nullptr ? *certificate : *private_key;
      return problem(alone, "not used: a certificate and its private key go together", false);
    }
    auto chain = content_of(*certificate);
    // tlshd complains of a key that others may read and takes it; so do we where it is tlshd's file.
    auto key = content_of(*private_key, Secrecy::kWarned);
    if (chain && key) {
      credential.key_pairs.push_back(KeyPair{std::move(*chain), std::move(*key), post_quantum});
    }
  }

  // --- Our sections --------------------------------------------------------------------------------

  void read_service(const IniSection& section) {
    read_keys(section,
              {{"workers", [&](const IniEntry& entry) {
                  settings_.workers = static_cast<unsigned>(bounded(entry, 1, 1024).value_or(1));
                }},
               {"timeout_ms", [&](const IniEntry& entry) {
                  settings_.default_timeout = milliseconds(bounded(entry, 1, 3'600'000).value_or(1));
                }},
               {"netns", [&](const IniEntry& entry) { read_netns(entry); }},
               {"tags", [&](const IniEntry& entry) {
                  if (entry.value.empty()) problem(entry, "expected a directory, or a file, of tags in YAML");
                }}},
              {"tags"});
  }

  void read_netns(const IniEntry& entry) {
    settings_.netns.clear();
    for (const std::string_view word : words_of(entry.value)) {
      const bool path = word.starts_with('/');
      if (!path && (word.find('/') != std::string_view::npos || word == "." || word == "..")) {
        problem(entry, fmt::format("\"{}\" is neither self, nor a name of /run/netns, nor an absolute "
                                   "path", word));
      } else if (std::find(settings_.netns.begin(), settings_.netns.end(), word) != settings_.netns.end()) {
        problem(entry, fmt::format("\"{}\" stands here twice", word));
      } else {
        settings_.netns.emplace_back(word);
      }
    }
    if (settings_.netns.empty()) problem(entry, "expected self, names of /run/netns or absolute paths");
  }

  std::optional<std::uint64_t> bounded(const IniEntry& entry, std::uint64_t low, std::uint64_t high) {
    const auto value = number_of(entry.value);
    if (!value || *value < low || *value > high) {
      problem(entry, fmt::format("\"{}\" is not a number from {} to {}", entry.value, low, high));
      return std::nullopt;
    }
    return value;
  }

  std::optional<bool> boolean(const IniEntry& entry) {
    if (entry.value == "true" || entry.value == "yes" || entry.value == "1") return true;
    if (entry.value == "false" || entry.value == "no" || entry.value == "0") return false;
    problem(entry, fmt::format("\"{}\" is neither true nor false", entry.value));
    return std::nullopt;
  }

  /// What becomes of a file that others may read or change.
  enum class Secrecy { kNone, kWarned, kRequired };

  std::optional<FileContent> content_of(const IniEntry& entry, Secrecy secrecy = Secrecy::kNone) {
    if (entry.value.empty()) {
      problem(entry, "expected the path of a file");
      return std::nullopt;
    }
    const std::string path = (directory_ / entry.value).string();
    struct stat file {};
    auto content = read_file(path, file);
    if (!content) {
      problem(entry, content.error().detail);
      return std::nullopt;
    }
    if (secrecy != Secrecy::kNone && (file.st_mode & (S_IRWXO | S_IWGRP)) != 0) {
      problem(entry, fmt::format("{} is a private key that others may read or change (mode {:04o}): "
                                 "chmod 0600 it", path, file.st_mode & 07777U),
              secrecy == Secrecy::kRequired);
      if (secrecy == Secrecy::kRequired) return std::nullopt;
    }
    return FileContent{path, std::move(*content)};
  }

  void read_credential(const IniSection& section) {
    CredentialSettings credential;
    credential.name = section.name.substr(kCredentialPrefix.size());
    const auto wrong = [&](std::string reason) {
      section_problem(section.name, section.line, std::move(reason));
    };
    if (credential.name.empty() || credential.name.size() > 255) {
      wrong("the credential's name must have 1 to 255 bytes");
    }
    if (is_kernel_section(credential.name)) wrong("this name is reserved for kernel consumers");
    if (!names_.insert(credential.name).second) wrong("a credential of this name stands above");
    bool system_trust = true;
    bool role_given = false;
    bool listed = false;
    std::vector<FileContent> certificates;
    std::vector<FileContent> private_keys;
    std::size_t certificate_entries = 0;
    std::size_t key_entries = 0;
    read_keys(
        section,
        {{"role", [&](const IniEntry& entry) {
            role_given = true;
            credential.client = entry.value == "client" || entry.value == "both";
            credential.server = entry.value == "server" || entry.value == "both";
            if (!credential.client && !credential.server) {
              problem(entry, fmt::format("\"{}\" is none of client, server, both", entry.value));
            }
          }},
         {"x509.certificate", [&](const IniEntry& entry) {
            ++certificate_entries;
            if (auto file = content_of(entry)) certificates.push_back(std::move(*file));
          }},
         {"x509.private_key", [&](const IniEntry& entry) {
            ++key_entries;
            if (auto file = content_of(entry, Secrecy::kRequired)) private_keys.push_back(std::move(*file));
          }},
         {"x509.truststore", [&](const IniEntry& entry) {
            system_trust = false;
            if (auto file = content_of(entry)) credential.trust_store.push_back(std::move(*file));
          }},
         {"x509.crl", [&](const IniEntry& entry) {
            if (auto file = content_of(entry)) credential.crls.push_back(std::move(*file));
          }},
         {"x509.extended_key_usage",
          [&](const IniEntry& entry) { read_extended_key_usage(entry, credential); }},
         {"client_auth", [&](const IniEntry& entry) { read_client_auth(entry, credential); }},
         {"allow.users", [&](const IniEntry& entry) {
            listed = true;
            read_users(entry, credential.access);
          }},
         {"allow.groups", [&](const IniEntry& entry) {
            listed = true;
            read_groups(entry, credential.access);
          }},
         {"allow.ports", [&](const IniEntry& entry) { read_ports(entry, credential.access); }}},
        {"x509.certificate", "x509.private_key", "x509.truststore", "x509.crl"});
    if (!role_given) wrong("role is missing: client, server or both");
    if (certificate_entries != key_entries) {
      wrong(fmt::format("{} x509.certificate but {} x509.private_key: they pair in order",
                                  certificate_entries, key_entries));
    }
    for (std::size_t i = 0; i < std::min(certificates.size(), private_keys.size()); ++i) {
      credential.key_pairs.push_back(KeyPair{std::move(certificates[i]), std::move(private_keys[i])});
    }
    if (credential.server && certificate_entries == 0) {
      wrong("a server needs x509.certificate and x509.private_key");
    }
    if (!listed) {
      section_problem(section.name, section.line,
                      "nobody may use it: neither allow.users nor allow.groups is set", false);
    }
    if (system_trust) read_system_trust(credential, section);
    settings_.credentials.push_back(std::move(credential));
  }

  void read_extended_key_usage(const IniEntry& entry, CredentialSettings& credential) {
    if (entry.value != "check" && entry.value != "ignore") {
      problem(entry, fmt::format("\"{}\" is neither check nor ignore", entry.value));
    }
    credential.check_extended_key_usage = entry.value != "ignore";
  }

  void read_client_auth(const IniEntry& entry, CredentialSettings& credential) {
    if (entry.value != "request" && entry.value != "require") {
      problem(entry, fmt::format("\"{}\" is neither request nor require", entry.value));
    }
    credential.require_client_certificate = entry.value == "require";
  }

  void read_system_trust(CredentialSettings& credential, const IniSection& section) {
    struct stat file {};
    const std::string path(kSystemTrustStore);
    auto content = read_file(path, file);
    if (content) {
      credential.trust_store.push_back(FileContent{path, std::move(*content)});
      return;
    }
    problems_.push_back(Problem{settings_.path, section.line, 1, "[" + section.name + "]",
                                fmt::format("x509.truststore is not set and the system has none ({}): "
                                            "no peer can be verified", content.error().detail), false});
  }

  void read_users(const IniEntry& entry, AccessList& access) {
    for (const std::string_view word : words_of(entry.value)) {
      if (word == "*") {
        access.everybody = true;
      } else if (const auto number = number_of(word); number && *number < ~uid_t{0}) {
        access.users.push_back(static_cast<uid_t>(*number));
      } else if (const passwd* user = ::getpwnam(std::string(word).c_str())) {
        access.users.push_back(user->pw_uid);
      } else {
        problem(entry, fmt::format("no user \"{}\"", word));
      }
    }
  }

  void read_groups(const IniEntry& entry, AccessList& access) {
    for (const std::string_view word : words_of(entry.value)) {
      if (const auto number = number_of(word); number && *number < ~gid_t{0}) {
        access.groups.push_back(static_cast<gid_t>(*number));
      } else if (const group* found = ::getgrnam(std::string(word).c_str())) {
        access.groups.push_back(found->gr_gid);
      } else {
        problem(entry, fmt::format("no group \"{}\"", word));
      }
    }
  }

  void read_ports(const IniEntry& entry, AccessList& access) {
    for (const std::string_view word : words_of(entry.value)) {
      const auto dash = word.find('-');
      const auto first = number_of(word.substr(0, dash));
      const auto last = dash == std::string_view::npos ? first : number_of(word.substr(dash + 1));
      if (!first || !last || *first > *last || *last > 65535) {
        problem(entry, fmt::format("\"{}\" is neither a port nor a range like 8000-8100", word));
        continue;
      }
      access.ports.push_back(
          PortRange{static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)});
    }
  }

  Settings settings_;
  std::filesystem::path directory_;
  std::vector<Problem> problems_;
  std::vector<Problem> tag_problems_;
  std::set<std::string> names_;
  std::map<std::string, IniSection> kernel_sections_;
};

}  // namespace

Loaded load(const std::string& path) { return Loader(path).run(); }

std::string default_path() {
  for (const char* path : {"/etc/handshaked/config", "/etc/tlshd/config", "/etc/tlshd.conf"}) {
    if (::access(path, F_OK) == 0) return path;
  }
  return {};
}

}  // namespace handshake::config
