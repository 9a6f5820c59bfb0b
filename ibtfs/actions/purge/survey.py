"""What of each backup point is meant, found by walking all that points lead to, once."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ibtfs.actions.purge.words import Matcher, Words
from ibtfs.format.entry import XATTRS_REF
from ibtfs.format.index import Reference, record_digest
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory, Entry, StateRef, StoredPage, child_path
from ibtfs.store.trees.reach import reach
from ibtfs.store.trees.totals import Allowance
from ibtfs.store.trees.trail import Trail

Place = tuple[Reference, bytes]
"""A directory state, and the path at which it is met: a pattern may mean one of several."""


class Cut(NamedTuple):
    """What goes from one directory: rows that are *gone*, and *folders* in which something is."""

    gone: tuple[Entry, ...]
    folders: tuple[Entry, ...]


class Conflict(NamedTuple):
    """A path that is not meant, and has the bytes of one that is."""

    source: str
    path: bytes


Cuts = dict[Place, Cut | None]


class Survey:
    """Finds what is meant by *words* in points of a repository; used by one thread.

    Raises IntegrityError where something cannot be read, for it may be meant; LimitExceeded of a
    point with more entries than any tree can have.
    """

    def __init__(self, repository: Repository, words: Words) -> None:
        self._repository, self._words = repository, words
        self._cuts: dict[Matcher, Cuts] = {}

    def matcher(self, point: Point) -> Matcher:
        """What tells the paths that are meant in *point*."""
        return self._words.matcher(point.root_path)

    def cuts(self, point: Point) -> Cuts:
        """What goes from each directory of *point*, and of others of the same root."""
        matcher = self.matcher(point)
        cuts = self._cuts.setdefault(matcher, {})
        allowance = Allowance(self._repository, StateRef(point.state, point.digest))
        waiting: list[tuple[Place, Cut | None]] = [((point.state, b""), None)]
        trail, depth = Trail(), 0
        while waiting:
            place, candidates = waiting.pop()
            if candidates is not None:
                depth -= 1
                folders = tuple(
                    folder
                    for folder in candidates.folders
                    if folder.state and cuts[(folder.state.ref, child_path(place[1], folder.name))]
                )
                is_cut = candidates.gone or folders
                cuts[place] = Cut(candidates.gone, folders) if is_cut else None
            elif place not in cuts:
                trail.enter(depth, *place)
                depth += 1
                found = self._candidates(place, matcher)
                allowance.spend(len(found.folders) + len(found.gone))
                waiting.append((place, found))
                waiting += [
                    ((folder.state.ref, child_path(place[1], folder.name)), None)
                    for folder in found.folders
                    if folder.state is not None
                ]
        return cuts

    def _candidates(self, place: Place, matcher: Matcher) -> Cut:
        """The rows of a directory that go, and its other directories."""
        ref, path = place
        gone, folders = [], []
        for entry in Directory(self._repository, ref).entries():
            if matcher.match(child_path(path, entry.name), stat.S_ISDIR(entry.mode)):
                gone.append(entry)
            elif entry.state is not None:
                folders.append(entry)
        return Cut(tuple(gone), tuple(folders))

    def gone(self, point: Point) -> Iterator[tuple[bytes, Entry]]:
        """All entries that go from *point*, with what is in them, by their paths."""
        cuts = self.cuts(point)
        waiting: list[Place] = [(point.state, b"")]
        while waiting:
            place = waiting.pop()
            cut = cuts[place]
            if cut is None:
                continue
            for entry in cut.gone:
                path = child_path(place[1], entry.name)
                yield path, entry
                if entry.state is not None:
                    yield from self._below(path, entry.state)
            waiting += [
                (folder.state.ref, child_path(place[1], folder.name))
                for folder in cut.folders
                if folder.state is not None
            ]

    def _below(self, path: bytes, state: StateRef) -> Iterator[tuple[bytes, Entry]]:
        allowance = Allowance(self._repository, state)
        for visit in reach(self._repository, state, path):
            entries = visit.entries()
            allowance.spend(len(entries))
            yield from entries

    def staying(self, point: Point, seen: set[Place]) -> Iterator[tuple[bytes, StoredPage, Cut]]:
        """The pages of *point*, the path of the directory of each, and what goes from that.

        Those in *seen* are passed over, and added to it.
        """
        cuts = self.cuts(point)
        waiting: list[Place] = [(point.state, b"")]
        while waiting:
            place = waiting.pop()
            if place in seen:
                continue
            seen.add(place)
            cut = cuts[place] or Cut((), ())
            names = {entry.name for entry in cut.gone}
            for page in Directory(self._repository, place[0]).pages():
                yield place[1], page, cut
                waiting += [
                    (folder.state.ref, child_path(place[1], folder.name))
                    for folder in page.folders()
                    if folder.state is not None and folder.name not in names
                ]

    def conflicts(self, points: Iterable[Point], contents: Iterable[Reference]) -> list[Conflict]:
        """The paths that stay in *points* and have the bytes of any of *contents*."""
        digests = {self._repository.archive(ref.archive).content_digest(ref.number)
                   for ref in contents}  # fmt: skip
        same = self._records(digests) if digests else {}
        found: set[Conflict] = set()
        seen: dict[Matcher, set[Place]] = {}
        for point in points if same else ():
            mine = seen.setdefault(self.matcher(point), set())
            for path, page, cut in self.staying(point, mine):
                gone = {entry.name for entry in cut.gone}
                found.update(
                    Conflict(point.display, child_path(path, entry.name))
                    for entry in _with_contents(page, same)
                    if entry.name not in gone
                )
        return sorted(found)

    def _records(self, digests: set[bytes]) -> dict[str, set[int]]:
        """The records of contents that have one of *digests*, by archive."""
        found: dict[str, set[int]] = {}
        for name in self._repository.archive_ids():
            archive = self._repository.archive(name)
            for number, body in archive.content_bodies():
                digest = record_digest(body) or archive.content(number).digest
                if digest in digests:
                    found.setdefault(name, set()).add(number)
        return found


def _with_contents(page: StoredPage, contents: Mapping[str, set[int]]) -> Iterator[Entry]:
    """The rows of a page that have one of *contents*, given by archive."""
    wanted = {
        (ordinal << 32) | number
        for ordinal, name in enumerate(page.archive.header.archives)
        for number in contents.get(name, ())
    }
    if not wanted:
        return
    extras = page.page.extras
    for row, ref in enumerate(page.page.refs):
        is_file = stat.S_ISREG(page.page.stamps[row][1])
        if (is_file and ref in wanted) or (extras.get(row, {}).get(XATTRS_REF) in wanted):
            yield page.entry(row)
