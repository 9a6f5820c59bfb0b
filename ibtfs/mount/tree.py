"""What the mounted tree looks like, and nothing of how it is shown.

::

    /                                   one directory per source
      documents/
        2026-11-20_101502/              a backup point, in local time
        latest -> 2026-11-20_101502     symbolic link to the newest

New points appear at once, removed ones go.  Inside a point nothing ever changes, so the kernel
may keep it; names of points and ``latest`` are looked up each time.

Inode numbers are keyed hashes: equal in every mount, and for the same unchanged file or directory
in every point.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import NamedTuple

from blake3 import blake3

from ibtfs.errors import EntryNotFound, PointGone
from ibtfs.format.point import Point
from ibtfs.mount.entry_node import point_node
from ibtfs.mount.node import Attributes, Node, Statistics
from ibtfs.mount.synthetic import LINK_MODE, SyntheticNode, folder_attributes
from ibtfs.store.content import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.select import by_source, displayed_names

LATEST = b"latest"
_INODE_MASK = (1 << 63) - 1


class _Sources(NamedTuple):
    """The points by source and by the name that they are shown under."""

    stamp: int
    points: dict[bytes, dict[bytes, Point]]


class RepositoryView:
    """The tree of a repository; threads may share it."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.contents = Contents(repository)
        self._lock = threading.Lock()
        self._known = _Sources(0, {})
        self._key = blake3(repository.id, derive_key_context="ibtfs 2026 inode").digest()

    @property
    def root(self) -> Node:
        """The directory at the mount point."""
        return _Root(self)

    def sources(self) -> dict[bytes, dict[bytes, Point]]:
        """Points by source and name, as they are now."""
        with self._lock:
            stamp = self.repository.storage.folder_stamp("points")
            if not stamp or stamp != self._known.stamp:
                self._known = _Sources(stamp, self._read())
            return self._known.points

    def _read(self) -> dict[bytes, dict[bytes, Point]]:
        self.repository.require_there()
        points = self.repository.points().points
        names = displayed_names(points)
        return {
            os.fsencode(source): {names[point.id].encode(): point for point in mine}
            for source, mine in by_source(points).items()
        }

    def inode(self, *parts: bytes) -> int:
        """A number for what *parts* describe; never 0 or 1, which belong to the root."""
        hasher = blake3(key=self._key)
        for part in parts:
            hasher.update(len(part).to_bytes(4, "little") + part)
        return (int.from_bytes(hasher.digest(8), "little") & _INODE_MASK) | 2

    @property
    def changed_ns(self) -> int:
        """When a point last came or went: the adapters keep a listing as long as this stays."""
        return self.repository.storage.changed_ns("points")

    def statistics(self) -> Statistics:
        """The file system that holds the repository."""
        found = self.repository.storage.statistics()
        return Statistics(
            found.f_frsize, found.f_blocks, found.f_bfree, found.f_bavail, found.f_files,
            found.f_ffree,
        )  # fmt: skip


class _Root(SyntheticNode):
    """The directory at the mount point."""

    def __init__(self, view: RepositoryView) -> None:
        self._view = view

    def attributes(self) -> Attributes:
        """One link for each source."""
        sources = self._view.sources()
        return folder_attributes(1, len(sources), self._view.changed_ns)

    def lookup(self, name: bytes) -> Node:
        """The source called *name*."""
        if name not in self._view.sources():
            raise EntryNotFound(f"No source {os.fsdecode(name)!r}")
        return _Source(self._view, name)

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """The sources."""
        return [(name, _Source(self._view, name)) for name in sorted(self._view.sources())]


class _Source(SyntheticNode):
    """The points of one source."""

    def __init__(self, view: RepositoryView, name: bytes) -> None:
        self._view, self._name = view, name

    def _points(self) -> dict[bytes, Point]:
        points = self._view.sources().get(self._name)
        if points is None:
            raise PointGone(f"The last point of {os.fsdecode(self._name)!r} was removed")
        return points

    def attributes(self) -> Attributes:
        """One link for each point."""
        points = self._points()
        inode = self._view.inode(b"source", self._name)
        return folder_attributes(inode, len(points), self._view.changed_ns)

    def lookup(self, name: bytes) -> Node:
        """The point called *name*, or ``latest``."""
        points = self._points()
        if name == LATEST:
            return _Latest(self._view, self._name, points)
        point = points.get(name)
        if point is None:
            raise EntryNotFound(f"No point {os.fsdecode(name)!r}")
        return point_node(self._view, self._name + b"/" + name, point)

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """The points, oldest first, and ``latest``."""
        points = self._points()
        listed: list[tuple[bytes, Node]] = [
            (name, point_node(self._view, self._name + b"/" + name, point))
            for name, point in points.items()
        ]
        return [*listed, (LATEST, _Latest(self._view, self._name, points))]


class _Latest(SyntheticNode):
    """The symbolic link to the newest point."""

    def __init__(self, view: RepositoryView, source: bytes, points: dict[bytes, Point]) -> None:
        self._view, self._source = view, source
        self._target, self._point = list(points.items())[-1]

    def attributes(self) -> Attributes:
        """As long as its target."""
        time_ns = self._point.time_ns
        inode = self._view.inode(b"latest", self._source)
        size = len(self._target)
        return Attributes(
            inode, LINK_MODE, 1, os.getuid(), os.getgid(), 0, size, 0, time_ns, time_ns
        )

    def target(self) -> bytes:
        """The name of the newest point."""
        return self._target
