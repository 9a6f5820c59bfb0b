"""Which points a policy concerns, and in which groups it looks at them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ibtfs.errors import UsageError
from ibtfs.format.point import Point
from ibtfs.store.naming import of_source

Tags = Mapping[str, Sequence[str]]
"""The tags of points, by id."""
Key = tuple[tuple[str, str], ...]
"""What the points of a group have in common: words to group by, and their values."""

_VALUES: Final[Mapping[str, Callable[[Point, Sequence[str]], str]]] = {
    "source": lambda point, _: point.display,
    "host": lambda point, _: point.source.host,
    "path": lambda point, _: os.fsdecode(point.source.path),
    "name": lambda point, _: point.source.name,
    "tags": lambda _, tags: ",".join(sorted(tags)),
}
GROUP_WORDS: Final = tuple(_VALUES)
"""What points may be grouped by; ``source`` is host and name, or host and path."""
DEFAULT_GROUP: Final = ("source",)


@dataclass(frozen=True)
class Choice:
    """Points of these hosts, *sources* as they are shown, and *tags*: any of each; none is all."""

    hosts: Collection[str] = ()
    sources: Collection[str] = ()
    tags: Collection[str] = ()

    def of(self, points: Sequence[Point], tags: Tags) -> list[Point]:
        """Those of *points* that are meant.  Raises PointNotFound if a source is not there."""
        meant = {point.id for name in self.sources for point in of_source(points, name)}
        return [
            point
            for point in points
            if (not self.sources or point.id in meant)
            and (not self.hosts or point.source.host in self.hosts)
            and (not self.tags or not set(self.tags).isdisjoint(tags.get(point.id, ())))
        ]


def grouped(points: Iterable[Point], tags: Tags, words: Sequence[str]) -> dict[Key, list[Point]]:
    """*points* by what *words* say, sorted by that; without words all are one group.

    Those of each machine that only writes are one of their own.
    Raises UsageError for a word that is none of GROUP_WORDS.
    """
    for word in words:
        if word not in _VALUES:
            raise UsageError(f"{word!r} is nothing to group by; there are: {', '.join(_VALUES)}")
    groups: dict[Key, list[Point]] = {}
    for point in points:
        mine = tags.get(point.id, ())
        key = tuple((word, _VALUES[word](point, mine)) for word in words)
        if point.writer:  # what such a machine says of its points is not to cost others theirs
            key += (("machine", point.writer),)
        groups.setdefault(key, []).append(point)
    return dict(sorted(groups.items()))
