"""Which points of two repositories are the same, and the ids that copies have.

A copy says which point it is, whichever way it came: its origin, of which its id is made.  That is
the id of the origin, but for what a sealed repository must not show: an id names a host.  There it
is something else, which only who has a key can make of it, and always the same.  So what became of
a point is known again, also if it is gone.

What a repository says of where its points come from is its own word.  So a point that came here
from one repository is what another one says only if that was seen: by its digest, or by reading
both.  Else the other one's gets an id of its own, and both are here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ibtfs.actions.copy.contents import same_digests
from ibtfs.format.point import Origin, Point
from ibtfs.store import layout
from ibtfs.store.copied_points import Came, CopiedPoints
from ibtfs.store.points import PointList, replaced_ids
from ibtfs.store.repository import Repository

_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z(?=_)")
_UNTOLD_TIME = "00000101T000000Z"
_SUFFIX = re.compile(r"-incomplete-[0-9a-f]{8}\Z")
_NAMELESS = re.compile(r"[0-9]{8}T[0-9]{6}Z_[0-9a-f]{10,20}\Z")
"""Where a host is named there is more behind it."""


def is_same_point(there: Point, here: Point) -> bool:
    """Whether two points of one id are the same, by what no copy changes.

    Earlier versions did not write of which point one is a copy; a purge gives new ids.
    """
    if there.origin is not None and here.origin is not None and there.origin != here.origin:
        return False
    return (there.source, there.time_ns, there.root) == (here.source, here.time_ns, here.root)


class Ids:
    """The ids that points of *source* have in *target*; None is one that is not made yet.

    *there* and *here* are the points of both.  *came* tells where those of *target* came from,
    *forgotten* are those that were removed there; *unsure* are points of *target*, by the ids of
    copies, that may be the same as these.
    """

    def __init__(
        self, source: Repository, target: Repository | None, there: PointList, here: PointList
    ) -> None:
        self._source, self._target = source, target
        self._origins = {point.id: point.origin_in(source.id) for point in there.points}
        self._here: dict[str, str] = {}
        self._there: dict[str, str] = {}
        self._mine = {point.id: point for point in here.points}
        self._same: dict[Origin, list[Point]] = {}
        self._by_digest, self.came, self.forgotten = False, Came(), frozenset[str]()
        self.unsure: dict[str, list[Point]] = {}
        if target is not None:
            for point in here.points:
                self._same.setdefault(point.origin_in(target.id), []).append(point)
            self._by_digest = same_digests(source, target)
            self.came = CopiedPoints(target).came(source.id)
            self.forgotten = frozenset(target.points.forgotten())
        # earlier versions kept the ids of what they copied
        self._kept = self.came.there.union(
            self.forgotten, self._mine, here.damaged, replaced_ids(here.points)
        )
        # what was made there comes before what says that it is a copy of that
        for point in sorted(there.points, key=lambda point: point.origin is not None):
            made = self._here[point.id] = self._made(point)
            self._there.setdefault(made, point.id)

    def here(self, point_id: str) -> str:
        """The id that the copy of a point has, or would have if the point were there still."""
        return self._here.get(point_id) or self._first(point_id)

    def _made(self, point: Point) -> str:
        first, origin = self._first(point.id), self._origins[point.id]
        mine = self._same.get(origin, [])
        if not mine and first in self._mine:
            mine = [self._mine[first]]
        for one in mine:
            if self._is_known(point, one):
                return one.id
        if not mine:
            return first
        second = self._second(origin)
        self.unsure[second] = [one for one in mine if is_same_point(point, one)]
        return second

    def _is_known(self, point: Point, here: Point) -> bool:
        """Whether *point* of the source is *here*, and not only by the word of another repository.

        It came from there; or was made here, so that the source speaks of nothing but its own; or
        the digests are the same.
        """
        origin, target = self._origins[point.id], self._target
        if here.id in self.came.there or here.id == self._second(origin):
            return True
        if target is not None and origin == (target.id, here.id):
            return here.id not in self.came.elsewhere
        return self._by_digest and is_same_point(point, here) and point.digest == here.digest

    def _first(self, point_id: str) -> str:
        """The id that a copy has as long as nothing that it may not be has it."""
        if point_id in self._kept and self._is_free(point_id):
            return point_id
        origin = self._origin_there(point_id)
        found = _SUFFIX.search(origin.id)
        suffix = found[0] if found else ""
        return self._called(origin._replace(id=origin.id.removesuffix(suffix))) + suffix

    def _second(self, origin: Origin) -> str:
        """The id that it has else."""
        if self._target is None:
            return origin.id
        keys, text = self._target.keys, f"{self._source.id.hex()}-{origin[0].hex()}-{origin.id}"
        digits = keys.digests.plain(keys.copied(self._source.id, text).encode()).hex()[:20]
        return f"{_time_of(origin.id)}_{digits}"

    def _called(self, origin: Origin) -> str:
        target, point_id = self._target, origin.id
        if target is None:
            return point_id
        is_shown = origin.repository == target.id or not target.config.is_sealed
        is_kept = not point_id or is_shown or _NAMELESS.match(point_id)
        if not is_kept or not self._is_free(point_id):
            return f"{_time_of(point_id)}_{target.keys.copied(*origin)[:20]}"
        return point_id

    def _is_free(self, point_id: str) -> bool:
        """Whether a copy may have this id: those of a machine that only writes are its own."""
        keys = self._target.keys if self._target is not None else None
        return keys is None or keys.author_of(layout.point(point_id)) is None

    def all_here(self, point_id: str) -> Iterator[str]:
        """The ids that a copy may have had, of a point whose copy has this one; in any order."""
        there = self.there(point_id)
        origin = self._origin_there(there)
        yield from (point_id, there, self._first(there), self._second(origin))
        if self._target is not None and origin.repository == self._target.id:
            yield origin.id

    def all(self) -> Iterable[str]:
        """The ids that copies of all points that are there have, or would have."""
        return self._there.keys()

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


def _time_of(point_id: str) -> str:
    time = _TIME.match(point_id)
    return time[0] if time else _UNTOLD_TIME


class Doubles:
    """Points of one repository that say they are the same as others there.

    *like* are those that are, each with the id of the other one; *unlike* those that are not, and
    why they are not copied: all of them, unless one was made there, for that is what it is.
    """

    def __init__(self, repository: Repository, points: Iterable[Point]) -> None:
        self.like: dict[str, str] = {}
        self.unlike: dict[str, str] = {}
        groups: dict[Origin, list[Point]] = {}
        for point in sorted(points, key=lambda point: point.origin is not None):
            groups.setdefault(point.origin_in(repository.id), []).append(point)
        for first, *others in groups.values():
            for one in others:
                if is_same_point(first, one) and first.digest == one.digest:
                    self.like[one.id] = first.id
                    continue
                self._refuse(one, first)
                if first.origin is not None:
                    self._refuse(first, one)

    def _refuse(self, point: Point, other: Point) -> None:
        self.unlike[point.id] = (
            f"{point.id}: says that it is the same point as {other.id} there, and is not: forget "
            "the one that is wrong"
        )

    def left(self, points: PointList) -> PointList:
        """*points* without these."""
        left = [one for one in points.points if one.id not in self.like | self.unlike]
        return PointList(left, points.damaged)
