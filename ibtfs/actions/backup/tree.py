"""Walking the source and the last backup side by side, bottom up, writing what differs."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field

from ibtfs.actions.backup.devices import Devices
from ibtfs.actions.backup.entry import FileStorer, Place, flagged
from ibtfs.actions.backup.folder import Folder
from ibtfs.actions.backup.missing import Missing
from ibtfs.actions.backup.moved import MovedFolders
from ibtfs.actions.observer import Tally
from ibtfs.actions.source.filesystems import FileSystems
from ibtfs.actions.source.opening import Vanished, open_folder, stamp_of
from ibtfs.actions.source.scan import Exclusions, list_folder
from ibtfs.errors import IntegrityError, SourceError
from ibtfs.format.entry import (
    FLAGS,
    GID,
    HASH_SIZE,
    KEPT,
    MODE,
    NAME,
    NOT_READ,
    SIZE,
    UID,
    Stamp,
)
from ibtfs.format.index import Reference
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.trees.old_directory import load_old, same_but_stamps, same_stamp
from ibtfs.store.writing.pages import write_directory
from ibtfs.store.writing.run import RunWriter

LOOK_EVERY = 8
"""After so many small files it is seen whether the archive is full, and the lock is freshened."""


@dataclass
class TreeOptions:
    """How a tree is compared; *reread* ignores the stamps, *inodes* overrides what is known."""

    exclusions: Exclusions = field(default_factory=Exclusions)
    reread: bool = False
    dry_run: bool = False
    inodes: bool | None = None


class TreeBackup:
    """Backs up one tree; used once, by one thread.

    *devices* are as the last backup left them.  *users* and *groups* are the numbers that were met:
    of owners, and in ACLs.
    """

    def __init__(
        self, writer: RunWriter, tally: Tally, options: TreeOptions, devices: Devices,
        damaged: frozenset[Reference],
    ) -> None:  # fmt: skip
        self._writer, self._tally, self._options = writer, tally, options
        self._systems = FileSystems()
        self._storer = FileStorer(writer, self._systems, tally)
        self.devices, self._damaged = devices, damaged
        self.users, self.groups = self._storer.users, self._storer.groups
        self.state_archives: set[str] = set()
        self._kept = False
        self._moved = MovedFolders(writer.repository, None, 0)
        self._missing = Missing(writer.repository, tally)

    def store(self, root: int, old: StateRef | None, since_ns: int = 0) -> tuple[Entry, StateRef]:
        """Back up the open folder *root*; its row and its state.  Closes *root*.

        *old* is its state at the last backup, *since_ns* the moment of that.
        Raises IbtfsError when the repository fails; what fails in the source is counted.
        """
        found = os.fstat(root)
        stamp = stamp_of(b"", found)
        place = Place(root, found.st_dev, 0, b"")
        try:
            entry = self._storer.folder(stamp, root, place, inline=True)
        except SourceError as error:
            os.close(root)
            raise SourceError(f"The source itself {error}") from error
        stack = [Folder(root, b"", found.st_dev, 0, entry, True, load_old(self._repo, old))]
        self._meet([stamp])
        if not self._options.reread:
            self._moved = MovedFolders(self._repo, old, since_ns)
        try:
            self._enter(stack[0], fatal=True)
            while True:
                folder = stack[-1]
                child = next(folder.folders, None)
                if child is not None:
                    opened = self._open_child(folder, child)
                    if opened is not None:
                        stack.append(opened)
                    continue
                written, same = self._finish(folder)
                os.close(folder.descriptor)
                stack.pop()
                if not stack:
                    self._missing.finish()
                    if not self._kept:  # what was not entered may be on any of them
                        self.devices.free_others()
                    return entry, written
                self._give(stack[-1], folder, written, same=same)
        finally:
            for folder in stack:
                os.close(folder.descriptor)

    @property
    def _repo(self) -> Repository:
        return self._writer.repository

    def _meet(self, stamps: list[Stamp]) -> None:
        self.users.update([stamp[UID] for stamp in stamps])
        self.groups.update([stamp[GID] for stamp in stamps])

    def _enter(self, folder: Folder, *, fatal: bool = False) -> None:
        """List a folder and store what is not a folder in it."""
        self._writer.beat()
        try:
            listing = list_folder(folder.descriptor, folder.path, self._options.exclusions)
        except SourceError as error:
            if fatal:
                raise SourceError(f"The source itself {error}") from error
            self._keep_folder(folder, error)
            return
        self._tally.counts["excluded"] += listing.excluded
        folder.stamps = listing.stamps
        self._meet(folder.stamps)
        folders = [s for s in folder.stamps if stat.S_ISDIR(s[MODE])]
        folder.folders = iter(folders)
        self._compare(folder, needs_rows=bool(folders or listing.failed))
        for name, failure in listing.failed.items():
            self._keep(folder, name, None, failure)
        self._files(folder)

    def _compare(self, folder: Folder, *, needs_rows: bool) -> None:
        """Find whether the stamps are as they were; what is damaged is as if it had not been."""
        old = folder.old
        if old is None:
            return
        folder.same = old.is_same(folder.stamps)
        if (needs_rows or not folder.same or self._damaged) and not old.is_readable:
            folder.old, folder.same = None, False

    def _files(self, folder: Folder) -> None:
        """Store the files that have changed, count the others."""
        counts, observer, old = self._tally.counts, self._tally.observer, folder.old
        files = [s for s in folder.stamps if not stat.S_ISDIR(s[MODE])]
        counts["files"] += len(files)
        counts["bytes"] += sum([s[SIZE] for s in files])
        inodes = self._inodes(folder.device)
        damaged = old.refers_to(self._damaged) if old and self._damaged else ()
        reread = self._options.reread
        same_kind = "moved" if folder.moved else "unchanged"
        if folder.same and not reread and not damaged:
            counts[same_kind] += len(files)
            observer.progress(len(files), 0)
            return
        if old is None and not self._options.dry_run:
            files = self._new_files(folder, files)
        for stamp in files:
            name = stamp[NAME]
            before = old.stamp(name) if old else None
            is_same = not reread and name not in damaged
            if is_same and same_stamp(stamp, before, inodes=inodes):
                counts[same_kind] += 1
            else:
                self._file(folder, stamp, known=before is not None)
            observer.progress(1, 0)

    def _new_files(self, folder: Folder, files: list[Stamp]) -> list[Stamp]:
        """Store the small files of a new folder, the short way; what is left of *files*."""
        observer, quick, changed = self._tally.observer, self._storer.quick, folder.changed
        place, left, looked_ns = folder.place(b""), [], time.time_ns()
        for number, stamp in enumerate(files):
            entry = quick(stamp, place, looked_ns)
            if entry is None:
                left.append(stamp)
                continue
            changed[stamp[NAME]] = entry
            observer.file("new", folder.below(stamp[NAME]))
            observer.progress(1, stamp[SIZE])
            if number % LOOK_EVERY == 0:
                self._writer.beat()
                if self._writer.is_due:
                    self._writer.close_archive()
        self._tally.counts["new"] += len(files) - len(left)
        return left

    def _inodes(self, device: int) -> bool:
        told = self._options.inodes
        return self._systems.keeps_inodes(device) if told is None else told

    def _file(self, folder: Folder, stamp: Stamp, *, known: bool) -> None:
        """Store one file that is new or has changed."""
        self._writer.beat()
        name = stamp[NAME]
        kind = "changed" if known else "new"
        before = folder.old.find(name) if folder.old and known else None
        if not self._options.dry_run:
            try:
                entry = self._stored(folder, stamp, before)
            except SourceError as error:
                self._keep(folder, name, before, error)
                if name in folder.dropped:  # counted when it was listed, and not in the point
                    self._tally.counts["files"] -= 1
                    self._tally.counts["bytes"] -= stamp[SIZE]
                return
            folder.changed[name] = entry
            if before is not None and same_but_stamps(entry, before):
                kind = "unchanged"  # read again only because its times do not tell
            if self._writer.is_due:
                self._writer.close_archive()
        else:
            self._tally.counts["bytes_read"] += stamp[SIZE]
        self._tally.counts["moved" if folder.moved and kind == "unchanged" else kind] += 1
        if kind != "unchanged":
            self._tally.observer.file(kind, folder.below(name))

    def _stored(self, folder: Folder, stamp: Stamp, before: Entry | None) -> Entry:
        """The row of a file, stored: the short way, unless a new folder's files have gone it."""
        place = folder.place(stamp[NAME])
        if folder.old is not None:
            base = before.content if before else None
            entry = self._storer.quick(stamp, place, time.time_ns(), base)
            if entry is not None:
                self._tally.observer.progress(0, stamp[SIZE])
                return entry
        return self._storer.store(stamp, before, place)

    def _keep(self, folder: Folder, name: bytes, before: Entry | None, error: SourceError) -> None:
        """Keep the previous row of what could not be read, and say so; what vanished goes."""
        self._tally.problem(folder.below(name), str(error))
        if before is None and folder.old is not None:
            before = folder.old.find(name)
        kept = None if isinstance(error, Vanished) else flagged(before, KEPT)
        if kept is None or not self._writer.knows(kept.content, kept.xattrs_content):
            folder.dropped.add(name)
        else:
            self._kept = self._kept or kept.state is not None
            folder.changed[name] = kept._replace(name=name)

    def _keep_folder(self, folder: Folder, error: SourceError) -> None:
        """A folder that was opened and cannot be listed: as if nothing in it had changed."""
        self._tally.problem(folder.path, str(error))
        if folder.old is not None and not folder.old.is_readable:
            folder.old = None
        self._kept = True
        flag = KEPT if folder.old else NOT_READ
        folder.entry = flagged(folder.entry, flag) or folder.entry
        folder.own_row_changed = True
        if folder.old is not None:
            folder.stamps, folder.same = list(folder.old.stamps), True

    def _open_child(self, parent: Folder, stamp: Stamp) -> Folder | None:
        """Enter the folder listed as *stamp*; None if it is not to be, or cannot be, entered."""
        name = stamp[NAME]
        before = parent.old.find(name) if parent.old else None
        if before is not None and before.state is None:
            before = None
        try:
            descriptor, found = open_folder(name, parent.descriptor)
        except SourceError as error:
            self._unreadable_folder(parent, stamp, before, error)
            return None
        path, shut = parent.below(name), self._is_shut(parent, name, found)
        begins = found.st_dev != parent.device and not shut
        ordinal = self.devices.number(path) if begins else parent.ordinal
        fresh = stamp_of(name, found)
        same = same_stamp(fresh, before.stamp if before else None, inodes=True)
        if before is not None and before.xattrs_content is not None:
            same = same and before.xattrs_content not in self._damaged
            same = same and self._writer.knows(before.xattrs_content)
        place = Place(descriptor, found.st_dev, ordinal, path)
        dry = self._options.dry_run
        entry = before if before and same else None
        try:
            entry = entry or self._storer.folder(fresh, descriptor, place, inline=dry)
        except SourceError as error:
            os.close(descriptor)
            self._unreadable_folder(parent, stamp, before, error)
            return None
        self._tally.counts["folders"] += 1
        state, moved = before.state if before else None, parent.moved
        if state is None:
            state, moved = self._moved_state(found), True
        old = load_old(self._repo, state)
        child = Folder(descriptor, path, found.st_dev, ordinal, entry, not same, old, moved)
        child.left_out(shut)
        if not shut:
            self._enter(child)
        elif old is not None and not old.is_readable:
            child.old = None
        return child

    def _moved_state(self, found: os.stat_result) -> StateRef | None:
        """What a folder that is new here was at another place, if it was."""
        if not self._inodes(found.st_dev):
            return None
        state = self._moved.find(found.st_ino, found.st_mtime_ns)
        if state is not None:
            self._missing.moved(found.st_ino, state)
        return state

    def _is_shut(self, parent: Folder, name: bytes, found: os.stat_result) -> bool:
        """Whether a folder is kept as an empty one: a mount point, or the repository."""
        exclusions, observer = self._options.exclusions, self._tally.observer
        if (found.st_dev, found.st_ino) in exclusions.identities:
            shown = os.fsdecode(parent.below(name))
            observer.note(f"The repository itself, or its cache, is left out: {shown}")
            return True
        if found.st_dev == parent.device:
            return False
        if exclusions.one_file_system or self._systems.is_virtual(found.st_dev):
            self._tally.counts["mounts_left_out"] += 1
            return True
        return False

    def _unreadable_folder(
        self, parent: Folder, stamp: Stamp, before: Entry | None, error: SourceError
    ) -> None:
        """Keep what is known of a folder that cannot be entered; it must not look deleted."""
        if before is not None or isinstance(error, Vanished):
            self._keep(parent, stamp[NAME], before, error)
            return
        self._tally.problem(parent.below(stamp[NAME]), str(error))
        if self._options.dry_run:
            return
        empty = write_directory(self._writer, [], {}, None)
        state = StateRef(empty.ref, empty.digest[:HASH_SIZE])
        row = Entry(*stamp, None, state, b"", 0, {FLAGS: NOT_READ}, None)
        parent.changed[stamp[NAME]] = row._replace(ctime_ns=0)

    def _finish(self, folder: Folder) -> tuple[StateRef, bool]:
        """Write the state of a folder whose children are all done, or refer to the old one."""
        old, changed = folder.old, folder.changed
        self._count_gone(folder)
        untouched = old is not None and not changed and not folder.dropped
        if old is not None and untouched and (folder.same or self._same_but_inodes(folder)):
            self.state_archives.update(old.archives())
            return old.state, True
        if self._options.dry_run:
            return StateRef(Reference("", 0), bytes(32)), False
        present = {
            stamp[NAME]: stamp for stamp in folder.stamps if stamp[NAME] not in folder.dropped
        }
        for name, entry in changed.items():
            present[name] = entry.stamp
        rows = list(map(present.__getitem__, sorted(present)))
        try:
            return write_directory(self._writer, rows, changed, old), False
        except IntegrityError:
            self._store_again(folder)
            rows = [changed[row[NAME]].stamp if row[NAME] in changed else row for row in rows]
            return write_directory(self._writer, rows, changed, old), False

    def _store_again(self, folder: Folder) -> None:
        """Store every file of a folder whose old rows lead to records that cannot be read."""
        for stamp in folder.stamps:
            name = stamp[NAME]
            done = name in folder.changed or name in folder.dropped
            if not done and not stat.S_ISDIR(stamp[MODE]):
                self._file(folder, stamp, known=True)

    def _same_but_inodes(self, folder: Folder) -> bool:
        """Whether every row is as it was, where inode numbers do not count."""
        old = folder.old
        if old is None or len(old.stamps) != len(folder.stamps) or self._options.reread:
            return False
        if self._inodes(folder.device):
            return False
        return all(map(lambda a, b: same_stamp(a, b, inodes=False), folder.stamps, old.stamps))

    def _give(self, parent: Folder, child: Folder, written: StateRef, *, same: bool) -> None:
        """Tell the parent what became of a child folder."""
        if same and not child.own_row_changed:
            return
        state = StateRef(written.ref, written.digest[:HASH_SIZE])
        parent.changed[child.entry.name] = child.entry._replace(state=state)

    def _count_gone(self, folder: Folder) -> None:
        """Count the files that were there at the last backup and are not now."""
        old = folder.old
        if old is None or folder.same:
            return
        present = {stamp[NAME] for stamp in folder.stamps} | set(folder.changed)
        gone = [s for s in old.stamps if s[NAME] not in present or s[NAME] in folder.dropped]
        for stamp in gone:
            entry = old.find(stamp[NAME])
            if entry is not None:
                self._missing.missing(entry, folder.below(stamp[NAME]))
