"""Programs that start at once: each asks a process that has imported all of ibtfs to fork for it.

For what starts an ibtfs by its name, as sshd and the shell do: its words, folder, environment and
open files are those of the program, and the program ends as it does.  To start Python and import
takes longer than what a small command does.
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support import CHECKOUT
from tests.support.fork_server import import_all, run_to_its_end

LARGEST = 1 << 17
"""Bytes of a request: the words of a command, its folder and environment."""

PROGRAM = """#!{python} -IS
import _socket, marshal, posix, sys
asked = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
asked.connect({place!r})
request = sys.argv[1:], posix.getcwdb(), posix.environ
numbers = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
asked.sendmsg([marshal.dumps(request)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])
code = int(asked.recv(100) or 1)
posix._exit(code) if code >= 0 else posix.kill(posix.getpid(), -code)
"""


class Prepared:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="ibtfs-")  # a short name: those of sockets are
        place = f"{folder}/asked"
        self.program = Path(folder) / "ibtfs"
        self.program.write_text(PROGRAM.format(python=sys.executable, place=place))
        self.program.chmod(0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(place)
            listening.listen(100)
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.support.prepared", folder, str(listening.fileno())],
                pass_fds=[listening.fileno()], cwd=CHECKOUT, stdin=subprocess.PIPE,
            )  # fmt: skip


_made: dict[int, Prepared] = {}


def prepared() -> Path:
    """An ibtfs that starts at once, as long as this process lives."""
    if os.getpid() not in _made:
        _made[os.getpid()] = Prepared()
    return _made[os.getpid()].program


class Running:
    """Commands that run, each by the descriptor of its process, and who asked for it."""

    def __init__(self) -> None:
        self.by_process: dict[int, tuple[int, socket.socket]] = {}

    def askers(self) -> dict[int, int]:
        """Those who asked: the process of each."""
        return {asked.fileno(): process for process, asked in self.by_process.values()}

    def began(self, process: int, asked: socket.socket) -> None:
        """*process* runs for *asked*."""
        self.by_process[os.pidfd_open(process)] = process, asked

    def ended(self, descriptor: int) -> None:
        """Tell who asked for it how it ended."""
        process, asked = self.by_process.pop(descriptor)
        _, status = os.waitpid(process, 0)
        os.close(descriptor)
        with asked:
            try:
                asked.send(b"%d" % os.waitstatus_to_exitcode(status))
            except OSError:
                pass  # it was killed meanwhile


def serve(listening: socket.socket) -> list[str] | None:
    """Fork for each who asks, until standard input ends; the words of a command in its process."""
    running = Running()
    while True:
        askers = running.askers()
        ready, _, _ = select.select([0, listening, *running.by_process, *askers], [], [])
        if 0 in ready:
            return None
        for one in ready:
            if one in running.by_process:
                running.ended(one)
            elif one in askers and one in running.askers():
                os.kill(askers[one], signal.SIGKILL)  # as the program was
        if listening in ready:
            asked, _ = listening.accept()
            message, descriptors, *_ = socket.recv_fds(asked, LARGEST, 3)
            process = os.fork() if descriptors else -1
            if process == 0:
                for found in running.by_process:
                    os.close(found)
                for _, other in running.by_process.values():
                    other.close()
                listening.close()
                asked.close()
                return become(message, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            if process > 0:
                running.began(process, asked)


def become(message: bytes, descriptors: list[int]) -> list[str]:
    """Be the process that was asked for; its words."""
    words, place, environment = marshal.loads(message)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    # those of the process that forks were of other files
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(place)
    os.environb.clear()
    os.environb.update(environment)
    time.tzset()
    return [str(word) for word in words]


if __name__ == "__main__":
    import_all()
    gc.collect()
    gc.freeze()
    found = serve(socket.socket(fileno=int(sys.argv[2])))
    if found is None:
        shutil.rmtree(sys.argv[1])
    else:
        from ibtfs.cli.main import main

        sys.argv = ["ibtfs", *found]
        run_to_its_end(main)
