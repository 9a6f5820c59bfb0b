"""``.deleted/``: what is gone from the newest point of a source, each at its last version.

A path is gone when the newest point has nothing at it.  A directory that is gone is shown as the
last point shows it that has it.  A directory that is still there is shown if anything in it is
gone, with what is gone, whenever that was; unless it could not be told in time, or because of
damage: then it is shown all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from ibtfs.errors import EntryNotFound, IntegrityError
from ibtfs.store.trees.history import holds_gone
from ibtfs.store.trees.past import Gone, Last, Past
from ibtfs.store.trees.patience import Patience
from ibtfs.view.entry_node import EntryNode, failure, partly_failed
from ibtfs.view.node import Attributes, Node
from ibtfs.view.synthetic import SyntheticNode, as_in_the_past, folder_attributes
from ibtfs.view.timeline import (
    AGAIN_SECONDS,
    COUNTING_SECONDS,
    LISTING_SECONDS,
    LOOKUP_SECONDS,
    NOT_COUNTED,
    Timeline,
    TimeView,
    below,
    way_back,
)

NAME = b".deleted"


class _Losses:
    """What is gone from one directory of a timeline."""

    def __init__(self, timeline: Timeline, path: bytes) -> None:
        self.past = timeline.history.past(path)
        self.gone: Gone = timeline.history.gone(path)
        self.links = 0
        self._repository = timeline.history.repository
        self._decided: dict[bytes, bool] = {}
        self._again = time.monotonic() + AGAIN_SECONDS
        self._undecided: set[bytes] = set()

    @property
    def weight(self) -> int:
        """How many names are kept, and a bit."""
        return 5 + 5 * (len(self.gone.entries) + len(self.gone.still))

    @property
    def outdated(self) -> bool:
        """Whether something in it could not be read, and may be by now."""
        failed = self.past.failed or bool(self.gone.failures)
        return failed and time.monotonic() >= self._again

    def holds(self, name: bytes, past: Past, patience: Patience) -> bool:
        """Whether something is gone in the directory *name*, which is still there.

        What a listing had no time for is shown, and asked for it is not looked at again.
        """
        return name in self._undecided or self._holds(name, past, patience)

    def _holds(self, name: bytes, past: Past, patience: Patience) -> bool:
        found = self._decided.get(name)
        if found is None:
            found = holds_gone(self._repository, past, patience)
            if patience.is_over:
                self._undecided.add(name)
            else:
                self._decided[name] = found
                self._undecided.discard(name)
        return found

    def still(self, patience: Patience) -> list[bytes]:
        """The names of directories that are there, and in which something is gone."""
        past = self.gone.still
        if not self.gone.is_complete:
            return list(past)
        return [name for name in past if self._holds(name, past[name], patience)]

    def count(self, patience: Patience) -> None:
        """Count the directories that are shown; tried once."""
        if self.links:
            return
        self.links = NOT_COUNTED
        if patience.is_over or not self.gone.advance(patience):
            return
        still = self.still(patience)
        if not patience.is_over and not self.gone.failures:
            gone = [last for last in self.gone.entries.values() if last.entry.state is not None]
            self.links = 2 + len(still) + len(gone)


class DeletedFolder(SyntheticNode):
    """A directory that is there, with what is gone from it.

    Who may look: whoever could look into the directory in all points that have it.
    """

    def __init__(self, view: TimeView, source: bytes, path: bytes) -> None:
        self._view, self._source, self._path = view, source, path
        self._is_counted = True  # unless the listing that it came with left no time for it

    def _known(self) -> _Losses:
        timeline = self._view.timeline(self._source)
        try:
            return timeline.find((NAME, self._path), lambda: _Losses(timeline, self._path))
        except IntegrityError as error:
            raise failure(self._view, timeline.ordered[-1], self._path, error) from error

    def attributes(self) -> Attributes:
        """Its mtime changes when its listing may have."""
        known = self._known()
        known.count(Patience(COUNTING_SECONDS if self._is_counted else 0))
        past, gone = known.past, known.gone
        time_ns = self._view.changed_ns + len(gone.entries) + len(gone.still)
        inode = self._view.inode(b"deleted", self._source, self._path)
        found = folder_attributes(inode, 0, time_ns)._replace(nlink=known.links)
        return self._view.options.presented(as_in_the_past(found, past))

    def lookup(self, name: bytes) -> Node:
        """What was called *name* and is gone, or the directory in which something is gone."""
        timeline, path = self._view.timeline(self._source), below(self._path, name)
        *before, now = timeline.history.sightings(path)
        if isinstance(now, IntegrityError):
            raise failure(self._view, timeline.ordered[-1], path, now)
        if now is None or now.state is None:
            failed: tuple[IntegrityError, int] | None = None
            for place in range(len(before) - 1, -1, -1):
                seen = before[place]
                if isinstance(seen, IntegrityError):
                    failed = failed or (seen, place)
                elif seen is not None and (now is None or seen.state is not None):
                    return self._gone(name, Last(timeline.ordered[place], seen))
            if failed and now is None:
                raise failure(self._view, timeline.ordered[failed[1]], path, failed[0])
        else:
            past = timeline.history.past(path)
            if self._known().holds(name, past, Patience(LOOKUP_SECONDS)):
                return self._below(name)
        raise EntryNotFound(f"Nothing is gone at {os.fsdecode(path)!r}")

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """What is gone, and directories in which something is.

        Raises PartlyDamaged with what is known of, where damage hides some.
        """
        known = self._known()
        patience = Patience(LISTING_SECONDS)
        known.gone.advance(patience)
        listed: list[tuple[bytes, Node]] = [
            (name, self._gone(name, last)) for name, last in list(known.gone.entries.items())
        ]
        counting = Patience(LISTING_SECONDS)
        for name in known.still(patience):
            child = self._below(name)
            child.count(counting)
            listed.append((name, child))
        listed.sort(key=lambda item: item[0])
        if known.gone.failures:
            timeline = self._view.timeline(self._source)
            timeline.forget((NAME, self._path), known.gone.failures)
            newest = timeline.ordered[-1]
            told = [failure(self._view, newest, self._path, e) for e in known.gone.failures]
            raise partly_failed(told, listed)
        return listed

    def count(self, patience: Patience) -> None:
        """Count the directories in it, if *patience* allows, and else not at all."""
        self._is_counted = not patience.is_over
        if self._is_counted:
            self._known().count(patience)

    def _gone(self, name: bytes, last: Last) -> Node:
        view, path = self._view, below(self._path, name)
        return view.kept.get(
            ("gone", self._source, path, last.point.id),
            lambda: EntryNode.at(
                view, last.point, path, last.entry, way_back(view, self._source, last.point, 1)
            ),
        )

    def _below(self, name: bytes) -> DeletedFolder:
        path = below(self._path, name)
        return self._view.kept.get(
            (NAME, self._source, path), lambda: DeletedFolder(self._view, self._source, path)
        )


def deleted_folder(view: TimeView, source: bytes) -> Node:
    """The folder ``.deleted`` of a source."""
    return view.kept.get((NAME, source, b""), lambda: DeletedFolder(view, source, b""))
