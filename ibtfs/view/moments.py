"""Names that begin with ``@``: the newest backup point at or before a moment, or with a tag.

They are found by name and not listed.  In a source each is a symbolic link to a point; at the
root it is a folder of such links, one for each source that has a point as old as that::

    documents/@yesterday -> 2026-11-19_101500
    @GMT-2026.08.01-10.00.00/documents -> ../documents/2026-07-31_230000
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ibtfs.errors import EntryNotFound, NotFound, PointGone, UsageError
from ibtfs.format.point import Point
from ibtfs.view.node import Attributes, Node
from ibtfs.view.synthetic import SymlinkNode, SyntheticNode, folder_attributes
from ibtfs.view.timeline import TimeView

MARK = b"@"


def point_at(view: TimeView, source: bytes, words: bytes) -> tuple[bytes, Point]:
    """The point of *source* that *words*, without the mark, mean now, and the name it is shown by.

    Raises EntryNotFound, PointGone.
    """
    timeline = view.timeline(source)
    try:
        tagged = view.repository.points.tagged
        point = timeline.select(os.fsdecode(words), view.now(), tagged)
    except (NotFound, UsageError) as error:
        raise EntryNotFound(str(error)) from error
    return timeline.name(point), point


def moment_link(view: TimeView, source: bytes, name: bytes, before: bytes = b"") -> Node:
    """The link called *name*, mark and all, to a point of *source*; *before* leads to the source.

    Raises EntryNotFound, PointGone.
    """
    target, point = point_at(view, source, name.removeprefix(MARK))
    inode = view.inode(b"moment", source, name, before)
    return view.kept.get(
        ("moment", source, name, before, target),
        lambda: SymlinkNode(inode, before + target, point.time_ns),
    )


def moment_folder(view: TimeView, name: bytes) -> Node:
    """The folder at the root called *name*, mark and all.  Raises EntryNotFound."""
    folder = view.kept.get(("moments", name), lambda: MomentFolder(view, name))
    if not folder.children():
        raise EntryNotFound(f"No source has a point at or before {os.fsdecode(name)!r}")
    return folder


class MomentFolder(SyntheticNode):
    """One moment for all sources."""

    def __init__(self, view: TimeView, name: bytes) -> None:
        self._view, self._name = view, name

    def attributes(self) -> Attributes:
        """A folder of links."""
        return folder_attributes(self._view.inode(b"moments", self._name), 0, self._view.changed_ns)

    def lookup(self, name: bytes) -> Node:
        """The link to the point of the source called *name*."""
        if name not in self._view.source_names():
            raise EntryNotFound(f"No source {os.fsdecode(name)!r}")
        return moment_link(self._view, name, self._name, b"../" + name + b"/")

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """A link for each source that has such a point."""
        found = []
        for source in self._view.source_names():
            try:
                found.append((source, self.lookup(source)))
            except (EntryNotFound, PointGone):
                continue
        return found
