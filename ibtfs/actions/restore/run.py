"""Restoring a point, or parts of one, to a folder.

Everything is done by descriptors of folders that are never reached through a link, and links are
made to what is open, so a tree that is restored over cannot lead the restore elsewhere; and what
its owner may have put there is not given to him (territory.py).
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing

from ibtfs.actions.observer import Observer, Tally
from ibtfs.actions.owners import group_numbers, user_numbers
from ibtfs.actions.restore.batch import THREADS, Target, is_quick, start
from ibtfs.actions.restore.clearing import Remover
from ibtfs.actions.restore.destination import (
    Destination,
    existing,
    is_unchanged,
    refuse_equal_names,
)
from ibtfs.actions.restore.doing import Doer, Rehearsal
from ibtfs.actions.restore.entry import EntryWriter, failed
from ibtfs.actions.restore.links import LinkGroups
from ibtfs.actions.restore.options import Overwrite, RestoreOptions
from ibtfs.actions.restore.territory import NOT_OPEN, Territory
from ibtfs.errors import IntegrityError, RestoreFailed, UsageError
from ibtfs.format.entry import LEFT_OUT, NOT_READ
from ibtfs.format.point import Point
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory, Entry, Gap
from ibtfs.store.trees.paths import find_entry, located, root_entry
from ibtfs.store.trees.totals import Allowance
from ibtfs.store.trees.trail import Trail, depth_of

__all__ = ["Overwrite", "RestoreOptions", "restore"]

LEAVING = 32
"""Folders whose files are being made by threads at most, before their own metadata are set."""


def restore(
    repository: Repository, point: Point, paths: Sequence[bytes], destination: bytes,
    options: RestoreOptions, observer: Observer,
) -> Tally:  # fmt: skip
    """Restore *point* as the folder *destination* (an absolute path), or *paths* into it.

    Raises UsageError when that would overwrite and was not asked to, EntryNotFound, IbtfsError.
    Entries that fail are counted as problems and the rest goes on.
    """
    options.check()
    entries = [(path, find_entry(repository, point, path)) for path in paths]
    refuse_equal_names(paths)
    if options.delete and point.statistics.get("problems"):
        raise UsageError(
            "The point is not complete, some files could not be read when it was made: --delete "
            "would remove them; restore without it"
        )
    territory = Territory()
    with closing(Destination(destination, territory)) as there:
        if not options.dry_run:
            there.make(private=not paths and not point.single)
        if options.overwrite == Overwrite.REFUSE:
            there.refuse_overwriting(paths)
        return _restore(repository, point, entries, there, options, Tally(observer), territory)


def _restore(
    repository: Repository, point: Point, entries: Sequence[tuple[bytes, Entry]],
    there: Destination, options: RestoreOptions, tally: Tally, territory: Territory,
) -> Tally:  # fmt: skip
    """Restore the whole point, or *entries* of it, to the folder *there*."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="restore") as pool:
        work = _Restore(repository, point, options, tally, there, territory, pool)
        try:
            if not entries:
                work.tree(root_entry(point), b"", own_metadata=not point.single)
            for path, entry in entries:
                work.into(entry, path)
        finally:
            pool.shutdown(cancel_futures=True)
            work.close()
    work.writer.dresser.unset.tell(tally)
    return tally


class _Restore:
    """One restore: walks through the point, and decides what is to be done.

    One thread, and those of *pool* for small files and for reading ahead.
    """

    def __init__(
        self, repository: Repository, point: Point, options: RestoreOptions, tally: Tally,
        there: Destination, territory: Territory, pool: Executor,
    ) -> None:  # fmt: skip
        self._repository, self._point, self._options = repository, point, options
        self._pool, self.tally = pool, tally
        contents = Contents(repository)
        users = {} if options.numeric_ids else user_numbers(point.users)
        groups = {} if options.numeric_ids else group_numbers(point.groups)
        self.writer = EntryWriter(contents, users, groups, pool)
        self._there = there
        self._links = LinkGroups(contents, there.descriptor)
        does = Rehearsal if options.dry_run else Doer
        remover = Remover(repository.local_path)
        self._do = does(options, self.writer, self._links, remover, territory)
        self._leaving: deque[Target] = deque()
        self._trail, self._above = Trail(), 0
        self._allowance = Allowance(repository)

    def close(self) -> None:
        """Release what is open in the destination; no thread may be at work there."""
        for folder in self._leaving:  # left by an error that ended everything
            folder.close()
        self._links.close()

    def tree(self, entry: Entry, path: bytes, *, own_metadata: bool) -> None:
        """Restore what the directory *entry* holds into the destination."""
        options, chosen = self._options, self._options.include is None
        self._begin(entry, path)
        top = self._top(entry, path, chosen, self._entries(entry, path), own=own_metadata)
        empty = options.overwrite == Overwrite.REFUSE and not options.dry_run
        top.held = top.held._replace(fresh=chosen and empty)
        self._start_quick(top)
        self._links.cut = len(path) + 1 if path else 0
        self._walk(top)
        if own_metadata:
            top.held = top.held._replace(fresh=False)  # it may have been there, empty
            self._dress(top)

    def into(self, entry: Entry, path: bytes) -> None:
        """Restore the one *entry* at *path* into the destination, under its base name."""
        if not path:
            self.tree(entry, path, own_metadata=True)
            return
        parent = entry._replace(name=b"", state=None)
        chosen = self._options.include is None
        above = os.path.dirname(path)
        self._begin(entry, path)
        top = self._top(parent, above, chosen, iter([entry]), own=False)
        self._links.cut = len(above) + 1 if above else 0
        self._walk(top)

    def _top(
        self, entry: Entry, path: bytes, chosen: bool, waiting: Iterator[Entry], *, own: bool
    ) -> Target:
        """The destination, where *entry* is restored to; with its *own* metadata, or without."""
        opens = self.writer.dresser.opens
        held = self._there.held(lambda found: own and opens(entry, found))
        return Target(entry, path, None, chosen, waiting, held)

    def _begin(self, entry: Entry, path: bytes) -> None:
        """Begin to walk the tree of *entry*, which is at *path*."""
        self._trail, self._above = Trail(), depth_of(path)
        self._allowance = Allowance(self._repository, entry.state)

    def _entries(self, entry: Entry, path: bytes) -> Iterator[Entry]:
        """What can be read of what a directory holds, files before folders, as it was backed up.

        Raises LimitExceeded.
        """
        if entry.state is None:
            return iter(())
        gaps: list[Gap] = []
        entries: list[Entry] = []
        try:
            self._trail.enter(depth_of(path) - self._above, entry.state.ref, path)
            for page in Directory(self._repository, entry.state.ref).readable(gaps):
                entries += page.entries()
        except IntegrityError as error:
            self._problem(path, error)
        for gap in gaps:
            self._problem(path, gap.error)
        self._allowance.spend(len(entries))
        entries.sort(key=lambda item: item.state is not None)
        return iter(entries)

    def _walk(self, top: Target) -> None:
        stack = [top]
        while stack:
            folder = stack[-1]
            entry = next(folder.waiting, None)
            if entry is not None:
                below = self._step(folder, entry)
                if below is not None:
                    stack.append(below)
                continue
            if self._options.delete and folder.chosen:
                self._delete_others(folder)
            stack.pop()
            if stack:
                self._leaving.append(folder)
                if len(self._leaving) > LEAVING:
                    self._leave(self._leaving.popleft())
            else:
                self._collect(folder)
        while self._leaving:
            self._leave(self._leaving.popleft())

    def _step(self, folder: Target, entry: Entry) -> Target | None:
        """Restore one entry; a folder to go on with, if it is one."""
        path = folder.below(entry.name)
        is_folder = entry.state is not None
        if self._options.excludes(path, is_folder):
            self.tally.counts["excluded"] += 1
            return None
        chosen = folder.chosen or self._options.includes(path, is_folder)
        try:
            if is_folder:
                below = Target(entry, path, folder, chosen, self._entries(entry, path))
                if chosen:
                    self._ensure(below)
                    self._start_quick(below)
                return below
            if chosen:
                self._file(folder, entry, path)
        except (RestoreFailed, IntegrityError) as error:
            self._problem(path, error)
        except OSError as error:
            self._problem(path, failed(error))
        return None

    def _ensure(self, folder: Target) -> int:
        """The descriptor of *folder*; it is made, and all above it, when missing.

        -1 in a rehearsal, where it is not there.
        """
        missing = []
        at: Target | None = folder
        while at is not None and at.descriptor < 0 and at.parent is not None:
            missing.append(at)
            at = at.parent
        for below in reversed(missing):
            above = below.parent.held if below.parent else NOT_OPEN
            below.held = self._do.folder(below.entry, above.descriptor, above.keeper)
        return folder.descriptor

    def _start_quick(self, folder: Target) -> None:
        """Have threads make those files of a fresh folder that need no thought."""
        if not folder.held.fresh or self._options.exclude:
            return
        waiting = list(folder.waiting)
        quick = [entry for entry in waiting if is_quick(entry)]
        folder.waiting = iter([entry for entry in waiting if not is_quick(entry)])
        folder.batches.extend(start(self._pool, self.writer, quick, folder))

    def _collect(self, folder: Target) -> None:
        """Wait for the files that threads make in *folder*, and count them.

        Raises DestinationFull.
        """
        counts, observer = self.tally.counts, self.tally.observer
        for batch in folder.batches:
            failures = batch.failures.result()
            for entry in batch.entries:
                error = failures.get(entry.name)
                if error is not None:
                    self._problem(folder.below(entry.name), error)
                    continue
                counts["files"] += 1
                counts["bytes"] += entry.size
                observer.file("restored", folder.below(entry.name))
                observer.progress(1, entry.size)

    def _problem(self, path: bytes, error: RestoreFailed | IntegrityError) -> None:
        """Count and tell what became of *path*."""
        if isinstance(error, IntegrityError):
            error = located(error, self._point.id, path)
        self.tally.problem(path, str(error))

    def _leave(self, folder: Target) -> None:
        """A folder's metadata come last, for what is put in it changes its times."""
        self._collect(folder)
        self.tally.counts["folders"] += folder.chosen
        if folder.descriptor < 0:
            return
        try:
            self._dress(folder)
        finally:
            folder.close()

    def _dress(self, folder: Target) -> None:
        """Set the metadata of an open folder, or say why not."""
        path = folder.path or b"."
        try:
            self._do.dress_folder(folder.entry, folder.held, path)
        except (OSError, RestoreFailed, IntegrityError) as error:
            self.tally.problem(path, str(error))

    def _file(self, folder: Target, entry: Entry, path: bytes) -> None:
        """Restore what is not a folder, as the options say."""
        counts, observer = self.tally.counts, self.tally.observer
        parent = self._ensure(folder)
        old = existing(parent, entry.name)
        if old is not None and self._stays(folder, entry, old):
            counts["skipped"] += 1
            if self._options.overwrite == Overwrite.IF_CHANGED:
                # looked at, and the same; what merely stays may be any file, and is not linked to
                self._do.dress(entry, parent, old, path)
            return
        self._do.put(entry, parent, old, path)
        counts["files"] += 1
        counts["bytes"] += entry.size if stat.S_ISREG(entry.mode) else 0
        observer.file("restored", path)
        observer.progress(1, entry.size)

    def _stays(self, folder: Target, entry: Entry, old: os.stat_result) -> bool:
        """Whether *old*, which lies in *folder* where *entry* is to be, is left there."""
        if self._options.overwrite != Overwrite.IF_CHANGED:
            return not self._options.replaces
        if self._do.would_give_away(entry, old, folder.held.keeper):
            return False
        return is_unchanged(entry, old, folder.descriptor)

    def _delete_others(self, folder: Target) -> None:
        """Remove what the point does not have from a restored folder that it knows all of."""
        state, not_known = folder.entry.state, folder.entry.flags & (NOT_READ | LEFT_OUT)
        if folder.descriptor < 0 or state is None or not_known:
            return
        try:
            wanted = {entry.name for entry in Directory(self._repository, state.ref).entries()}
        except IntegrityError:
            return  # what is not known to be too much stays
        for text in os.listdir(folder.descriptor):
            name = os.fsencode(text)
            if name not in wanted:
                self._delete(folder, name)

    def _delete(self, folder: Target, name: bytes) -> None:
        """Remove one thing that is too much, unless it is excluded; say so if it cannot be."""
        path = folder.below(name)
        try:
            is_folder = stat.S_ISDIR(os.lstat(name, dir_fd=folder.descriptor).st_mode)
            if self._options.excludes(path, is_folder):
                return
            self._do.remove(folder.descriptor, name)
        except (OSError, RestoreFailed) as error:
            self.tally.problem(path, f"cannot be deleted: {error}")
            return
        self.tally.counts["deleted"] += 1
        self.tally.observer.file("deleted", path)
