"""The files of a folder: told apart by what has become of them, stored, kept, and counted."""

from __future__ import annotations

import stat
import time

from ibtfs.actions.backup.classify import CHANGED, NEW, UNCHANGED, classify, classify_read
from ibtfs.actions.backup.entry import FileStorer, flagged
from ibtfs.actions.backup.folder import Folder
from ibtfs.actions.observer import Tally
from ibtfs.errors import Leased, SourceError, Vanished
from ibtfs.format.entry import KEPT, MODE, NAME, SIZE, Stamp
from ibtfs.store.trees.directory import Entry
from ibtfs.store.writing.losses import Losses
from ibtfs.store.writing.run import RunWriter

LOOK_EVERY = 8
"""After so many small files it is seen whether the archive is full, and the lock is freshened."""
MOVED = "moved"
"""Unchanged, in a folder that is at another place now."""


class FolderFiles:
    """Stores what is not a folder in folders; one thread.

    With *reread* no stamp is believed, and none of what is *damaged*; with *dry_run* nothing is
    stored.
    """

    def __init__(
        self, writer: RunWriter, tally: Tally, storer: FileStorer, damaged: Losses,
        *, reread: bool, dry_run: bool,
    ) -> None:  # fmt: skip
        self._writer, self._tally, self._storer = writer, tally, storer
        self._damaged, self._reread, self._dry_run = damaged, reread, dry_run

    def store(self, folder: Folder) -> None:
        """Store the files of a listed *folder* that have changed, count the others."""
        counts, progress, old = self._tally.counts, self._tally.observer.progress, folder.old
        files = [stamp for stamp in folder.stamps if not stat.S_ISDIR(stamp[MODE])]
        counts["files"] += len(files)
        counts["bytes"] += sum([stamp[SIZE] for stamp in files])
        damaged = old.refers_to(self._damaged) if old and self._damaged else ()
        if folder.same and not self._reread and not damaged:
            self._count_unchanged(folder, len(files))
            progress(len(files), 0)
            return
        if old is None and not self._dry_run:
            files = self._store_small(folder, files)
        leased: list[tuple[Stamp, str]] = []
        for stamp in files:
            name = stamp[NAME]
            kind = classify(
                stamp, old.stamp(name) if old else None, inodes=folder.inodes,
                is_suspect=self._reread or name in damaged,
            )  # fmt: skip
            if kind == UNCHANGED:
                self._count_unchanged(folder)
            elif not self._store(folder, stamp, kind, waits=False):
                leased.append((stamp, kind))
            progress(1, 0)
        for stamp, kind in leased:  # all of them were asked for by now
            self._store(folder, stamp, kind)

    def store_again(self, folder: Folder) -> None:
        """Store every file of a folder whose old rows lead to records that cannot be read."""
        for stamp in folder.stamps:
            name = stamp[NAME]
            done = name in folder.changed or name in folder.dropped
            if not done and not stat.S_ISDIR(stamp[MODE]):
                self._store(folder, stamp, CHANGED)

    def _count_unchanged(self, folder: Folder, files: int = 1) -> None:
        self._tally.counts[MOVED if folder.moved else UNCHANGED] += files

    def _store_small(self, folder: Folder, files: list[Stamp]) -> list[Stamp]:
        """Store the small files of a new folder, the short way; what is left of *files*."""
        place, left, looked_ns = folder.place, [], time.time_ns()
        for number, stamp in enumerate(files):
            entry = self._storer.quick(stamp, place, looked_ns)
            if entry is None:
                left.append(stamp)
                continue
            folder.changed[stamp[NAME]] = entry
            self._tally.file(NEW, folder.below(stamp[NAME]))
            self._tally.observer.progress(1, stamp[SIZE])
            if number % LOOK_EVERY == 0:
                self._writer.beat()
                self._close_full()
        return left

    def _close_full(self) -> None:
        """Close the archive if it is full."""
        if self._writer.is_due:
            self._writer.close_archive()

    def _store(self, folder: Folder, stamp: Stamp, kind: str, *, waits: bool = True) -> bool:
        """Store, and count, one file that is new or has changed.

        Whether that is done: what a program holds a lease on is left, unless it *waits*.
        """
        self._writer.beat()
        name = stamp[NAME]
        if self._dry_run:
            self._tally.counts["bytes_read"] += stamp[SIZE]
            self._tally.file(kind, folder.below(name))
            return True
        old = folder.old_row(name) if kind == CHANGED else None
        try:
            entry = self._stored(folder, stamp, old, waits=waits)
        except SourceError as error:
            if isinstance(error, Leased) and not waits:
                return False
            self.keep(folder, name, old, error)
            if name in folder.dropped:  # counted when it was listed, and not in the point
                self._tally.counts["files"] -= 1
                self._tally.counts["bytes"] -= stamp[SIZE]
            return True
        folder.changed[name] = entry
        self._close_full()
        kind = classify_read(entry, old)
        if kind == UNCHANGED:
            self._count_unchanged(folder)
        else:
            self._tally.file(kind, folder.below(name))
        return True

    def _stored(self, folder: Folder, stamp: Stamp, old: Entry | None, *, waits: bool) -> Entry:
        """The row of a file, stored: the short way, unless a new folder's files have gone it."""
        place = folder.place_of(stamp[NAME])
        if folder.old is not None:
            base = old.content if old else None
            entry = self._storer.quick(stamp, place, time.time_ns(), base)
            if entry is not None:
                self._tally.observer.progress(0, stamp[SIZE])
                return entry
        store = self._storer.store if waits else self._storer.store_at_once
        return store(stamp, old, place)

    def keep(self, folder: Folder, name: bytes, old: Entry | None, error: SourceError) -> bool:
        """Keep the *old* row of what could not be read, and say so; what vanished goes.

        Whether a folder was kept.
        """
        self._tally.problem(folder.below(name), str(error))
        old = old or folder.old_row(name)
        vanished = isinstance(error, Vanished)
        if old is None or vanished or not self._writer.knows(old.content, old.xattrs_content):
            folder.dropped.add(name)
            return False
        folder.changed[name] = flagged(old, KEPT)._replace(name=name)
        return old.state is not None
