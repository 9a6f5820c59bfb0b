"""``ibtfs mount``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.output import counted, emit_json, json_bytes, say, shown
from ibtfs.cli.words import LocalPath

EXAMPLES = """
    ibtfs mount /media/disk/backups /mnt/backups
    ls /mnt/backups/documents/                 (every backup point, and latest)
    cp -a /mnt/backups/documents/latest/letter.txt .
    ibtfs umount /mnt/backups
"""
MOUNT = "Mount"


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
@option("--binding", type=click.Choice(["auto", "fuse3", "fuse2"]), default="auto", hidden=True)
@quiet_option
@json_option
def command(
    *, repository: bytes, mountpoint: bytes, foreground: bool, allow_other: bool, nonempty: bool,
    no_xattrs: bool, binding: Literal["auto", "fuse3", "fuse2"], quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Show all backup points as ordinary, read-only folders.

    MOUNTPOINT/SOURCE/POINT/ is each source as it was then, and SOURCE/latest the newest. Files are
    rebuilt as they are read; new backup points appear by themselves. Returns when the mount is
    ready, which goes on in the background until `ibtfs umount`.
    """
    from ibtfs.mount import background
    from ibtfs.mount.fuse import MountOptions, serve
    from ibtfs.mount.tree import RepositoryView
    from ibtfs.store.repository import Repository

    repo = Repository.open(repository)
    background.check_mountpoint(mountpoint, repository, nonempty=nonempty)
    options = MountOptions(
        allow_other=allow_other, xattrs=not no_xattrs, nonempty=nonempty, binding=binding
    )
    points = len(repo.point_ids())

    def announce() -> None:
        if as_json:
            emit_json({**json_bytes(mountpoint, "mountpoint"), "points": points, "exit_code": 0})
        elif not quiet:
            say(_ready(mountpoint, points, foreground=foreground))
            sys.stdout.flush()

    def work(on_ready: Callable[[], None]) -> None:
        serve(RepositoryView(repo), mountpoint, options=options, on_ready=on_ready)

    if foreground:
        work(announce)
    else:
        background.run_in_background(work)
        announce()
    return 0


def _ready(mountpoint: bytes, points: int, *, foreground: bool) -> str:
    end = "Ctrl-C ends it" if foreground else f"ibtfs umount {shown(mountpoint)} ends it"
    return f"Mounted on {shown(mountpoint)}: {counted(points, 'backup point')}; {end}"
