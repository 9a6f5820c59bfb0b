"""What points and sources are called, and what the words POINT and PATH mean.

One place for all commands and for the mount.  A name depends on the point that has it alone: that
others are removed never changes it, nor gives it to one of them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import NamedTuple

from blake3 import blake3

from ibtfs.errors import (
    AmbiguousSource,
    EntryNotFound,
    IbtfsError,
    PointDamaged,
    PointNotFound,
    PointRefused,
    UsageError,
)
from ibtfs.format.moment import formatted_name, is_moment, is_one_of_a_second, parse_moment
from ibtfs.format.point import SUFFIX_DIGITS, Point, id_digits, made_seconds
from ibtfs.store.chosen_names import chosen_name

PREFIX_LEAST = 4
_SECOND_NS = 1_000_000_000
LATEST = re.compile(r"latest(?:~(\d{1,6}))?\Z")


def by_source(points: Iterable[Point]) -> dict[str, list[Point]]:
    """The points of each source under the name that it is shown by, in their order.

    Sources are told apart by what they are, not by the names they chose.  A run sees to it that no
    two have one name; where they have it all the same, each gets digits of its host and path.  What
    machines which only write have chosen ends with their host, so that none takes another's.
    """
    mine: dict[tuple[str, str | bytes], list[Point]] = {}
    for point in sorted(points, key=lambda point: point.order):
        mine.setdefault(point.source.identity, []).append(point)
    names = {identity: chosen_name(group) for identity, group in mine.items()}
    chosen = Counter(names.values())
    sources: dict[str, list[Point]] = {}
    for (host, what), group in mine.items():
        name = names[host, what]
        if chosen[name] > 1:
            identity = host.encode("utf-8", "surrogateescape") + b"\0" + os.fsencode(what)
            digits = blake3(identity).hexdigest()
            longer = (f"{name}-{digits[:count]}" for count in (SUFFIX_DIGITS, len(digits)))
            name = next(n for n in longer if n not in chosen and n not in sources)
        sources[name] = group
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

    *zone* is the time zone of the names, the system's by default; *template* as of strftime.
    """
    names: dict[str, str] = {}
    for mine in by_source(points).values():
        names.update(_names_of_source(mine, zone, template))
    return names


def _names_of_source(
    points: Sequence[Point], zone: tzinfo | None, template: str
) -> Iterator[tuple[str, str]]:
    """The id and the name of each point of a source.

    Of equal names made by a *template* the first point has it, the others get digits of their ids.
    Without one there are none, but of old: then no point has the name that several would have.
    """
    bases = [formatted_name(point.time_ns, zone, template) for point in points]
    plain = [f"{b}-{p.suffix}" if p.suffix else b for b, p in zip(bases, points)]
    times, given = Counter(plain), set[str]()
    for point, base, own in zip(points, bases, plain):
        name = own
        if times[own] > 1 and (not template or own in given):
            name = next(n for n in _longer(base, point.id) if n not in times and n not in given)
        given.add(name)
        yield point.id, name


def _longer(name: str, point_id: str) -> Iterator[str]:
    digits = id_digits(point_id)
    yield f"{name}-{digits[:SUFFIX_DIGITS]}"
    yield f"{name}-{digits}"
    yield f"{name}-{blake3(point_id.encode()).hexdigest(16)}"


def told_apart(point: Point, others: Iterable[Point], damaged: Iterable[str]) -> Point:
    """*point*, about to be committed, so that its names are its own.

    It gets a suffix if one of *others* of its source was made in the same second, or one of the
    *damaged* ids; and its source, if none of its points is there, a name that no other has.
    """
    second, source, digits = point.time_ns // _SECOND_NS, point.source, id_digits(point.id)
    known = list(others)
    mine = [other for other in known if other.source.identity == source.identity]
    same = [other.id for other in mine if other.time_ns // _SECOND_NS == second]
    # the parent by its id, as who reads a manifest without a suffix takes it
    same += [name for name in (*damaged, point.parent) if made_seconds(name) == second]
    if same:
        taken = {id_digits(name) for name in same}
        counts = range(SUFFIX_DIGITS, len(digits))
        unique = (n for n in counts if not any(d.startswith(digits[:n]) for d in taken))
        point = replace(point, suffix=digits[: next(unique, len(digits))])
    trusted = (other for other in known if not other.writer)
    if not mine and any(other.display == point.display for other in trusted):
        point = replace(point, display=f"{point.display}-{digits[:SUFFIX_DIGITS]}")
    return point


Tagged = Callable[[str], Collection[str]]
"""Tells the ids that have a tag; it is asked only if the words mean nothing else."""


def untagged(_: str) -> Collection[str]:
    """That no point has any tag."""
    return ()


def select_point(
    points: Sequence[Point], words: str, now: datetime, tagged: Tagged = untagged
) -> Point:
    """The point that *words* name: POINT, or SOURCE/POINT.

    In this order: an exact id, the name that is shown, a unique prefix of either, ``latest`` or
    ``latest~2``, a moment (the newest point at or before it; *now* is naive for the system's
    time zone), a tag (the newest point that has it).  A ``@`` before it, as in a mount, means
    nothing.  Raises AmbiguousSource, PointNotFound, UsageError.
    """
    source, slash, wanted = words.rpartition("/")
    wanted = wanted.removeprefix("@")
    if slash:
        return select_among(of_source(points, source), wanted, now, tagged=tagged)
    for point in points:
        if point.id == wanted:
            return point
    sources = by_source(points)
    if not sources:
        raise PointNotFound("The repository holds no backup points yet")
    if len(sources) > 1:
        names = ", ".join(f"{name}/{words}" for name in sorted(sources))
        raise AmbiguousSource(f"Several sources: say which one: {names}")
    return select_among(next(iter(sources.values())), wanted, now, tagged=tagged)


def is_tag(words: str) -> bool:
    """Whether *words*, if they are no id, name or beginning of one, can only be a tag."""
    wanted = words.rpartition("/")[2].removeprefix("@")
    return LATEST.match(wanted) is None and not is_moment(wanted)


def require_certain(
    point: Point, words: str, points: Sequence[Point], damaged: Mapping[str, IbtfsError],
    now: datetime,
    tagged: Tagged = untagged,
) -> None:  # fmt: skip
    """Raise PointDamaged if *words*, which led to *point*, may mean one of *damaged* ids instead.

    They may if they go by order, time or a tag, and the id says that the damaged one is not older.
    What a machine that only writes has put there may be of its own host alone.  *points* are all
    that can be read, *now* and *tagged* are as of :func:`select_point`.
    """
    wanted = words.rpartition("/")[2].removeprefix("@")
    if _is_called(point, wanted, points):
        return
    moment = parse_moment(wanted, now) // 1_000_000_000 if is_moment(wanted) else None
    mine = made_seconds(point.id)
    suspects = set(damaged).intersection(tagged(wanted)) if is_tag(words) else damaged
    for point_id in sorted(suspects):
        error = damaged.get(point_id)
        if isinstance(error, PointRefused) and error.host != point.source.host:
            continue
        made = made_seconds(point_id)
        is_older = made is not None and mine is not None and made < mine
        is_newer = made is not None and moment is not None and made > moment
        if not is_older and not is_newer:
            raise PointDamaged(
                f"The backup point {point_id} is damaged, and may be what {words!r} means: name a "
                f"point by its id or its name; {point.id} can be read"
            )


def require_sole(point: Point, words: str, points: Sequence[Point], tagged: Tagged) -> None:
    """Raise UsageError if *words*, which led to *point*, are a tag that others of its source have.

    *points* and *tagged* are as of :func:`select_point`.
    """
    wanted = words.rpartition("/")[2].removeprefix("@")
    if _is_called(point, wanted, points) or not is_tag(words):
        return
    ids = tagged(wanted)
    same = [p for p in points if p.id in ids and p.source.identity == point.source.identity]
    if len(same) > 1:
        names = displayed_names(points)
        raise UsageError(
            f"{wanted!r} is the tag of {len(same)} points: {', '.join(names[p.id] for p in same)}"
        )


def _is_called(point: Point, words: str, points: Sequence[Point]) -> bool:
    """Whether *words* are the id or the name of *point*, or the beginning of one."""
    return point.id.startswith(words) or displayed_names(points)[point.id].startswith(words)


def select_among(
    points: Sequence[Point], words: str, now: datetime, names: Mapping[str, str] | None = None,
    tagged: Tagged = untagged,
) -> Point:  # fmt: skip
    """The point of one source that *words* name; see :func:`select_point`.

    *names* are those that are shown, by id, for who knows them already.
    """
    names = displayed_names(points, now.tzinfo) if names is None else names
    question = _Question(words, points, names, now, tagged)
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
    tagged: Tagged


def _by_id(question: _Question) -> Point | None:
    return next((p for p in question.points if p.id == question.words), None)


def _by_name(question: _Question) -> Point | None:
    names = question.names
    return next((p for p in question.points if names[p.id] == question.words), None)


def _by_prefix(question: _Question) -> Point | None:
    """Raises UsageError if several begin so; but a moment is one, whatever else begins so."""
    words, points, names = question.words, question.points, question.names
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
    """Raises PointNotFound if all points are newer.

    What names one point among those of a second is none: that point is gone, and no other is meant.
    """
    words, points, now = question.words, question.points, question.now
    if not is_moment(words) or is_one_of_a_second(words):
        return None
    return at_moment(points, parse_moment(words, now), words)


def _by_tag(question: _Question) -> Point | None:
    ids = question.tagged(question.words)
    return next((point for point in reversed(question.points) if point.id in ids), None)


_RESOLVERS: tuple[Callable[[_Question], Point | None], ...] = (
    _by_id, _by_name, _by_prefix, _by_place, _by_moment, _by_tag,
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
