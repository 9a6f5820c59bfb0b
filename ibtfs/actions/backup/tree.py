"""Walking the source and the last backup side by side, bottom up, writing what differs."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field

from ibtfs.actions.backup.classify import UNCHANGED, classify
from ibtfs.actions.backup.devices import Devices
from ibtfs.actions.backup.entry import FileStorer, Place
from ibtfs.actions.backup.files import FolderFiles
from ibtfs.actions.backup.folder import Folder
from ibtfs.actions.backup.missing import Missing
from ibtfs.actions.backup.moved import MovedFolders
from ibtfs.actions.observer import Tally
from ibtfs.actions.source.filesystems import FileSystems
from ibtfs.actions.source.opening import open_folder, stamp_of
from ibtfs.actions.source.scan import Exclusions, list_folder
from ibtfs.errors import IntegrityError, SourceError, Vanished
from ibtfs.format.entry import (
    FLAGS,
    GID,
    HASH_SIZE,
    LEFT_OUT,
    MODE,
    NAME,
    NOT_READ,
    UID,
    Stamp,
)
from ibtfs.format.index import Reference
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.old_directory import load_old
from ibtfs.store.trees.trail import may_hold_more
from ibtfs.store.writing.losses import Losses
from ibtfs.store.writing.pages import write_directory
from ibtfs.store.writing.run import RunWriter

OPEN_FOLDERS = 64
"""Of a deep tree so many folders are open, the innermost; those above are opened again by "..": a
chain of a thousand must not cost a backup all descriptors."""


@dataclass
class TreeOptions:
    """How a tree is compared; *reread* ignores the stamps, *inodes* overrides what is known."""

    exclusions: Exclusions = field(default_factory=Exclusions)
    reread: bool = False
    dry_run: bool = False
    inodes: bool | None = None

    def trusts_inodes(self, systems: FileSystems, device: int) -> bool:
        """Whether inode numbers on *device* tell that a file is the same as at the last backup."""
        return systems.keeps_inodes(device) if self.inodes is None else self.inodes


class TreeBackup:
    """Backs up one tree; used once, by one thread.

    *devices* are as the last backup left them.  *users* and *groups* are the numbers that were met:
    of owners, and in ACLs.
    """

    def __init__(
        self, writer: RunWriter, tally: Tally, options: TreeOptions, devices: Devices,
        damaged: Losses,
    ) -> None:  # fmt: skip
        self._writer, self._tally, self._options = writer, tally, options
        self._systems = FileSystems()
        self._storer = FileStorer(writer, self._systems, tally)
        self._files = FolderFiles(
            writer, tally, self._storer, damaged, reread=options.reread, dry_run=options.dry_run
        )
        self.devices, self._damaged = devices, damaged
        self.users, self.groups = self._storer.users, self._storer.groups
        self.state_rows: Counter[str] = Counter()
        self._moved = MovedFolders(writer.repository, None, 0)
        self._missing = Missing(writer.repository, tally)

    def store(self, root: int, old: StateRef | None, since_ns: int = 0) -> tuple[Entry, StateRef]:
        """Back up the open folder *root*, which stays open; its row and its state.

        *old* is its state at the last backup, *since_ns* the moment of that.
        Raises IbtfsError when the repository fails; what fails in the source is counted.
        """
        if not self._options.reread:
            self._moved = MovedFolders(self._writer.repository, old, since_ns)
        try:
            folder = self._root(root, old)
            self._enter(folder)
        except SourceError as error:
            raise SourceError(f"The source itself {error}") from error
        stack = [folder]
        try:
            state = self._walk(stack)
        finally:
            for below in stack[1:]:
                below.close()
        self._missing.finish()
        self.devices.free_others()
        return folder.entry, state

    def _root(self, root: int, old: StateRef | None) -> Folder:
        found = os.fstat(root)
        stamp, place = stamp_of(b"", found), Place(root, found.st_dev, 0, b"")
        entry = self._storer.folder(stamp, root, place, inline=True)
        self._meet([stamp])
        inodes = self._options.trusts_inodes(self._systems, found.st_dev)
        return Folder(place, entry, True, load_old(self._writer.repository, old), inodes)

    def _walk(self, stack: list[Folder]) -> StateRef:
        """Back up all below the folder in *stack*, which holds what is open; its state."""
        while True:
            folder = stack[-1]
            stamp = next(folder.folders, None)
            if stamp is not None:
                child = self._open_child(folder, stamp)
                if child is not None:
                    stack.append(child)
                    if len(stack) > OPEN_FOLDERS + 1:  # the root is the caller's to close
                        stack[-1 - OPEN_FOLDERS].close()
                    self._enter_child(child)
                continue
            state = self._finish(folder)
            if len(stack) == 1:
                return state
            stack.pop()
            self._return_to(stack[-1], folder)
            stack[-1].take(folder, state)

    def _return_to(self, folder: Folder, child: Folder) -> None:
        """Go on with *folder* after *child*, which is closed.

        One that cannot be opened again keeps what it had of the folders that were still to be
        entered.
        """
        try:
            if not folder.is_open:
                folder.reopen(child)
        except SourceError as error:
            for stamp in folder.folders:
                self._keep(folder, stamp[NAME], None, error)
        finally:
            child.close()

    def _meet(self, stamps: list[Stamp]) -> None:
        self.users.update([stamp[UID] for stamp in stamps])
        self.groups.update([stamp[GID] for stamp in stamps])

    def _enter(self, folder: Folder) -> None:
        """List a folder and store what is not a folder in it.  Raises SourceError."""
        self._writer.beat()
        path, exclusions = folder.place.path, self._options.exclusions
        listing = list_folder(folder.descriptor, path, exclusions)
        self._tally.counts["excluded"] += listing.excluded
        self._meet(listing.stamps)
        folder.stamps = listing.stamps
        folders = [stamp for stamp in listing.stamps if stat.S_ISDIR(stamp[MODE])]
        folder.folders = iter(folders)
        folder.compare(needs_rows=bool(folders or listing.failed or self._damaged))
        for name, failure in listing.failed.items():
            self._keep(folder, name, None, failure)
        self._files.store(folder)

    def _enter_child(self, child: Folder) -> None:
        """Enter a folder below the root; one that cannot be listed is as if nothing had changed."""
        if child.entry.flags & LEFT_OUT:
            child.require_rows()
            return
        try:
            self._enter(child)
        except SourceError as error:
            self._tally.problem(child.place.path, str(error))
            self.devices.keep_all()
            child.keep_old()

    def _open_child(self, folder: Folder, stamp: Stamp) -> Folder | None:
        """Open the folder listed as *stamp* in *folder*; None if that cannot be."""
        old = folder.old_row(stamp[NAME])
        old = old if old is not None and old.state is not None else None
        try:
            if not may_hold_more(folder.below(stamp[NAME])):
                raise SourceError("lies too deep: no backup can hold what is in it")
            descriptor, found = open_folder(stamp[NAME], folder.descriptor)
            try:
                child = self._child(folder, stamp[NAME], old, descriptor, found)
            except BaseException:
                os.close(descriptor)
                raise
        except SourceError as error:
            self._unreadable(folder, stamp, old, error)
            return None
        self._tally.counts["folders"] += 1
        return child

    def _child(
        self, folder: Folder, name: bytes, old: Entry | None, descriptor: int,
        found: os.stat_result,
    ) -> Folder:  # fmt: skip
        """The open folder *name* in *folder*, whose row was *old*.  Raises SourceError."""
        path, shut = folder.below(name), self._is_shut(folder, name, found)
        begins = found.st_dev != folder.place.device and not shut
        ordinal = self.devices.number(path) if begins else folder.place.ordinal
        place = Place(descriptor, found.st_dev, ordinal, path)
        entry = self._row(stamp_of(name, found), old, place)
        inodes = self._options.trusts_inodes(self._systems, found.st_dev)
        state = old.state if old is not None else self._moved_state(found, inodes=inodes)
        child = Folder(
            place, entry, entry is not old, load_old(self._writer.repository, state), inodes,
            moved=folder.moved or old is None,
        )  # fmt: skip
        child.leave_out(shut)
        return child

    def _row(self, stamp: Stamp, old: Entry | None, place: Place) -> Entry:
        """The row of the open folder at *place*: the *old* one, unless something has changed.

        Raises SourceError.
        """
        xattrs = old.xattrs_content if old is not None else None
        damaged = xattrs is not None and (xattrs in self._damaged or not self._writer.knows(xattrs))
        was = old.stamp if old is not None else None
        if old is not None and classify(stamp, was, inodes=True, is_suspect=damaged) == UNCHANGED:
            return old
        return self._storer.folder(stamp, place.folder, place, inline=self._options.dry_run)

    def _moved_state(self, found: os.stat_result, *, inodes: bool) -> StateRef | None:
        """What a folder that is new here was at another place, if it was."""
        state = self._moved.find(found.st_ino, found.st_mtime_ns) if inodes else None
        if state is not None:
            self._missing.moved(found.st_ino, state)
        return state

    def _is_shut(self, folder: Folder, name: bytes, found: os.stat_result) -> bool:
        """Whether a folder is kept as an empty one: a mount point, or the repository."""
        exclusions, observer = self._options.exclusions, self._tally.observer
        if (found.st_dev, found.st_ino) in exclusions.identities:
            shown = os.fsdecode(folder.below(name))
            observer.note(f"The repository itself, or its cache, is left out: {shown}")
            return True
        if found.st_dev == folder.place.device:
            return False
        if exclusions.one_file_system or self._systems.is_virtual(found.st_dev):
            self._tally.counts["mounts_left_out"] += 1
            return True
        return False

    def _keep(self, folder: Folder, name: bytes, old: Entry | None, error: SourceError) -> None:
        """Keep what is known of what could not be looked at; it may be a folder."""
        if self._files.keep(folder, name, old, error):
            self.devices.keep_all()

    def _unreadable(
        self, folder: Folder, stamp: Stamp, old: Entry | None, error: SourceError
    ) -> None:
        """Keep what is known of a folder that cannot be entered; it must not look deleted."""
        if old is not None or isinstance(error, Vanished):
            self._keep(folder, stamp[NAME], old, error)
            return
        self._tally.problem(folder.below(stamp[NAME]), str(error))
        if self._options.dry_run:
            return
        empty = write_directory(self._writer, [], {}, None)
        state = StateRef(empty.ref, empty.digest[:HASH_SIZE])
        row = Entry(*stamp, None, state, b"", 0, {FLAGS: NOT_READ}, None)
        folder.changed[stamp[NAME]] = row._replace(ctime_ns=0)

    def _finish(self, folder: Folder) -> StateRef:
        """The state of a folder whose children are all done: the old one, or a new one."""
        self._tell_gone(folder)
        old, changed = folder.old, folder.changed
        if old is not None and folder.is_as_it_was(reread=self._options.reread):
            self.state_rows.update(old.rows_by_archive(len(folder.rows())))
            return old.state
        if self._options.dry_run:
            return StateRef(Reference("", 0), bytes(32))
        taken: Counter[str] = Counter()
        try:
            state = write_directory(self._writer, folder.rows(), changed, old, taken)
        except IntegrityError:
            self._files.store_again(folder)
            taken.clear()
            state = write_directory(self._writer, folder.rows(), changed, old, taken)
        self.state_rows.update(taken)
        return state

    def _tell_gone(self, folder: Folder) -> None:
        """Have the files be counted that were there at the last backup and are not now."""
        for name in folder.gone():
            entry = folder.old_row(name)
            if entry is not None:
                self._missing.missing(entry, folder.below(name))
