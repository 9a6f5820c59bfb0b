"""Counting what is gone since the last backup, and not what has only moved."""

from __future__ import annotations

from ibtfs.actions.observer import Tally
from ibtfs.errors import LimitExceeded
from ibtfs.format.index import Reference
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.reach import reach
from ibtfs.store.trees.totals import Allowance


class Missing:
    """What was missed while a tree was walked; one thread.

    A folder that is missing may be met later at another place, so those are counted at the end.
    """

    def __init__(self, repository: Repository, tally: Tally) -> None:
        self._repository, self._tally = repository, tally
        self._folders: list[tuple[Entry, bytes]] = []
        self._moved: set[tuple[int, Reference]] = set()

    def moved(self, inode: int, state: StateRef) -> None:
        """The folder that was *state* is at another place now: what it lost is told by itself."""
        self._moved.add((inode, state.ref))

    def missing(self, entry: Entry, path: bytes) -> None:
        """*entry*, which was at *path*, is not there any more."""
        if entry.state is not None:
            self._folders.append((entry, path))
        else:
            self._count(path)

    def _count(self, path: bytes) -> None:
        self._tally.counts["gone"] += 1
        self._tally.observer.file("gone", path)

    def finish(self) -> None:
        """Count the files of folders that were missing, but of those that moved."""
        for folder, path in self._folders:
            if folder.state is not None and self._is_gone(folder):
                self._count_below(folder.state, path)
        self._folders = []

    def _count_below(self, state: StateRef, path: bytes) -> None:
        allowance = Allowance(self._repository, state)
        for visit in reach(self._repository, state, path, enter=self._is_gone):
            rows = visit.readable()  # of the rest nobody knows what it was
            try:
                allowance.spend(len(rows))
            except LimitExceeded:
                return  # hostile: no backup had so many
            for below, entry in rows:
                if entry.state is None:
                    self._count(below)

    def _is_gone(self, folder: Entry) -> bool:
        return folder.state is None or (folder.inode, folder.state.ref) not in self._moved
