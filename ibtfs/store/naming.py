"""What the words POINT and PATH mean: one place for all commands and for the mount."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone, tzinfo
from typing import NamedTuple

from ibtfs.errors import (
    AmbiguousSource,
    EntryNotFound,
    PointDamaged,
    PointNotFound,
    UsageError,
)
from ibtfs.format.moment import is_moment, parse_moment, point_names
from ibtfs.format.point import Point

PREFIX_LEAST = 4
LATEST = re.compile(r"latest(?:~(\d{1,6}))?\Z")


def by_source(points: Iterable[Point]) -> dict[str, list[Point]]:
    """The points of each source under the name that it is shown by, in their order.

    Sources are told apart by what they are, not by the names they chose: two first backups at the
    same time may have chosen the same one, and the later of them gets its host's name added.
    """
    mine: dict[tuple[str, str | bytes], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.order):
        mine.setdefault(point.source.identity, []).append(point)
    sources: dict[str, list[Point]] = {}
    for group in mine.values():
        name, host = group[0].display, group[0].source.host
        candidates = itertools.chain(
            (name, f"{name}@{host}"), (f"{name}-{n}" for n in itertools.count(2))
        )
        sources[next(c for c in candidates if c not in sources)] = group
    return sources


def of_source(points: Iterable[Point], name: str) -> list[Point]:
    """The points of the source that is shown as *name*.  Raises PointNotFound."""
    sources = by_source(points)
    if name not in sources:
        known = ", ".join(sorted(sources)) or "none"
        raise PointNotFound(f"No source {name!r} in the repository; there are: {known}")
    return sources[name]


def shown_sources(points: Iterable[Point]) -> dict[str, str]:
    """The name of the source of each point, by the point's id."""
    return {point.id: name for name, group in by_source(points).items() for point in group}


def displayed_names(
    points: Iterable[Point], zone: tzinfo | None = None, template: str = ""
) -> dict[str, str]:
    """The name that each point is shown under, by its id; unique within a source.

    *zone* is the time zone of the names, the system's by default; *template* as of point_names.
    """
    names: dict[str, str] = {}
    for mine in by_source(points).values():
        shown = point_names([point.time_ns for point in mine], zone, template)
        names.update(zip((point.id for point in mine), shown))
    return names


def select_point(points: Sequence[Point], words: str, now: datetime) -> Point:
    """The point that *words* name: POINT, or SOURCE/POINT.

    In this order: an exact id, the name that is shown, a unique prefix of either, ``latest`` or
    ``latest~2``, a moment (the newest point at or before it; *now* is naive for the system's
    time zone).  A ``@`` before it, as in a mount, means nothing.
    Raises AmbiguousSource, PointNotFound, UsageError.
    """
    source, slash, wanted = words.rpartition("/")
    wanted = wanted.removeprefix("@")
    if slash:
        return select_among(of_source(points, source), wanted, now)
    for point in points:
        if point.id == wanted:
            return point
    sources = by_source(points)
    if not sources:
        raise PointNotFound("The repository holds no backup points yet")
    if len(sources) > 1:
        names = ", ".join(f"{name}/{words}" for name in sorted(sources))
        raise AmbiguousSource(f"Several sources: say which one: {names}")
    return select_among(next(iter(sources.values())), wanted, now)


def require_certain(
    point: Point, words: str, points: Sequence[Point], damaged: Iterable[str], now: datetime
) -> None:
    """Raise PointDamaged if *words*, which led to *point*, may mean one of *damaged* ids instead.

    They may if they go by order or time, and the id says that the damaged one is not older.
    *points* are all that can be read, *now* is as of :func:`select_point`.
    """
    wanted = words.rpartition("/")[2].removeprefix("@")
    if point.id.startswith(wanted) or displayed_names(points)[point.id].startswith(wanted):
        return
    moment = parse_moment(wanted, now) // 1_000_000_000 if is_moment(wanted) else None
    mine = _made(point.id)
    for point_id in sorted(damaged):
        made = _made(point_id)
        is_older = made is not None and mine is not None and made < mine
        is_newer = made is not None and moment is not None and made > moment
        if not is_older and not is_newer:
            raise PointDamaged(
                f"The backup point {point_id} is damaged, and may be what {words!r} means: name a "
                f"point by its id or its name; {point.id} can be read"
            )


def damaged_between(older: Point | None, newer: Point, damaged: Iterable[str]) -> str:
    """The id of one of the *damaged* points that may lie between two of a source; else empty.

    *older* None is the beginning.  A point says which one its run compared with; where that one is
    gone, times in ids tell.
    """
    if older is not None and newer.parent == older.id:
        return ""
    ids = sorted(damaged)
    if newer.parent in ids:
        return newer.parent
    if older is None and not newer.parent:
        return ""  # the first of its source
    first = _made(older.id) if older is not None else None
    last = _made(newer.id)
    for point_id in ids:
        made = _made(point_id)
        is_before = made is not None and first is not None and made < first
        is_behind = made is not None and last is not None and made > last
        if not is_before and not is_behind:
            return point_id
    return ""


def _made(point_id: str) -> float | None:
    """When a point was made, in seconds since 1970, if its id tells."""
    try:
        made = datetime.strptime(point_id.partition("_")[0], "%Y%m%dT%H%M%SZ")
    except ValueError:
        return None
    return made.replace(tzinfo=timezone.utc).timestamp()


def select_among(
    points: Sequence[Point], words: str, now: datetime, names: Mapping[str, str] | None = None
) -> Point:
    """The point of one source that *words* name; see :func:`select_point`.

    *names* are those that are shown, by id, for who knows them already.
    """
    names = displayed_names(points, now.tzinfo) if names is None else names
    question = _Question(words, points, names, now)
    for resolve in _RESOLVERS:
        point = resolve(question)
        if point is not None:
            return point
    raise PointNotFound(
        f"No point {words!r}: give an id, a name as listed, 'latest', or a moment such as "
        "'yesterday', '3d', '2026-11-20'"
    )


class _Question(NamedTuple):
    """Which of a source's *points*, in their order and shown as *names* by id, *words* mean."""

    words: str
    points: Sequence[Point]
    names: Mapping[str, str]
    now: datetime


def _by_id(question: _Question) -> Point | None:
    return next((p for p in question.points if p.id == question.words), None)


def _by_name(question: _Question) -> Point | None:
    names = question.names
    return next((p for p in question.points if names[p.id] == question.words), None)


def _by_prefix(question: _Question) -> Point | None:
    """Raises UsageError if several begin so; but a moment is one, whatever else begins so."""
    words, points, names, _ = question
    if len(words) < PREFIX_LEAST:
        return None
    starts = [p for p in points if p.id.startswith(words) or names[p.id].startswith(words)]
    if len(starts) > 1 and not is_moment(words):
        some = ", ".join(names[point.id] for point in starts[-5:])
        raise UsageError(f"{words!r} is the beginning of {len(starts)} points: {some}")
    return starts[0] if len(starts) == 1 else None


def _by_place(question: _Question) -> Point | None:
    """What ``latest`` and ``latest~2`` mean.  Raises PointNotFound."""
    latest = LATEST.match(question.words)
    if latest is None:
        return None
    back, points = int(latest[1] or 0), question.points
    if back >= len(points):
        raise PointNotFound(f"No point {question.words!r}: the source has {len(points)}")
    return points[-1 - back]


def _by_moment(question: _Question) -> Point | None:
    """Raises PointNotFound if all points are newer."""
    words, points, _, now = question
    return at_moment(points, parse_moment(words, now), words) if is_moment(words) else None


_RESOLVERS: tuple[Callable[[_Question], Point | None], ...] = (
    _by_id, _by_name, _by_prefix, _by_place, _by_moment,
)  # fmt: skip
"""What words may be, in this order: the first that gives a point counts."""


def at_moment(points: Sequence[Point], moment_ns: int, words: str) -> Point:
    """The newest of *points* at or before a moment.  Raises PointNotFound."""
    before = [point for point in points if point.time_ns <= moment_ns]
    if not before:
        raise PointNotFound(f"No point at or before {words!r}")
    return max(before, key=lambda point: (point.time_ns, point.order))


def relative_path(point: Point, path: bytes) -> bytes:
    """*path* relative to the source of *point*: it may be so already, or absolute as it was.

    Empty for the source itself.  Raises EntryNotFound, UsageError.
    """
    if path.startswith(b"/"):
        source = point.root_path
        prefix = source.rstrip(b"/") + b"/"
        full = os.path.normpath(b"/" + path.lstrip(b"/"))
        if full + b"/" == prefix:
            return b""
        if not full.startswith(prefix):
            raise EntryNotFound(
                f"{os.fsdecode(path)!r} is not inside the source {os.fsdecode(source)!r}"
            )
        return full[len(prefix) :]
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if b".." in names:
        raise UsageError(f"{os.fsdecode(path)!r}: '..' has no meaning inside a backup point")
    return b"/".join(names)
