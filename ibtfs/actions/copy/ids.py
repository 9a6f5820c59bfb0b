"""Which points of two repositories are the same, and the ids that copies have.

A copy says which point it is, whichever way it came: its origin, of which its id is made.  That is
the id of the origin, but for what a sealed repository must not show: an id names a host.  There it
is something else, which only who has a key can make of it, and always the same.  So what became of
a point is known again, also if it is gone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ibtfs.format.point import Origin, Point
from ibtfs.store import layout
from ibtfs.store.points import PointList, replaced_ids
from ibtfs.store.repository import Repository

_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z(?=_)")
_UNTOLD_TIME = "00000101T000000Z"
_SUFFIX = re.compile(r"-incomplete-[0-9a-f]{8}\Z")
_NAMELESS = re.compile(r"[0-9]{8}T[0-9]{6}Z_[0-9a-f]{10,20}\Z")
"""Where a host is named there is more behind it."""


class Ids:
    """The ids that points of *source* have in *target*; None is one that is not made yet.

    *there* and *here* are the points of both.  Points that have one of the *known* ids keep it, or
    one of *here*: earlier versions made no others.
    """

    def __init__(
        self, source: Repository, target: Repository | None, there: PointList, here: PointList,
        known: Iterable[str],
    ) -> None:  # fmt: skip
        self._source, self._target = source, target
        self._origins = {point.id: point.origin_in(source.id) for point in there.points}
        self._there: dict[str, str] = {}
        self._kept = {*known, *here.damaged, *replaced_ids(here.points)}
        self._same: dict[Origin, str] = {}
        if target is not None:
            found = sorted(here.points, key=lambda point: point.origin is None)  # those count most
            self._same = {point.origin_in(target.id): point.id for point in found}
            self._kept.update(self._same.values())
        for point_id in self._origins:
            self._there.setdefault(self.here(point_id), point_id)

    def here(self, point_id: str) -> str:
        """The id that the copy of a point has, or would have if the point were there still."""
        origin = self._origin_there(point_id)
        made = self._same.get(origin)
        if made is None and point_id in self._kept and self._is_free(point_id):
            made = point_id
        if made is None:
            found = _SUFFIX.search(origin.id)
            suffix = found[0] if found else ""
            made = self._called(origin._replace(id=origin.id.removesuffix(suffix))) + suffix
        return made

    def _called(self, origin: Origin) -> str:
        target, point_id = self._target, origin.id
        if target is None:
            return point_id
        is_shown = origin.repository == target.id or not target.config.is_sealed
        is_kept = not point_id or is_shown or _NAMELESS.match(point_id)
        if not is_kept or not self._is_free(point_id):
            time = _TIME.match(point_id)
            digits = target.keys.copied(*origin)
            return f"{time[0] if time else _UNTOLD_TIME}_{digits[:20]}"
        return point_id

    def _is_free(self, point_id: str) -> bool:
        """Whether a copy may have this id: those of a machine that only writes are its own."""
        keys = self._target.keys if self._target is not None else None
        return keys is None or keys.author_of(layout.point(point_id)) is None

    def all_here(self, point_id: str) -> Iterator[str]:
        """The ids that a copy may have had, of a point whose copy has this one; in any order."""
        there = self.there(point_id)
        origin = self._origin_there(there)
        yield from (point_id, there)
        if self._target is not None and origin.repository == self._target.id:
            yield origin.id

    def there(self, point_id: str) -> str:
        """The id of the point of which a copy has this one."""
        return self._there.get(point_id, point_id)

    def origin(self, point_id: str) -> Origin:
        """Which point it is of which a copy has this id."""
        return self._origin_there(self.there(point_id))

    def _origin_there(self, point_id: str) -> Origin:
        return self._origins.get(point_id, Origin(self._source.id, point_id))

    def renamed(self, point: Point) -> Point:
        """A point of the source, called as its copy is."""
        return replace(point, id=self.here(point.id), parent=self.here(point.parent))


def not_told_apart(repository: bytes, points: Iterable[Point]) -> dict[str, Origin]:
    """The points of a *repository* of which it cannot be believed which point they are, by id.

    For another one says that it is the same, or is that itself: who could make one point there
    would have it be copied in the place of that.
    """
    copies: dict[Origin, list[Point]] = defaultdict(list)
    for point in points:
        copies[point.origin_in(repository)].append(point)
    return {
        point.id: point.origin
        for mine in copies.values()
        for point in mine
        if point.origin is not None and len(mine) > 1
    }
