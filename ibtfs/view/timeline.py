"""What the views over many backup points need of the tree that they are part of.

A source's points come and go while it is mounted, so a view asks for its :class:`Timeline` each
time.  What was found out about one is kept with it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final, Protocol, TypeVar

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.moment import LATEST
from ibtfs.format.point import Point
from ibtfs.store.cache import ByteCache
from ibtfs.store.naming import Tagged, select_among
from ibtfs.store.trees.compare import Comparison
from ibtfs.store.trees.directory import child_path
from ibtfs.store.trees.history import History
from ibtfs.store.trees.trail import require_depth
from ibtfs.view.entry_node import Backing

LISTING_SECONDS: Final = 0.25
"""What a listing may spend on finding out what belongs into it, and as much on link counts."""
LOOKUP_SECONDS: Final = 0.2
COUNTING_SECONDS: Final = 0.02
AGAIN_SECONDS: Final = 1.0
"""After so long what could not be read is tried again: it may have been the network."""
KNOWN_BYTES: Final = 40 << 20
NAME_BYTES: Final = 150
"""What a name that was found takes, with what is known of it, roughly."""
NOT_COUNTED: Final = 1
"""The links of a directory whose subdirectories are not counted: programs know it as such."""


class Finding(Protocol):
    """What was found out about a path."""

    @property
    def weight(self) -> int:
        """How many names are in it by now."""
        ...

    @property
    def outdated(self) -> bool:
        """Whether something that could not be read is in it, and may be by now."""
        ...


Known = TypeVar("Known", bound=Finding)


def _known_bytes(found: Any) -> int:
    names: int = found.weight
    return names * NAME_BYTES


@dataclass(frozen=True)
class Timeline:
    """The points of a source as they are shown now: by name, oldest first."""

    points: Mapping[bytes, Point]
    history: History
    damaged: Sequence[str] = ()
    """The ids of points of the repository whose manifests cannot be read: some may belong here."""
    known: ByteCache = field(default_factory=lambda: ByteCache(KNOWN_BYTES, _known_bytes))
    """What was found out about paths: it has a *weight*, the number of names in it by now."""

    def find(self, key: Hashable, make: Callable[[], Known]) -> Known:
        """What was found out and is kept as *key*, made when it is not, or is *outdated*."""
        found: Known = self.known.get(key, make)
        if found.outdated:
            self.known.drop(lambda other: other == key)
            found = self.known.get(key, make)
        return found

    def name(self, point: Point) -> bytes:
        """The name that *point* is shown under."""
        return self.names[point.id].encode()

    @cached_property
    def names(self) -> Mapping[str, str]:
        """The names of all points, by their ids."""
        return {point.id: name.decode() for name, point in self.points.items()}

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each point in their order, by its id."""
        return {point.id: place for place, point in enumerate(self.ordered)}

    @property
    def ordered(self) -> Sequence[Point]:
        """The points, oldest first."""
        return self.history.points

    def forget(self, key: Hashable, failures: Iterable[IntegrityError]) -> None:
        """Have what is *known* under *key* be looked at anew, if what failed may be read then.

        The disk may not have answered for a moment; bytes that are wrong stay so.
        """
        if not all(isinstance(error, FormatDamaged) for error in failures):
            self.known.drop(lambda held: held == key)

    def select(self, words: str, now: datetime, tagged: Tagged) -> Point:
        """The point that *words* name.  Raises PointNotFound, UsageError."""
        return select_among(self.ordered, words, now, self.names, tagged)


class TimeView(Backing, Protocol):
    """The tree, as its views over many points see it."""

    @property
    def comparison(self) -> Comparison:
        """Compares directories of its repository."""
        ...

    @property
    def kept(self) -> ByteCache:
        """Nodes that were handed out: the kernel keeps what it knows of the same object."""
        ...

    @property
    def changed_ns(self) -> int:
        """When a point last came or went."""
        ...

    def now(self) -> datetime:
        """The time, in the zone of the names; naive in the system's."""
        ...

    def timeline(self, source: bytes) -> Timeline:
        """The points of *source* as they are now.  Raises PointGone."""
        ...

    def source_names(self) -> Sequence[bytes]:
        """The sources that are shown, sorted."""
        ...


def way_back(view: TimeView, source: bytes, point: Point, folders: int) -> bytes:
    """The way from a tree that lies *folders* below the folder of *source* to *point*."""
    if not view.options.inside_links:
        return b""  # nobody goes it
    name = view.timeline(source).names.get(point.id, LATEST)
    return b"../" * folders + name.encode() + b"/"


def below(path: bytes, name: bytes) -> bytes:
    """The path of *name* in the directory at *path*.  Raises FormatDamaged if it is too deep."""
    found = child_path(path, name)
    require_depth(found.count(b"/"), found, "the path")
    return found
