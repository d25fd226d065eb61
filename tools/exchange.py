# SPDX-License-Identifier: Apache-2.0
"""Runs the real programs against each other: a daemon, handshakectl, and the TLS tools of others.

What `make demo` and the smoke test in a real kernel have in common. Everything listens on a port the
kernel chose, every wait has a deadline, and every program started here is ended here.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path


class Failure(Exception):
    """Something was not as it should be; the text says what."""


def wait_until(condition, seconds, what):
    """Polls `condition` until it gives something true, which is returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds:g} s")
        time.sleep(0.02)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def make_text(path, size):
    """`size` random bytes as lines of text: an echo server in between may work line by line."""
    with open(path, "wb") as file:
        left = size
        while left > 0:
            line = os.urandom(min(left, 64) // 2 + 1).hex().encode()[: min(left, 64) - 1] + b"\n"
            file.write(line)
            left -= len(line)


def make_binary(path, size):
    """`size` bytes that no compression and no repeated block can fake, made faster than random ones."""
    block = bytearray(os.urandom(1 << 20))
    with open(path, "wb") as file:
        for index in range(0, size, len(block)):
            block[:8] = index.to_bytes(8, "big")
            file.write(block[: size - index])


def listening_port(pid):
    """The TCP port that process `pid` listens on, or None."""
    inodes = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            target = os.readlink(entry.path)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    except OSError:
        return None
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                return int(fields[1].rsplit(":", 1)[1], 16)
    return None


class Program:
    """A running program: its standard input is a pipe or nothing, its outputs are files."""

    def __init__(self, lab, name, command, with_input=False, env=None):
        self.name = name
        self.command = [str(part) for part in command]
        self.out = lab.file(f"{name}.out")
        self.err = lab.file(f"{name}.err")
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
                stdout=out, stderr=err, env=env, start_new_session=True)
        lab.programs.append(self)
        self.feeder = None
        self.ends_first = False

    def feed(self, path):
        """Sends the file to the program's input, which stays open behind it."""

        def copy():
            try:
                with open(path, "rb") as file:
                    while block := file.read(1 << 16):
                        self.process.stdin.write(block)
                self.process.stdin.flush()
            except (BrokenPipeError, ValueError):
                pass  # it ended early, and its exit status says so, or it was stopped

        self.feeder = threading.Thread(target=copy, daemon=True)
        self.feeder.start()

    def end_input(self, seconds=10):
        if self.feeder:
            self.feeder.join(seconds)
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass

    def running(self):
        return self.process.poll() is None

    def wait(self, seconds):
        """Its exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} still runs after {seconds:g} s\n{self.transcript()}") from None

    def stop(self):
        """Ends it, politely first. Its exit status."""
        if self.running():
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdin and not self.process.stdin.closed:
            self.end_input(1)
        return self.process.returncode

    def messages(self):
        return self.err.read_text(errors="replace")

    def port(self):
        """The port it listens on, as soon as it does."""

        def ready():
            if not self.running():
                raise Failure(f"{self.name} ended instead of listening\n{self.transcript()}")
            return listening_port(self.process.pid)

        return wait_until(ready, 30, f"{self.name} listens")

    def transcript(self):
        text = self.messages().strip()
        return f"  {' '.join(self.command)}\n" + "".join(f"  | {line}\n" for line in text.splitlines()[-15:])


class Lab:
    """One directory, one daemon, and the programs that talk. A context manager: ends them all."""

    def __init__(self, directory, handshaked, handshakectl, pki, library_path=None):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.handshaked = handshaked
        self.handshakectl = handshakectl
        self.pki = Path(pki)
        self.programs = []
        self.count = 0
        self.daemon = None
        self.runtime = self.directory / "run"
        self.env = dict(os.environ)
        if library_path:
            self.env["LD_LIBRARY_PATH"] = str(library_path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop_all_but(None)

    def stop_all_but(self, kept):
        """Ends what a failed exchange has left running."""
        for program in reversed(self.programs):
            if program is not kept:
                program.stop()

    def file(self, name):
        self.count += 1
        return self.directory / f"{self.count:03}-{name}"

    # The daemon.

    def configuration(self, log_level):
        """A credential for every pair of tools/demo-pki that we use ourselves."""
        user = os.getuid()
        text = f"[debug]\nloglevel={log_level}\n"
        for name, role, pairs in (
                ("server", "server", ["server-ecdsa", "server-rsa"]),
                ("server-ecdsa", "server", ["server-ecdsa"]),
                ("server-rsa", "server", ["server-rsa"]),
                ("client", "client", ["client-ecdsa", "client-rsa"]),
                ("client-rsa", "client", ["client-rsa"])):
            text += f"\n[credential {name}]\nrole={role}\n"
            for pair in pairs:
                text += f"x509.certificate={self.pki}/{pair}.pem\nx509.private_key={self.pki}/{pair}.key\n"
            text += f"x509.truststore={self.pki}/ca.pem\nallow.users={user}\n"
        return text

    def start_daemon(self, log_level=0):
        config = self.directory / "handshaked.conf"
        config.write_text(self.configuration(log_level))
        self.runtime.mkdir(mode=0o700, exist_ok=True)
        self.daemon = Program(self, "handshaked", [self.handshaked, "--config", config,
                                                   "--runtime-dir", self.runtime], env=self.env)

        def ready():
            if not self.daemon.running():
                raise Failure(f"handshaked ended at once\n{self.daemon.transcript()}")
            return self.query("status", check=False)

        return wait_until(ready, 30, "handshaked is ready")

    def stop_daemon(self):
        status = self.daemon.stop()
        if status != 0:
            raise Failure(f"handshaked ended with status {status}\n{self.daemon.transcript()}")

    def control(self, *arguments):
        return subprocess.run([self.handshakectl, "--runtime-dir", self.runtime, *arguments], env=self.env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)

    def query(self, command, check=True):
        """What `handshakectl COMMAND --json` says."""
        answer = self.control(command, "--json")
        if answer.returncode == 0:
            return json.loads(answer.stdout)
        if check:
            raise Failure(f"handshakectl {command}: {answer.stderr.strip()}")
        return None

    def sessions(self):
        return self.query("sessions")

    # Our ends.

    def _ours(self, name, arguments, with_input):
        return Program(self, name, [self.handshakectl, "--runtime-dir", self.runtime, *arguments],
                       with_input=with_input, env=self.env)

    def listen(self, credential, *options, with_input=True):
        """`handshakectl listen` for one connection; its port is in .port()."""
        return self._ours("listen", ["listen", "0", "--address", "127.0.0.1", "--credential", credential,
                                     "--once", *options], with_input)

    def connect(self, port, credential, *options, name="localhost", with_input=True):
        return self._ours("connect", ["connect", "127.0.0.1", str(port), "--credential", credential,
                                      "--name", name, *options], with_input)

    # Other people's ends.

    def pair(self, name):
        return self.pki / f"{name}.pem", self.pki / f"{name}.key"

    def openssl_server(self, pair="server-ecdsa", *options, verify=True):
        certificate, key = self.pair(pair)
        command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-quiet",
                   "-cert", certificate, "-key", key, "-CAfile", self.pki / "ca.pem", *options]
        if verify:
            command += ["-Verify", "1", "-verify_return_error"]
        return Program(self, "s_server", command, with_input=True)

    def openssl_client(self, port, pair="client-ecdsa", *options):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", "-CAfile", self.pki / "ca.pem",
                   "-verify_return_error", "-servername", "localhost", "-verify_hostname", "localhost", *options]
        if pair:
            certificate, key = self.pair(pair)
            command += ["-cert", certificate, "-key", key]
        return Program(self, "s_client", command, with_input=True)

    def gnutls_server(self, pair="server-ecdsa"):
        certificate, key = self.pair(pair)
        # It knows no address to bind to: its port is open on every interface for this moment.
        return Program(self, "gnutls-serv", [
            "gnutls-serv", "--echo", "--quiet", "--port", "0", "--x509certfile", certificate, "--x509keyfile", key,
            "--x509cafile", self.pki / "ca.pem", "--require-client-cert", "--verify-client-cert"])

    def gnutls_client(self, port, pair="client-ecdsa"):
        certificate, key = self.pair(pair)
        client = Program(self, "gnutls-cli", [
            "gnutls-cli", "--port", str(port), "127.0.0.1", "--logfile", self.file("gnutls-cli.log"),
            "--x509cafile", self.pki / "ca.pem", "--x509certfile", certificate, "--x509keyfile", key,
            "--sni-hostname", "localhost", "--verify-hostname", "localhost"], with_input=True)
        client.ends_first = True  # it says goodbye (close_notify) at the end of its input only
        return client


def same_file(sent, received, what):
    if sha256(sent) != sha256(received):
        raise Failure(f"{what}: the file that arrived is not the one that was sent "
                      f"({os.path.getsize(received)} of {os.path.getsize(sent)} bytes)")


def finish(program, seconds, status=0):
    """Waits for a program and demands its exit status."""
    got = program.wait(seconds)
    if got != status:
        raise Failure(f"{program.name} ended with status {got} instead of {status}\n{program.transcript()}")


def exchange(ours, peer, ours_sends, peer_sends=None, seconds=120, while_open=None):
    """Both ends send a file and keep their direction open until both files are there; then one closes.

    Other people's tools end the session as soon as one direction does, hence the waiting. Without
    `peer_sends` the peer is one that echoes. `while_open` is called when everything has arrived.
    """
    expected = os.path.getsize(peer_sends or ours_sends)
    ours.feed(ours_sends)
    if peer_sends:
        peer.feed(peer_sends)

    def arrived():
        if not ours.running():
            raise Failure(f"{ours.name} ended in the middle of the exchange\n{ours.transcript()}{peer.transcript()}")
        return (os.path.getsize(ours.out) >= expected
                and (not peer_sends or os.path.getsize(peer.out) >= os.path.getsize(ours_sends)))

    try:
        wait_until(arrived, seconds, f"{ours.name} and {peer.name} exchange files")
    except Failure as failure:
        raise Failure(f"{failure}\n  {os.path.getsize(ours.out)} bytes at {ours.name}, "
                      f"{os.path.getsize(peer.out)} at {peer.name}\n{ours.transcript()}{peer.transcript()}") from None
    if while_open:
        while_open()
    if peer.ends_first:
        peer.end_input()
        finish(peer, 30)
    ours.end_input()
    finish(ours, 30)
    same_file(peer_sends or ours_sends, ours.out, f"{peer.name} to {ours.name}")
    if peer_sends:
        same_file(ours_sends, peer.out, f"{ours.name} to {peer.name}")
        finish(peer, 30)  # which says whether the peer, too, saw a clean end
    else:
        peer.stop()  # a server for more than one connection


# RFC 8446 section 6.
ALERT_NUMBERS = {
    "handshake_failure": 40, "bad_certificate": 42, "certificate_expired": 45, "unknown_ca": 48,
    "access_denied": 49, "decode_error": 50, "protocol_version": 70, "certificate_required": 116,
}


@contextmanager
def plain_peer(answer):
    """A TCP server on 127.0.0.1 that speaks no TLS: it answers whatever comes with `answer` and closes."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(15)

    def serve():
        try:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(15)
                connection.recv(4096)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass
        except OSError:
            pass  # the client's verdict is what counts

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()
        thread.join(15)


def plain_request(port, request):
    """Sends `request` to a server on 127.0.0.1 and gives what it answers until it closes."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(request)
        try:
            while block := connection.recv(4096):
                answer += block
        except ConnectionResetError:
            pass
    return answer
