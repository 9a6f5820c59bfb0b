"""What the views over many backup points need of the tree that they are part of.

A source's points come and go while it is mounted, so a view asks for its :class:`Timeline` each
time.  What was found out about one is kept with it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from ibtfs.format.moment import LATEST
from ibtfs.format.point import Point
from ibtfs.store.naming import select_among
from ibtfs.store.trees.compare import Comparison
from ibtfs.store.trees.history import History
from ibtfs.view.entry_node import Backing

Value = TypeVar("Value")
LISTING_SECONDS: Final = 0.25
"""What a listing may spend on finding out what belongs into it, and as much on link counts."""
LOOKUP_SECONDS: Final = 0.2
COUNTING_SECONDS: Final = 0.02
MOST_NAMES: Final = 300_000
FEW: Final = 100
NOT_COUNTED: Final = 1
"""The links of a directory whose subdirectories are not counted: programs know it as such."""


class Kept:
    """The last *most* values that were asked for, each made once; threads may share it.

    With *weigh*, the sum of weights is kept below *most* instead, except for the newest value;
    it is looked at when a value is added.
    """

    def __init__(self, most: int, weigh: Callable[[Any], int] | None = None) -> None:
        self._most, self._weigh, self._lock = most, weigh, threading.Lock()
        self._values: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of *key*; *make* may be called once too often."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                found: Value = self._values[key]
                return found
        made = make()
        with self._lock:
            value: Value = self._values.setdefault(key, made)
            if self._weigh is None:
                if len(self._values) > self._most:
                    self._values.popitem(last=False)
            elif len(self._values) > FEW:
                self._trim(self._weigh)
        return value

    def _trim(self, weigh: Callable[[Any], int]) -> None:
        weights = [(key, weigh(value)) for key, value in self._values.items()]
        total = sum(weight for _, weight in weights)
        # a tenth more than needed: not each new value is to find too much
        room = self._most if total <= self._most else self._most * 9 // 10
        for key, weight in weights[:-1]:
            if total <= room:
                break
            del self._values[key]
            total -= weight


def _weight(value: object) -> int:
    weight: int = getattr(value, "weight", 1)
    return weight


@dataclass(frozen=True)
class Timeline:
    """The points of a source as they are shown now: by name, oldest first."""

    points: Mapping[bytes, Point]
    history: History
    known: Kept = field(default_factory=lambda: Kept(MOST_NAMES, _weight))

    def name(self, point: Point) -> bytes:
        """The name that *point* is shown under."""
        return self.names[point.id].encode()

    @property
    def names(self) -> Mapping[str, str]:
        """The names of all points, by their ids."""
        return self.known.get("names", lambda: {p.id: n.decode() for n, p in self.points.items()})

    @property
    def places(self) -> Mapping[str, int]:
        """The place of each point in their order, by its id."""
        return self.known.get("places", lambda: {p.id: n for n, p in enumerate(self.ordered)})

    @property
    def ordered(self) -> Sequence[Point]:
        """The points, oldest first."""
        return self.history.points

    def select(self, words: str, now: datetime) -> Point:
        """The point that *words* name.  Raises PointNotFound, UsageError."""
        return select_among(self.ordered, words, now, self.names)


class TimeView(Backing, Protocol):
    """The tree, as its views over many points see it."""

    @property
    def comparison(self) -> Comparison:
        """Compares directories of its repository."""
        ...

    @property
    def kept(self) -> Kept:
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
    """The path of *name* in the directory at *path*."""
    return path + b"/" + name if path else name
