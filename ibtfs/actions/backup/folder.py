"""A folder while it is backed up: what it is now, what it was, and what has changed in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ibtfs.actions.backup.entry import Place
from ibtfs.format.entry import FLAGS, LEFT_OUT, Stamp
from ibtfs.store.trees.directory import Entry
from ibtfs.store.trees.old_directory import OldDirectory


@dataclass
class Folder:
    """A folder being backed up.

    *same*: its stamps are as they were in *old*; *changed* are new rows by name, *dropped* names
    that were listed and are not in the point, *folders* those still to be entered; *moved*: *old*
    is what it was at another place.
    """

    descriptor: int
    path: bytes
    device: int
    ordinal: int
    entry: Entry
    own_row_changed: bool
    old: OldDirectory | None
    moved: bool = False
    stamps: list[Stamp] = field(default_factory=list)
    same: bool = False
    changed: dict[bytes, Entry] = field(default_factory=dict)
    dropped: set[bytes] = field(default_factory=set)
    folders: Iterator[Stamp] = field(default_factory=lambda: iter(()))

    def below(self, name: bytes) -> bytes:
        """The path of the entry *name*."""
        return self.path + b"/" + name if self.path else name

    def place(self, name: bytes) -> Place:
        """Where the entry *name* is met."""
        return Place(self.descriptor, self.device, self.ordinal, self.below(name))

    def left_out(self, shut: bool) -> None:
        """Have its row tell whether it is *shut*; it may have been otherwise the last time."""
        flags = self.entry.flags & ~LEFT_OUT | (LEFT_OUT if shut else 0)
        if flags == self.entry.flags:
            return
        extras = {key: value for key, value in self.entry.extras.items() if key != FLAGS}
        self.entry = self.entry._replace(extras={**extras, FLAGS: flags} if flags else extras)
        self.own_row_changed = True
