"""What a restore does in open folders, once it has decided to; and how that is rehearsed."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from ibtfs.actions.restore.clearing import Remover
from ibtfs.actions.restore.destination import FOLDER, existing_folder
from ibtfs.actions.restore.entry import EntryWriter
from ibtfs.actions.restore.links import LinkGroups, made_link
from ibtfs.actions.restore.options import RestoreOptions
from ibtfs.errors import RestoreFailed
from ibtfs.store.trees.directory import Entry


class Doer:
    """Makes, dresses and removes what is named in open folders; one thread.

    All methods raise RestoreFailed, IntegrityError, OSError.
    """

    def __init__(
        self, options: RestoreOptions, writer: EntryWriter, links: LinkGroups, remover: Remover
    ) -> None:
        self._options, self._writer, self._links = options, writer, links
        self._remover = remover

    def folder(self, parent: int, name: bytes) -> tuple[int, bool]:
        """The descriptor of a folder, and whether it was made, for nothing was there."""
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            made = False
            self._make_way(parent, name)
        return os.open(name, FOLDER, dir_fd=parent), made

    def _make_way(self, parent: int, name: bytes) -> None:
        """Something is where a folder is to be: fine if it is a folder."""
        if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            return
        if not self._options.replaces:
            raise RestoreFailed("something that is not a folder is in its place")
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)

    def put(self, entry: Entry, parent: int, old: os.stat_result | None, path: bytes) -> None:
        """Make what is no folder; *old*, in its place, goes only when the new one is whole."""
        if old is None:
            self._make(entry, parent, entry.name, path)
            return
        if stat.S_ISDIR(old.st_mode):
            self._clear_folder(parent, entry.name)
        name = b".ibtfs-%b" % os.urandom(8).hex().encode()
        try:
            self._make(entry, parent, name, path)
            os.rename(name, entry.name, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            # left if that failed; and renaming one link over another of the same file does nothing
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=parent)

    def _clear_folder(self, parent: int, name: bytes) -> None:
        """A folder is where something else is to be: it goes only if it is empty, or asked for."""
        if self._options.delete:
            self._remover.remove(parent, name)
            return
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            raise RestoreFailed(
                "a folder that is not empty is in its place: remove it, or say --delete"
            ) from error

    def _make(self, entry: Entry, parent: int, name: bytes, path: bytes) -> None:
        first = self._links.first(entry)
        if first is not None:
            if made_link(first, parent, name):
                return
            self._writer.unset["hard links"] += 1  # it becomes a file of its own
        if stat.S_ISREG(entry.mode):
            self._writer.file(entry, parent, name)
        else:
            self._writer.special(entry, parent, name)
        self._links.remember(entry, path)

    def dress(self, entry: Entry, parent: int, old: os.stat_result) -> None:
        """Set the metadata of *old*, which stays."""
        self._writer.metadata_at(entry, parent, entry.name, old)

    def dress_folder(self, entry: Entry, descriptor: int) -> None:
        """Set the metadata of an open folder."""
        self._writer.metadata(entry, descriptor)

    def remove(self, parent: int, name: bytes) -> None:
        """Remove what is there, with all below it."""
        self._remover.remove(parent, name)


class Rehearsal(Doer):
    """Does nothing: a descriptor of -1 stands for a folder that is not there."""

    def folder(self, parent: int, name: bytes) -> tuple[int, bool]:
        """The descriptor of a folder that is there."""
        return existing_folder(parent, name), False

    def put(self, entry: Entry, parent: int, old: os.stat_result | None, path: bytes) -> None:
        """Make nothing."""

    def dress(self, entry: Entry, parent: int, old: os.stat_result) -> None:
        """Set nothing."""

    def dress_folder(self, entry: Entry, descriptor: int) -> None:
        """Set nothing."""

    def remove(self, parent: int, name: bytes) -> None:
        """Remove nothing."""
