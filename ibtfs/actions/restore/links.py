"""Hard links while restoring: which files belong together, and where the first of them is."""

from __future__ import annotations

import os

from ibtfs.format.entry import GROUP, XATTRS
from ibtfs.store.contents.reader import Contents
from ibtfs.store.trees.directory import Entry


class LinkGroups:
    """The links restored so far; one thread.

    *top* is the descriptor of the destination, *cut* how much of a path is not below it.
    """

    def __init__(self, contents: Contents, top: int) -> None:
        self._contents, self._top = contents, top
        self._places: dict[tuple[object, ...], bytes] = {}
        self.cut = 0

    def first(self, entry: Entry) -> bytes | None:
        """Where the first file of the group of *entry* was restored; None if it is the first."""
        key = self._key(entry)
        return self._places.get(key) if key else None

    def remember(self, entry: Entry, path: bytes) -> None:
        """*entry* was restored as *path*, where other links to the same file find it."""
        key = self._key(entry)
        if key:
            place = b"/proc/self/fd/%d/%b" % (self._top, path[self.cut :])
            self._places.setdefault(key, place)

    def _key(self, entry: Entry) -> tuple[object, ...] | None:
        """What all links to one file agree in; None for an entry with one link."""
        if entry.links < 2:
            return None
        contents = [
            self._contents.record(ref).digest if ref else b""
            for ref in (entry.content, entry.xattrs_content)
        ]
        xattrs = repr(sorted(entry.extras.get(XATTRS, {}).items()))
        group = entry.extras.get(GROUP, 0), entry.inode
        return (*group, *entry[1:6], *contents, xattrs, entry.target, entry.rdev)


def made_link(first: bytes, parent: int, name: bytes) -> bool:
    """Make *name* in the open folder *parent* a link to *first*; False if it cannot be."""
    try:
        os.link(first, name, dst_dir_fd=parent, follow_symlinks=False)
    except OSError:
        return False
    return True
