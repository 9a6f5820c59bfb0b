"""What is damaged in a repository, and which points and paths it hits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ibtfs.actions.observer import Observer
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.reach import Visit, reach

PATHS_KEPT = 100


@dataclass
class Damage:
    """Something that is not as it was written: where, what, and which points and paths it hit."""

    object: str
    message: str
    points: list[str] = field(default_factory=list)
    paths: list[bytes] = field(default_factory=list)


class Damages:
    """The damages that were found, each once; *contents* and *states* are those hit, with why.

    *indexes* are the archives of whose index something is damaged.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._found: dict[tuple[str, str], Damage] = {}
        self.contents: dict[Reference, str] = {}
        self.states: dict[Reference, str] = {}
        self.indexes: set[str] = set()

    def all(self) -> list[Damage]:
        """All of them, in the order in which they were found."""
        return list(self._found.values())

    def add(self, name: str, message: str, *, point: str = "", path: bytes = b"") -> None:
        """Note a damage of the object *name*; the same one again adds only points and paths."""
        found = self._found.get((name, message))
        if found is None:
            found = self._found[name, message] = Damage(name, message)
            self._observer.problem(path, message)
        if point and point not in found.points:
            found.points.append(point)
        if path and path not in found.paths and len(found.paths) < PATHS_KEPT:
            found.paths.append(path)

    def add_content(self, ref: Reference, message: str, point: str, path: bytes) -> None:
        """Note that a content cannot be given back as it was."""
        self.contents[ref] = message
        self.add(record_name(ref), message, point=point, path=path)

    def add_state(self, ref: Reference, message: str, point: str, path: bytes) -> None:
        """Note that a directory is not as it was written."""
        self.states[ref] = message
        self.add(record_name(ref), message, point=point, path=path or b".")

    def drop_unused(self) -> None:
        """Leave out contents and states for which neither a point nor a path was named."""
        for hit in (self.contents, self.states):
            for ref in [ref for ref in hit if (record_name(ref), hit[ref]) not in self._found]:
                del hit[ref]

    def points_of(self, is_meant: Callable[[Reference], bool]) -> Iterator[str]:
        """The points that damaged contents and states hit of which *is_meant* tells."""
        for damaged in (self.contents, self.states):
            for ref, message in damaged.items():
                if is_meant(ref):
                    found = self._found.get((record_name(ref), message))
                    yield from found.points if found else ()

    def name_paths(self, repository: Repository, points: Iterable[Point]) -> None:
        """Find every one of *points*, and every path, that damaged contents and states hit.

        Each state is read once to know which lead to any; only those are gone into by path.
        """
        if not self.contents and not self.states:
            return
        hit: set[Reference] = set()
        seen: set[Reference] = set()
        visits: Counter[Reference] = Counter()
        for point in points:
            for visit in reach(repository, _root(point), seen=seen, after=True):
                if self._is_hit(visit, hit):
                    hit.add(visit.state.ref)
            if point.state in hit:
                self._name_paths(repository, point, hit, visits)

    def _is_hit(self, visit: Visit, hit: set[Reference]) -> bool:
        """Whether a directory is damaged, or leads to what is; *hit* are those below that are."""
        if visit.state.ref in self.states:
            return True
        return any(self._leads(entry, hit) for _, entry in visit.readable())

    def _leads(self, entry: Entry, hit: set[Reference]) -> bool:
        if entry.state is not None and entry.state.ref in hit:
            return True
        return entry.content in self.contents or entry.xattrs_content in self.contents

    def _name_paths(
        self, repository: Repository, point: Point, hit: set[Reference], visits: Counter[Reference]
    ) -> None:
        """Go to each state that is *hit*, until as many *visits* are counted as paths are kept.

        In each point at least once, for its name is wanted; a state may have any number of paths.
        """
        mine: set[Reference] = set()

        def is_hit(folder: Entry) -> bool:
            if folder.state is None or folder.state.ref not in hit:
                return False
            ref = folder.state.ref
            if ref in mine and visits[ref] >= PATHS_KEPT:
                return False
            mine.add(ref)
            visits[ref] += 1
            return True

        for visit in reach(repository, _root(point), enter=is_hit):
            ref = visit.state.ref
            if ref in self.states:
                self.add_state(ref, self.states[ref], point.id, visit.path)
            for path, entry in visit.readable():
                for content in (entry.content, entry.xattrs_content):
                    if content is not None and content in self.contents:
                        self.add_content(content, self.contents[content], point.id, path)


def record_name(ref: Reference) -> str:
    """How messages name the record of a content or a state."""
    return f"{layout.archive(ref.archive)}: record {ref.number}"


def _root(point: Point) -> StateRef:
    return StateRef(point.state, point.digest)
