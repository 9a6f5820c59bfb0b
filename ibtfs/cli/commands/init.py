"""``ibtfs init``."""

from __future__ import annotations

import os

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import emit_json, json_bytes, say, shown
from ibtfs.cli.watching import accept_unsealed, require_unsealed, watch_over

EXAMPLES = """
    ibtfs init /media/disk/backups
    ibtfs init --seal sftp://me@example.org/backups
    ibtfs init --shared /srv/backups        # for all members of the folder's group
    ibtfs init --compression 9 /media/disk/backups
"""
REPOSITORY = "Repository"
ASKED = "Seal it, so that nobody can read it without a passphrase?"


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
@option(
    "--seal/--no-seal",
    default=None,
    section=REPOSITORY,
    help="Whether nothing in it can be read without a passphrase or a key file.",
)
@line_options
@quiet_option
@json_option
def command(
    *, repository: bytes, shared: bool, level: int, seal: bool | None, line: Line, quiet: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Make a new, empty repository.

    REPO is a folder that does not exist or is empty; its parent must exist. It may lie on another
    machine: sftp://USER@HOST/PATH, or ssh:// if ibtfs is there. `ibtfs backup` makes a repository
    at first use, so this is needed only for the options.
    """
    from ibtfs.store.repository import Repository
    from ibtfs.store.storage.opening import storage_at

    place = storage_at(line.place(repository))
    place.check_new()
    if seal is None and line.keys.is_asking and not (quiet or as_json):
        seal = click.confirm(ASKED, default=True, err=True)
    sealer = line.keys.sealer(place.root, seal=seal)
    if sealer is None and seal is None:
        require_unsealed(place.root)
    made = Repository.create(place, os.urandom(16), shared=shared, level=level, sealer=sealer)
    if seal is False:
        accept_unsealed(place.root)
    watch_over(made)
    if as_json:
        emit_json({**json_bytes(made.path, "repository"), "id": made.id.hex(),
                   "sealed": made.config.is_sealed, "exit_code": 0})  # fmt: skip
    elif not quiet:
        kind = "sealed" if made.config.is_sealed else "unsealed"
        say(f"Made the {kind} repository {shown(made.path)}")
    return 0
