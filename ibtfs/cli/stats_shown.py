"""How the statistics of a repository are shown: as lines for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ibtfs.cli.chart import BLOCKS, PLAIN, binned, chart
from ibtfs.cli.output import (
    can_show,
    counted,
    fitting,
    human_size,
    json_bytes,
    json_time,
    printable,
    shown,
    table,
)

if TYPE_CHECKING:
    from ibtfs.actions.stats.gather import FreedRange, SourceCost, Statistics
    from ibtfs.actions.stats.largest import SourcePath

POINTS = ("POINT", "ADDED", "ALONE", "TO HERE")
RANGES = ("FIRST", "LAST", "FREED")
PATHS = ("STORED", "VERSIONS", "PATH")
DISPENSABLE = (1, 3)
"""Columns of points that are left out on a narrow terminal, in this order."""
CHART_ROWS = 4
USUAL_WIDTH = 80


def _size(size: int) -> str:
    return f"-{human_size(-size)}" if size < 0 else human_size(size)


def summary_lines(found: Statistics) -> list[str]:
    """What the repository takes, and holds."""
    disk, weights = found.footprint, found.weights
    rows = [
        ("On the disk", human_size(disk.total)),
        ("  data", human_size(disk.data)),
        ("  index", human_size(disk.index)),
        ("  sigs", human_size(disk.sigs)),
        ("  manifests", human_size(disk.manifests)),
        ("  other", human_size(disk.other)),
        ("Needed by no point", human_size(round(weights.unneeded))),
        ("Files of all points", human_size(found.shown_bytes)),
        ("  distinct contents", human_size(weights.content_bytes)),
        ("  saved by sharing", _size(found.saved_by_sharing)),
        ("  saved by deltas", _size(found.saved_by_deltas)),
        ("  saved by compression", _size(found.saved_by_compression)),
        ("Points", f"{found.points:,}"),
        ("Sources", f"{len(found.sources):,}"),
        ("Archives", f"{len(disk.archives):,}"),
        ("Contents", f"{weights.contents:,}"),
    ]
    if round(weights.unknown):
        rows.insert(7, ("Damaged, cannot be told", human_size(round(weights.unknown))))
    if found.added_by_none:
        rows.insert(7, ("Of runs without a point", human_size(found.added_by_none)))
    header, *lines = rows
    return table(header, lines, frozenset({1})).splitlines()


def points_lines(source: SourceCost, names: Mapping[str, str], width: int) -> Iterator[str]:
    """The growth of a source as a chart, and a line for each of its points."""
    if len(source.points) > 1:
        yield from _growth(source, width or USUAL_WIDTH)
    rows = [POINTS]
    for cost in source.points:
        sizes = (cost.added, cost.alone, cost.with_earlier)
        added, alone, earlier = map(human_size, sizes)
        rows.append((names[cost.point.id], added, alone, earlier))
    kept = fitting(rows, width, DISPENSABLE)
    header, *lines = [[row[column] for column in kept] for row in rows]
    yield from table(header, lines, frozenset(range(1, len(kept)))).splitlines()


def _growth(source: SourceCost, width: int) -> Iterator[str]:
    """The bytes that were added; full backups would dwarf all others, and are cut off."""
    bars, each = binned([cost.added for cost in source.points], width)
    full, _ = binned([cost.point.full for cost in source.points], width)
    usual = [bar for bar, is_full in zip(bars, full) if not is_full]
    most = max(usual or bars)
    of_what = "a point" if each == 1 else f"{each:,} points"
    yield f"Added by {of_what}, up to {human_size(most)}"
    marks = BLOCKS if can_show(BLOCKS) else PLAIN
    yield from chart(bars, most, width, CHART_ROWS, marks=marks)


def range_lines(
    ranges: Iterable[FreedRange], names: Mapping[str, str], width: int
) -> Iterator[str]:
    """A line for each range of points, for it alone, so that they can be many."""
    longest = max(map(len, names.values()), default=0)
    if width and 2 * longest + 14 > width:
        longest = max((width - 14) // 2, 8)
    yield f"{RANGES[0]:<{longest}}  {RANGES[1]:<{longest}}  {RANGES[2]:>10}"
    for one in ranges:
        first, last = names[one.first.id][-longest:], names[one.last.id][-longest:]
        yield f"{first:<{longest}}  {last:<{longest}}  {human_size(one.freed):>10}"


def largest_lines(largest: Sequence[SourcePath], width: int, *, with_source: bool) -> Iterator[str]:
    """A line for each path that costs most."""
    rows = [PATHS]
    for source, cost in largest:
        path = f"{printable(source)}/{shown(cost.path)}" if with_source else shown(cost.path)
        rows.append((human_size(cost.stored), f"{cost.versions:,}", path))
    kept = fitting(rows, width, (1,))
    header, *lines = [[row[column] for column in kept] for row in rows]
    yield from table(header, lines, frozenset(range(len(kept) - 1))).splitlines()
    yield f"{counted(len(largest), 'path')}, {human_size(sum(one.cost.stored for one in largest))}"


# As JSON


def json_statistics(
    found: Statistics, sources: Sequence[SourceCost], names: Mapping[str, str]
) -> dict[str, Any]:
    """All but ranges and paths; of *sources*, what of them is to be shown."""
    disk, weights = found.footprint, found.weights
    return {
        "disk": {
            "data": disk.data,
            "index": disk.index,
            "sigs": disk.sigs,
            "manifests": disk.manifests,
            "other": disk.other,
            "total": disk.total,
        },
        "points": found.points,
        "archives": len(disk.archives),
        "contents": weights.contents,
        "shown_bytes": found.shown_bytes,
        "content_bytes": weights.content_bytes,
        "payload_bytes": weights.payload_bytes,
        "payload_stored": round(weights.payload_stored),
        "saved_by_sharing": found.saved_by_sharing,
        "saved_by_deltas": found.saved_by_deltas,
        "saved_by_compression": found.saved_by_compression,
        "needed_by_none": round(weights.unneeded),
        "added_by_none": found.added_by_none,
        "damaged_bytes": round(weights.unknown),
        "sources": [_json_source(source, names) for source in sources],
    }


def _json_source(source: SourceCost, names: Mapping[str, str]) -> dict[str, Any]:
    origin = source.points[-1].point.source
    points = [
        {
            "id": cost.point.id,
            "name": names[cost.point.id],
            "time": json_time(cost.point.time_ns),
            "bytes": cost.point.statistics.get("bytes", 0),
            "added": cost.added,
            "alone": cost.alone,
            "with_earlier": cost.with_earlier,
        }
        for cost in source.points
    ]
    return {
        "source": source.name,
        "host": origin.host,
        **json_bytes(origin.path),
        "shown_bytes": source.shown_bytes,
        "added": source.added,
        "freed": source.freed,
        "points": points,
    }


def json_triangle(ranges: Iterable[FreedRange]) -> list[list[int]]:
    """Row i has what removing points i..i, i..i+1, … would free; ranges come the last row first."""
    rows: list[list[int]] = []
    first = ""
    for one in ranges:
        if one.first.id != first:
            first = one.first.id
            rows.append([])
        rows[-1].append(one.freed)
    return rows[::-1]


def json_largest(largest: Sequence[SourcePath]) -> list[dict[str, Any]]:
    """The paths that cost most."""
    return [
        {"source": source, **json_bytes(cost.path), "stored": cost.stored,
         "versions": cost.versions}
        for source, cost in largest
    ]  # fmt: skip
