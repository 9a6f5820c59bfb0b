"""The directory that a folder was at the last backup, held against what it is now."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ibtfs.errors import IntegrityError
from ibtfs.format.entry import CTIME, INODE, LINKS, NAME, Stamp
from ibtfs.format.index import Reference
from ibtfs.store.repository import Repository
from ibtfs.store.states import Directory, Entry, StateRef, StoredPage


class OldDirectory:
    """All pages of one stored directory, read at once."""

    def __init__(self, repository: Repository, state: StateRef) -> None:
        """Raises IntegrityError."""
        self.state = state
        self.pages: list[StoredPage] = list(Directory(repository, state.ref).pages())
        self.stamps: Sequence[Stamp] = (
            self.pages[0].page.stamps
            if len(self.pages) == 1
            else tuple(itertools.chain.from_iterable(page.page.stamps for page in self.pages))
        )
        self._rows: dict[bytes, tuple[StoredPage, int]] | None = None

    def _row(self, name: bytes) -> tuple[StoredPage, int] | None:
        if self._rows is None:
            self._rows = {
                stamp[NAME]: (page, row)
                for page in self.pages
                for row, stamp in enumerate(page.page.stamps)
            }
        return self._rows.get(name)

    def find(self, name: bytes) -> Entry | None:
        """The row called *name*, if there was one.  Raises IntegrityError."""
        found = self._row(name)
        return found[0].entry(found[1]) if found else None

    def stamp(self, name: bytes) -> Stamp | None:
        """The stamp of the row called *name*, if there was one."""
        found = self._row(name)
        return found[0].page.stamps[found[1]] if found else None

    def page_ending(self, name: bytes, stamps: Sequence[Stamp]) -> StoredPage | None:
        """The page that ends with *name* and has just these *stamps*, if it may be referred to."""
        for page in self.pages:
            if page.digest and page.page.stamps[-1][NAME] == name:
                return page if page.page.stamps == tuple(stamps) else None
        return None

    def refers_to(self, contents: frozenset[Reference]) -> set[bytes]:
        """The names whose contents are among *contents*."""
        return {
            entry.name
            for page in self.pages
            for entry in page.entries()
            if entry.content in contents or entry.xattrs_content in contents
        }


def load_old(repository: Repository, state: StateRef | None) -> OldDirectory | None:
    """The stored directory, or None if there is none or it cannot be read any more."""
    if state is None:
        return None
    try:
        return OldDirectory(repository, state)
    except IntegrityError:
        return None  # what is damaged is stored anew


def same_stamp(stamp: Stamp, old: Stamp | None, *, inodes: bool) -> bool:
    """Whether *old* tells that nothing has changed.

    Where inode numbers mean nothing across runs they are compared only between hard links, whose
    groups they make.
    """
    if old is None:
        return False
    if inodes or stamp[LINKS] > 1:
        return stamp == old
    return stamp[:INODE] == old[:INODE] and stamp[LINKS] == old[LINKS] and old[CTIME] != 0


def same_but_stamps(entry: Entry, old: Entry) -> bool:
    """Whether contents and metadata are the same, whatever tells of changes."""
    return entry._replace(ctime_ns=0, inode=0) == old._replace(ctime_ns=0, inode=0)
