"""What ``ibtfs backup`` tells at its end: for people, and as JSON."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ibtfs.cli.output import (
    complain,
    counted,
    emit_json,
    human_seconds,
    human_size,
    json_bytes,
    printable,
    say,
    shown,
)
from ibtfs.cli.points import json_point
from ibtfs.cli.progress import json_problems

if TYPE_CHECKING:
    from ibtfs.actions.backup.run import BackupResult
    from ibtfs.errors import IbtfsError
    from ibtfs.store.repository import Repository

COUNTS = (
    "files", "folders", "bytes", "new", "changed", "unchanged", "gone", "moved", "excluded",
    "mounts_left_out", "bytes_read", "bytes_stored",
)  # fmt: skip


def print_result(repo: Repository, source: bytes, result: BackupResult, *, quiet: bool) -> None:
    """Print what became of one source; with *quiet* only that something was missed."""
    counts = result.tally.counts
    if not quiet:
        where = _title(repo, source, result)
        always = ("new", "changed", "unchanged", "gone")
        shown_kinds = [*always, "moved"] if counts["moved"] else always
        kinds = ", ".join(f"{counts[k]:,} {k}" for k in shown_kinds)
        say(where)
        say(f"  {kinds}; {counted(counts['files'], 'file')} in "
            f"{counted(counts['folders'], 'folder')}, {human_size(counts['bytes'])}")  # fmt: skip
        _print_left_out(counts["excluded"], counts["mounts_left_out"])
        say(f"  {_amounts(result)}, in {human_seconds(result.seconds)}")
        _print_next(repo, result)
    if result.tally.problems:
        complain(
            f"{shown(source)}: {counted(counts['problems'], 'problem')}, see above; what could not "
            "be read stays as in the last backup, if it was in that"
        )


def _title(repo: Repository, source: bytes, result: BackupResult) -> str:
    if result.point is None:
        return f"{shown(source)}: would be backed up (dry run, nothing was stored)"
    about = json_point(repo, result.point)
    kind = "full" if result.full else "incremental"
    return f"{printable(about['source'])}: backup point {about['name']} ({kind})"


def _amounts(result: BackupResult) -> str:
    read, stored = (human_size(result.tally.counts[k]) for k in ("bytes_read", "bytes_stored"))
    if result.point is None:
        return f"would read {read}, and would store what is new in that"
    return f"{read} read, {stored} stored"


def _print_left_out(excluded: int, mounts: int) -> None:
    parts = [f"{excluded:,} excluded"] if excluded else []
    parts += [counted(mounts, "file system") + " not entered"] if mounts else []
    if parts:
        say(f"  {', '.join(parts)}")


def _print_next(repo: Repository, result: BackupResult) -> None:
    if result.point is not None:
        about = json_point(repo, result.point)
        words = [os.fsdecode(repo.path), f"{about['source']}/{about['name']}"]
        say(f"  look at it: ibtfs ls {' '.join(shlex.quote(printable(word)) for word in words)}")


def emit_results(
    repo: Repository,
    results: Iterable[tuple[bytes, BackupResult, list[str]]],
    failures: list[tuple[bytes, IbtfsError]],
    exit_code: int,
    *,
    created: bool,
) -> None:
    """Print the JSON object of a whole run."""
    rows = [_row(repo, *item) for item in results]
    answer: dict[str, Any] = {"points": rows, "created": created}
    if failures:
        answer["error"] = "; ".join(str(error) for _, error in failures)
        answer["errors"] = [
            {**json_bytes(source), "message": str(error), "exit_code": error.exit_code}
            for source, error in failures
        ]
    emit_json({**answer, "exit_code": exit_code})


def _row(repo: Repository, source: bytes, result: BackupResult, notes: list[str]) -> dict[str, Any]:
    point, tally = result.point, result.tally
    about = json_point(repo, point) if point else {"id": None, "name": None, "source": None}
    return {
        **about,
        **json_bytes(source),
        "full": result.full,
        **{key: tally.counts[key] for key in COUNTS},
        "seconds": round(result.seconds, 3),
        "problem_count": tally.counts["problems"],
        "problems": json_problems(tally.problems),
        "notes": notes,
    }
