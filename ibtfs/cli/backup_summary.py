"""What ``ibtfs backup`` tells at its end: for people, and as JSON."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

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
from ibtfs.cli.progress import json_problems

if TYPE_CHECKING:
    from ibtfs.actions.backup.run import BackupResult
    from ibtfs.errors import IbtfsError
    from ibtfs.store.repository import Repository

COUNTS = (
    "files", "folders", "bytes", "new", "changed", "unchanged", "gone", "moved", "excluded",
    "mounts_left_out", "bytes_read", "bytes_stored",
)  # fmt: skip


NO_POINT: Mapping[str, Any] = {"id": None, "name": None, "source": None}


class SourceDone(NamedTuple):
    """What became of one source; *about* identifies its point, as NO_POINT does where none is."""

    source: bytes
    result: BackupResult
    about: Mapping[str, Any]
    notes: list[str]


def print_done(repo: Repository, done: SourceDone, *, quiet: bool) -> None:
    """Print what became of one source; with *quiet* only that something was missed."""
    result, counts = done.result, done.result.tally.counts
    if not quiet:
        always = ("new", "changed", "unchanged", "gone")
        shown_kinds = [*always, "moved"] if counts["moved"] else always
        kinds = ", ".join(f"{counts[k]:,} {k}" for k in shown_kinds)
        say(_title(done))
        say(f"  {kinds}; {counted(counts['files'], 'file')} in "
            f"{counted(counts['folders'], 'folder')}, {human_size(counts['bytes'])}")  # fmt: skip
        _print_left_out(counts["excluded"], counts["mounts_left_out"])
        say(f"  {_amounts(result)}, in {human_seconds(result.seconds)}")
        _print_next(repo, done)
    if result.tally.problems:
        complain(
            f"{shown(done.source)}: {counted(counts['problems'], 'problem')}, see above; what "
            "could not be read stays as in the last backup, if it was in that"
        )


def _title(done: SourceDone) -> str:
    if done.result.point is None:
        return f"{shown(done.source)}: would be backed up (dry run, nothing was stored)"
    kind = "full" if done.result.full else "incremental"
    return f"{printable(done.about['source'])}: backup point {done.about['name']} ({kind})"


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


def _print_next(repo: Repository, done: SourceDone) -> None:
    if done.result.point is not None and repo.own is None:  # who cannot look at it
        point = f"{done.about['source']}/{done.about['name']}"
        words = [os.fsdecode(repo.path), point]
        say(f"  look at it: ibtfs ls {' '.join(shlex.quote(printable(word)) for word in words)}")


def emit_outcome(
    all_done: Iterable[SourceDone],
    failures: list[tuple[bytes, IbtfsError]],
    exit_code: int,
    *,
    created: bool,
    damaged: Mapping[str, IbtfsError],
) -> None:
    """Print the JSON object of a whole run; *damaged* are points that could not be read."""
    answer: dict[str, Any] = {"points": [_row(done) for done in all_done], "created": created}
    if damaged:
        answer["damaged"] = [{"id": name, "message": str(why)} for name, why in damaged.items()]
    if failures:
        answer["error"] = "; ".join(str(error) for _, error in failures)
        answer["errors"] = [
            {**json_bytes(source), "message": str(error), "exit_code": error.exit_code}
            for source, error in failures
        ]
    emit_json({**answer, "exit_code": exit_code})


def _row(done: SourceDone) -> dict[str, Any]:
    tally = done.result.tally
    return {
        **done.about,
        **json_bytes(done.source),
        "full": done.result.full,
        **{key: tally.counts[key] for key in COUNTS},
        "seconds": round(done.result.seconds, 3),
        "problem_count": tally.counts["problems"],
        "problems": json_problems(tally.problems),
        "notes": done.notes,
    }
