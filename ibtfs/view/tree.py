"""What the mounted tree looks like, and nothing of how it is shown.

::

    /                                   one directory per source
      documents/
        2026-11-20_101502/              a backup point, in local time
        latest -> 2026-11-20_101502     symbolic link to the newest
        @yesterday -> ...               these are found by name, and not listed:
        .versions/  .changes/  .deleted/
      @yesterday/                       likewise

New points appear at once, removed ones go.  Inside a point nothing ever changes, so the kernel
may keep it; names of points and ``latest`` are looked up each time.  The views over many points
are in :mod:`.moments`, :mod:`.versions`, :mod:`.changes` and :mod:`.deleted`.

Inode numbers (:mod:`ibtfs.view.inodes`) are equal in every mount, and for the same unchanged file
or directory in every point.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Final

from ibtfs.errors import EntryNotFound, PointGone
from ibtfs.format import moment
from ibtfs.format.point import Point
from ibtfs.store.cache import ENTRY_BYTES, ByteCache
from ibtfs.store.contents.reader import Contents
from ibtfs.store.naming import by_source, displayed_names
from ibtfs.store.repository import Repository
from ibtfs.store.trees.compare import Comparison
from ibtfs.store.trees.history import History
from ibtfs.view import changes, deleted, versions
from ibtfs.view.closing import closed
from ibtfs.view.entry_node import point_node
from ibtfs.view.inodes import Claim, Inodes
from ibtfs.view.moments import MARK, moment_folder, moment_link
from ibtfs.view.names import ShownNames
from ibtfs.view.node import Attributes, Node, Statistics
from ibtfs.view.options import ViewOptions
from ibtfs.view.synthetic import SymlinkNode, SyntheticNode, folder_attributes
from ibtfs.view.timeline import AGAIN_SECONDS, Timeline, TimeView

LATEST: Final = moment.LATEST.encode()
MOST_NODES: Final = 5_000
VIEWS: Final[Mapping[bytes, Callable[[TimeView, bytes], Node]]] = {
    versions.NAME: versions.versions_folder,
    changes.NAME: changes.changes_folder,
    deleted.NAME: deleted.deleted_folder,
}
"""The views over all points of a source, by name: each makes its folder for a source."""

log = logging.getLogger(__name__)


class RepositoryView:
    """The tree of a repository; threads may share it.

    *clock*, given the time zone of the names, says what ``@3d`` goes back from.
    """

    def __init__(
        self,
        repository: Repository,
        options: ViewOptions | None = None,
        clock: Callable[[tzinfo | None], datetime] = datetime.now,
    ) -> None:
        self.repository = repository
        self.options = options or ViewOptions()
        self.contents = Contents(repository)
        self.comparison = Comparison(repository, self.contents)
        self.kept = ByteCache(MOST_NODES * ENTRY_BYTES)
        self._clock = clock
        self._lock = threading.Lock()
        self._token = 0
        self._ids: tuple[str, ...] | None = None
        self._again, self._told = math.inf, set[str]()
        self._sources: dict[bytes, Timeline] = {}
        self._inodes, self._names = Inodes(repository.id), ShownNames()

    @property
    def root(self) -> Node:
        """The directory at the mount point."""
        return _Root(self)

    def sources(self) -> Mapping[bytes, Timeline]:
        """The sources by the names that they are shown under, as they are now."""
        with self._lock:
            token = self.repository.points.token()
            due = time.monotonic() >= self._again
            if not token or token != self._token or due:
                if self._ids is not None or not self.repository.is_far:
                    self.repository.require_there()
                ids = tuple(self.repository.points.ids(recent=True))
                if ids != self._ids or due:
                    self._sources, self._ids = self._read(), ids
                self._token = token
            return self._sources

    def _read(self) -> dict[bytes, Timeline]:
        (points, damaged), options = self.repository.points.all(recent=True), self.options
        for error in damaged.values():
            if str(error) not in self._told:
                log.error("Backup point left out: %s", error)
        self._told = {str(error) for error in damaged.values()}
        self._again = time.monotonic() + AGAIN_SECONDS if damaged else math.inf
        # of all points: a name must not depend on what else is shown
        sources = by_source(points)
        wanted = displayed_names(points, options.zone, options.point_format)
        names = self._names.settle(sources.values(), wanted)
        found = {}
        for source, mine in sources.items():
            shown = {names[p.id].encode(): p for p in mine if options.shows(p)}
            if options.for_others:
                shown = {name: closed(point) for name, point in shown.items()}
            if shown and options.shows_source(source):
                name = os.fsencode(source)
                found[name] = self._timeline(name, shown, sorted(damaged))
        return found

    def _timeline(
        self, source: bytes, points: dict[bytes, Point], damaged: Sequence[str]
    ) -> Timeline:
        """What was found out about the points of a source holds until one comes or goes."""
        known = self._sources.get(source)
        if known is not None and (known.points, known.damaged) == (points, damaged):
            return known
        history = History(self.repository, self.contents, list(points.values()))
        return Timeline(points, history, damaged)

    def timeline(self, source: bytes) -> Timeline:
        """The points of *source* as they are now.  Raises PointGone."""
        timeline = self.sources().get(source)
        if timeline is None:
            raise PointGone(f"The last point of {os.fsdecode(source)!r} was removed")
        return timeline

    def now(self) -> datetime:
        """The time, in the zone of the names; naive in the system's."""
        return self._clock(self.options.zone)

    def source_names(self) -> Sequence[bytes]:
        """The sources that are shown, sorted."""
        return sorted(self.sources())

    def inode(self, *parts: bytes) -> int:
        """A number for what *parts* describe."""
        return self._inodes.number(*parts)

    def claim(self, *parts: bytes) -> Claim:
        """A number for what *parts* describe, that nothing else has as long as it is held."""
        return self._inodes.claim(*parts)

    @property
    def changed_ns(self) -> int:
        """When a point last came or went: the adapters keep a listing as long as this stays."""
        return self.repository.points.changed_ns()

    def statistics(self) -> Statistics:
        """The file system that holds the repository."""
        return Statistics(*self.repository.space())


class _Root(SyntheticNode):
    """The directory at the mount point."""

    def __init__(self, view: RepositoryView) -> None:
        self._view = view

    def attributes(self) -> Attributes:
        """One link for each source."""
        sources = self._view.sources()
        found = folder_attributes(1, len(sources), self._view.changed_ns)
        return self._view.options.presented(found)

    def lookup(self, name: bytes) -> Node:
        """The source called *name*, or the folder of a moment."""
        if name in self._view.sources():
            return self._source(name)
        if name.startswith(MARK):
            return moment_folder(self._view, name)
        raise EntryNotFound(f"No source {os.fsdecode(name)!r}")

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """The sources."""
        return [(name, self._source(name)) for name in self._view.source_names()]

    def _source(self, name: bytes) -> Node:
        return self._view.kept.get(("source", name), lambda: _Source(self._view, name))


class _Source(SyntheticNode):
    """The points of one source."""

    def __init__(self, view: RepositoryView, name: bytes) -> None:
        self._view, self._name = view, name
        self._claim = view.claim(b"source", name)

    def _timeline(self) -> Timeline:
        return self._view.timeline(self._name)

    def attributes(self) -> Attributes:
        """One link for each point."""
        points = self._timeline().points
        found = folder_attributes(self._claim.number, len(points), self._view.changed_ns)
        return self._view.options.presented(found)

    def lookup(self, name: bytes) -> Node:
        """The point called *name*, ``latest``, a moment, or a view over all points."""
        timeline = self._timeline()
        if name == LATEST:
            return self._latest(timeline)
        point = timeline.points.get(name)
        if point is not None:
            return self._point(name, point)
        if name.startswith(MARK):
            return moment_link(self._view, self._name, name)
        folder = VIEWS.get(name)
        if folder is not None:
            return folder(self._view, self._name)
        raise EntryNotFound(f"No point {os.fsdecode(name)!r}")

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """The points, oldest first, and ``latest``."""
        timeline = self._timeline()
        listed = [(name, self._point(name, point)) for name, point in timeline.points.items()]
        return [*listed, (LATEST, self._latest(timeline))]

    def _point(self, name: bytes, point: Point) -> Node:
        view = self._view
        return view.kept.get(
            ("point", self._name, name, point.id),
            lambda: point_node(view, self._name + b"/" + name, point),
        )

    def _latest(self, timeline: Timeline) -> Node:
        target, point = list(timeline.points.items())[-1]
        inode, time_ns = self._view.inode(b"latest", self._name), point.time_ns
        return self._view.kept.get(
            ("latest", self._name, target, point.id), lambda: SymlinkNode(inode, target, time_ns)
        )
