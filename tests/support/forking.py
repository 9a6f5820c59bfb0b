"""Commands in processes of their own that import nothing: forks of one that has imported ibtfs.

To start Python and import takes longer than what a small command does, and under strace several
times as long.  Such a process may be traced, killed and given errors as any other.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.support import CHECKOUT

LARGEST = 1 << 17
"""Bytes of a request: the words of a command, and its environment."""


def can_be_forked(command: Sequence[str]) -> bool:
    """Whether it is ibtfs, or a program in its words, run by this Python."""
    return [*command[:2]] == [sys.executable, "-c"] or [*command[:3]] == [
        sys.executable, "-m", "ibtfs",
    ]  # fmt: skip


class Forking:
    """A process that forks, for one thread; it ends with this one."""

    def __init__(self) -> None:
        self._asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], cwd=CHECKOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def run(
        self, command: Sequence[str], place: Path, environment: Mapping[str, str],
        tracer: Sequence[str] = (), *, limit: float = 600,
    ) -> tuple[int, str]:  # fmt: skip
        """Run *command* in *place*, traced by *tracer* if there is one.

        Its exit code (negative for a signal), and what it complained.
        """
        words = [*command[1:]]
        request = json.dumps([words, os.fspath(place), dict(environment)]).encode()
        with tempfile.TemporaryFile() as said:
            gate, shut = os.pipe()
            try:
                socket.send_fds(self._asked, [request], [said.fileno(), gate])
                process = int(self._told(120))
                with attached(tracer, process) if tracer else nullcontext():
                    os.close(shut)
                    shut = -1
                    code = self._end(process, limit)
            finally:
                os.close(gate)
                if shut >= 0:
                    os.close(shut)
            said.seek(0)
            return code, said.read().decode(errors="replace")

    def _end(self, process: int, limit: float) -> int:
        try:
            return int(self._told(limit))
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            self._told(120)
            raise

    def _told(self, limit: float) -> bytes:
        self._asked.settimeout(limit)
        told = self._asked.recv(100)
        assert told, "the process that forks has ended"
        return told


@contextmanager
def attached(tracer: Sequence[str], process: int) -> Iterator[None]:
    """strace, as it is called by *tracer*, sees all that *process* does from now on."""
    command = [*tracer, "-p", str(process)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        try:
            line = running.stderr.readline()
            assert b" attached" in line, line + running.stderr.read()
            yield
            running.stderr.read()  # it ends with the process
        except BaseException:
            running.kill()
            raise


_made: dict[tuple[int, int], Forking] = {}


def forking() -> Forking:
    """The one of this thread."""
    key = os.getpid(), threading.get_ident()
    if key not in _made:
        _made[key] = Forking()
    return _made[key]
