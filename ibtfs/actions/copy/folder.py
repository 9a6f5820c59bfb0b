"""A folder of another repository while it is copied, beside what it was in the last point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ibtfs.errors import IntegrityError
from ibtfs.format.entry import NAME, XATTRS_REF, Stamp
from ibtfs.format.index import Reference
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory, Entry, Gap, StateRef, StoredPage, child_path
from ibtfs.store.trees.old_directory import OldDirectory, load_old


class Twin(NamedTuple):
    """A directory of the point that was copied last: its state there, *theirs*, and *ours* here.

    Without the former, what is there may be something else.
    """

    theirs: StateRef | None
    ours: StateRef


def plain(row: Entry | None) -> Entry | None:
    """*row* without the number by which one archive knows its extended attributes."""
    if row is None or XATTRS_REF not in row.extras:
        return row
    extras = {key: value for key, value in row.extras.items() if key != XATTRS_REF}
    return row._replace(extras=extras)


@dataclass
class Folder:
    """The folder *row* of the other repository, at *path*.

    *theirs* is what it was in the point that was copied last, there, and *ours* here: never the
    former alone.  *stamps* are those of the rows that are to be stored, *changed* the rows that are
    not as *ours* has them, *folders* those that are still to be entered, *gaps* what cannot be
    read.
    """

    row: Entry
    path: bytes
    directory: Directory
    theirs: OldDirectory | None = None
    ours: OldDirectory | None = None
    stamps: list[Stamp] = field(default_factory=list)
    changed: dict[bytes, Entry] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    folders: Iterator[Entry] = field(default_factory=lambda: iter(()))

    @classmethod
    def opened(
        cls, source: Repository, target: Repository, row: Entry, path: bytes, twin: Twin | None
    ) -> Folder:
        """The folder *row*, opened.  Raises IntegrityError if it cannot be read in *source*."""
        assert row.state is not None  # only directories are opened
        found = cls(row, path, Directory(source, row.state.ref))
        if twin is not None:
            theirs, ours = load_old(source, twin.theirs), load_old(target, twin.ours)
            if ours is not None and ours.is_readable:
                found.ours = ours
                found.theirs = theirs if theirs is not None and theirs.is_readable else None
        return found

    def below(self, name: bytes) -> bytes:
        """The path of the entry *name*."""
        return child_path(self.path, name)

    def pages(self) -> Iterator[StoredPage]:
        """Its pages that can be read, in order."""
        return self.directory.readable(self.gaps)

    def old_pages(self) -> frozenset[Reference]:
        """Where the pages lie that the point copied last had of it, there."""
        pages = self.theirs.pages if self.theirs is not None else ()
        return frozenset(page.ref for page in pages)

    def was(self, name: bytes) -> Entry | None:
        """What *name* was in the point that was copied last, there."""
        return plain(self.theirs.find(name)) if self.theirs is not None else None

    def is_here(self, name: bytes) -> Entry | None:
        """What *name* was in the point that was copied last, here."""
        return plain(self.ours.find(name)) if self.ours is not None else None

    def take(self, row: Entry, here: Entry | None) -> None:
        """Have *row* be stored; *here* is what was stored of it the last time."""
        self.stamps.append(row.stamp)
        if row != here:
            self.changed[row.name] = row

    def twin_of(self, name: bytes) -> Twin | None:
        """The directory *name* as it was in the point that was copied last."""
        was, here = self.was(name), self.is_here(name)
        if here is None or here.state is None:
            return None
        return Twin(was.state if was is not None else None, here.state)

    def missed(self) -> list[bytes]:
        """The names here that may be among those that cannot be read, in order."""
        names = [stamp[NAME] for stamp in self.ours.stamps] if self.ours is not None else []
        return [n for n in names if any(gap.after < n <= gap.last for gap in self.gaps)]

    @property
    def is_as_it_was(self) -> bool:
        """Whether all of its rows are as they are here already."""
        ours = self.ours
        return ours is not None and not self.changed and list(ours.stamps) == self.stamps

    @property
    def was_moved(self) -> bool:
        """Whether its state was written anew there, whatever is in it."""
        state, theirs = self.row.state, self.theirs
        return theirs is not None and state is not None and theirs.state.ref != state.ref

    def all_rows(self) -> dict[bytes, Entry]:
        """Its rows as they are here, if nothing has changed.  Raises IntegrityError."""
        found = {stamp[NAME]: self.is_here(stamp[NAME]) for stamp in self.stamps}
        if None in found.values():
            raise IntegrityError(f"{self.path!r}: is not as it was")
        return {name: row for name, row in found.items() if row is not None}
