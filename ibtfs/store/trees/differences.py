"""What differs between an entry and a later one at the same path: one rule, one set of words.

The words are, in this order: contents, target or device, mode, owner, mtime, xattrs, links; or
type alone.  A directory has mode, owner and xattrs; its times, size and links follow what happens
inside of it.
"""

from __future__ import annotations

import stat
from typing import Protocol

from ibtfs.errors import IntegrityError
from ibtfs.format.entry import XATTRS
from ibtfs.store.contents.reader import Contents
from ibtfs.store.trees.directory import Entry, entry_xattrs


class Facts(Protocol):
    """What two entries do not tell by themselves; it is asked for only where it decides."""

    def same_contents(self, old: Entry, new: Entry) -> bool:
        """Whether two regular files, of one size, hold the same bytes."""

    def same_xattrs(self, old: Entry, new: Entry) -> bool:
        """Whether two entries have the same extended attributes."""


def differences(old: Entry, new: Entry, facts: Facts) -> tuple[str, ...]:
    """The words for what differs between *old* and *new*; none if nothing does.

    Raises what *facts* raise.
    """
    if stat.S_IFMT(old.mode) != stat.S_IFMT(new.mode):
        return ("type",)
    is_folder = stat.S_ISDIR(old.mode)
    found = [
        _difference_of_data(old, new, facts),
        "mode" if old.mode != new.mode else "",
        "owner" if (old.uid, old.gid) != (new.uid, new.gid) else "",
        "mtime" if old.mtime_ns != new.mtime_ns and not is_folder else "",
        "xattrs" if not facts.same_xattrs(old, new) else "",
        "links" if old.links != new.links and not is_folder else "",
    ]
    return tuple(filter(None, found))


def _difference_of_data(old: Entry, new: Entry, facts: Facts) -> str:
    if stat.S_ISREG(old.mode):
        return "" if old.size == new.size and facts.same_contents(old, new) else "contents"
    if stat.S_ISLNK(old.mode):
        return "target" if old.target != new.target else ""
    return "device" if old.rdev != new.rdev else ""


class StoredFacts:
    """Of two stored entries; what cannot be read, for it is damaged, counts as different.

    Then *error* says why nobody knows.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.error: IntegrityError | None = None

    def same_contents(self, old: Entry, new: Entry) -> bool:
        """Whether their contents are one, or have one digest; no content is read."""
        if old.content == new.content:
            return True
        if old.content is None or new.content is None:
            return False
        record = self._contents.record
        try:
            return record(old.content).digest == record(new.content).digest
        except IntegrityError as error:
            self.error = error
            return False

    def same_xattrs(self, old: Entry, new: Entry) -> bool:
        """Whether they have the same, wherever those are stored."""
        if old.xattrs_content == new.xattrs_content:
            return bool(old.extras.get(XATTRS, {}) == new.extras.get(XATTRS, {}))
        try:
            return entry_xattrs(old, self._contents) == entry_xattrs(new, self._contents)
        except IntegrityError as error:
            self.error = error
            return False
