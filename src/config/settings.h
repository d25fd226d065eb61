// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/log.h"

namespace handshake::config {

/// A file that the privileged process has read for a worker: workers open nothing. The path is
/// kept for messages. The content may be a private key: it is never logged.
struct FileContent {
  std::string path;
  std::string content;
};

/// One certificate (followed by its intermediates) and its private key; PEM or DER.
struct KeyPair {
  FileContent certificate;
  FileContent private_key;
  /// Of tlshd's x509.pq.*: left out where the TLS library has no post-quantum signatures.
  bool post_quantum = false;
};

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 65535;
};

/// Who may use a credential. Denied by default: nobody is allowed until listed (R5.1).
struct AccessList {
  std::vector<uid_t> users;
  std::vector<gid_t> groups;
  bool everybody = false;
  /// The local port for a server, the peer's for a client. Empty: any port.
  std::vector<PortRange> ports;
};

/// A `[credential NAME]` section, or one of the built-in ones (see KernelCredential).
struct CredentialSettings {
  std::string name;
  bool client = false;  ///< may be used for clienthello
  bool server = false;  ///< may be used for serverhello
  std::vector<KeyPair> key_pairs;          ///< may be empty for a client: anonymous
  std::vector<FileContent> trust_store;    ///< PEM bundles or DER
  std::vector<FileContent> crls;           ///< when not empty, every certificate of a chain is checked
  bool require_client_certificate = false; ///< a server's answer to ClientAuth::kDefault
  bool check_extended_key_usage = true;
  AccessList access;
};

/// tlshd's [authenticate.client] and [authenticate.server]: what kernel consumers' requests use.
/// They are credentials of that name ("authenticate.client blue" where a section is for one
/// namespace only) and stand apart from the others, so that no program can name them.
struct KernelCredential {
  CredentialSettings credential;  ///< client or server, not both; its access list is empty
  std::string netns;              ///< as in `netns`; empty: every namespace without its own
};

/// Everything the daemon and its workers run with. Immutable once loaded and validated; shared as
/// std::shared_ptr<const Settings> and swapped whole on reload.
struct Settings {
  std::string path;  ///< the file it was read from, empty for built-in defaults
  LogLevel log_level = LogLevel::kInfo;
  unsigned workers = 0;  ///< 0: one per core
  milliseconds default_timeout{30'000};
  std::vector<CredentialSettings> credentials;

  // For kernel consumers. None of their three sections: this daemon does not serve the kernel.
  bool serve_kernel = false;
  std::vector<KernelCredential> kernel_credentials;  ///< one for each role, more for namespaces
  /// Besides .nvme, .nfs and .nfsd: names or serials.
  std::vector<std::string> keyrings;
  /// Whose kernel requests are served: "self", names of /run/netns, absolute paths.
  std::vector<std::string> netns{"self"};
  /// Session tags and rules, in the order in which they count (config/tags.h). Without problems.
  std::vector<FileContent> tags;
  bool debug_tls = false;      ///< workers log their steps
  bool debug_netlink = false;  ///< messages to and from the kernel are logged
};

}  // namespace handshake::config
