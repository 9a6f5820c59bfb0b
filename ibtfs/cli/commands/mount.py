"""``ibtfs mount``."""

from __future__ import annotations

import gc
import mmap
import sys
from collections.abc import Callable

import click

from ibtfs.cli.cache_folder import cache_folder
from ibtfs.cli.command import (
    Command,
    json_option,
    options_of,
    quiet_option,
    repository_argument,
)
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.mount_choices import Choices, Mounting
from ibtfs.cli.mount_log import logging_work
from ibtfs.cli.output import counted, emit_json, json_bytes, say, shown
from ibtfs.cli.words import LocalPath

EXAMPLES = """
    ibtfs mount /media/disk/backups /mnt/backups
    ls /mnt/backups/documents/                 # every backup point, and latest
    cp -a /mnt/backups/documents/latest/letter.txt .
    ibtfs mount --source photos --newer 30d /media/disk/backups /mnt/backups
    ibtfs umount /mnt/backups
"""
CACHE_BYTES = 32 << 20
"""Of frames and listings; the kernel keeps what it read besides."""


@click.command("mount", cls=Command, examples=EXAMPLES)
@repository_argument
@click.argument("mountpoint", type=LocalPath())
@options_of(Mounting, "mounting", section="Mount")
@options_of(Choices, "choices", section="What is shown")
@line_options
@quiet_option
@json_option
def command(
    *, repository: bytes, mountpoint: bytes, mounting: Mounting, choices: Choices, line: Line,
    quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Show all backup points as ordinary, read-only folders.

    MOUNTPOINT/SOURCE/POINT/ is each source as it was then, and SOURCE/latest the newest. Files are
    rebuilt as they are read; new backup points appear by themselves. Returns when the mount is
    ready, which goes on in the background until `ibtfs umount`.
    """
    from ibtfs.fuse import process
    from ibtfs.store.storage.opening import is_bound_to_process

    announce = _Announcement(mountpoint, mounting.foreground, quiet, as_json)

    def opened() -> _Mount:
        return _Mount(repository, mountpoint, mounting, choices, line)

    if mounting.foreground:
        mount = opened()
        mount.serve(lambda: announce(mount.points))
    elif is_bound_to_process(repository):
        if line.keys.is_asking:
            line.open(repository)  # where there is somebody who can be asked
        points = mmap.mmap(-1, 8)  # also seen here
        process.run_in_background(logging_work(_opening(opened, points), mounting.log_file))
        announce(int.from_bytes(points[:], "big"))
    else:
        mount = opened()
        process.run_in_background(logging_work(mount.serve, mounting.log_file))
        announce(mount.points)
    return 0


def _opening(
    opened: Callable[[], _Mount], points: mmap.mmap
) -> Callable[[Callable[[], None]], None]:
    """What opens a mount and serves it, all in one process; the number of *points* is told."""

    def work(on_ready: Callable[[], None]) -> None:
        mount = opened()
        points[:] = mount.points.to_bytes(8, "big")
        mount.serve(on_ready)

    return work


class _Mount:
    """A repository, opened to be mounted; *points* is how many backup points are seen."""

    def __init__(
        self, repository: bytes, mountpoint: bytes, mounting: Mounting, choices: Choices, line: Line
    ) -> None:
        from ibtfs.fuse import process
        from ibtfs.store.storage.address import is_remote
        from ibtfs.view.tree import RepositoryView

        copies = cache_folder(make=is_remote(repository))
        repo = line.open(repository, cache_bytes=CACHE_BYTES, cache_folder=copies)
        view_options = choices.view_options(repo)._replace(for_others=mounting.allow_other)
        process.check_mountpoint(mountpoint, repo.local_path, nonempty=mounting.nonempty)
        self._options = mounting.mount_options(repo.path)
        self._repository, self._mountpoint = repo, mountpoint
        repo.only_look()
        repo.look_around()
        repo.look_ahead()
        self._view = RepositoryView(repo, view_options)
        # counted before: the mounted tree is another process's by then
        self.points = sum(len(timeline.points) for timeline in self._view.sources().values())
        if is_remote(repository):
            repo.points.remember()
        repo.rest()

    def serve(self, on_ready: Callable[[], None]) -> None:
        """Mount it, and serve it until it is unmounted."""
        from ibtfs.fuse import serve
        from ibtfs.view.upkeep import Upkeep

        gc.freeze()  # what is there now stays, and need not be looked at again and again
        # by a connection of this process, before anybody waits for it
        self._repository.require_there()
        with Upkeep(self._repository):
            serve(self._view, self._mountpoint, options=self._options, on_ready=on_ready)


class _Announcement:
    """Tells, when it is called with the number of its points, that the mount is ready."""

    def __init__(self, mountpoint: bytes, foreground: bool, quiet: bool, as_json: bool) -> None:
        self._mountpoint, self._foreground = mountpoint, foreground
        self._quiet, self._as_json = quiet, as_json

    def __call__(self, points: int) -> None:
        if self._as_json:
            place = json_bytes(self._mountpoint, "mountpoint")
            emit_json({**place, "points": points, "exit_code": 0})
        elif not self._quiet:
            say(_ready(self._mountpoint, points, foreground=self._foreground))
            sys.stdout.flush()


def _ready(mountpoint: bytes, points: int, *, foreground: bool) -> str:
    end = "Ctrl-C ends it" if foreground else f"ibtfs umount {shown(mountpoint)} ends it"
    return f"Mounted on {shown(mountpoint)}: {counted(points, 'backup point')}; {end}"
