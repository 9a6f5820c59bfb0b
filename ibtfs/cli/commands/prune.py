"""``ibtfs prune``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.exit_codes import DONE, INCOMPLETE
from ibtfs.cli.output import complain, counted, emit_json, human_seconds, human_size, say
from ibtfs.cli.progress import Reporter
from ibtfs.cli.words import Size

if TYPE_CHECKING:
    from ibtfs.actions.prune.run import PruneResult

EXAMPLES = """
    ibtfs prune /media/disk/backups
    ibtfs prune --dry-run /media/disk/backups
    ibtfs prune --max-rewrite 2G /media/disk/backups
"""
SHOWN = 5


@click.command("prune", cls=Command, examples=EXAMPLES)
@repository_argument
@option("--dry-run", is_flag=True, section="How",
        help="Only say what would be freed.")  # fmt: skip
@option("--max-rewrite", metavar="SIZE", type=Size(), section="How",
        help="Write at most so much, such as 500M or 2G: what frees most by it.")  # fmt: skip
@option("--wait", metavar="SECONDS", type=click.FloatRange(min=0), default=600.0, section="How",
        show_default=True, help="Wait so long for backups that are at work.")  # fmt: skip
@quiet_option
@json_option
def command(
    *, repository: bytes, dry_run: bool, max_rewrite: int | None, wait: float, quiet: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Free the space of what no backup point needs.

    What removed points alone needed goes: archives, parts of them, and what was kept only because
    later versions of a file were built on it; these are then built on what stays. Backups may run
    meanwhile, but for a moment that is waited for. It may be stopped at any time, and goes on where
    it was when it is run again. On a full disk it frees what it can before it writes.
    """
    from ibtfs.actions.prune.run import PruneOptions, prune
    from ibtfs.store.repository import Repository

    began = time.monotonic()
    repo = Repository.open(repository)
    options = PruneOptions(dry_run=dry_run, max_rewrite=max_rewrite, wait=wait)
    with Reporter(quiet=quiet, verbose=False, as_json=as_json) as reporter:
        result = prune(repo, options, reporter)
    problems = [*result.failed, *result.damages]
    code = INCOMPLETE if problems else DONE
    if as_json:
        emit_json(_json(result, code))
        return code
    for message in problems[:SHOWN]:
        complain(message)
    if len(problems) > SHOWN:
        complain(f"and {counted(len(problems) - SHOWN, 'more problem')}")
    if result.damages:
        complain("What is damaged may need anything, so all that hangs on it was kept: run "
                 "ibtfs check to see what it hit")  # fmt: skip
    if not quiet:
        say(_summary(result, time.monotonic() - began, dry_run=dry_run))
    return code


def _summary(result: PruneResult, seconds: float, *, dry_run: bool) -> str:
    freed, size = human_size(max(result.freed, 0)), human_size(result.size)
    done = [counted(result.removed, "archive") + " removed"]
    done.append(f"{result.rewritten} written anew")
    if result.rebuilt:
        done.append(f"{counted(result.rebuilt, 'content')} rebuilt on what stays")
    if result.young:
        done.append(f"{result.young} kept for a backup that was cut off")
    what = ", ".join(done)
    if dry_run:
        room = f"; {human_size(result.room)} of free space needed meanwhile" if result.room else ""
        return f"Would free {freed} of {size}: {what}{room}"
    return f"Freed {freed} of {size}: {what}, in {human_seconds(seconds)}"


def _json(result: PruneResult, code: int) -> dict[str, Any]:
    problems = [*result.failed, *result.damages]
    error = {"error": problems[0]} if problems else {}
    return {**error, **asdict(result), "exit_code": code}
