"""OpenSSH's sshd on the loopback, and a gate before it that cuts, holds and counts connections."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.prepared import prepared

SSHD = "/usr/sbin/sshd"
PIECE = 1 << 16


def free_port(address: str = "127.0.0.1") -> int:
    """A port of *address* that nobody listens on."""
    with socket.socket() as free:
        free.bind((address, 0))
        port: int = free.getsockname()[1]
        return port


class Server:
    """An sshd that lets the user of the tests in, by the ssh that is found first in *path*.

    Its ibtfs is one that starts at once if it *is_prepared*.
    """

    def __init__(
        self, place: Path, sftp: str = "internal-sftp", address: str = "127.0.0.1", *,
        is_prepared: bool = False,
    ) -> None:  # fmt: skip
        assert os.path.exists(SSHD), "the tests need Debian's openssh-server"
        self._place, self._address, self.port = place, address, free_port(address)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / name],
                           check=True)  # fmt: skip
        shutil.copy(place / "user.pub", place / "known_users")
        (place / "known_hosts").write_text(f"* {(place / 'host.pub').read_text()}")
        (place / "sshd.conf").write_text("\n".join([
            f"Port {self.port}", f"ListenAddress {address}", f"HostKey {place}/host",
            f"AuthorizedKeysFile {place}/known_users", "StrictModes no", "UsePAM no",
            "PidFile none", "MaxStartups 100", "MaxSessions 200", f"Subsystem sftp {sftp}",
            # the keys of today's default take ten times as long to make
            "KexAlgorithms curve25519-sha256",
            # no file of the user that his shell would read first
            f"SetEnv PATH={place}/programs:{Path(sys.executable).parent}:/usr/bin:/bin"
            f" HOME={place}", "",
        ]))  # fmt: skip
        self.path = f"{place}/bin:{os.environ['PATH']}"
        ssh = place / "bin/ssh"
        ssh.parent.mkdir()
        ssh.write_text(
            f"#!/bin/sh\nexec {shutil.which('ssh')} -F none -o BatchMode=yes -i {place}/user "
            f'-o UserKnownHostsFile={place}/known_hosts -o GlobalKnownHostsFile=none "$@"\n'
        )
        ssh.chmod(0o755)
        if is_prepared:
            (place / "programs").mkdir()
            (place / "programs/ibtfs").symlink_to(prepared())
        self._process: subprocess.Popen[bytes] | None = None

    def shared_path(self) -> str:
        """As *path*, of an ssh by which all who use it share a connection."""
        ssh = self._place / "shared/ssh"
        ssh.parent.mkdir(exist_ok=True)
        ssh.write_text(
            f"#!/bin/sh\nexec {self._place}/bin/ssh -o ControlMaster=auto -o ControlPersist=60"
            f' -o ControlPath={self._place}/shared/%p "$@"\n'
        )
        ssh.chmod(0o755)
        return f"{ssh.parent}:{self.path}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        # a session of its own: what it serves goes with it
        self._process = subprocess.Popen(
            [SSHD, "-D", "-f", self._place / "sshd.conf", "-E", self._place / "log"],
            start_new_session=True,
        )
        until = time.monotonic() + 120
        while True:
            with suppress(ConnectionRefusedError):
                socket.create_connection((self._address, self.port)).close()
                return
            assert time.monotonic() < until, (self._place / "log").read_text()
            assert self._process.poll() is None, (self._place / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill it, and the connections that it serves."""
        assert self._process is not None
        listed = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True,
                                text=True, check=False).stdout  # fmt: skip
        self._process.kill()
        self._process.wait()
        for child in listed.split():
            with suppress(ProcessLookupError):
                os.kill(int(child), 9)
        self._process = None


@contextmanager
def served(
    place: Path, sftp: str = "internal-sftp", address: str = "127.0.0.1", *,
    is_prepared: bool = False,
) -> Iterator[Server]:  # fmt: skip
    """A server at *address*, its files in *place*; *sftp* is what serves SFTP there.

    An ibtfs there starts at once if it *is_prepared*.
    """
    place.mkdir(parents=True, exist_ok=True)
    server = Server(place, sftp, address, is_prepared=is_prepared)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Gate:
    """A port before another one.

    *delay* is added to what passes, each way, in seconds.  :meth:`cut_after` ends all connections
    when so many more bytes have come from the server; :attr:`is_shut` refuses new ones.
    """

    def __init__(self, behind: int) -> None:
        self._behind, self.delay, self.is_shut = behind, 0.0, False
        self.connections = self.cuts = 0
        self._left: int | None = None
        self._left_sent: int | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def cut_after(self, count: int) -> None:
        """End all connections behind *count* bytes of the server's."""
        with self._lock:
            self._left = count

    def cut_after_sent(self, count: int) -> None:
        """End all connections behind *count* bytes of the client's."""
        with self._lock:
            self._left_sent = count

    def cut(self) -> None:
        """End all connections now."""
        with self._lock:
            found, self._open = self._open, set()
            self._left = self._left_sent = None
            self.cuts += bool(found)
        for one in found:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        """End it all."""
        self._listening.shutdown(socket.SHUT_RDWR)  # or the thread would go on with its number
        self._thread.join()
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self.is_shut:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._behind))
                for one in (client, server):
                    # as ssh has it; else each small reply would wait for 40 ms
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open |= {client, server}
                    self.connections += 1
                for one, other, counts in ((client, server, False), (server, client, True)):
                    threading.Thread(
                        target=self._pass, args=(one, other, counts), daemon=True
                    ).start()

    def _pass(self, one: socket.socket, other: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := one.recv(PIECE):
                if self.delay:
                    time.sleep(self.delay)
                if self._is_over(len(data), from_server=counts):
                    self.cut()
                    return
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def _is_over(self, count: int, *, from_server: bool) -> bool:
        with self._lock:
            if from_server and self._left is not None:
                self._left -= count
                return self._left < 0
            if not from_server and self._left_sent is not None:
                self._left_sent -= count
                return self._left_sent < 0
        return False
