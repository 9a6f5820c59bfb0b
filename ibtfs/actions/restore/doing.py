"""What a restore does in open folders, once it has decided to; and how that is rehearsed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from ibtfs.actions.restore.causes import Cause, cause_of, explained
from ibtfs.actions.restore.clearing import Remover
from ibtfs.actions.restore.destination import FOLDER, existing_folder
from ibtfs.actions.restore.entry import EntryWriter, refused
from ibtfs.actions.restore.links import Known, LinkGroups
from ibtfs.actions.restore.options import RestoreOptions
from ibtfs.actions.restore.territory import Held, Territory
from ibtfs.errors import RestoreFailed
from ibtfs.store.trees.directory import Entry


class Doer:
    """Makes, dresses and removes what is named in open folders; one thread.

    All methods raise RestoreFailed, IntegrityError, OSError.
    """

    def __init__(
        self, options: RestoreOptions, writer: EntryWriter, links: LinkGroups, remover: Remover,
        territory: Territory,
    ) -> None:  # fmt: skip
        self._options, self._writer, self._links = options, writer, links
        self._remover, self._territory = remover, territory

    def folder(self, entry: Entry, parent: int, keeper: int) -> Held:
        """The folder of *entry* in an open one that *keeper* rules; made, if nothing was there."""
        name, made = entry.name, True
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            made = False
            self._make_way(parent, name)
        except OSError as error:
            raise refused(error, parent, name) from error
        return self._held(os.open(name, FOLDER, dir_fd=parent), entry, keeper, made=made)

    def _held(self, descriptor: int, entry: Entry, keeper: int, *, made: bool) -> Held:
        try:
            opens = partial(self._writer.dresser.opens, entry)
            return self._territory.held(descriptor, keeper, opens, made=made)
        except BaseException:
            os.close(descriptor)
            raise

    def would_give_away(self, entry: Entry, old: os.stat_result, keeper: int) -> bool:
        """Whether dressing *old* as *entry* might give away what *keeper* put there."""
        return self._territory.is_anothers(keeper, old) and self._writer.dresser.opens(entry, old)

    def _make_way(self, parent: int, name: bytes) -> None:
        """Something is where a folder is to be: fine if it is a folder."""
        if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            return
        if not self._options.replaces:
            raise RestoreFailed("something that is not a folder is in its place")
        with _explained(parent, name):
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
            with _explained(parent, entry.name):
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
        if first is not None and self._linked(first, parent, name, path):
            return
        if stat.S_ISREG(entry.mode):
            found = self._writer.file(entry, parent, name, path)
        else:
            found = self._writer.special(entry, parent, name, path)
        self._links.remember(entry, path, found, again=first is not None)

    def _linked(self, first: Known, parent: int, name: bytes, path: bytes) -> bool:
        """Whether *name* was made a link to *first*; if not, it becomes a file of its own."""
        try:
            self._links.link(first, parent, name)
        except RestoreFailed:
            cause = Cause.REPLACED
        except OSError as error:
            if error.errno == errno.EEXIST:
                raise
            cause = cause_of(error, parent)
        else:
            return True
        self._writer.dresser.unset.add("hard links", cause, path)
        return False

    def dress(self, entry: Entry, parent: int, old: os.stat_result, path: bytes) -> None:
        """Set the metadata of *old*, which stays, and may be linked to from now on."""
        found = self._writer.metadata_at(entry, parent, entry.name, old, path)
        self._links.remember(entry, path, found)

    def dress_folder(self, entry: Entry, held: Held, path: bytes) -> None:
        """Set the metadata of an open folder, unless they are to stay."""
        if held.kept:
            raise RestoreFailed(held.kept)
        old = None if held.fresh else os.fstat(held.descriptor)
        self._writer.dresser.dress(entry, held.descriptor, path, old)

    def remove(self, parent: int, name: bytes) -> None:
        """Remove what is there, with all below it."""
        with _explained(parent, name):
            self._remover.remove(parent, name)


class Rehearsal(Doer):
    """Does nothing: a descriptor of -1 stands for a folder that is not there."""

    def folder(self, entry: Entry, parent: int, keeper: int) -> Held:
        """The folder that is there."""
        descriptor = existing_folder(parent, entry.name)
        if descriptor < 0:
            return Held(-1, False, keeper)
        return self._held(descriptor, entry, keeper, made=False)

    def put(self, entry: Entry, parent: int, old: os.stat_result | None, path: bytes) -> None:
        """Make nothing."""

    def dress(self, entry: Entry, parent: int, old: os.stat_result, path: bytes) -> None:
        """Set nothing."""

    def dress_folder(self, entry: Entry, held: Held, path: bytes) -> None:
        """Set nothing."""

    def remove(self, parent: int, name: bytes) -> None:
        """Remove nothing."""


@contextmanager
def _explained(parent: int, name: bytes) -> Iterator[None]:
    """What the system refuses within, to change *name* in an open folder, by its true cause."""
    try:
        yield
    except OSError as error:
        told = explained(error, parent, name)
        if told is error:
            raise
        raise told from error
