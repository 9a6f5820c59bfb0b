"""What backup points lead to: the one walk over stored trees, and the archives that are needed.

A walk tells of a tree directory by directory; who walks makes entries of the rows that it wants.
It costs one reading of each directory that it visits: pages are decoded once, and of their rows
only those of directories become entries, about 0.1 us a row and 3 us a directory.  It holds the
directories that wait, which are siblings of those that it is in, and the page that it is at.  It
does not recurse, however deep a tree is.

All that is alive is what this walk visits from every point with one set of states *seen*: each is
read once, however many points and paths lead to it, and comes with the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ibtfs.errors import IntegrityError
from ibtfs.format.index import Reference
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import (
    Directory,
    Entry,
    Gap,
    StateRef,
    StoredPage,
    child_path,
)
from ibtfs.store.trees.trail import Trail


class Visit:
    """A directory of a tree: its *path*, its *state*, and its *depth* below the walk's root.

    It is read when it is asked for its rows, or when the walk goes on; *failures* are what cannot
    be read of it.  Used by one thread.
    """

    __slots__ = ("_directory", "_folders", "_repository", "depth", "failures", "is_asked",
                 "is_left", "path", "state")  # fmt: skip

    def __init__(self, repository: Repository, state: StateRef, path: bytes, depth: int) -> None:
        self.state, self.path, self.depth = state, path, depth
        self.is_asked = self.is_left = False
        self.failures: list[IntegrityError] = []
        self._repository = repository
        self._directory: Directory | None = None
        self._folders: list[Entry] | None = None

    def refuse(self, error: IntegrityError) -> None:
        """Have it not be read, because of *error*."""
        self.failures, self._folders = [error], []

    @property
    def size(self) -> int:
        """How many entries it has; 0 before it is read, or if it cannot be."""
        return self._directory.size if self._directory is not None else 0

    def pages(self) -> Iterator[StoredPage]:
        """Its pages, in order, each read when its turn comes.

        Raises IntegrityError at the end, if there are some that cannot be read.
        """
        self.is_asked = True
        failures: list[IntegrityError] = []
        if self._directory is not None or not self.failures:
            yield from self._read(failures)
        self.failures = self.failures or failures  # what was damaged once stays so
        if self.failures:
            raise self.failures[0]

    def _read(self, failures: list[IntegrityError]) -> Iterator[StoredPage]:
        folders: list[Entry] = []
        gaps: list[Gap] = []
        try:
            if self._directory is None:
                self._directory = Directory(self._repository, self.state.ref)
        except IntegrityError as error:
            failures.append(error)
            return
        for page in self._directory.readable(gaps):
            yield page
            try:
                folders += page.folders()
            except IntegrityError as error:
                failures.append(error)
        failures += [gap.error for gap in gaps]
        if self._folders is None:
            self._folders = folders

    def readable_pages(self) -> Iterator[StoredPage]:
        """As :meth:`pages`, and nothing is raised: *failures* tell what cannot be read."""
        try:
            yield from self.pages()
        except IntegrityError:
            pass

    def entries(self) -> list[tuple[bytes, Entry]]:
        """All its entries, in order of name, each with its whole path.  Raises IntegrityError."""
        return [row for page in self.pages() for row in self._rows(page)]

    def readable(self) -> list[tuple[bytes, Entry]]:
        """As :meth:`entries`, those that can be read: *failures* tell what cannot be."""
        found: list[tuple[bytes, Entry]] = []
        for page in self.readable_pages():
            try:
                found += self._rows(page)
            except IntegrityError as error:
                self.failures.append(error)
        return found

    def _rows(self, page: StoredPage) -> list[tuple[bytes, Entry]]:
        folder = child_path(self.path, b"")
        return [(folder + entry.name, entry) for entry in page.entries()]

    def folders(self) -> Sequence[Entry]:
        """The directories that it holds, in order of name.  Raises IntegrityError."""
        known = self.known_folders()
        if self.failures:
            raise self.failures[0]
        return known

    def known_folders(self) -> Sequence[Entry]:
        """As :meth:`folders`, those that can be read: *failures* tell what cannot be."""
        if self._folders is None:
            for _ in self.readable_pages():
                pass
        return self._folders or ()


def reach(
    repository: Repository,
    root: StateRef,
    path: bytes = b"",
    *,
    seen: set[Reference] | None = None,
    enter: Callable[[Entry], bool] = lambda _: True,
    after: bool = False,
) -> Iterator[Visit]:
    """Visit the directory *root*, which is at *path*, and all directories below it.

    They come depth first, in order of name, each before what it holds, or *after* it.  With *seen*
    each state comes once: those in it are passed over, and those that come are added; without, it
    comes at every path that it has.  Only those are gone into that *enter* lets pass.

    What cannot be read raises IntegrityError at the visit, when it is asked for its rows, and leads
    to nothing; so does a directory that holds itself, where it comes again.  A visit that was not
    asked for any raises here.
    """
    trail = Trail()
    waiting = [Visit(repository, root, path, 0)]
    while waiting:
        visit = waiting.pop()
        if visit.is_left:
            yield visit
            continue
        try:
            trail.enter(visit.depth, visit.state.ref, visit.path)
        except IntegrityError as error:
            visit.refuse(error)
        else:
            if seen is not None:
                if visit.state.ref in seen:
                    continue
                seen.add(visit.state.ref)
        if not after:
            yield visit
        folders = visit.known_folders() if after or visit.is_asked else visit.folders()
        if after:
            visit.is_left = True
            waiting.append(visit)
        below = [
            Visit(repository, entry.state, child_path(visit.path, entry.name), visit.depth + 1)
            for entry in folders
            if entry.state is not None and enter(entry)
        ]
        waiting += reversed(below)


def needed_archives(repository: Repository) -> frozenset[str] | None:
    """The archives that a manifest, or the index of another archive, names.

    None if one of those cannot be read: what it names cannot be told, so all may be needed.  Costs
    reading every manifest and the header of every index.
    """
    points = repository.points.all()
    if points.damaged or repository.unreadable_bundles():
        return None
    needed = {point.state.archive for point in points.points}
    try:
        for archive_id in repository.archive_ids():
            needed.update(repository.archive(archive_id).header.archives)
    except IntegrityError:
        return None
    return frozenset(needed)
