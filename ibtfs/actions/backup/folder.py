"""A folder while it is backed up: what it is now, what it was, and what has changed in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from ibtfs.actions.backup.classify import UNCHANGED, classify
from ibtfs.actions.backup.entry import Place, flagged
from ibtfs.actions.source.opening import open_folder
from ibtfs.errors import Replaced
from ibtfs.format.entry import FLAGS, HASH_SIZE, KEPT, LEFT_OUT, NAME, NOT_READ, Stamp
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.old_directory import OldDirectory


@dataclass
class Folder:
    """A folder being backed up, at *place*; *entry* is its row.

    It is open while it is entered, and while the folders in it are opened.

    *inodes*: inode numbers tell that a file in it is the same.  *moved*: *old* is what it was at
    another place.  *same*: its stamps are as they were in *old*; *changed* are new rows by name,
    *dropped* names that were listed and are not in the point, *folders* those still to be entered.
    """

    place: Place
    entry: Entry
    own_row_changed: bool
    old: OldDirectory | None
    inodes: bool
    moved: bool = False
    stamps: list[Stamp] = field(default_factory=list)
    same: bool = False
    changed: dict[bytes, Entry] = field(default_factory=dict)
    dropped: set[bytes] = field(default_factory=set)
    folders: Iterator[Stamp] = field(default_factory=lambda: iter(()))

    @property
    def descriptor(self) -> int:
        """Its own descriptor, while it is open."""
        if not self.is_open:
            raise ValueError("A folder that is closed is used")
        return self.place.folder

    @property
    def is_open(self) -> bool:
        """Whether it has a descriptor now."""
        return self.place.folder >= 0

    def close(self) -> None:
        """Close its descriptor, if it is open; it may be opened again from a folder in it."""
        if self.is_open:
            os.close(self.place.folder)
            self.place = self.place._replace(folder=-1)

    def reopen(self, child: Folder) -> None:
        """Open it again by way of *child*, a folder in it.

        Raises SourceError if that was moved, so that the way leads elsewhere, or is closed itself.
        """
        if not child.is_open:
            raise Replaced("was moved while it was backed up")
        descriptor, found = open_folder(b"..", child.descriptor)
        if (found.st_dev, found.st_ino) != (self.place.device, self.entry.inode):
            os.close(descriptor)
            raise Replaced("was moved while it was backed up")
        self.place = self.place._replace(folder=descriptor)

    def below(self, name: bytes) -> bytes:
        """The path of the entry *name*."""
        path = self.place.path
        return path + b"/" + name if path else name

    def place_of(self, name: bytes) -> Place:
        """Where the entry *name* is met."""
        return self.place._replace(path=self.below(name))

    def old_row(self, name: bytes) -> Entry | None:
        """What *name* was at the last backup."""
        return self.old.find(name) if self.old is not None else None

    def compare(self, *, needs_rows: bool) -> None:
        """Find whether the stamps are as they were; of all rows only if they are, or needed."""
        if self.old is not None:
            self.same = self.old.is_same(self.stamps)
            if needs_rows or not self.same:
                self.require_rows()

    def require_rows(self) -> None:
        """Have what cannot be read of *old* be as if it had not been."""
        if self.old is not None and not self.old.is_readable:
            self.old, self.same = None, False

    def keep_old(self) -> None:
        """Have all be as it was at the last backup, for it cannot be listed; its row tells."""
        self.require_rows()
        self.entry = flagged(self.entry, KEPT if self.old is not None else NOT_READ)
        self.own_row_changed = True
        if self.old is not None:
            self.stamps, self.same = list(self.old.stamps), True

    def leave_out(self, is_left_out: bool) -> None:
        """Have its row tell whether it is left out; it may have been otherwise the last time."""
        flags = self.entry.flags & ~LEFT_OUT | (LEFT_OUT if is_left_out else 0)
        if flags == self.entry.flags:
            return
        extras = {key: value for key, value in self.entry.extras.items() if key != FLAGS}
        self.entry = self.entry._replace(extras={**extras, FLAGS: flags} if flags else extras)
        self.own_row_changed = True

    def is_as_it_was(self, *, reread: bool) -> bool:
        """Whether its state is the old one still; with *reread* only if every stamp is the same."""
        old = self.old
        if old is None or self.changed or self.dropped:
            return False
        if self.same or self.inodes or reread or len(old.stamps) != len(self.stamps):
            return self.same
        kinds = (classify(new, was, inodes=False) for new, was in zip(self.stamps, old.stamps))
        return all(kind == UNCHANGED for kind in kinds)

    def rows(self) -> list[Stamp]:
        """The stamps of the rows that its state is to have."""
        present = {stamp[NAME]: stamp for stamp in self.stamps if stamp[NAME] not in self.dropped}
        for name, entry in self.changed.items():
            present[name] = entry.stamp
        return list(map(present.__getitem__, sorted(present)))

    def gone(self) -> list[bytes]:
        """The names that were there at the last backup and are not now."""
        if self.old is None or self.same:
            return []
        present = {stamp[NAME] for stamp in self.stamps} | set(self.changed)
        present -= self.dropped
        return [stamp[NAME] for stamp in self.old.stamps if stamp[NAME] not in present]

    def take(self, child: Folder, state: StateRef) -> None:
        """Note the *state* of a folder in it, unless the row that leads to it is as it was."""
        is_old = child.old is not None and state == child.old.state
        if child.own_row_changed or not is_old:
            state = StateRef(state.ref, state.digest[:HASH_SIZE])
            self.changed[child.entry.name] = child.entry._replace(state=state)
