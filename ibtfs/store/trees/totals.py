"""How many entries a tree has, by path: told from its distinct states, which are few.

Equal directories share a state, so a few kilobytes may describe more entries than any disk holds.
Who goes by path would never come to an end of them, so it looks once whether that can be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ibtfs.errors import IntegrityError, LimitExceeded
from ibtfs.format.index import Reference
from ibtfs.store import layout
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.reach import reach

ENTRIES_LIMIT: Final = 1 << 36
"""Of a tree.  A backup lists each of them, so this many would take it a month and more."""
UNCOUNTED: Final = 10_000
"""So many entries a walk comes to before the tree is counted: most have no more."""


def count_entries(repository: Repository, root: StateRef) -> int:
    """How many entries a tree has, as far as it can be read; more than the limit are not told.

    Costs one reading of each distinct state, and 200 bytes of memory.
    """
    totals: dict[Reference, int] = {}
    for visit in reach(repository, root, seen=set(), after=True):
        try:
            total = visit.size + entries_below(visit.folders(), totals)
        except IntegrityError:
            total = 0  # nothing is known of it
        totals[visit.state.ref] = max(total, totals.get(visit.state.ref, 0))
    return min(totals.get(root.ref, 0), ENTRIES_LIMIT + 1)


def entries_below(folders: Iterable[Entry], totals: Mapping[Reference, int]) -> int:
    """How many entries *folders* have together, by the *totals* of their states; bounded."""
    total = sum(totals.get(folder.state.ref, 0) for folder in folders if folder.state is not None)
    return min(total, ENTRIES_LIMIT + 1)


def require_countable(total: int, where: str) -> None:
    """Raise LimitExceeded if no tree can have *total* entries."""
    if total > ENTRIES_LIMIT:
        raise LimitExceeded(f"{where}: would have more entries than any backup can have")


class Allowance:
    """What a walk by path may come to; *roots* are the trees that it walks.  One thread."""

    def __init__(self, repository: Repository, *roots: StateRef | None) -> None:
        self._repository, self._roots = repository, roots
        self._left: float = UNCOUNTED

    def spend(self, entries: int) -> None:
        """Count *entries* more.  Raises LimitExceeded where there are more than can be."""
        self._left -= entries
        if self._left < 0:
            self._left = float("inf")
            for root in filter(None, self._roots):
                total = count_entries(self._repository, root)
                require_countable(total, f"{layout.archive(root.ref.archive)}: a tree of it")
