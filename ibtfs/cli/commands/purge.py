"""``ibtfs purge``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.cache_folder import cache_folder
from ibtfs.cli.command import Command, json_option, option, quiet_option, repository_argument
from ibtfs.cli.exit_codes import DONE, INCOMPLETE
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import (
    complain,
    counted,
    emit_json,
    human_size,
    json_bytes,
    printable,
    say,
    shown,
    table,
)
from ibtfs.cli.progress import Reporter

if TYPE_CHECKING:
    from ibtfs.actions.purge.run import Found, PurgeResult
    from ibtfs.store.repository import Repository

EXAMPLES = """
    ibtfs purge --dry-run /media/disk/backups passwords.txt
    ibtfs purge --yes /media/disk/backups /home/ann/documents/passwords.txt
    ibtfs purge --yes --wait 60 /media/disk/backups '*.pem' /keys/
"""
ELSEWHERE = (
    "What is out of reach: the caches of other users and machines, which keep copies of indexes "
    "until their next run, mounts that are open, copies of the repository, snapshots of its file "
    "system, and what a disk keeps of deleted blocks, an SSD above all. If the file is still in "
    "the source, exclude it, or the next backup stores it again."
)
SHOWN = 40


@click.command("purge", cls=Command, examples=EXAMPLES)
@repository_argument
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True)
@option("--dry-run", is_flag=True, section="How",
        help="Only say what would go.")  # fmt: skip
@option("--yes", is_flag=True, section="How",
        help="Do not ask; needed where there is no terminal to ask at.")  # fmt: skip
@option("--wait", metavar="SECONDS", type=click.FloatRange(min=0), default=600.0, section="How",
        show_default=True, help="Wait so long for backups that are at work.")  # fmt: skip
@line_options
@quiet_option
@json_option
def command(
    *, repository: bytes, patterns: tuple[str, ...], dry_run: bool, yes: bool, wait: float,
    line: Line, quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Take files or folders out of all backup points, and every byte of them off the disk.

    PATTERN is as for `ibtfs backup --exclude`, or the absolute path of what was backed up. All
    other paths of all points stay as they are; points that had the path get another id. It cannot
    be undone. Nothing is done if another path has the very same bytes. It may be stopped at any
    time: when it is run again, it ends what it began.
    """
    from ibtfs.actions.purge.run import PurgeOptions, look, purge

    words = [os.fsencode(pattern) for pattern in patterns]
    repo = line.open(repository)
    if dry_run or not yes:
        found = look(repo, words)
        if dry_run:
            _tell_found(repo, found, quiet=quiet, as_json=as_json)
            return DONE
        if as_json or not sys.stdin.isatty():
            raise click.UsageError("Nobody can be asked: say --yes, after a look by --dry-run")
        _tell_found(repo, found, quiet=False, as_json=False)
        click.confirm("Take this away? It cannot be undone.", abort=True)
    options = PurgeOptions(cache=cache_folder(make=False), wait=wait)
    with Reporter(quiet=quiet, verbose=False, as_json=as_json) as reporter:
        result = purge(repo, words, options, reporter)
    problems = [*result.prune.failed, *result.prune.damages, *result.left]
    code = INCOMPLETE if problems else DONE
    if as_json:
        emit_json(_json_done(repo, result, problems, code))
        return code
    for message in problems:
        complain(message)
    if problems:
        complain("Some of it may be left in the repository: mend what is named, and run it again")
    if not quiet:
        _tell_done(result)
    return code


def _tell_found(repo: Repository, found: Found, *, quiet: bool, as_json: bool) -> None:
    """What would go: points, paths, sizes."""
    if as_json:
        emit_json({"dry_run": True, **_json_found(repo, found), "exit_code": DONE})
        return
    if quiet:
        return
    if not found.paths:
        say("No backup point has such a path. What no point needs would be removed")
        return
    from ibtfs.store.naming import displayed_names

    names = displayed_names(found.all)
    for point in found.points:
        say(f"To be written anew: {printable(point.display)}/{names[point.id]} ({point.id})")
    for point in found.go:
        say(f"To be removed: {printable(point.display)}/{names[point.id]} ({point.id})")
    say()
    rows = [
        (
            shown(purged.path) + ("/" if purged.is_folder else ""),
            printable(source),
            f"{len(purged.points):,}",
            f"{len(purged.contents):,}" if purged.contents else "",
            human_size(purged.size) if purged.contents else "",
        )
        for (source, _), purged in sorted(found.paths.items())
    ]
    say(table(("PATH", "SOURCE", "POINTS", "VERSIONS", "SIZE"), rows[:SHOWN], frozenset({2, 3, 4})))
    if len(rows) > SHOWN:
        say(f"and {counted(len(rows) - SHOWN, 'more path')}")
    say()
    say(ELSEWHERE)


def _tell_done(result: PurgeResult) -> None:
    found = result.found
    if not found.paths:
        say("No backup point has such a path")
    else:
        say(
            f"Took {counted(len(found.paths), 'path')} out of "
            f"{counted(len(found.points) + len(found.go), 'backup point')}"
            + (f", of which {len(found.go):,} had nothing else and are gone" if found.go else "")
        )
    for what, names in (("tag", result.untagged), ("comment", result.uncommented)):
        if names:
            say(f"Removed {counted(len(names), what)} that spoke of it")
    say(f"Freed {human_size(max(result.prune.freed, 0))}")
    say(ELSEWHERE)


def _json_found(repo: Repository, found: Found) -> dict[str, Any]:
    from ibtfs.store.naming import displayed_names

    names = displayed_names(found.all)
    points = [
        {"id": point.id, "name": names[point.id], "source": point.display, "removed": removed}
        for kind, removed in ((found.points, False), (found.go, True))
        for point in kind
    ]
    paths = [
        {
            **json_bytes(purged.path), "source": source, "points": purged.points,
            "versions": len(purged.contents), "size": purged.size,
        }
        for (source, _), purged in sorted(found.paths.items())
    ]  # fmt: skip
    return {**json_bytes(repo.path, "repository"), "points": points, "paths": paths}


def _json_done(
    repo: Repository, result: PurgeResult, problems: Sequence[str], code: int
) -> dict[str, Any]:
    return {
        "dry_run": False, **_json_found(repo, result.found), "replaced": result.replaced,
        "untagged": result.untagged, "uncommented": result.uncommented,
        "problems": list(problems), "prune": asdict(result.prune), "exit_code": code,
    }  # fmt: skip
