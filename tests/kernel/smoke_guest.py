# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: our programs over kTLS, with each other and with OpenSSL and GnuTLS.

Every session here must be one that the kernel encrypts (--relay never), and says so itself: ss shows both
directions keyed, /proc/net/tls_stat counts them.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from exchange import Failure, Lab, exchange, finish, make_binary, make_text, same_file, wait_until

HERE = Path(__file__).resolve().parent
CIPHERS = {  # what ss calls it; it has names for these two only and says nothing of the others
    "TLS_AES_128_GCM_SHA256": "cipher: aes-gcm-128",
    "TLS_AES_256_GCM_SHA384": "cipher: aes-gcm-256",
    "TLS_CHACHA20_POLY1305_SHA256": None,
    "TLS_AES_128_CCM_SHA256": None,
}
PREFERRED = "TLS_AES_256_GCM_SHA384"


def tls_stat():
    counters = {}
    for line in Path("/proc/net/tls_stat").read_text().splitlines():
        name, value = line.split()
        counters[name] = int(value)
    return counters


def keyed_sockets():
    """What ss says of every TCP socket that the kernel encrypts in both directions."""
    output = subprocess.run(["ss", "-tniH"], capture_output=True, text=True, check=True).stdout
    return [line for line in output.replace("\n\t", " ").splitlines()
            if "tcp-ulp-tls" in line and "rxconf: sw" in line and "txconf: sw" in line]


def shows(line, cipher):
    return CIPHERS[cipher] in line if CIPHERS[cipher] else "cipher:" not in line


def demand_keyed(count, cipher=None):
    def check():
        found = keyed_sockets()
        if len(found) != count:
            raise Failure(f"ss shows {len(found)} sockets with kTLS in both directions instead of {count}")
        if cipher and not all(shows(line, cipher) for line in found):
            raise Failure(f"ss shows another cipher than {cipher}: {found}")
    return check


class Smoke:
    def __init__(self, lab):
        self.lab = lab
        self.ends = []  # role and cipher of every socket of ours that the kernel has encrypted
        self.large = lab.directory / "large"
        self.large_back = lab.directory / "large-back"
        self.text = lab.directory / "text"
        self.text_back = lab.directory / "text-back"
        make_binary(self.large, 4 << 20)
        make_binary(self.large_back, 4 << 20)
        make_text(self.text, 256 << 10)
        make_text(self.text_back, 256 << 10)

    def both_ours(self):
        server = self.lab.listen("server", "--client-auth", "require", "--relay", "never")
        client = self.lab.connect(server.port(), "client", "--relay", "never")
        server.feed(self.large)
        client.feed(self.large_back)

        def arrived():
            for end in (server, client):
                if not end.running():
                    raise Failure(f"{end.name} ended early\n{end.transcript()}")
            return (os.path.getsize(server.out) >= os.path.getsize(self.large_back)
                    and os.path.getsize(client.out) >= os.path.getsize(self.large))

        wait_until(arrived, 90, "4 MiB each way")
        demand_keyed(2)()
        client.end_input()
        server.end_input()
        finish(client, 30)
        finish(server, 30)
        same_file(self.large, client.out, "listen to connect")
        same_file(self.large_back, server.out, "connect to listen")
        self.ends += [("server", PREFERRED), ("client", PREFERRED)]

    def openssl_server(self, cipher):
        peer = self.lab.openssl_server("server-rsa", "-ciphersuites", cipher)  # it sends two tickets
        ours = self.lab.connect(peer.port(), "client", "--relay", "never")
        exchange(ours, peer, self.text, self.text_back, while_open=demand_keyed(1, cipher))
        self.ends.append(("client", cipher))

    def openssl_client(self, cipher):
        ours = self.lab.listen("server", "--client-auth", "require", "--relay", "never")
        peer = self.lab.openssl_client(ours.port(), "client-ecdsa", "-ciphersuites", cipher)
        exchange(ours, peer, self.text, self.text_back, while_open=demand_keyed(1, cipher))
        self.ends.append(("server", cipher))

    def gnutls_server(self):
        peer = self.lab.gnutls_server()
        ours = self.lab.connect(peer.port(), "client", "--relay", "never")
        exchange(ours, peer, self.text, while_open=demand_keyed(1))
        self.ends.append(("client", PREFERRED))

    def gnutls_client(self):
        ours = self.lab.listen("server-rsa", "--client-auth", "require", "--relay", "never")
        peer = self.lab.gnutls_client(ours.port())
        exchange(ours, peer, self.text, self.text_back, while_open=demand_keyed(1))
        self.ends.append(("server", PREFERRED))

    def daemon_agrees(self):
        shown = sorted((session["role"], session.get("cipher"), session["mode"], session["errno"])
                       for session in self.lab.sessions())
        expected = sorted((role, cipher, "ktls", "0") for role, cipher in self.ends)
        if shown != expected:
            raise Failure("the daemon should list\n" + "".join(f"  {row}\n" for row in expected) + "and lists\n"
                          + "".join(f"  {row}\n" for row in shown))

    def kernel_agrees(self, before):
        # A socket that is closed leaves the count a moment later.
        wait_until(lambda: tls_stat()["TlsCurrRxSw"] == tls_stat()["TlsCurrTxSw"] == 0, 10, "no kTLS socket is left")
        after = tls_stat()
        for counter in ("TlsTxSw", "TlsRxSw"):
            counted = after[counter] - before[counter]
            if counted != len(self.ends):
                raise Failure(f"/proc/net/tls_stat: {counter} counted {counted} instead of {len(self.ends)}")
        if after["TlsDecryptError"] != before["TlsDecryptError"]:
            raise Failure("/proc/net/tls_stat: TlsDecryptError has counted")


def main():
    failures = 0

    def step(what, action, *arguments):
        nonlocal failures
        start = time.monotonic()
        try:
            action(*arguments)
            outcome = "ok"
        except Failure as failure:
            failures += 1
            lab.stop_all_but(lab.daemon)
            outcome = f"FAILED\n{failure}"
        print(f"@@ {what}: {outcome} ({time.monotonic() - start:.1f} s)", flush=True)

    with Lab("/tmp/smoke", HERE / "bin" / "handshaked", HERE / "bin" / "handshakectl", HERE / "pki",
             library_path=HERE / "lib") as lab:
        # Nobody but the daemon loads the module tls.
        status = lab.start_daemon(log_level=1)
        step("every worker has probed kTLS: all four ciphers", lambda: wait_until(
            lambda: all(lab.daemon.messages().count(f"kTLS has {cipher}") == len(status["workers"])
                        for cipher in CIPHERS), 30, "the probes"))
        if failures:
            sys.exit(lab.daemon.messages())
        smoke = Smoke(lab)
        before = tls_stat()
        step("listen and connect, 4 MiB each way", smoke.both_ours)
        for cipher in CIPHERS:
            step(f"connect to openssl s_server, {cipher}", smoke.openssl_server, cipher)
            step(f"openssl s_client to listen, {cipher}", smoke.openssl_client, cipher)
        step("connect to gnutls-serv", smoke.gnutls_server)
        step("gnutls-cli to listen", smoke.gnutls_client)
        step("the daemon lists every session as kTLS", smoke.daemon_agrees)
        step("the kernel has counted every session", smoke.kernel_agrees, before)
        step("the daemon stops cleanly", lab.stop_daemon)
        if failures:
            print(lab.daemon.messages())
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
