"""A directory as an earlier backup stored it, to hold the folder against that is there now.

A run asks of each folder whether anything has changed, and of what has, what it was; a comparison
with now asks the same.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Container, Sequence

from ibtfs.errors import IntegrityError
from ibtfs.format.entry import CTIME, INODE, LINKS, NAME, Stamp, is_page, is_page_of
from ibtfs.format.frames import STATES
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory, Entry, StateRef, StoredPage


class OldDirectory:
    """One stored directory, of which only the packed bytes are read at first.

    Most folders have not changed, and that shows in those bytes already: see :meth:`is_same`.  For
    all else its pages are decoded, together, and kept as long as it is; used by one thread.
    """

    def __init__(self, repository: Repository, state: StateRef) -> None:
        """Raises IntegrityError."""
        self.state, self._repository = state, repository
        archive = repository.archive(state.ref.archive)
        self._body = archive.body(STATES, state.ref.number)
        archive.require_header()  # its rows lead nowhere without
        self._rows: dict[bytes, tuple[StoredPage, int]] | None = None

    @functools.cached_property
    def pages(self) -> list[StoredPage]:
        """Its pages, in order.  Raises IntegrityError."""
        return list(Directory(self._repository, self.state.ref).pages())

    @functools.cached_property
    def stamps(self) -> Sequence[Stamp]:
        """The stamps of all rows.  Raises IntegrityError."""
        if len(self.pages) == 1:
            return self.pages[0].page.stamps
        return tuple(itertools.chain.from_iterable(page.page.stamps for page in self.pages))

    @property
    def is_readable(self) -> bool:
        """Whether all of it can be decoded; then nothing else here raises."""
        try:
            for page in self.pages:
                page.archive.require_header()
        except IntegrityError:
            return False
        return True

    def is_same(self, stamps: Sequence[Stamp]) -> bool:
        """Whether it has just these *stamps*; a page is not decoded for it."""
        if is_page_of(self._body, stamps):
            return True
        return not is_page(self._body) and self.is_readable and tuple(stamps) == self.stamps

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

    def rows_by_archive(self, size: int) -> Counter[str]:
        """In which archives how many of its rows lie; of one page it need not be decoded.

        *size* is how many it has.  Where its list of pages lies counts, too.
        """
        if is_page(self._body):
            return Counter({self.state.ref.archive: size})
        found = Counter({self.state.ref.archive: len(self.pages)})
        for page in self.pages:
            found[page.ref.archive] += len(page.page.stamps)
        return found

    def refers_to(self, contents: Container[object]) -> set[bytes]:
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
