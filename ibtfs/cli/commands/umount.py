"""``ibtfs umount``."""

from __future__ import annotations

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option
from ibtfs.cli.output import emit_json, json_bytes, say, shown
from ibtfs.cli.words import LocalPath

EXAMPLES = """
    ibtfs umount /mnt/backups
    ibtfs umount --lazy /mnt/backups     # when a program still uses it
"""


@click.command("umount", cls=Command, examples=EXAMPLES)
@click.argument("mountpoint", type=LocalPath())
@option(
    "--lazy",
    is_flag=True,
    section="Mount",
    help="Take it away at once, even if it is in use; it ends when nobody uses it any more.",
)
@quiet_option
@json_option
def command(*, mountpoint: bytes, lazy: bool, quiet: bool, as_json: bool) -> int:
    """Take a mounted repository away."""
    from ibtfs.fuse import process

    process.unmount(mountpoint, lazy=lazy)
    if as_json:
        emit_json({**json_bytes(mountpoint, "mountpoint"), "exit_code": 0})
    elif not quiet:
        say(f"Unmounted {shown(mountpoint)}")
    return 0
