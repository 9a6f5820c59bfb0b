"""``.changes/POINT/``: trees of just what changed in a point against the one before it.

::

    .changes/
      2026-11-20_101502/             against the point before; the first one is all created
        created/  updated/  deleted/
      2026-11-18_101502..2026-11-20_101502/    found by name and not listed, for any two points

``latest``, ``latest~2`` and moments with their ``@`` are links to these.  What changed between
two points never changes, so all below is stable.  A folder that holds nothing of its kind is not
shown, unless that could not be told in time, or because of damage.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from ibtfs.errors import (
    EntryNotFound,
    IntegrityError,
    NotFound,
    PartlyDamaged,
    PointDamaged,
    UsageError,
)
from ibtfs.format.point import Point
from ibtfs.store.naming import LATEST
from ibtfs.store.trees.compare import KINDS, Change, Kind
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.patience import Patience
from ibtfs.store.unread_points import damaged_between
from ibtfs.view.entry_node import EntryNode, failure, partly_failed, point_node
from ibtfs.view.moments import MARK
from ibtfs.view.node import Attributes, Node
from ibtfs.view.synthetic import DamagedNode, SymlinkNode, SyntheticNode, folder_attributes
from ibtfs.view.timeline import (
    COUNTING_SECONDS,
    LISTING_SECONDS,
    LOOKUP_SECONDS,
    NOT_COUNTED,
    Timeline,
    TimeView,
    way_back,
)

NAME = b".changes"
TO = b".."


class ChangesFolder(SyntheticNode):
    """The folder ``.changes`` of a source."""

    def __init__(self, view: TimeView, source: bytes) -> None:
        self._view, self._source = view, source

    def attributes(self) -> Attributes:
        """One link for each point."""
        points = self._view.timeline(self._source).points
        inode = self._view.inode(b"changes", self._source)
        return folder_attributes(inode, len(points), self._view.changed_ns)

    def lookup(self, name: bytes) -> Node:
        """What changed in the point called *name*, or between the two points that it names."""
        timeline = self._view.timeline(self._source)
        if name in timeline.points:
            return self._of(timeline, timeline.points[name])
        first, to, second = name.partition(TO)
        if not to:
            return self._link(name, timeline.name(self._select(timeline, name)))
        one, other = self._select(timeline, first), self._select(timeline, second)
        plain = timeline.name(one) + TO + timeline.name(other)
        return self._pair(one, other) if name == plain else self._link(name, plain)

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """The points, oldest first."""
        timeline = self._view.timeline(self._source)
        return [(name, self._of(timeline, point)) for name, point in timeline.points.items()]

    def _select(self, timeline: Timeline, words: bytes) -> Point:
        """The point that is shown as *words*, or that they mean if they have a mark.

        Without one only ``latest`` is understood: a name would mean a moment, and lead elsewhere
        when its point is removed.
        """
        if words in timeline.points:
            return timeline.points[words]
        text = os.fsdecode(words)
        if not words.startswith(MARK) and not LATEST.match(text):
            raise EntryNotFound(f"No point {text!r}")
        try:
            tagged = self._view.repository.points.tagged
            return timeline.select(text.removeprefix("@"), self._view.now(), tagged)
        except (NotFound, UsageError) as error:
            raise EntryNotFound(str(error)) from error

    def _of(self, timeline: Timeline, point: Point) -> Node:
        """What changed in *point*, if it is known which one was before."""
        place = timeline.places[point.id]
        before = timeline.ordered[place - 1] if place else None
        hidden = damaged_between(before, point, timeline.damaged)
        if hidden:
            return DamagedNode(
                PointDamaged(
                    f"The backup point {hidden} is damaged, and may be the one before {point.id}: "
                    "name two points, as in .changes/POINT1..POINT2"
                )
            )
        return self._pair(before, point)

    def _pair(self, old: Point | None, new: Point) -> Node:
        key = ("pair", self._source, old and old.id, new.id)
        return self._view.kept.get(key, lambda: _Pair(self._view, self._source, old, new))

    def _link(self, name: bytes, target: bytes) -> Node:
        inode = self._view.inode(b"changes link", self._source, name)
        return self._view.kept.get(
            ("changes link", self._source, name, target), lambda: SymlinkNode(inode, target, 0)
        )


class _Pair(SyntheticNode):
    """What changed between two points: three folders."""

    stable = True

    def __init__(self, view: TimeView, source: bytes, old: Point | None, new: Point) -> None:
        self._view, self._source, self._old, self._new = view, source, old, new

    @cached_property
    def _folders(self) -> dict[bytes, Node]:
        return {kind.encode(): self._folder(kind) for kind in KINDS}

    def _folder(self, kind: Kind) -> Node:
        sides = _Sides(self._view, kind, self._old, self._new)
        old = self._old and self._tree_of(self._old)
        new = self._tree_of(self._new)
        shown = old if kind == "deleted" and old else new
        return ChangedFolder(sides, shown, old.entry.state if old else None, new.entry.state)

    def _tree_of(self, point: Point) -> EntryNode:
        return point_node(self._view, b"", point, way_back(self._view, self._source, point, 3))

    def attributes(self) -> Attributes:
        """Three folders, as old as the newer point."""
        ids = (self._old.id if self._old else "", self._new.id)
        inode = self._view.inode(b"pair", *(text.encode() for text in ids))
        return folder_attributes(inode, len(KINDS), self._new.time_ns)

    def lookup(self, name: bytes) -> Node:
        """One of the three."""
        if name not in self._folders:
            raise EntryNotFound(f"No {os.fsdecode(name)!r}: there are created, updated, deleted")
        return self._folders[name]

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """All three."""
        return list(self._folders.items())


class _Sides(NamedTuple):
    """Which changes are shown, and between which points."""

    view: TimeView
    kind: Kind
    old: Point | None
    new: Point

    def failed(self, path: bytes, error: IntegrityError) -> Exception:
        """*error* as what the reader is told."""
        for point in filter(None, (self.old, self.new)):
            told = failure(self.view, point, path, error)
            if not isinstance(told, IntegrityError):
                return told  # the point was removed
        return failure(self.view, self.new, path, error)


class ChangedFolder(SyntheticNode):
    """A directory of one side, *shown*, with just what changed in it, in one way.

    Its inode is its own: the same directory is in its point, and holds more there.
    """

    stable = True

    def __init__(
        self, sides: _Sides, shown: EntryNode, old: StateRef | None, new: StateRef | None
    ) -> None:
        self._sides, self._shown, self._old, self._new = sides, shown, old, new
        self._links = 0

    def attributes(self) -> Attributes:
        """Those of the directory, but for what it holds."""
        if not self._links:
            self.count(Patience(COUNTING_SECONDS))
        sides, shown = self._sides, self._shown
        ids = (sides.kind, sides.old.id if sides.old else "", sides.new.id)
        inode = sides.view.inode(b"changed", *(text.encode() for text in ids), shown.path)
        return shown.attributes()._replace(ino=inode, nlink=self._links)

    def xattrs(self) -> dict[bytes, bytes]:
        """Those of the directory: the ACL among them says who may look."""
        return dict(self._shown.xattrs())

    def count(self, patience: Patience) -> None:
        """Count the directories in it, if *patience* allows."""
        self._links = NOT_COUNTED
        if patience.is_over:
            return
        try:
            changes, failed = self._changes()
            found = [self._child(change, patience) for change in changes]
        except Exception:
            return  # who looks into it is told
        if not patience.is_over and failed is None:
            self._links = 2 + sum(_is_directory(node) for node in found)

    def lookup(self, name: bytes) -> Node:
        """The entry called *name*, if it changed so, or something in it did."""
        patience = Patience(LOOKUP_SECONDS)
        changes, failed = self._changes()
        first = bisect.bisect_left(changes, name, key=lambda change: change.name)
        for change in changes[first : first + 2]:  # one may be gone, and another new
            if change.name == name and (node := self._child(change, patience)) is not None:
                return node
        if failed is not None:
            raise failed  # it may be what cannot be read
        raise EntryNotFound(f"Not {self._sides.kind}: {os.fsdecode(name)!r}")

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """What changed so, and directories in which something did.

        Raises PartlyDamaged with what is known of, where damage hides some.
        """
        patience = Patience(LISTING_SECONDS)
        changes, failed = self._changes()
        found = [(change.name, self._child(change, patience)) for change in changes]
        counting = Patience(LISTING_SECONDS)
        for _, node in found:
            if isinstance(node, ChangedFolder):
                node.count(counting)
        shown = [(name, node) for name, node in found if node is not None]
        if failed is not None:
            raise partly_failed([failed], shown)
        return shown

    def _changes(self) -> tuple[Sequence[Change], Exception | None]:
        """The changes that are known, and why there may be others."""
        try:
            return self._sides.view.comparison.changes(self._old, self._new), None
        except PartlyDamaged as error:
            return error.found, self._sides.failed(self._shown.path, error)
        except IntegrityError as error:
            raise self._sides.failed(self._shown.path, error) from error

    def _child(self, change: Change, patience: Patience) -> Node | None:
        """The node that shows *change*; None if it does not belong here."""
        kind = self._sides.kind
        entry = change.old if kind == "deleted" else change.new
        is_directory = bool(change.old and change.new and change.new.state)
        if entry is None:
            return None
        if not is_directory:
            return self._shown.child(entry) if change.kind == kind else None
        is_shown = change.kind == kind  # by its own mode, owner or extended attributes
        if not is_shown and change.inside:
            is_shown = self._sides.view.comparison.holds(kind, *change.inside, patience)
        return self._folder(change, entry) if is_shown else None

    def _folder(self, change: Change, entry: Entry) -> Node:
        old, new = change.old and change.old.state, change.new and change.new.state
        return ChangedFolder(self._sides, self._shown.child(entry), old, new)


def _is_directory(node: Node | None) -> bool:
    if isinstance(node, EntryNode):
        return node.entry.state is not None
    return isinstance(node, ChangedFolder)


def changes_folder(view: TimeView, source: bytes) -> Node:
    """The folder ``.changes`` of a source."""
    return view.kept.get((NAME, source), lambda: ChangesFolder(view, source))
