"""The ids of copies: those of the points, but for what a sealed repository must not show.

An id names the host of its point.  In a sealed repository something else stands there, which only
who has a key can make of it, and always the same: so a point that was copied is known again.  One
that came by another way is known by what no copy changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ibtfs.format.entry import Stamp
from ibtfs.format.point import Point, Source
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.repository import Repository

_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z(?=_)")
_UNTOLD_TIME = "00000101T000000Z"
_SUFFIX = re.compile(r"-incomplete-[0-9a-f]{8}\Z")
_NAMELESS = re.compile(r"[0-9]{8}T[0-9]{6}Z(_[0-9a-f]{10,20})+\Z")


class Ids:
    """The ids that points of *source* have in *target*; None is one that is not made yet."""

    def __init__(self, source: Repository, target: Repository | None) -> None:
        self._source, self._target = source, target
        self._is_hiding = target is not None and target.config.is_sealed
        self._there: dict[str, str] = {}
        self._kept: frozenset[str] = frozenset()
        self._same: dict[str, str] = {}
        if target is not None and (self._is_hiding or source.config.is_sealed):
            came = CopiedPoints(target).of(source.id)  # earlier versions copied ids as they are
            self._kept = came.union(target.points.ids(), target.points.forgotten())
            self._same = dict(self._others(source, target))

    def _others(self, source: Repository, target: Repository) -> Iterator[tuple[str, str]]:
        """The ids of points that are in both under different ones: there, and here."""
        mine = {_what(one): one.id for one in target.points.all().points if _is_whole(one.id)}
        for point in source.points.all().points:
            found = mine.get(_what(point))
            if found and point.id not in self._kept and _is_whole(point.id):
                yield point.id, found

    def here(self, point_id: str) -> str:
        """The id that the copy of a point has."""
        made = self._same.get(point_id, point_id)
        if self._is_hiding and point_id and made == point_id:
            found = _SUFFIX.search(point_id)
            suffix = found[0] if found else ""
            made = self._hidden(point_id.removesuffix(suffix)) + suffix
        self._there[made] = point_id
        return made

    def _hidden(self, point_id: str) -> str:
        is_nameless = self._source.config.is_sealed and _NAMELESS.match(point_id)
        if is_nameless or point_id in self._kept or self._target is None:
            return point_id
        time = _TIME.match(point_id)
        digits = self._target.keys.copied(self._source.id, point_id)
        return f"{time[0] if time else _UNTOLD_TIME}_{digits[:20]}"

    def there(self, point_id: str) -> str:
        """The id of the point of which a copy has this one."""
        return self._there.get(point_id, point_id)

    def renamed(self, point: Point) -> Point:
        """A point of the source, called as its copy is."""
        return replace(point, id=self.here(point.id), parent=self.here(point.parent))


def _what(point: Point) -> tuple[Source, int, Stamp]:
    """What no copy of a point changes."""
    return (point.source, point.time_ns, point.root)


def _is_whole(point_id: str) -> bool:
    return _SUFFIX.search(point_id) is None
