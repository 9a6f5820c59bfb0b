"""The points of one source as one line of time: what a path was in each, and what is gone.

Everything goes level by level through distinct directory states, which are known by their
digests: a state that many points share is looked into once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from ibtfs.errors import EntryNotFound, IntegrityError, NotADirectory, ObjectMissing
from ibtfs.format.entry import HASH_SIZE
from ibtfs.format.point import Point
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.compare import Comparison
from ibtfs.store.trees.directory import Directory, Entry, StateRef
from ibtfs.store.trees.past import Gone, Past
from ibtfs.store.trees.paths import root_entry
from ibtfs.store.trees.patience import Patience
from ibtfs.store.trees.trail import Trail

FOUND_BYTES: Final = 700

Sighting = Entry | IntegrityError | None
"""What a path was in one point: an entry, nothing, or what keeps it from being known."""


class Version(NamedTuple):
    """An entry as it was from its *first* point to its *last*, in *points* of them.

    Points between them may lack it.  *entry* is what the first point has of it; where that cannot
    be known there is an *error* instead.  Where there are both, nobody knows whether it differs
    from the version before, whose entry is *old*.
    """

    first: Point
    last: Point
    points: int
    entry: Entry | None
    error: IntegrityError | None
    old: Entry | None


class History:
    """What the *points* of one source, oldest first, say of a path; threads may share it."""

    def __init__(self, repository: Repository, contents: Contents, points: Sequence[Point]) -> None:
        self.repository, self.contents = repository, contents
        self.points = tuple(points)
        self.comparison = Comparison(repository, contents)

    def sightings(self, path: bytes) -> list[Sighting]:
        """What *path*, relative to the source, was in each point; ``b""`` is the source itself."""
        names = path.split(b"/") if path else []
        failed: dict[tuple[int, bytes], IntegrityError] = {}
        found: dict[tuple[int, bytes], Sighting] = {}
        # point by point, not level by level: what a run wrote lies together
        seen = [self._follow(root_entry(point), names, found, failed) for point in self.points]
        if failed:  # the same state may be stored elsewhere as well
            seen = [self._follow(root_entry(point), names, found, failed) for point in self.points]
        return [self._unless_gone(s, p) for s, p in zip(seen, self.points, strict=True)]

    def _follow(
        self, entry: Entry, names: Sequence[bytes], found: dict[tuple[int, bytes], Sighting],
        failed: dict[tuple[int, bytes], IntegrityError],
    ) -> Sighting:  # fmt: skip
        """What *names* lead to, one below the other; states *found* before are not read."""
        seen: Sighting = entry
        trail = Trail()
        for level, name in enumerate(names):
            if not isinstance(seen, tuple):
                return seen
            if seen.state is None:
                return None
            try:
                trail.enter(level, seen.state.ref)
            except IntegrityError as error:
                return error
            key = (level, seen.state.digest[:HASH_SIZE])
            if key not in found:
                try:
                    found[key] = self._find(seen.state, name)
                except IntegrityError as error:
                    failed[key] = error
                    return error
            seen = found[key]
        return seen

    def _find(self, state: StateRef, name: bytes) -> Entry | None:
        """The entry called *name* of a directory."""
        return self.repository.cache.get(
            ("named", state.ref, name), lambda: self._look(state, name), lambda _: FOUND_BYTES
        )

    def _look(self, state: StateRef, name: bytes) -> Entry | None:
        try:
            # not kept: there may be one for each point, and each is asked for one name
            return Directory(self.repository, state.ref).find(name)
        except EntryNotFound:
            return None

    def _unless_gone(self, sighting: Sighting, point: Point) -> Sighting:
        """Nothing, where something is missing because the point was removed meanwhile."""
        if isinstance(sighting, ObjectMissing) and not self.repository.points.has(point.id):
            return None
        return sighting

    def versions(self, path: bytes, *, directories: bool) -> list[Version]:
        """The distinct versions of *path*, oldest first.

        Where the path lacks for some points and is as before afterwards, it is one version.
        *directories* false leaves out what is a directory.
        """
        found: list[Version] = []
        for point, sighting in zip(self.points, self.sightings(path), strict=True):
            if isinstance(sighting, IntegrityError):
                self._add(found, point, None, sighting)
            elif sighting is not None and (directories or sighting.state is None):
                self._add(found, point, sighting, None)
        return found

    def _add(
        self, found: list[Version], point: Point, entry: Entry | None, error: IntegrityError | None
    ) -> None:
        last = found[-1] if found else None
        old = last and (last.entry or last.old)
        try:
            continues = last is not None and self._continues(last.entry, entry)
        except IntegrityError as unknown:
            continues, error = False, unknown
        if last and continues:
            found[-1] = last._replace(last=point, points=last.points + 1)
            return
        found.append(Version(point, point, 1, entry, error, old))

    def _continues(self, last: Entry | None, entry: Entry | None) -> bool:
        """Whether *entry* is as it was last; what is not known for several points counts once.

        Raises IntegrityError where that cannot be told.
        """
        if last is None or entry is None:
            return last is entry
        return self.comparison.is_same(last, entry)

    def past(self, path: bytes) -> Past:
        """All that *path* was as a directory, and whether it ever was something else."""
        past = Past()
        for point, sighting in zip(self.points[::-1], self.sightings(path)[::-1], strict=True):
            if isinstance(sighting, tuple):
                past.add(point, sighting)
            elif sighting is not None:
                past.was_other = past.failed = True  # nobody knows
        return past

    def gone(self, path: bytes) -> Gone:
        """What the directory at *path* held once and does not now.

        Raises EntryNotFound, NotADirectory unless the newest point has a directory there.
        """
        now = self.sightings(path)[-1]
        if isinstance(now, IntegrityError):
            raise now
        if now is None:
            raise EntryNotFound(f"Not in the newest point: {os.fsdecode(path)!r}")
        if now.state is None:
            raise NotADirectory(f"{os.fsdecode(path)!r} is not a directory")
        return gone_of(self.repository, self.past(path))


def gone_of(repository: Repository, past: Past) -> Gone:
    """What a directory with this *past* held once and does not in the newest of its states."""
    newest, *older = past.states.values()
    return Gone(repository, newest, older)


def holds_gone(repository: Repository, past: Past, patience: Patience) -> bool:
    """Whether anything is gone in a directory with this *past*, or below it.

    Stops at the first.  What cannot be read, or is not known in time, counts as gone.
    """
    waiting = [past]
    while waiting:
        if patience.is_over:
            return True
        try:
            gone = gone_of(repository, waiting.pop())
            while not gone.entries and gone.step():
                if patience.is_over:
                    return True
        except IntegrityError:
            return True
        if gone.entries or gone.failures:
            return True
        waiting += gone.still.values()
    return False
