"""``ibtfs check``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.damage import DamageReporter, RepairChoices, json_damages, repaired, tell_damage
from ibtfs.cli.exit_codes import FAILURE, INCOMPLETE
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import (
    complain,
    counted,
    emit_json,
    human_seconds,
    human_size,
    say,
)

if TYPE_CHECKING:
    from ibtfs.actions.check import CheckResult

EXAMPLES = """
    ibtfs check /media/disk/backups
    ibtfs check --read-data /media/disk/backups      # reads and verifies every byte
    ibtfs check --repair /media/disk/backups         # ... and heals what it can
"""


@click.command("check", cls=Command, examples=EXAMPLES)
@repository_argument
@option("--read-data", is_flag=True, section="Depth",
        help="Also read all contents and compare their digests.")  # fmt: skip
@option("--repair", is_flag=True, section="Repair",
        help="Read all contents, and heal what can be healed.")  # fmt: skip
@option("--dry-run", is_flag=True, section="Repair",
        help="With --repair: only say what would be healed.")  # fmt: skip
@line_options
@quiet_option
@json_option
def command(
    *, repository: bytes, read_data: bool, repair: bool, dry_run: bool, line: Line, quiet: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Check a repository for damage.

    Every backup point, folder listing and record is read. Damage is listed with the points and
    paths that it hit; the next backup stores those files anew, where they still exist. Backup
    points that others tell of and that are not there were removed, or are lost: they are named, and
    the exit code is 3. Archives of no point are those of a run that was cut off, or is at work, or
    of such points. Where the repository can be written a prune waits for a check to end; elsewhere
    what others remove meanwhile is not taken for damage.

    With --repair, damage is healed by the parity that ibtfs protect added; what was appended to a
    file is cut off; and contents that files of the source still are, on this machine, are put back
    with all that they share with other versions. The exit code is 0 if nothing is left of it, 3 if
    something was healed and something is lost, 1 if nothing could be healed.
    """
    if dry_run and not repair:
        raise click.UsageError("--dry-run goes with --repair")
    place = line.place(repository)
    if repair:
        return repaired(place, RepairChoices(line, dry_run), quiet=quiet, as_json=as_json)
    from ibtfs.actions.check import check

    began = time.monotonic()
    repo = line.open_at(place)
    with DamageReporter(quiet=quiet, verbose=False, as_json=as_json) as reporter:
        result = check(repo, read_data=read_data, observer=reporter)
    code = FAILURE if result.damages else INCOMPLETE if result.missing else 0
    if as_json:
        emit_json(json_damages(result, code))
        return code
    for damage in result.damages:
        tell_damage(damage)
    for message in result.missing:
        complain(message)
    if result.damages:
        complain(f"{counted(len(result.damages), 'damage')} found; ibtfs backup stores anew what "
                 "it finds changed or damaged, all else still restores")  # fmt: skip
    elif result.missing:
        complain(_clean(result, time.monotonic() - began, read_data=read_data))
    elif not quiet:
        say(_clean(result, time.monotonic() - began, read_data=read_data))
    return code


def _clean(result: CheckResult, seconds: float, *, read_data: bool) -> str:
    counts = result.counts
    parts = [
        counted(counts["points"], "point"),
        counted(counts["archives"], "archive"),
        counted(counts["states"], "folder listing"),
        counted(counts["contents"], "content"),
    ]
    depth = f"{human_size(counts['bytes'])} read" if read_data else "--read-data reads those, too"
    where = " in what is there" if result.missing else ""
    if counts["unneeded_archives"]:
        parts[1] += f" ({counts['unneeded_archives']:,} of no point)"
    return f"No damage{where}: {', '.join(parts)} ({depth}), in {human_seconds(seconds)}"
