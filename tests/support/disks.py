"""Small disks: real file systems in images, which are filled, fail, go away and come back."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_SHUT_DOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
_NO_FLUSH = 2
PATIENCE = 20


class Disk:
    """An ext4 file system of *size* bytes on a loop device, mounted on *path*; needs root."""

    def __init__(self, place: Path, size: int) -> None:
        assert os.geteuid() == 0, "only root can mount a disk: run the suite as root"
        self.path, self._image = place / "disk", place / "image"
        self.path.mkdir()
        with open(self._image, "wb") as file:
            file.truncate(size)
        # all that is there is for everybody, and nothing is written by the kernel on its own
        options = ["-E", "lazy_itable_init=0,lazy_journal_init=0", "-m", "0"]
        subprocess.run(["mke2fs", "-q", "-t", "ext4", *options, self._image], check=True)
        self.plug_in()

    def plug_in(self) -> None:
        """Mount it, mended first as a machine that starts does."""
        check = subprocess.run(["e2fsck", "-p", self._image], capture_output=True, check=False)
        assert check.returncode in (0, 1), check.stdout
        # a new device each time: the old one lasts as long as anybody has something open there
        found = subprocess.run(["losetup", "--find", "--show", self._image],
                               capture_output=True, text=True, check=True)  # fmt: skip
        device = found.stdout.strip()
        try:
            mount = ["mount", "-o", "errors=remount-ro", device, self.path]
            subprocess.run(mount, check=True)
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)  # with its last user
        self._device = os.path.basename(device)

    def die(self) -> None:
        """All that is asked of it fails from now on, and what was not synced is lost."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUT_DOWN, struct.pack("I", _NO_FLUSH))
        finally:
            os.close(descriptor)

    def turn_read_only(self) -> None:
        """The kernel met an error in its structure, and lets nobody write any more."""
        Path(f"/sys/fs/ext4/{self._device}/trigger_fs_error").write_text("a trial")

    def vanish(self) -> None:
        """It is pulled: nothing answers any more, and its folder is one of the disk below."""
        self.die()
        self.unmount()

    def unmount(self) -> None:
        """Take it away; who has something open goes on with that."""
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def come_back(self) -> None:
        """As it was, after it failed: whoever still has that one open writes nothing any more."""
        if self.path.is_mount():
            self.unmount()
        self.plug_in()

    def free(self) -> int:
        """Bytes that are free."""
        return free_bytes(self.path)

    def remove(self) -> None:
        """For good."""
        if self.path.is_mount():
            self.unmount()


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Disk]:
    """A disk of *size* bytes below *place*, removed in the end."""
    disk = Disk(place, size)
    try:
        yield disk
    finally:
        disk.remove()


def free_bytes(path: Path) -> int:
    """What the file system of *path* has free."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def fill(filler: Path, room: int) -> None:
    """Leave *room* bytes on the disk of the file *filler*, which takes the rest."""
    with open(filler, "wb") as file:
        size = max(0, free_bytes(filler.parent) - room)
        try:
            os.posix_fallocate(file.fileno(), 0, size) if size else None
        except OSError:
            file.truncate(0)
            _fill_by_writing(file.fileno())
    for _ in range(8):  # what describes it took some room as well
        short = room - free_bytes(filler.parent)
        if short <= 0:
            return
        with open(filler, "r+b") as file:
            file.truncate(max(0, file.seek(0, 2) - short))


def _fill_by_writing(descriptor: int) -> None:
    for size in (1 << 20, 4096, 512):
        try:
            while True:
                os.write(descriptor, bytes(size))
        except OSError:
            continue


class Halted:
    """A command that stands still at the *number*-th call of a kind, until it is let go on."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: dict[str, str], call: str, number: int
    ) -> None:
        words = ["strace", "-f", "-o", str(log), "-e", f"trace={call}", "-e",
                 f"inject={call}:signal=STOP:when={number}", *command]  # fmt: skip
        self._log = log
        self._process = subprocess.Popen(
            words, env=environment, cwd=log.parent, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not self._stopped():
            assert self._process.poll() is None, "it came to its end"
            assert time.monotonic() < until, "it did not come so far"
            time.sleep(0.01)

    def _stopped(self) -> int:
        """The process that stands still."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return next((int(line.split()[0]) for line in lines if "stopped by SIGSTOP" in line), 0)

    def go_on(self) -> tuple[int, str]:
        """Let it come to its end: its exit code, and what it complained."""
        os.kill(self._stopped(), 18)
        _, said = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, said.decode(errors="replace")
