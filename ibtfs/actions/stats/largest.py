"""The paths that cost most: of each, the stored bytes of all its versions together.

A content costs its payload, and the payloads that it is built on and that no path has any more.
What several paths have counts for each of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ibtfs.errors import FormatDamaged, IntegrityError
from ibtfs.format.frames import STATES
from ibtfs.format.index import LOW, Reference
from ibtfs.format.packing import unpack
from ibtfs.format.point import Point
from ibtfs.store.naming import by_source
from ibtfs.store.removal.marking import NEVER
from ibtfs.store.removal.weights import Weights
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import child_path

_FORMAT, _REGULAR = 0o170000, 0o100000
Numbers = set[int]
"""Records, each the place of its archive << 32, and its number there."""


class PathCost(NamedTuple):
    """What a path costs: bytes stored, of so many different contents."""

    stored: int
    path: bytes
    versions: int


class SourcePath(NamedTuple):
    """A path in a source, which is shown by this name."""

    source: str
    cost: PathCost


def largest(
    repository: Repository, weights: Weights, points: Iterable[Point], count: int
) -> tuple[list[SourcePath], list[str]]:
    """The *count* paths that cost most over *points*, most first, and what could not be read.

    *weights* are those of the whole repository.
    """
    finder = _Largest(repository, weights)
    found = [
        SourcePath(name, cost)
        for name, mine in by_source(points).items()
        for cost in finder.find([point.state for point in mine], count)
    ]
    found.sort(key=lambda one: (-one.cost.stored, one.source, one.cost.path))
    return found[:count], list(dict.fromkeys(finder.damages))


class _Largest:
    """Finds the paths that cost most; used by one thread.  *damages*: what could not be read."""

    def __init__(self, repository: Repository, weights: Weights) -> None:
        self._repository = repository
        self._archives = list(weights.archives.values())
        self._places = {name: place for place, name in enumerate(weights.archives)}
        self._tables: dict[int, Any] = {}
        self._below = self._without_path(weights)
        self.damages: list[str] = []

    def _without_path(self, weights: Weights) -> dict[int, list[int]]:
        """What contents are built on, as far as no path has that."""
        below: dict[int, list[int]] = {}
        for links in weights.links:
            for place in range(0, len(links), 2):
                user, other = links[place], links[place + 1]
                marks = self._archives[other >> 32].marks.contents
                if other & LOW < len(marks) and marks[other & LOW] == NEVER:
                    below.setdefault(user, []).append(other)
        return below

    def find(self, roots: Iterable[Reference], count: int) -> list[PathCost]:
        """The *count* paths below *roots* that cost most; what is called alike counts together."""
        states = {
            self._places[ref.archive] << 32 | ref.number
            for ref in roots
            if ref.archive in self._places
        }
        costs = self._costs(states)
        return heapq.nlargest(count, costs, key=lambda cost: (cost.stored, cost.path))

    def _costs(self, states: Numbers) -> Iterator[PathCost]:
        waiting = [(b"", states)]
        while waiting:
            folder, states = waiting.pop()
            files, folders = self._inside(states)
            for name, contents in files.items():
                stored = round(self._stored(contents))
                yield PathCost(stored, child_path(folder, name), len(contents))
            waiting += [(child_path(folder, name), below) for name, below in folders.items()]

    def _stored(self, contents: Numbers) -> float:
        """Bytes stored of contents, each once."""
        done, waiting, stored = set(contents), list(contents), 0.0
        while waiting:
            one = waiting.pop()
            payloads, number = self._archives[one >> 32].payloads, one & LOW
            stored += payloads[number] if number < len(payloads) else 0.0
            for other in self._below.get(one, ()):
                if other not in done:
                    done.add(other)
                    waiting.append(other)
        return stored

    def _inside(self, states: Numbers) -> tuple[dict[bytes, Numbers], dict[bytes, Numbers]]:
        """The contents of files, and the states of folders, that are called alike in *states*."""
        files: dict[bytes, Numbers] = {}
        folders: dict[bytes, Numbers] = {}
        waiting, done = list(states), set(states)
        while waiting:
            state = waiting.pop()
            place, number = state >> 32, state & LOW
            reader = self._archives[place].marks.reader
            where = f"{reader.where}: state {number}"
            try:
                pages = self._rows(
                    place, unpack(reader.body(STATES, number), where), files, folders
                )
            except IntegrityError as error:
                self.damages.append(str(error))
                continue
            except (TypeError, IndexError, AttributeError, KeyError) as error:
                self.damages.append(str(FormatDamaged(f"{where}: not a state ({error})")))
                continue
            waiting += pages - done
            done |= pages
        return files, folders

    def _rows(
        self, place: int, value: Any, files: dict[bytes, Numbers], folders: dict[bytes, Numbers]
    ) -> Numbers:
        """Take the rows of a state; its pages, if it is a list of those."""
        table = self._tables.get(place)
        if table is None:
            names = self._archives[place].marks.header.archives
            # None of one that is not there: what refers to it ends in a TypeError
            table = [self._places.get(name) for name in names]
            self._tables[place] = table
        if value[0]:
            return {table[page[0] >> 32] << 32 | page[0] & LOW for page in value[1]}
        for stamp, ref in zip(value[1], value[2]):
            kind = type(ref)
            if kind is int:
                if stamp[1] & _FORMAT == _REGULAR:
                    found = table[ref >> 32] << 32 | ref & LOW
                    files.setdefault(stamp[0], set()).add(found)
            elif kind is tuple:
                found = table[ref[0] >> 32] << 32 | ref[0] & LOW
                folders.setdefault(stamp[0], set()).add(found)
        return set()
