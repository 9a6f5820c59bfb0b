"""Hard links while restoring: which files belong together, and where the first of them is."""

from __future__ import annotations

import os
from typing import NamedTuple

from ibtfs.actions.restore.destination import opened_below
from ibtfs.errors import RestoreFailed
from ibtfs.format.entry import GROUP, XATTRS
from ibtfs.store.contents.reader import Contents
from ibtfs.store.trees.directory import Entry

_JUST_IT = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Known(NamedTuple):
    """Where a file was restored, below the destination, and what it is known by.

    Its number alone would not do: it may be another file's by now.
    """

    folder: bytes
    name: bytes
    known_by: tuple[int, ...]


class LinkGroups:
    """The links restored so far; one thread.

    *top* is the descriptor of the destination, *cut* how much of a path is not below it.
    """

    def __init__(self, contents: Contents, top: int) -> None:
        self._contents, self._top = contents, top
        self._known: dict[tuple[object, ...], Known] = {}
        self._folder, self._descriptor = b"", -1
        self.cut = 0

    def close(self) -> None:
        """Release the folder that was looked into last."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def first(self, entry: Entry) -> Known | None:
        """Where a file of the group of *entry* was restored; None if it is the first."""
        key = self._key(entry)
        return self._known.get(key) if key else None

    def remember(
        self, entry: Entry, path: bytes, found: os.stat_result | None, *, again: bool = False
    ) -> None:
        """*entry* is now *found* at *path*, where other links to the same file find it.

        *again*: the place that was known before could not be linked to.
        """
        key = self._key(entry)
        if not key or not found or (key in self._known and not again):
            return
        folder, name = os.path.split(path[self.cut :])
        self._known[key] = Known(folder, name, _known_by(found))

    def link(self, first: Known, parent: int, name: bytes) -> None:
        """Make *name* in the open folder *parent* a link to *first*, if that is still there.

        It is reached from the destination through no link, and linked to once it is open: whoever
        owns a folder on the way cannot have another file linked to.
        Raises RestoreFailed if something else is there, OSError.
        """
        try:
            descriptor = os.open(first.name, _JUST_IT, dir_fd=self._opened(first.folder))
        except OSError as error:
            raise RestoreFailed("the other name is gone") from error
        try:
            if _known_by(os.fstat(descriptor)) != first.known_by:
                raise RestoreFailed("the other name was replaced")
            # the system leads to what is open, a symbolic link as well, and not further
            os.link(b"/proc/self/fd/%d" % descriptor, name, dst_dir_fd=parent, follow_symlinks=True)
        finally:
            os.close(descriptor)

    def _opened(self, folder: bytes) -> int:
        """The descriptor of a folder below the destination; the last one is kept for the next.

        Raises OSError.
        """
        if self._descriptor >= 0 and folder == self._folder:
            return self._descriptor
        descriptor = opened_below(self._top, folder)
        self.close()
        self._folder, self._descriptor = folder, descriptor
        return descriptor

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


def _known_by(found: os.stat_result) -> tuple[int, ...]:
    owner = found.st_uid, found.st_gid, found.st_mode
    return (found.st_dev, found.st_ino, *owner, found.st_size, found.st_mtime_ns)
