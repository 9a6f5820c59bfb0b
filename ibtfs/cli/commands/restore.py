"""``ibtfs restore``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from ibtfs.cli.command import Command, option, output_options, repository_argument
from ibtfs.cli.exit_codes import INCOMPLETE
from ibtfs.cli.line import Line, line_options
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
from ibtfs.cli.points import PATH_HELP, POINT_HELP, chosen_point, json_point
from ibtfs.cli.progress import Reporter, json_problems
from ibtfs.cli.words import LocalPath, StoredPath

if TYPE_CHECKING:
    from ibtfs.actions.observer import Tally
    from ibtfs.actions.restore.run import RestoreOptions

EXAMPLES = """
    ibtfs restore /media/disk/backups latest ~/restored
    ibtfs restore /media/disk/backups documents/3d letters/draft.txt photos ~/rescued
    ibtfs restore --overwrite if-changed --delete /media/disk/backups yesterday ~/documents
"""
HELP = f"""Restore a backup point, or parts of it, to a folder.

DEST, made if missing, becomes the source as it was, with all metadata. With PATHs, each lands in
DEST under its base name. Every digest is checked; nothing is overwritten unless --overwrite says
how.

{POINT_HELP}

{PATH_HELP}"""
EXISTING, CHOICE = "Existing files", "What is restored"


@click.command("restore", cls=Command, examples=EXAMPLES, help=HELP)
@repository_argument
@click.argument("words", metavar="POINT")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=StoredPath())
@click.argument("destination", metavar="DEST", type=LocalPath())
@option("--overwrite", type=click.Choice(["always", "if-changed", "never"]), section=EXISTING,
        help="Overwrite files that exist: always; where size or time differ; never (they stay, "
        "what is missing is restored).")  # fmt: skip
@option("--delete", is_flag=True, section=EXISTING,
        help="Delete what the backup point does not have from folders restored over.")  # fmt: skip
@option("--include", multiple=True, metavar="PATTERN", section=CHOICE,
        help="Restore only what matches, by git's rules. Can be repeated.")  # fmt: skip
@option("--exclude", multiple=True, metavar="PATTERN", section=CHOICE,
        help="Leave out what matches, by git's rules. Can be repeated.")  # fmt: skip
@option("--numeric-ids", is_flag=True, section=CHOICE,
        help="Set owners, and whom ACLs name, by number; by default by name where the name "
        "exists here.")  # fmt: skip
@option("-n", "--dry-run", is_flag=True, section=CHOICE,
        help="Only say what would be done.")  # fmt: skip
@line_options
@output_options
def command(
    *, repository: bytes, words: str, paths: tuple[bytes, ...], destination: bytes,
    overwrite: str | None, delete: bool, include: tuple[str, ...], exclude: tuple[str, ...],
    numeric_ids: bool, dry_run: bool, line: Line, quiet: bool, verbose: bool, as_json: bool,
) -> int:  # fmt: skip
    """Restore a backup point, or parts of it, to a folder."""
    from ibtfs.actions.restore.run import Overwrite, RestoreOptions, restore
    from ibtfs.format.patterns import Patterns
    from ibtfs.store.naming import relative_path

    began = time.monotonic()
    options = RestoreOptions(
        overwrite=overwrite or Overwrite.REFUSE,
        delete=delete,
        include=Patterns.from_lines(include) if include else None,
        exclude=Patterns.from_lines(exclude) if exclude else None,
        dry_run=dry_run,
        numeric_ids=numeric_ids,
    )
    repo = line.open(repository)
    _refuse_overlap(repository, destination, delete=delete)
    point = chosen_point(repo, words)
    inside = [relative_path(point, path) for path in paths]
    total = 0 if inside or include or exclude else point.statistics.get("files", 0)
    with Reporter(quiet=quiet, verbose=verbose, as_json=as_json, total=total) as reporter:
        tally = restore(repo, point, inside, destination, options, reporter)
    code = INCOMPLETE if tally.problems else 0
    if as_json:
        emit_json({
            "point": json_point(repo, point), **json_bytes(destination, "destination"),
            **_counts(tally), "dry_run": dry_run, "problems": json_problems(tally.problems),
            "notes": reporter.notes, "exit_code": code,
        })  # fmt: skip
    else:
        _summary(tally, destination, options, time.monotonic() - began, quiet=quiet)
    return code


def _refuse_overlap(repository: bytes, destination: bytes, *, delete: bool) -> None:
    """A restore must neither write into a repository nor delete one."""
    real, store = os.path.realpath(destination), os.path.realpath(repository)
    if _is_inside(real, store):
        raise click.UsageError("DEST lies inside the repository: name another folder")
    if delete and _is_inside(store, real):
        raise click.UsageError("--delete would delete the repository, which lies inside DEST")


def _is_inside(path: bytes, folder: bytes) -> bool:
    return os.path.commonpath((path, folder)) == folder


def _counts(tally: Tally) -> dict[str, int]:
    keys = ("files", "folders", "bytes", "skipped", "deleted", "excluded")
    return {key: tally.counts[key] for key in keys}


def _summary(
    tally: Tally, destination: bytes, options: RestoreOptions, seconds: float, *, quiet: bool
) -> None:
    counts = tally.counts
    if not quiet:
        done = "Would restore" if options.dry_run else "Restored"
        parts = [counted(counts["files"], "file"), counted(counts["folders"], "folder")]
        say(f"{done} {', '.join(parts)}, {human_size(counts['bytes'])} to {shown(destination)} "
            f"in {human_seconds(seconds)}")  # fmt: skip
        others = [f"{counts[key]:,} {key}" for key in ("skipped", "deleted", "excluded")
                  if counts[key]]  # fmt: skip
        if others:
            say(f"  {', '.join(others)}")
    if tally.problems:
        complain(f"{counted(counts['problems'], 'problem')}: see above, the rest is restored")
