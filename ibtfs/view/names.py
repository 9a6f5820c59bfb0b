"""Names of points that stay as they were shown, as long as a mount stands.

A name that is made by a template (``%Y-%m-%d``) may be that of several points, and goes by which of
them are there.  When one of these is removed, no other gets its name while somebody may hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ibtfs.format.point import SUFFIX_DIGITS, Point, id_digits

Identity = tuple[str, "str | bytes"]


class ShownNames:
    """The names that a view has shown, those of points that are gone among them.

    Not safe from threads: its view asks with a lock held.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._owners: dict[tuple[Identity, str], Point] = {}

    def settle(
        self, sources: Iterable[Sequence[Point]], names: Mapping[str, str]
    ) -> Mapping[str, str]:
        """The names of the points of *sources*, by id: as they were, or else as *names* says."""
        settled = {}
        for points in sources:
            for point in points:
                settled[point.id] = self._settled(point, names[point.id])
        return settled

    def _settled(self, point: Point, wanted: str) -> str:
        name = self._names.get(point.id, wanted)
        identity = point.source.identity
        owner = self._owners.setdefault((identity, name), point)
        if owner.id != point.id and not (point.replaces and owner.time_ns == point.time_ns):
            # else it is the same point, of which a purge left less
            name = f"{wanted}-{id_digits(point.id)[:SUFFIX_DIGITS]}"
            self._owners[identity, name] = point
        self._names[point.id] = name
        return name
