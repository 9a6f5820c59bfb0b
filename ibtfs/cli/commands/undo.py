"""``ibtfs undo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ibtfs.cli.command import (
    Command,
    json_option,
    option,
    options_of,
    quiet_option,
    repository_argument,
)
from ibtfs.cli.forget_choices import Removing
from ibtfs.cli.forget_space import Space
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import say
from ibtfs.cli.removal import RemovalReport
from ibtfs.cli.words import Name

if TYPE_CHECKING:
    from ibtfs.actions.forget.run import Forgotten

EXAMPLES = """
    ibtfs undo /media/disk/backups
    ibtfs undo --source documents --dry-run /media/disk/backups
"""


@click.command("undo", cls=Command, examples=EXAMPLES)
@repository_argument
@option("--source", metavar="NAME", type=Name(), section="Which backup",
        help="The source whose last backup is taken back, where there are several.")  # fmt: skip
@options_of(Removing, "removing", section="How")
@line_options
@quiet_option
@json_option
def command(
    *, repository: bytes, source: str | None, removing: Removing, line: Line, quiet: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Take back the last backup of a source: its newest point is removed, and told.

    The point before it is the last one then. The next backup stores only what changed since that
    one, and finds again what the removed point had stored, as long as it is not pruned.
    """
    from datetime import datetime

    from ibtfs.actions.forget.run import Way, undo

    way = Way(removing.allow_none, removing.dry_run)
    repo = line.open(repository)
    forgotten = undo(repo, source or "", datetime.now(), way)
    report = RemovalReport(forgotten, dry_run=removing.dry_run)
    space = Space(repo, report, removing, quiet=quiet, as_json=as_json)
    before = _before(forgotten)
    if as_json:
        latest = {"latest": report.about(before) if before else None}
        report.emit({**latest, **space.json()}, space.exit_code)
    else:
        report.tell(quiet=quiet, verb="Would take back" if removing.dry_run else "Took back")
        if before and report.removed and not quiet:
            verb = "would be" if removing.dry_run else "is"
            say(f"  the last {verb} {report.title(before)}")
        space.tell()
    return report.exit_code or space.exit_code


def _before(forgotten: Forgotten) -> str:
    """The id of the point that was there before the one that was to go; empty if there is none."""
    (gone,) = forgotten.gone
    points = forgotten.points.points
    source = next(point.source.identity for point in points if point.id == gone)
    mine = [p.id for p in points if p.source.identity == source and p.id != gone]
    return mine[-1] if mine else ""
