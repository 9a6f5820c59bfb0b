"""Real mounts, served by processes in the background."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ibtfs.fuse import MountOptions, serve
from ibtfs.fuse import process as background
from ibtfs.store.repository import Repository
from ibtfs.view.tree import RepositoryView
from ibtfs.view.upkeep import Upkeep
from tests.support.fake_view import build
from tests.support.repositories import reopened


@contextmanager
def mounted(
    repository: Repository, mountpoint: Path, options: MountOptions | None = None
) -> Iterator[Path]:
    """*repository* mounted on *mountpoint* (made if missing) by a process in the background."""
    mountpoint.mkdir(exist_ok=True)
    path, place = repository.path, os.fsencode(mountpoint)
    started = mountpoint.with_name(mountpoint.name + ".pid")

    def run(on_ready: Callable[[], None]) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        started.write_text(str(os.getpid()))
        view = RepositoryView(reopened(repository))
        with Upkeep(view.repository):
            serve(view, place, options=options or MountOptions(), on_ready=on_ready)

    background.check_mountpoint(place, path)
    # who is interrupted while it begins would leave it behind
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        background.run_in_background(run)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        raise
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        yield mountpoint
    finally:
        subprocess.run(["umount", str(mountpoint)], check=False) if os.geteuid() == 0 else None
        if mountpoint.is_mount():
            background.unmount(place, lazy=True)
        _wait_for_end(int(started.read_text()), seconds=60)


def _wait_for_end(process: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]
        except FileNotFoundError:
            return
        if state == "Z":  # ended; that init did not look yet is not our matter
            return
        time.sleep(0.01)
    raise AssertionError("The server of a mount goes on after it was unmounted")


BINDINGS = ["fuse3", "fuse2"]


class Mounted:
    """A mount in the background, its server's process id and its log."""

    def __init__(self, place: Path, options: MountOptions) -> None:
        self.control = place / "control"
        self.path = place / "mnt"
        if not self.control.exists():
            self.control.mkdir()
            self.path.mkdir()
        self.point = self.path / "point"
        self.log = place / "log"
        self._pid = place / "pid"
        background.check_mountpoint(bytes(self.path), bytes(place / "repo"))
        background.run_in_background(self._serve(options))
        self.pid = int(self._pid.read_text())

    def _serve(self, options: MountOptions) -> background.Serve:
        def run(on_ready: Callable[[], None]) -> None:
            handler = logging.FileHandler(self.log)
            logging.basicConfig(handlers=[handler], force=True, format="%(message)s")
            self._pid.write_text(str(os.getpid()))
            view = build(self.control)
            serve(view, bytes(self.path), options=options, on_ready=on_ready)

        return run

    def is_mounted(self) -> bool:
        return os.fsencode(f" {self.path} ") in Path("/proc/self/mountinfo").read_bytes()

    def wait_for_end(self) -> None:
        _wait_for_end(self.pid, seconds=60)

    def clean_up(self) -> None:
        while self.is_mounted():
            subprocess.run(["umount", "-l", str(self.path)], check=True)
        try:
            self.wait_for_end()
        except AssertionError:
            os.kill(self.pid, signal.SIGKILL)
            raise


Mounting = Callable[[MountOptions], Mounted]


def run(*command: object) -> subprocess.CompletedProcess[str]:
    words = [c if isinstance(c, bytes) else str(c) for c in command]
    return subprocess.run(
        words,
        capture_output=True,
        encoding="latin-1",
        check=False,
        timeout=240,
    )
