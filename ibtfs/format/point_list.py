"""The list of all points of a sealed repository: what is missing on it was not taken away by force.

A storage can serve an older state of what it holds, or lack something.  So whoever frees space
writes down what there is, and what was removed, under a number that only grows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.frames import LIST
from ibtfs.format.keys import Keys
from ibtfs.format.objects import decode_object, encode_object
from ibtfs.format.packing import pack, unpack_map
from ibtfs.format.point import POINT_ID

MARK_SIZE = 16
LISTED_LIMIT = 1 << 20
"""Points at most."""
GONE_LIMIT = 1 << 16
"""Marks of points that were removed: if there are more, those of years long ago go."""
EARLIER_LIMIT = GENERATIONS_LIMIT = 1 << 14
"""Lists that came before, and files of archives with a later generation, of which it is told."""
_YEAR = re.compile(r"([0-9]{4})[01][0-9][0-3][0-9]T")


@dataclass(frozen=True)
class PointList:
    """One list.  *points* are the ids of those that are there.

    *gone* are the marks (:func:`mark_of`) of points that were removed, by the years of their ids
    (:func:`year_of`); those of years before *since* are not among them any more.  *withdrawn* are
    marks of names that were taken from points that are there, by their ids.  *generations* are
    those of files of archives, by their names without it, that are not the first.  *earlier* are
    the marks of lists before this one, the digests of their objects, oldest first.
    """

    number: int
    points: frozenset[str]
    gone: Mapping[int, frozenset[bytes]] = field(default_factory=dict)
    earlier: tuple[bytes, ...] = ()
    since: int = 0
    withdrawn: Mapping[str, frozenset[bytes]] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)

    def is_gone(self, point_id: str, mark: bytes) -> bool:
        """Whether the point with this *mark* of its id was removed before this list."""
        year = year_of(point_id)
        is_old = 0 < year < self.since and point_id not in self.points
        return is_old or mark in self.gone.get(year, ())


def mark_of(keys: Keys, text: bytes) -> bytes:
    """The mark of an id, of a name, or of the object of a list."""
    return keys.digests.plain(text)[:MARK_SIZE]


def year_of(point_id: str) -> int:
    """The year in which a point was begun, if its id tells; else 0."""
    found = _YEAR.match(point_id)
    return int(found[1]) if found else 0


def bounded(
    gone: Mapping[int, frozenset[bytes]], since: int, now: int
) -> tuple[dict[int, frozenset[bytes]], int]:
    """*gone*, and *since*, without marks that nobody needs in the year *now* if there are many.

    What was begun before last year, and is on no list, is told from that alone.
    """
    left = dict(gone)
    for year in sorted(left):
        if sum(map(len, left.values())) <= GONE_LIMIT:
            break
        if 0 < year < now - 1:
            del left[year]
            since = max(since, year + 1)
    return left, since


def encode_list(found: PointList, name: str, keys: Keys, codec: Codec) -> bytes:
    """The object of a list; *name* is its name.  Raises LimitExceeded."""
    values = {
        "number": found.number,
        "points": tuple(sorted(found.points)),
        "gone": {year: _joined(found.gone[year]) for year in sorted(found.gone)},
        "earlier": b"".join(found.earlier[-EARLIER_LIMIT:]),
        "since": found.since,
        "withdrawn": {one: _joined(found.withdrawn[one]) for one in sorted(found.withdrawn)},
        "generations": dict(sorted(found.generations.items())[-GENERATIONS_LIMIT:]),
    }
    return encode_object(keys, name, LIST, pack(values), codec)


def decode_list(data: bytes, name: str, number: int, keys: Keys) -> PointList:
    """The list of this *number*, stored as the object *name*.

    Raises FormatDamaged, UnsupportedFormat.
    """
    values = unpack_map(decode_object(keys, name, LIST, data, name), name)
    keys_of_all = ("points", "gone", "earlier", "withdrawn", "generations")
    found: list[Any] = [values.get(key) for key in keys_of_all]
    points, gone, earlier, withdrawn, generations = found
    right = (
        type(points) is tuple
        and len(points) <= LISTED_LIMIT
        and all(map(_is_id, points))
        and type(values.get("since")) is int
        and _are_marks(earlier)
        and type(gone) is dict
        and all(type(year) is int and _are_marks(marks) for year, marks in gone.items())
        and type(withdrawn) is dict
        and all(_is_id(one) and _are_marks(marks) for one, marks in withdrawn.items())
        and type(generations) is dict
        and all(type(one) is str and type(number) is int for one, number in generations.items())
    )
    if not right or values.get("number") != number:
        raise FormatDamaged(f"{name}: is not the list that its name says")
    return PointList(
        number, frozenset(points), {year: _marks(gone[year]) for year in gone},
        tuple(_cut(earlier)), values["since"],
        {one: _marks(withdrawn[one]) for one in withdrawn}, generations,
    )  # fmt: skip


def _is_id(value: Any) -> bool:
    return type(value) is str and POINT_ID.match(value) is not None


def _are_marks(value: Any) -> bool:
    return type(value) is bytes and not len(value) % MARK_SIZE


def _joined(marks: Iterable[bytes]) -> bytes:
    return b"".join(sorted(marks))


def _cut(joined: bytes) -> list[bytes]:
    return [joined[first : first + MARK_SIZE] for first in range(0, len(joined), MARK_SIZE)]


def _marks(joined: bytes) -> frozenset[bytes]:
    return frozenset(_cut(joined))
