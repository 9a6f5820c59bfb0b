"""The list of all points of a sealed repository: what is missing on it was not taken away by force.

A storage can serve an older state of what it holds, or lack something.  So whoever frees space
writes down what there is, and what was removed, under a number that only grows.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from operator import lt
from typing import Any

from ibtfs.errors import FormatDamaged, LimitExceeded
from ibtfs.format.compression import Codec
from ibtfs.format.frames import FRAME_LIMIT, LIST
from ibtfs.format.index import is_archive_id
from ibtfs.format.keys import Keys
from ibtfs.format.marks import MARK_SIZE, Marks
from ibtfs.format.objects import FramesOf, encode_frames, read_frames
from ibtfs.format.packing import pack, unpack_map
from ibtfs.format.point import POINT_ID

LISTED_LIMIT = WITHDRAWN_LIMIT = GENERATIONS_LIMIT = 1 << 20
"""Points at most, points from which names were taken, and files of archives."""
GONE_LIMIT = 1 << 21
"""Marks of points that were removed: if there are more, some of the earliest years go."""
EARLIER_LIMIT = 1 << 14
"""Lists that came before, of which it is told."""
MORE_LIMIT = 31
"""Frames behind the first."""
LIST_LIMIT = 144 << 20
"""Bytes of a list as it is stored."""
TURNS = 1_000_000
"""So often a name may be taken from a point and be given again."""
LAST_GENERATION = 1_000_000
"""No file of an archive has a higher one."""
ANY = bytes(MARK_SIZE)
"""Stands for every name of a point: it was put there again, and earlier turns say nothing."""
_YEAR = re.compile(r"([0-9]{4})[01][0-9][0-3][0-9]T")
_ARCHIVE_FILE = re.compile(r"[a-z]+/([^/]+)/[a-z]+\Z")
_AT_ONCE = 1 << 16
"""Marks that are compared at once."""
_TURN = struct.Struct("<16sI")
"""The mark of a name that was taken from a point, and how often that was."""


@dataclass(frozen=True)
class PointList:
    """One list.  *points* are the ids of those that are there.

    *gone* are the marks (:func:`mark_of`) of points that were removed, by the years of their ids
    (:func:`year_of`).  *withdrawn* are names that were taken from points, by the ids of these:
    their marks, and how often that was.  *generations* are those of files of archives, by their
    names without it, that are not the first.  *earlier* are the marks of lists before this one, the
    digests of their objects, oldest first.
    """

    number: int
    points: frozenset[str]
    gone: Mapping[int, Marks] = field(default_factory=dict)
    earlier: tuple[bytes, ...] = ()
    withdrawn: Mapping[str, Mapping[bytes, int]] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)

    def is_gone(self, point_id: str, mark: bytes) -> bool:
        """Whether the point with this *mark* of its id was removed before this list."""
        return any(mark in self.gone.get(year, ()) for year in {year_of(point_id), 0})

    def turn(self, point_id: str, mark: bytes) -> int:
        """The first turn that is not used up of the name of a point that has this *mark*."""
        turns = self.withdrawn.get(point_id)
        return max(turns.get(mark, 0), turns.get(ANY, 0)) if turns else 0

    def is_awaited(self, point_id: str) -> bool:
        """Whether somebody was to put a removed point there again, and has not listed it yet."""
        return point_id not in self.points and ANY in self.withdrawn.get(point_id, ())


def mark_of(keys: Keys, text: bytes) -> bytes:
    """The mark of an id, of a name, or of the object of a list."""
    return keys.digests.plain(text)[:MARK_SIZE]


def year_of(point_id: str) -> int:
    """The year in which a point was begun, if its id tells; else 0."""
    found = _YEAR.match(point_id)
    return int(found[1]) if found else 0


def bounded(gone: Mapping[int, Marks]) -> dict[int, Marks]:
    """*gone*, without as many of the earliest years as a list has no room for."""
    left = {year: marks for year, marks in gone.items() if marks}
    over = sum(map(len, left.values())) - GONE_LIMIT
    for year in sorted(left, key=lambda year: (not year, year)):
        if over <= 0:
            break
        marks = left.pop(year)
        if len(marks) > over:
            left[year] = Marks(marks.joined[over * MARK_SIZE :])
        over -= len(marks)
    return left


def without(gone: Mapping[int, Marks], point_id: str, mark: bytes) -> dict[int, Marks]:
    """*gone* without a point, of whose id this is the *mark*."""
    return {
        year: marks.without(mark) if year in {year_of(point_id), 0} else marks
        for year, marks in gone.items()
    }


def encode_list(found: PointList, name: str, keys: Keys, codec: Codec) -> bytes:
    """The object of a list; *name* is its name.  Raises LimitExceeded."""
    values = {
        "number": found.number,
        "points": tuple(sorted(found.points)),
        "gone": {year: found.gone[year].joined for year in sorted(found.gone)},
        "earlier": b"".join(found.earlier[-EARLIER_LIMIT:]),
        "withdrawn": {
            one: b"".join(_TURN.pack(*row) for row in sorted(found.withdrawn[one].items()))
            for one in sorted(found.withdrawn)
        },
        "generations": dict(sorted(found.generations.items())),
    }
    raw = pack(values)
    if _is_right(values) and len(raw) <= MORE_LIMIT * FRAME_LIMIT:
        if len(raw) <= FRAME_LIMIT:
            data = encode_frames(keys, name, LIST, (), lambda _: raw, codec)
        else:
            more = [raw[at : at + FRAME_LIMIT] for at in range(0, len(raw), FRAME_LIMIT)]
            data = encode_frames(keys, name, LIST, more, lambda sizes: _first(found, sizes), codec)
        if len(data) <= LIST_LIMIT:
            return data
    raise LimitExceeded(
        f"{name}: {len(found.points)} backup points, and what was removed, are more than a list "
        "of them holds"
    )


def _first(found: PointList, sizes: list[int]) -> bytes:
    return pack({"number": found.number, "more": tuple(sizes)})


def decode_list(data: bytes, name: str, number: int, keys: Keys) -> PointList:
    """The list of this *number*, stored as the object *name*.

    Raises FormatDamaged, UnsupportedFormat.
    """
    frames = read_frames(keys, name, LIST, data)
    values = unpack_map(frames.first, name)
    sizes = values.get("more", ())
    are_sizes = type(sizes) is tuple and all(type(size) is int and size > 0 for size in sizes)
    if not are_sizes or len(sizes) > MORE_LIMIT or values.get("number") != number:
        raise FormatDamaged(f"{name}: is not the list that its name says")
    if sizes:
        values = unpack_map(_joined(frames, sizes), name)
    else:
        frames.require_end(())
    # as earlier versions wrote it
    if type(values.get("gone")) is bytes:
        values = {"withdrawn": {}, "generations": {}} | values | {"gone": {0: values["gone"]}}
    if values.get("number") != number or not _is_right(values):
        raise FormatDamaged(f"{name}: is not the list that its name says")
    return PointList(
        number,
        frozenset(values["points"]),
        {year: Marks(marks) for year, marks in values["gone"].items()},
        tuple(Marks(values["earlier"])),
        {one: dict(_TURN.iter_unpack(rows)) for one, rows in values["withdrawn"].items()},
        values["generations"],
    )


def _joined(frames: FramesOf, sizes: tuple[int, ...]) -> bytes:
    frames.require_end(sizes)
    return b"".join(frames.more(sizes))


def _is_right(values: Mapping[str, Any]) -> bool:
    """Whether these can be the values of a list: asked of what is written, and of what is read."""
    points, gone, earlier = (values.get(key) for key in ("points", "gone", "earlier"))
    withdrawn, generations = values.get("withdrawn"), values.get("generations")
    return (
        type(values.get("number")) is int
        and type(points) is tuple
        and len(points) <= LISTED_LIMIT
        and all(map(_is_id, points))
        and all(map(lt, points, points[1:]))
        and type(earlier) is bytes
        and not len(earlier) % MARK_SIZE
        and len(earlier) <= EARLIER_LIMIT * MARK_SIZE
        and type(gone) is dict
        and all(type(year) is int and 0 <= year <= 9999 for year in gone)
        and all(map(_are_marks, gone.values()))
        and sum(map(len, gone.values())) <= GONE_LIMIT * MARK_SIZE
        and type(withdrawn) is dict
        and len(withdrawn) <= WITHDRAWN_LIMIT
        and all(_is_id(one) and _are_turns(rows) for one, rows in withdrawn.items())
        and type(generations) is dict
        and len(generations) <= GENERATIONS_LIMIT
        and all(_is_generation(*row) for row in generations.items())
    )


def _is_id(value: Any) -> bool:
    return type(value) is str and POINT_ID.match(value) is not None


def _are_marks(value: Any) -> bool:
    """Whether these are whole marks, in order, each once."""
    if type(value) is not bytes or len(value) % MARK_SIZE:
        return False
    step = _AT_ONCE * MARK_SIZE
    pieces = (list(Marks(value[at : at + step + MARK_SIZE])) for at in range(0, len(value), step))
    return all(all(map(lt, marks, islice(marks, 1, None))) for marks in pieces)


def _are_turns(value: Any) -> bool:
    if type(value) is not bytes or len(value) % _TURN.size:
        return False
    rows = list(_TURN.iter_unpack(value))
    marks = [mark for mark, _ in rows]
    return all(map(lt, marks, marks[1:])) and all(0 < turn <= TURNS for _, turn in rows)


def _is_generation(name: Any, number: Any) -> bool:
    found = _ARCHIVE_FILE.match(name) if type(name) is str else None
    is_file = found is not None and is_archive_id(found[1])
    return is_file and type(number) is int and 1 < number <= LAST_GENERATION
