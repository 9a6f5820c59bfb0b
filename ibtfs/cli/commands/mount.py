"""``ibtfs mount``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from ibtfs.cli.cache_folder import cache_folder
from ibtfs.cli.command import (
    Command,
    json_option,
    options_of,
    quiet_option,
    repository_argument,
)
from ibtfs.cli.mount_choices import Choices, Mounting
from ibtfs.cli.mount_log import logging_work
from ibtfs.cli.output import counted, emit_json, json_bytes, say, shown
from ibtfs.cli.words import LocalPath

if TYPE_CHECKING:
    from ibtfs.view.tree import RepositoryView

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
@quiet_option
@json_option
def command(
    *, repository: bytes, mountpoint: bytes, mounting: Mounting, choices: Choices, quiet: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Show all backup points as ordinary, read-only folders.

    MOUNTPOINT/SOURCE/POINT/ is each source as it was then, and SOURCE/latest the newest. Files are
    rebuilt as they are read; new backup points appear by themselves. Returns when the mount is
    ready, which goes on in the background until `ibtfs umount`.
    """
    from ibtfs.fuse import process, serve
    from ibtfs.store.repository import Repository
    from ibtfs.view.tree import RepositoryView
    from ibtfs.view.upkeep import Upkeep

    copies = cache_folder(make=False)
    repo = Repository.open(repository, cache_bytes=CACHE_BYTES, cache_folder=copies)
    view_options = choices.view_options(repo)._replace(for_others=mounting.allow_other)
    process.check_mountpoint(mountpoint, repo.local_path, nonempty=mounting.nonempty)
    mount_options = mounting.mount_options(repository)
    view = RepositoryView(repo, view_options)
    announce = _Announcement(view, mountpoint, mounting.foreground, quiet, as_json)

    def work(on_ready: Callable[[], None]) -> None:
        gc.freeze()  # what is there now stays, and need not be looked at again and again
        repo.require_there()  # by a connection of this process, before anybody waits for it
        with Upkeep(repo):
            serve(view, mountpoint, options=mount_options, on_ready=on_ready)

    if mounting.foreground:
        work(announce)
    else:
        process.run_in_background(logging_work(work, mounting.log_file))
        announce()
    return 0


class _Announcement:
    """Tells, when it is called, that the mount is ready."""

    def __init__(
        self, view: RepositoryView, mountpoint: bytes, foreground: bool, quiet: bool, as_json: bool
    ) -> None:
        # counted before: the mounted tree is another process's by then
        self._points = sum(len(timeline.points) for timeline in view.sources().values())
        self._mountpoint, self._foreground = mountpoint, foreground
        self._quiet, self._as_json = quiet, as_json

    def __call__(self) -> None:
        if self._as_json:
            place = json_bytes(self._mountpoint, "mountpoint")
            emit_json({**place, "points": self._points, "exit_code": 0})
        elif not self._quiet:
            say(_ready(self._mountpoint, self._points, foreground=self._foreground))
            sys.stdout.flush()


def _ready(mountpoint: bytes, points: int, *, foreground: bool) -> str:
    end = "Ctrl-C ends it" if foreground else f"ibtfs umount {shown(mountpoint)} ends it"
    return f"Mounted on {shown(mountpoint)}: {counted(points, 'backup point')}; {end}"
