"""``ibtfs mount``."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import click

from ibtfs.cli.cache_folder import cache_folder
from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.mount_choices import choices, view_options
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
MOUNT = "Mount"
CACHE_BYTES = 32 << 20
"""Of frames and listings; the kernel keeps what it read besides."""


@click.command("mount", cls=Command, examples=EXAMPLES)
@repository_argument
@click.argument("mountpoint", type=LocalPath())
@option("-f", "--foreground", is_flag=True, section=MOUNT,
        help="Do not go into the background; Ctrl-C unmounts.")  # fmt: skip
@option("--allow-other", is_flag=True, section=MOUNT,
        help="Let other users in, each as far as owners, modes and ACLs allow.")  # fmt: skip
@option("--nonempty", is_flag=True, section=MOUNT,
        help="Mount over a folder that holds something.")  # fmt: skip
@option("--no-xattrs", is_flag=True, section=MOUNT,
        help="Leave out extended attributes: ls -l and cp -a are faster.")  # fmt: skip
@option("--noexec", is_flag=True, section=MOUNT,
        help="Programs in it cannot be run.")  # fmt: skip
@option("--log-file", metavar="FILE", type=LocalPath(), section=MOUNT,
        help="Where a mount in the background tells of damage; else the system's log.")  # fmt: skip
@choices
@option("--binding", type=click.Choice(["auto", "fuse3", "fuse2"]), default="auto", hidden=True)
@quiet_option
@json_option
def command(
    *, repository: bytes, mountpoint: bytes, foreground: bool, allow_other: bool, nonempty: bool,
    no_xattrs: bool, noexec: bool, log_file: bytes | None, sources: Sequence[str],
    newer: str | None, older: str | None, point_format: str, utc: bool, uid: int | None,
    gid: int | None, umask: int | None, symlinks: str,
    binding: Literal["auto", "fuse3", "fuse2"], quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Show all backup points as ordinary, read-only folders.

    MOUNTPOINT/SOURCE/POINT/ is each source as it was then, and SOURCE/latest the newest. Files are
    rebuilt as they are read; new backup points appear by themselves. Returns when the mount is
    ready, which goes on in the background until `ibtfs umount`.
    """
    from ibtfs.fuse import MountOptions, serve
    from ibtfs.fuse import process as background
    from ibtfs.store.repository import Repository
    from ibtfs.view.tree import RepositoryView

    copies = cache_folder(make=False)
    repo = Repository.open(repository, cache_bytes=CACHE_BYTES, cache_folder=copies)
    shown_as = view_options(
        repo, sources=sources, newer=newer, older=older, point_format=point_format, utc=utc,
        uid=uid, gid=gid, umask=umask, symlinks=symlinks,
    )  # fmt: skip
    background.check_mountpoint(mountpoint, repository, nonempty=nonempty)
    options = MountOptions(
        allow_other=allow_other, fsname=os.fsdecode(repository), xattrs=not no_xattrs,
        nonempty=nonempty, noexec=noexec, binding=binding,
    )  # fmt: skip
    view = RepositoryView(repo, shown_as)
    announce = _Announcement(view, mountpoint, foreground, quiet, as_json)

    def work(on_ready: Callable[[], None]) -> None:
        gc.freeze()  # what is there now stays, and need not be looked at again and again
        serve(view, mountpoint, options=options, on_ready=on_ready)

    if foreground:
        work(announce)
    else:
        background.run_in_background(logging_work(work, log_file))
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
