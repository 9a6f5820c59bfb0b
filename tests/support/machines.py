"""Machines of their own: each has its network, name, boot and clock, and is joined by a bridge.

All are namespaces of this one, so they take root; what a server at :attr:`Lan.address` holds they
reach as others on the network would.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support import CHECKOUT
from tests.support.commands import PATIENCE, command

DAY = 86_400
_BLOCKS = 1 << 13
"""How many networks of 16 addresses there are in 198.18.0.0/15, which is for tests."""


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True)


class Machine:
    """A machine called *name*, whose clock goes :attr:`ahead` by so many seconds.

    Its files lie in *home*; *namespace* and *link* name its network.
    """

    def __init__(self, name: str, home: Path, namespace: str, link: str) -> None:
        self.ahead, self._home, self._namespace, self._link = 0, home, namespace, link
        self._started: list[Started] = []
        home.mkdir()
        (home / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (home / "boot").write_text(
            "set -e\n"
            f"hostname {name}\n"
            f"mount --bind {shlex.quote(str(home / 'boot_id'))} /proc/sys/kernel/random/boot_id\n"
            'exec "$@"\n'
        )
        self.environment = {
            "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_STATE_HOME": str(home / "state"),
        }  # fmt: skip

    def start(self, *words: object) -> Started:
        """Begin a command of ibtfs there."""
        ibtfs = command(*words)
        if self.ahead:
            ibtfs[2:3] = ["tests.support.elsewhen", str(self.ahead)]
        program = [
            "ip", "netns", "exec", self._namespace,
            "unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
            "sh", str(self._home / "boot"), *ibtfs,
        ]  # fmt: skip
        started = Started(self._link, program, {**os.environ, **self.environment})
        self._started.append(started)
        return started

    def run(self, *words: object) -> tuple[int, str, str]:
        """Run a command of ibtfs there: its exit code, and what it says, on both ways."""
        return self.start(*words).wait()

    def restart(self) -> None:
        """End all that goes on there, and have it on the network."""
        for one in self._started:
            one.kill()
        self._started.clear()
        _run("ip", "link", "set", self._link, "up")


class Started:
    """A command of a machine, which may be put to sleep together with its network."""

    def __init__(self, link: str, program: list[str], environment: dict[str, str]) -> None:
        self._link = link
        options: Any = {"stdin": subprocess.DEVNULL, "text": True, "env": environment}
        self._process = subprocess.Popen(
            program, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )

    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def sleep(self) -> None:
        """Stop all of it, and what it started, at once; nothing comes through to it."""
        for process in self._all():
            os.kill(process, signal.SIGSTOP)
        _run("ip", "link", "set", self._link, "down")

    def wake(self) -> None:
        """Let it go on."""
        _run("ip", "link", "set", self._link, "up")
        for process in self._all():
            os.kill(process, signal.SIGCONT)

    def wait(self) -> tuple[int, str, str]:
        """Its exit code, and what it said, when it has ended."""
        try:
            output, errors = self._process.communicate(timeout=PATIENCE)
        finally:
            self.kill()
        return self._process.returncode, output, errors

    def kill(self) -> None:
        """End it if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()  # and with it all of its namespace of processes
            self._process.wait()

    def _all(self) -> list[int]:
        found = [self._process.pid]
        for process in found:
            with suppress(OSError):
                told = Path(f"/proc/{process}/task/{process}/children").read_text()
                found += [int(word) for word in told.split()]
        return found


class Lan:
    """A network of machines; *address* is that of this one in it, where servers listen."""

    def __init__(self, place: Path, number: int) -> None:
        self._place, self._number, self._made = place, number, 0
        self._bridge = f"ibtfs{number}"
        block = number % _BLOCKS
        self._net = f"198.{18 + (block >> 12)}.{block >> 4 & 255}"
        self._first = (block & 15) * 16
        self.address = f"{self._net}.{self._first + 1}"
        self._stack = ExitStack()

    def open(self) -> None:
        """Make it."""
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        self._stack.callback(_run, "ip", "link", "del", self._bridge)
        _run("ip", "addr", "add", f"{self.address}/28", "dev", self._bridge)
        _run("ip", "link", "set", self._bridge, "up")

    def close(self) -> None:
        """Remove it, and all that is joined to it."""
        self._stack.close()

    def machine(self, name: str) -> Machine:
        """A new machine, of at most 13."""
        self._made += 1
        space, link = f"ibtfs-{self._number}-{self._made}", f"ib{self._number}-{self._made}"
        _run("ip", "netns", "add", space)
        self._stack.callback(_run, "ip", "netns", "del", space)
        _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
        _run("ip", "link", "set", link, "master", self._bridge, "up")
        inside = ("ip", "-n", space)
        address = f"{self._net}.{self._first + 1 + self._made}/28"
        _run(*inside, "addr", "add", address, "dev", "eth0")
        for one in ("lo", "eth0"):
            _run(*inside, "link", "set", one, "up")
        return Machine(name, self._place / name, space, link)


@contextmanager
def lan(place: Path) -> Iterator[Lan]:
    """A network, its machines' files in *place*."""
    place.mkdir(parents=True, exist_ok=True)
    made = Lan(place, os.getpid())
    made.open()
    try:
        yield made
    finally:
        made.close()
