"""``ibtfs check``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.exit_codes import FAILURE, INCOMPLETE
from ibtfs.cli.output import (
    complain,
    counted,
    emit_json,
    human_seconds,
    human_size,
    json_bytes,
    say,
    shown,
)
from ibtfs.cli.progress import Reporter

if TYPE_CHECKING:
    from ibtfs.actions.check import CheckResult
    from ibtfs.actions.damages import Damage

EXAMPLES = """
    ibtfs check /media/disk/backups
    ibtfs check --read-data /media/disk/backups      # reads and verifies every byte
"""
PATHS_SHOWN = 5


class _CheckReporter(Reporter):
    """Says nothing of damage on the way: it is listed at the end, with all that it hit."""

    def problem(self, path: bytes, message: str) -> None:
        """Wait for the list."""


@click.command("check", cls=Command, examples=EXAMPLES)
@repository_argument
@option("--read-data", is_flag=True, section="Depth",
        help="Also read all contents and compare their digests.")  # fmt: skip
@quiet_option
@json_option
def command(*, repository: bytes, read_data: bool, quiet: bool, as_json: bool) -> int:
    """Check a repository for damage.

    Every backup point, folder listing and record is read. Damage is listed with the points and
    paths that it hit; the next backup stores those files anew, where they still exist. Backup
    points that others tell of and that are not there were removed, or are lost: they are named, and
    the exit code is 3. Archives of no point are those of a run that was cut off, or is at work, or
    of such points. Where the repository can be written a prune waits for a check to end; elsewhere
    what others remove meanwhile is not taken for damage.
    """
    from ibtfs.actions.check import check
    from ibtfs.store.repository import Repository

    began = time.monotonic()
    repo = Repository.open(repository)
    with _CheckReporter(quiet=quiet, verbose=False, as_json=as_json) as reporter:
        result = check(repo, read_data=read_data, observer=reporter)
    code = FAILURE if result.damages else INCOMPLETE if result.missing else 0
    if as_json:
        emit_json(_result(result, code))
        return code
    for damage in result.damages:
        _tell(damage)
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


def _tell(damage: Damage) -> None:
    message = damage.message
    complain(message if damage.object in message else f"{damage.object}: {message}")
    if damage.points:
        complain(f"  points: {', '.join(damage.points)}")
    for path in damage.paths[:PATHS_SHOWN]:
        complain(f"  path: {shown(path)}")
    more = len(damage.paths) - PATHS_SHOWN
    if more > 0:
        complain(f"  and {counted(more, 'more path')}")


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


def _result(result: CheckResult, code: int) -> dict[str, Any]:
    damages = [
        {
            "object": damage.object,
            "message": damage.message,
            "points": damage.points,
            "paths": [json_bytes(path) for path in damage.paths],
        }
        for damage in result.damages
    ]
    error = {"error": f"{counted(len(damages), 'damage')} found"} if damages else {}
    found = {"damages": damages, "missing": list(result.missing), "counts": dict(result.counts)}
    return {**error, **found, "exit_code": code}
