"""``ibtfs init``."""

from __future__ import annotations

import os
from contextlib import ExitStack

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import emit_json, json_bytes, printable, say, shown
from ibtfs.cli.secrets import new_secret_file
from ibtfs.cli.watching import accept_unsealed, require_unsealed, watch_over
from ibtfs.cli.words import Hosts, LocalPath
from ibtfs.errors import UsageError

EXAMPLES = """
    ibtfs init /media/disk/backups
    ibtfs init --seal sftp://me@example.org/backups
    ibtfs init --writers laptop,desk --to ~/keys ssh://me@example.org/srv/backups
    ibtfs init --shared /srv/backups        # for all members of the folder's group
    ibtfs init --compression 9 /media/disk/backups
"""
REPOSITORY, WRITERS = "Repository", "Machines that only write"
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
@option(
    "--writers",
    "hosts",
    type=Hosts(),
    multiple=True,
    section=WRITERS,
    metavar="HOST[,HOST...]",
    help="Seal it, and let these machines back up to it and read nothing: each needs the file "
    "HOST.key that is made for it, and no other key.",
)
@option(
    "--to",
    "folder",
    type=LocalPath(),
    section=WRITERS,
    metavar="FOLDER",
    help="Where these files are made; by default in the working directory.",
)
@line_options
@quiet_option
@json_option
def command(
    *, repository: bytes, shared: bool, level: int, seal: bool | None,
    hosts: tuple[tuple[str, ...], ...], folder: bytes | None, line: Line, quiet: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Make a new, empty repository.

    REPO is a folder that does not exist or is empty; its parent must exist. It may lie on another
    machine: sftp://USER@HOST/PATH, or ssh:// if ibtfs is there. `ibtfs backup` makes a repository
    at first use, so this is needed only for the options.
    """
    from ibtfs.store.repository import Repository
    from ibtfs.store.storage.opening import storage_at

    files = _files(sum(hosts, ()), folder, seal=seal)
    place = storage_at(line.place(repository))
    place.check_new()
    if files:
        seal = True
    elif seal is None and line.keys.is_asking and not (quiet or as_json):
        seal = click.confirm(ASKED, default=True, err=True)
    with ExitStack() as until_made:
        give = {host: until_made.enter_context(new_secret_file(files[host])) for host in files}
        sealer = line.keys.sealer(place.root, seal=seal, let_in=give)
        if sealer is None and seal is None:
            require_unsealed(place.root)
        made = Repository.create(place, os.urandom(16), shared=shared, level=level, sealer=sealer)
    if seal is False:
        accept_unsealed(place.root)
    watch_over(made)
    if as_json:
        writers = [{"host": host, **json_bytes(files[host], "file")} for host in files]
        emit_json({**json_bytes(made.path, "repository"), "id": made.id.hex(),
                   "sealed": made.config.is_sealed, "writers": writers, "exit_code": 0,
                   })  # fmt: skip
    elif not quiet:
        kind = "sealed" if made.config.is_sealed else "unsealed"
        say(f"Made the {kind} repository {shown(made.path)}")
        for host, path in files.items():
            say(f"{printable(host)} makes backups of the host {printable(host)} with {shown(path)}")
    return 0


def _files(hosts: tuple[str, ...], folder: bytes | None, *, seal: bool | None) -> dict[str, bytes]:
    """The file of each machine that is to write.  Raises UsageError."""
    if not hosts:
        if folder is not None:
            raise UsageError("--to is for the files of --writers")
        return {}
    if seal is False:
        raise UsageError("--writers is for a repository that is sealed, and --no-seal says no")
    if len(set(hosts)) < len(hosts):
        raise UsageError("--writers names a host twice")
    from ibtfs.actions.keys.run import checked_host, checked_label

    for host in hosts:
        checked_host(host)
        checked_label(host)
    place = folder or os.getcwdb()
    return {host: os.path.join(place, os.fsencode(host) + b".key") for host in hosts}
