"""One command, run and measured: wall time, processor time, peak memory of its largest process.

The peak that the kernel tells of a child includes the memory of the process that it was forked
from. A benchmark in Python would add its own to everything. So a shell, which is small, starts the
command and ends; the command, an orphan now, comes to this process, which is made the reaper of
such, and its figures are its own.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
# the command waits for a word until the shell is gone: the shell might take its end for itself
START = """
exec 3<&0
log=$1; shift
(read -r word <&3; exec 3<&-; exec "$@" </dev/null) >"$log" 2>&1 &
echo $!
"""
LONGEST = 2 * 3600.0  # seconds; nothing here takes that long, unless it hangs


class Failure(Exception):
    """A command failed, or the benchmark cannot go on; the text says which and why."""


@dataclass(frozen=True)
class Command:
    """What to run, where, and for how many seconds at most."""

    words: Sequence[str | Path]
    folder: Path | None = None
    timeout: float = LONGEST


@dataclass(frozen=True)
class Figures:
    """Seconds, processor seconds (user and system), bytes of memory; of children as well."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.seconds + other.seconds,
            self.cpu_seconds + other.cpu_seconds,
            max(self.peak_bytes, other.peak_bytes),
        )


class Measurer:
    """Runs commands with one environment; what they print goes to the file *log*.

    Makes this process the reaper of orphans. To be used by one thread.
    """

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.environment, self.log = dict(environment), log
        if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise Failure("This kernel does not let a process adopt orphans (prctl)")

    def run(self, commands: Iterable[Command], *, expected: Sequence[int] = (0,)) -> Figures:
        """Run one after the other; return their sum. Raises Failure at the first that fails."""
        total = Figures()
        for command in commands:
            code, figures = self.one(command)
            if code not in expected:
                raise Failure(f"{_shown(command)}: exit code {code}: {self.last_lines()}")
            total += figures
        return total

    def one(self, command: Command) -> tuple[int, Figures]:
        """Run it; return its exit code (negative: the signal), and what it took.

        Raises Failure when it takes longer than its timeout; it is killed, with its group.
        """
        line = ["/bin/sh", "-c", START, "sh", str(self.log), *map(str, command.words)]
        shell = subprocess.Popen(
            line, stdout=subprocess.PIPE, stdin=subprocess.PIPE, cwd=command.folder,
            env=self.environment, start_new_session=True,
        )  # fmt: skip
        assert shell.stdin is not None
        assert shell.stdout is not None
        process = int(shell.stdout.readline())
        shell.wait()
        start = time.monotonic()
        try:
            shell.stdin.write(b"go\n")
            shell.stdin.close()
            ended = _ends(process, command.timeout)
        except BaseException:
            ended = False
            raise
        finally:
            if not ended:
                os.killpg(shell.pid, signal.SIGKILL)
            _, status, usage = os.wait4(process, 0)
            seconds = time.monotonic() - start
            shell.stdout.close()
            _reap()
        if not ended:
            raise Failure(f"{_shown(command)}: not done after {command.timeout:.0f} s")
        cpu = usage.ru_utime + usage.ru_stime
        code = os.waitstatus_to_exitcode(status)
        return code, Figures(seconds, cpu, usage.ru_maxrss * 1024)

    def printed(self) -> str:
        """Return what the last command printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def last_lines(self) -> str:
        """Return the end of what the last command printed, as one line."""
        return " | ".join(line.strip() for line in self.printed().splitlines()[-3:])[-600:]


def settle(seconds: float) -> None:
    """Write out what is dirty, then wait: no file shall look as if it might still change."""
    os.sync()
    time.sleep(seconds)


def _ends(process: int, timeout: float) -> bool:
    descriptor = os.pidfd_open(process)
    try:
        waiting = select.poll()  # select knows numbers below 1024 only
        waiting.register(descriptor, select.POLLIN)
        return bool(waiting.poll(timeout * 1000))
    finally:
        os.close(descriptor)


def _reap() -> None:
    """Let go of other orphans that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _shown(command: Command) -> str:
    text = " ".join(map(str, command.words))
    return text if len(text) < 300 else f"{text[:300]} ..."
