"""``.versions/PATH/``: the distinct versions of a path, oldest to newest.

Every name that was ever at a path is a directory here.  For a file it holds the versions, each
under the name of the point that had it first; for a directory, what it ever held.  Where a path
was both, it has both; a version whose name is taken by something that the directory held gets
``.file`` appended.  Nothing is gone here: parents may be gone, too.

What cannot be read because of damage is listed where it is known of, and cannot be looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import cached_property

from ibtfs.errors import EntryNotFound, IntegrityError
from ibtfs.store.trees.history import Version
from ibtfs.store.trees.past import Ever, Past
from ibtfs.store.trees.patience import Patience
from ibtfs.view.entry_node import EntryNode, failure, partly_failed
from ibtfs.view.node import Attributes, Node
from ibtfs.view.synthetic import (
    DamagedNode,
    SyntheticNode,
    as_in_the_past,
    folder_attributes,
)
from ibtfs.view.timeline import (
    AGAIN_SECONDS,
    COUNTING_SECONDS,
    LISTING_SECONDS,
    NOT_COUNTED,
    Timeline,
    TimeView,
    below,
    way_back,
)

NAME = b".versions"
TAKEN = b".file"
MOST_LOOKED_UP = 10_000


class _PathHistory:
    """What was found out about one path of a timeline."""

    def __init__(self, timeline: Timeline, path: bytes) -> None:
        self._timeline, self._path = timeline, path
        self._links = 0
        self._hint: Past | None = None
        self._again = time.monotonic() + AGAIN_SECONDS
        self._names: set[bytes] = set()

    @cached_property
    def past(self) -> Past:
        return self._timeline.history.past(self._path)

    @cached_property
    def ever(self) -> Ever:
        return Ever(self._timeline.history.repository, list(self.past.states.values()))

    @cached_property
    def versions(self) -> Mapping[bytes, Version]:
        """The versions that are no directories, by name, oldest first."""
        found = {}
        if self.past.was_other:
            for version in self._timeline.history.versions(self._path, directories=False):
                name = self._timeline.name(version.first)
                while self.past.was_directory and self.has(name):
                    name += TAKEN
                found[name] = version
        return found

    @property
    def weight(self) -> int:
        """How many names are kept, and a bit."""
        return 5 + len(self._names) + (len(self.ever.names) if "ever" in self.__dict__ else 0)

    @property
    def outdated(self) -> bool:
        """Whether something in it could not be read, and may be by now."""
        known = self.__dict__
        failed = ("past" in known and self.past.failed) or ("ever" in known and self.ever.failures)
        failed = failed or any(version.error for version in known.get("versions", {}).values())
        return bool(failed) and time.monotonic() >= self._again

    def adopt(self, past: Past | None, *, is_complete: bool) -> None:
        """Take what the directory above knows of it; None is what was never a directory.

        What is not complete lets in nobody else for now.
        """
        shown = past or Past()
        if is_complete and "past" not in self.__dict__:
            shown.was_other = shown.was_other or past is None
            self.past = shown
        self._hint = shown if is_complete else shown.copy_for_owner()

    @property
    def shown(self) -> Past:
        """What attributes are made from: they are not worth a search."""
        return self._hint if self._hint and "past" not in self.__dict__ else self.past

    @property
    def is_sure(self) -> bool:
        """Whether all that the directory ever held is known."""
        return self.ever.is_complete and not self.ever.failures

    def has(self, name: bytes) -> bool:
        """Whether the directory ever held *name*, as far as that is known."""
        if name in self.ever.names or name in self._names:
            return True
        if self.is_sure:
            return False
        seen = self._timeline.history.sightings(below(self._path, name))
        found = any(isinstance(sighting, tuple) for sighting in seen)
        if found and len(self._names) < MOST_LOOKED_UP:
            self._names.add(name)
        return found

    def count(self, patience: Patience) -> int:
        """The links of the folder; tried once."""
        if not self._links:
            self._links = NOT_COUNTED
            if not patience.is_over:
                if not self.shown.was_directory:
                    self._links = 2
                elif self.ever.advance(patience) and self.is_sure:
                    self._links = 2 + len(self.ever.names)
        return self._links


class VersionsFolder(SyntheticNode):
    """The versions of one path of a source, or of what is below it.

    Who may look: whoever could look into the directory in all points that have it.
    """

    def __init__(self, view: TimeView, source: bytes, path: bytes) -> None:
        self._view, self._source, self._path = view, source, path

    def _timeline(self) -> Timeline:
        return self._view.timeline(self._source)

    def _known(self, timeline: Timeline) -> _PathHistory:
        return timeline.find((NAME, self._path), lambda: _PathHistory(timeline, self._path))

    def attributes(self) -> Attributes:
        """Its mtime changes when its listing may have."""
        known = self._known(self._timeline())
        links, past = known.count(Patience(COUNTING_SECONDS)), known.shown
        time_ns = self._view.changed_ns + known.weight
        inode = self._view.inode(b"versions", self._source, self._path)
        found = folder_attributes(inode, 0, time_ns)._replace(nlink=links)
        if past.was_directory:
            found = as_in_the_past(found, past)
        return self._view.options.presented(found)

    def lookup(self, name: bytes) -> Node:
        """What was ever called *name* in the directory, or the version called so."""
        timeline = self._timeline()
        known = self._known(timeline)
        if known.past.was_directory and known.has(name):
            return self._below(name)
        version = known.versions.get(name)
        if version is None:
            if known.past.was_directory and not known.is_sure:
                self._require_known(timeline, name)
            raise EntryNotFound(f"No version {os.fsdecode(name)!r} of {os.fsdecode(self._path)!r}")
        return self._version(version)

    def _require_known(self, timeline: Timeline, name: bytes) -> None:
        """Raise what is damaged, if that keeps it from being known whether there is *name*."""
        path = below(self._path, name)
        for point, sighting in zip(timeline.ordered, timeline.history.sightings(path)):
            if isinstance(sighting, IntegrityError):
                raise failure(self._view, point, path, sighting)

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """What the directory ever held, by name, and the versions, oldest first.

        Raises PartlyDamaged with what is known of, where damage hides some.
        """
        timeline = self._timeline()
        known = self._known(timeline)
        listed: list[tuple[bytes, Node]] = []
        if known.past.was_directory:
            is_complete = known.ever.advance(Patience(LISTING_SECONDS))
            counting = Patience(LISTING_SECONDS)
            for name, past in sorted(known.ever.names.items()):
                child = self._below(name)
                inside = child._known(timeline)
                inside.adopt(past, is_complete=is_complete and known.is_sure)
                inside.count(counting)
                listed.append((name, child))
        listed += [(name, self._version(version)) for name, version in known.versions.items()]
        if known.past.was_directory and known.ever.failures:
            timeline.forget((NAME, self._path), known.ever.failures)
            newest = timeline.ordered[-1]
            told = [failure(self._view, newest, self._path, e) for e in known.ever.failures]
            raise partly_failed(told, listed)
        return listed

    def _below(self, name: bytes) -> VersionsFolder:
        path = below(self._path, name)
        return self._view.kept.get(
            (NAME, self._source, path), lambda: VersionsFolder(self._view, self._source, path)
        )

    def _version(self, version: Version) -> Node:
        view, path, point, entry = self._view, self._path, version.first, version.entry
        if entry is None:
            error = version.error or IntegrityError("Not known")
            return DamagedNode(failure(view, point, path, error))
        return view.kept.get(
            ("version", self._source, path, point.id),
            lambda: EntryNode.at(view, point, path, entry, way_back(view, self._source, point, 2)),
        )


def versions_folder(view: TimeView, source: bytes) -> Node:
    """The folder ``.versions`` of a source."""
    return view.kept.get((NAME, source, b""), lambda: VersionsFolder(view, source, b""))
