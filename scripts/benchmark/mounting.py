"""Mounts of repositories: made, found again by their processes, and taken away whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmark.measure import Failure
from benchmark.tools import SOURCE, Tool

LONGEST = 120.0  # seconds until a mount is there


@dataclass(frozen=True)
class Mount:
    """A mount of the repository of *tool*, ready after *seconds*; its processes."""

    tool: Tool
    path: Path
    seconds: float
    processes: tuple[int, ...]

    def points(self) -> list[Path]:
        """Return the folders of all backups of a source, the oldest first."""
        top = {"restic": self.path / "snapshots", "borg": self.path}.get(
            self.tool.name, self.path / SOURCE
        )
        return [top / name for name in sorted(os.listdir(top), key=_by_number)
                if name != "latest" and not name.startswith(".")]  # fmt: skip

    def inside(self, point: Path, source: Path) -> Path:
        """Return where the source lies in the folder of a backup."""
        if self.tool.name == "restic":
            return point / source.relative_to("/")
        return point / source.name if self.tool.name == "borg" else point

    def peak_bytes(self) -> int:
        """Return the most memory that one of its processes ever had (VmHWM)."""
        return max(map(_peak, self.processes), default=0)


class Mounts:
    """Mounts at *path*, one at a time. To be used by one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def mounted(self, tool: Tool, options: Sequence[str] = ()) -> Iterator[Mount]:
        """Mount the repository of *tool*; it is gone, processes and all, at the end.

        Raises Failure if it does not get ready.
        """
        self.path.mkdir(exist_ok=True)
        log = tool.place / "mount.log"
        start = time.monotonic()
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*_words(tool), *options, *_where(tool, self.path)], env=tool.environment(),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait(process, log)
            seconds = time.monotonic() - start
            yield Mount(tool, self.path, seconds, _processes(self.path))
        finally:
            self._end(process)

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> None:
        """Return when it is mounted and shows something."""
        end = time.monotonic() + LONGEST
        while not _is_mounted(self.path):
            if process.poll() not in (None, 0) or time.monotonic() > end:
                said = log.read_text(errors="replace").strip()[-500:]
                raise Failure(f"{process.args!r} did not mount: {said}")
            time.sleep(0.002)
        listing = subprocess.run(["ls", self.path], capture_output=True, timeout=60, check=False)
        if listing.returncode != 0 or not listing.stdout:
            raise Failure(f"{process.args!r} shows nothing: {listing.stderr!r}")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        left = _processes(self.path)
        if _is_mounted(self.path):
            take_away = ["fusermount3", "-u", "-z", str(self.path)]
            subprocess.run(take_away, capture_output=True, timeout=60, check=False)
        end = time.monotonic() + 10
        while time.monotonic() < end and any(map(is_alive, left)):
            time.sleep(0.02)
        for number in left:
            if is_alive(number):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)


def _words(tool: Tool) -> list[str]:
    program = str(tool.program)
    return [program, "fuse", "--meta"] if tool.name == "bup" else [program, "mount"]


def _where(tool: Tool, path: Path) -> list[str]:
    """Return the repository, for tools that do not have it from the environment, and the folder."""
    named = {"ibtfs": [tool.address], "borg": ["::"]}
    return [*named.get(tool.name, []), str(path)]


def _is_mounted(path: Path) -> bool:
    # without asking the mount itself, which may hang
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(path) for line in lines)


def _processes(path: Path) -> tuple[int, ...]:
    """Return the processes that have the folder of the mount among their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if os.fsencode(path) in (folder / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return tuple(found)


def is_alive(process: int) -> bool:
    """Tell whether the process runs; one that has ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _peak(process: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _by_number(name: str) -> tuple[int, str]:
    """Sort point-2 before point-10, and dates as they are."""
    return (len(name), name) if name.startswith("point-") else (0, name)
