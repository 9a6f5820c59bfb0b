"""``ibtfs versions``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import Command, json_option, option, repository_argument
from ibtfs.cli.exit_codes import FAILURE, INCOMPLETE
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import (
    complain,
    counted,
    emit_json,
    human_size,
    json_bytes,
    json_time,
    local_time,
    say,
    table,
)
from ibtfs.cli.points import tell_damaged
from ibtfs.cli.words import StoredPath
from ibtfs.errors import AmbiguousSource, EntryNotFound, PointNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibtfs.format.point import Point
    from ibtfs.store.trees.history import History, Version

EXAMPLES = """
    ibtfs versions /media/disk/backups letters/draft.txt
    ibtfs versions /media/disk/backups /home/me/documents/letters/draft.txt
    ibtfs versions --source photos /media/disk/backups holiday/index.html
"""
HEADER = ("VERSION", "MODIFIED", "SIZE", "POINTS", "CHANGED")
RIGHT = frozenset({2, 3})


@click.command("versions", cls=Command, examples=EXAMPLES)
@repository_argument
@click.argument("path", type=StoredPath())
@option("--source", metavar="SOURCE", help="The source, where there are several.")
@line_options
@json_option
def command(
    *, repository: bytes, path: bytes, source: str | None, line: Line, as_json: bool
) -> int:
    """List the distinct versions of a file or folder, oldest first.

    PATH is relative to the source, or the absolute path that it had; it may be gone by now.
    VERSION is the backup point that had it first: give it to cat or restore. POINTS is in how many
    points it lives, CHANGED what differs from the version before. A folder has another version
    when anything in it changed. The exit code is 1 where damage hid a version, 3 where a point
    that cannot be read may have had one.
    """
    from ibtfs.store.contents.reader import Contents
    from ibtfs.store.naming import displayed_names
    from ibtfs.store.trees.history import History

    repo = line.open(repository)
    found = repo.points.all()
    damaged = [str(error) for error in found.damaged.values()]
    if not as_json:
        tell_damaged(found.damaged)
    display, points, inside = _chosen(found.points, path, source)
    history = History(repo, Contents(repo), points)
    versions = history.versions(inside, directories=True)
    if not versions:
        raise EntryNotFound(f"No backup point of {display!r} has {os.fsdecode(inside)!r}")
    names = displayed_names(points)
    gone = _gone_since(history, inside, versions)
    exit_code = INCOMPLETE if damaged else 0
    exit_code = FAILURE if any(version.error for version in versions) else exit_code
    if as_json:
        rows = [_row(history, version, names) for version in versions]
        result: dict[str, Any] = {"source": display, **json_bytes(inside), "versions": rows}
        result["gone_since"] = names[gone.id] if gone else None
        result["problems"] = [{"message": message} for message in damaged]
        if exit_code == FAILURE:
            result["error"] = "; ".join(str(v.error) for v in versions if v.error)
        emit_json({**result, "exit_code": exit_code})
    else:
        _print(history, versions, names, gone)
    return exit_code


def _chosen(
    every: Sequence[Point], path: bytes, wanted: str | None
) -> tuple[str, Sequence[Point], bytes]:
    """The source that is meant, its points, and the path inside.

    Raises AmbiguousSource, PointNotFound, EntryNotFound, UsageError.
    """
    from ibtfs.store.naming import by_source, of_source, relative_path

    sources = by_source(every)
    if not sources:
        raise PointNotFound("The repository holds no backup points yet")
    if wanted is not None:
        sources = {wanted: of_source(every, wanted)}
    fitting: dict[str, bytes] = {}
    failed: EntryNotFound | None = None
    for name in sources:
        try:
            fitting[name] = relative_path(sources[name][-1], path)
        except EntryNotFound as error:
            failed = error
    if not fitting:
        raise failed or EntryNotFound(f"No such path: {os.fsdecode(path)!r}")
    if len(fitting) > 1:
        names = ", ".join(sorted(fitting))
        raise AmbiguousSource(f"Several sources: say which one with --source: {names}")
    ((name, inside),) = fitting.items()
    return name, sources[name], inside


def _gone_since(history: History, path: bytes, versions: Sequence[Version]) -> Point | None:
    """The point in which the path was gone for good; None if it is in the newest."""
    last = max(version.last.order for version in versions)
    return next((point for point in history.points if point.order > last), None)


def _what(history: History, version: Version) -> tuple[str, ...]:
    from ibtfs.store.trees.compare import same_state

    entry, old = version.entry, version.old
    if entry is None or old is None:
        return ()
    if version.error is not None:
        return ("not known",)
    what = history.comparison.what_differs(old, entry)
    if entry.state and old.state and not same_state(old.state, entry.state):
        return ("contents", *what)
    return what


def _print(
    history: History, versions: Sequence[Version], names: Mapping[str, str], gone: Point | None
) -> None:
    rows = []
    for version in versions:
        name, entry, points = names[version.first.id], version.entry, f"{version.points:,}"
        if entry is None:
            complain(f"{name}: {version.error}")
            rows.append((name, "", "", points, "cannot be read"))
            continue
        if version.error is not None:
            complain(f"{name}: {version.error}")
        what = ", ".join(_what(history, version)) or "new"
        size = "folder" if entry.state else human_size(entry.size)
        rows.append((name, local_time(entry.mtime_ns), size, points, what))
    say(table(HEADER, rows, RIGHT))
    if gone is not None:
        say(f"Gone since {names[gone.id]}")
    elif len(versions) > 1:
        say(f"{counted(len(versions), 'version')}, in the newest point, too")


def _row(history: History, version: Version, names: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": names[version.first.id],
        "id": version.first.id,
        "time": json_time(version.first.time_ns),
        "last": names[version.last.id],
        "points": version.points,
    }
    entry = version.entry
    if entry is None:
        return {**row, "error": str(version.error)}
    if version.error is not None:
        row["error"] = str(version.error)
    return {
        **row,
        "folder": entry.state is not None,
        "mode": f"{entry.mode & 0o7777:04o}",
        "size": entry.size,
        "mtime": json_time(entry.mtime_ns),
        "mtime_ns": entry.mtime_ns,
        "changed": list(_what(history, version)),
    }
