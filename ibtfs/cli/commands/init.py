"""``ibtfs init``."""

from __future__ import annotations

import os

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.line import Line, network_options
from ibtfs.cli.output import emit_json, json_bytes, say, shown

EXAMPLES = """
    ibtfs init /media/disk/backups
    ibtfs init --shared /srv/backups        # for all members of the folder's group
    ibtfs init --compression 9 /media/disk/backups
"""
REPOSITORY = "Repository"


@click.command("init", cls=Command, examples=EXAMPLES)
@repository_argument
@option(
    "--shared",
    is_flag=True,
    section=REPOSITORY,
    help="Let the members of its group read and write it, not only its owner.",
)
@option(
    "--compression",
    "level",
    type=click.IntRange(1, 19),
    default=1,
    show_default=True,
    section=REPOSITORY,
    metavar="LEVEL",
    help="How hard to compress, from 1 (fast) to 19 (small), by zstandard's levels.",
)
@network_options
@quiet_option
@json_option
def command(
    *, repository: bytes, shared: bool, level: int, line: Line, quiet: bool, as_json: bool
) -> int:
    """Make a new, empty repository.

    REPO is a folder that does not exist or is empty; its parent must exist. It may lie on another
    machine: sftp://USER@HOST/PATH, or ssh:// if ibtfs is there. `ibtfs backup` makes a repository
    at first use, so this is needed only for the options.
    """
    from ibtfs.store.repository import Repository

    made = Repository.create(line.place(repository), os.urandom(16), shared=shared, level=level)
    if as_json:
        emit_json({**json_bytes(made.path, "repository"), "id": made.id.hex(), "exit_code": 0})
    elif not quiet:
        say(f"Made the repository {shown(made.path)}")
    return 0
