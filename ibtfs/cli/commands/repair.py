"""``ibtfs repair``."""

from __future__ import annotations

import os

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.damage import RepairChoices, repaired
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.words import RepositoryPlace

EXAMPLES = """
    ibtfs repair /media/disk/backups --from /media/other/backups
    ibtfs repair --dry-run /media/disk/backups --from /mnt/copy
"""


@click.command("repair", cls=Command, examples=EXAMPLES)
@repository_argument
@option("--from", "other", metavar="OTHER", type=RepositoryPlace(), required=True, section="How",
        help="The repository to take from; nothing is written there.")  # fmt: skip
@option("--dry-run", is_flag=True, section="How",
        help="Only say what would be healed.")  # fmt: skip
@option("--wait", metavar="SECONDS", type=click.FloatRange(min=0), default=600.0, section="How",
        show_default=True, help="Wait so long for backups that are at work.")  # fmt: skip
@line_options
@quiet_option
@json_option
def command(
    *, repository: bytes, other: bytes, dry_run: bool, wait: float, line: Line, quiet: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Take what is damaged from a copy of the repository.

    OTHER is a copy, made by rsync or cp, of whatever age: damaged and missing files, parts of them,
    and manifests are taken from it where they verify. Or it is any other repository that has some
    of the same contents, known by their digests. All is read, here and there. The exit code is 0 if
    no damage is left, 3 if something was healed and something is lost, 1 if nothing was healed.
    """
    from ibtfs.store.storage.address import is_remote

    one, two = (p if is_remote(p) else os.path.realpath(p) for p in (repository, other))
    if one == two:
        raise click.UsageError("OTHER is the repository itself")
    place, other_place = line.places(repository, other)
    choices = RepairChoices(line, dry_run, wait, line.open_at(other_place, may_be_unsealed=True))
    return repaired(place, choices, quiet=quiet, as_json=as_json)
