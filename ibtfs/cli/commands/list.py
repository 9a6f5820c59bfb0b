"""``ibtfs list``."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from ibtfs.cli.command import Command, json_option, option, repository_argument
from ibtfs.cli.exit_codes import FAILURE
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.output import (
    counted,
    cut,
    emit_json,
    fitting,
    human_age,
    human_size,
    json_bytes,
    json_time,
    printable,
    say,
    screen_width,
    shown,
    table,
)
from ibtfs.cli.points import tell_damaged
from ibtfs.cli.words import Tag

if TYPE_CHECKING:
    from ibtfs.format.point import Point
    from ibtfs.store.points import PointList
    from ibtfs.store.repository import Repository

EXAMPLES = """
    ibtfs list /media/disk/backups
    ibtfs list --tag before-upgrade /media/disk/backups
    ibtfs list --json /media/disk/backups | jq -r '.points[-1].id'
"""
HEADER = ("POINT", "AGE", "FILES", "SIZE", "STORED", "KIND", "ID", "TAGS", "COMMENT")
RIGHT = frozenset({1, 2, 3, 4})
DISPENSABLE = (6, 2, 4, 5, 8, 7, 3, 1)
"""Columns that are left out on a narrow terminal, in this order; the name of the point stays."""


@click.command("list", cls=Command, examples=EXAMPLES)
@repository_argument
@option("--tag", "tags", type=Tag(), multiple=True, metavar="TAG", section="Which points",
        help="Only points that have TAG; given several times, any of them.")  # fmt: skip
@line_options
@json_option
def command(*, repository: bytes, tags: tuple[str, ...], line: Line, as_json: bool) -> int:
    """List the backup points of a repository, source by source, oldest first.

    Where several machines have points, the sources of each stand together, below its name. SIZE is
    that of the files as they were, STORED what the backup added to the repository. POINT can be
    given to other commands, and so can the first characters of ID, and AGE. On a narrow terminal
    the columns are shown that fit.
    """
    from ibtfs.store.naming import displayed_names

    repo = line.open(repository)
    points = repo.points.all()
    names = displayed_names(points.points)  # of all: a name does not depend on what is listed
    if tags:
        ids = frozenset[str]().union(*map(repo.points.tagged, tags))
        points = points._replace(points=[point for point in points.points if point.id in ids])
    if as_json:
        emit_json(_result(repo, points, names))
    else:
        tell_damaged(points.damaged)
        _print(repo, points, names)
    return FAILURE if points.damaged else 0


def _result(repo: Repository, points: PointList, names: dict[str, str]) -> dict[str, Any]:
    ordered = sorted(points.points, key=lambda point: point.order)
    result: dict[str, Any] = {"points": [_row(repo, p, names[p.id]) for p in ordered]}
    if points.damaged:
        damaged = [{"id": name, "message": str(error)} for name, error in points.damaged.items()]
        result["damaged"] = damaged
        result["error"] = "; ".join(item["message"] for item in damaged)
    return {**result, "exit_code": FAILURE if points.damaged else 0}


def _row(repo: Repository, point: Point, name: str) -> dict[str, Any]:
    counts = point.statistics
    return {
        "id": point.id,
        "name": name,
        "source": point.display,
        "host": point.source.host,
        **json_bytes(point.source.path),
        "time": json_time(point.time_ns),
        "sequence": point.sequence,
        "epoch": point.epoch,
        "full": point.full,
        "files": counts.get("files", 0),
        "folders": counts.get("folders", 0),
        "bytes": counts.get("bytes", 0),
        "bytes_stored": counts.get("bytes_stored", 0),
        "problems": counts.get("problems", 0),
        "tags": repo.points.tags(point.id),
        "comment": point.comment,
    }


def _print(repo: Repository, points: PointList, names: dict[str, str]) -> None:
    from ibtfs.store.naming import by_source

    sources, width = by_source(points.points), screen_width()
    if not sources and not repo.points.ids():
        say(f"No backup points yet; make one: ibtfs backup SOURCE {shown(repo.path)}")
    hosts = Counter(point.source.host for point in points.points)
    before = None
    for host, display in sorted((mine[-1].source.host, name) for name, mine in sources.items()):
        mine = sources[display]
        origin = mine[-1].source
        if before is not None:
            say()
        if len(hosts) > 1 and host != before:
            say(cut(f"Host {printable(host)}: {counted(hosts[host], 'point')}", width))
            say()
        before = host
        title = f"{printable(display)}  ({printable(origin.host)}:{shown(origin.path)})"
        say(cut(title, width))
        rows = [HEADER, *(_line(repo, point, names[point.id]) for point in mine)]
        kept = fitting(rows, width, DISPENSABLE)
        header, *lines = [[row[column] for column in kept] for row in rows]
        right = frozenset(place for place, column in enumerate(kept) if column in RIGHT)
        for line in table(header, lines, right).splitlines():
            say(cut(line, width))


def _line(repo: Repository, point: Point, name: str) -> tuple[str, ...]:
    counts = point.statistics
    age = human_age(time.time() - point.time_ns / 1e9)
    files = f"{counts.get('files', 0):,}"
    size, stored = (human_size(counts.get(key, 0)) for key in ("bytes", "bytes_stored"))
    tags = printable(", ".join(repo.points.tags(point.id)))
    kind = "full" if point.full else "incr"
    kind += f" {counts['problems']:,}!" if counts.get("problems") else ""
    return (name, age, files, size, stored, kind, point.id, tags, printable(point.comment))
