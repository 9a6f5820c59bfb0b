"""Restoring a point, or parts of one, to a folder.

Everything is done by descriptors of folders that are never reached through a link, so a tree that
is restored over cannot lead the restore elsewhere.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ibtfs.actions.observer import Observer, Tally
from ibtfs.actions.owners import group_numbers, user_numbers
from ibtfs.actions.restore_entry import EntryWriter, RestoreFailed, failed
from ibtfs.errors import IntegrityError, UsageError
from ibtfs.format.entry import GROUP
from ibtfs.format.patterns import Patterns
from ibtfs.format.point import Point
from ibtfs.store.browse import find_entry, located, root_entry
from ibtfs.store.content import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.states import Directory, Entry

REFUSE, ALWAYS, IF_CHANGED, NEVER = "refuse", "always", "if-changed", "never"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class RestoreOptions:
    """How to restore.

    *overwrite* is REFUSE, ALWAYS, IF_CHANGED (size or time differ) or NEVER; *delete* removes
    what the point does not have from restored folders; *include* and *exclude* are matched with
    paths relative to the source.
    """

    overwrite: str = REFUSE
    delete: bool = False
    include: Patterns | None = None
    exclude: Patterns | None = None
    dry_run: bool = False
    numeric_ids: bool = False


@dataclass
class _Folder:
    """A folder being restored; it is made when something is to be put in it."""

    entry: Entry
    path: bytes
    name: bytes
    parent: _Folder | None
    chosen: bool
    waiting: Iterator[Entry]
    descriptor: int = -1

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def restore(
    repository: Repository, point: Point, paths: Sequence[bytes], destination: bytes,
    options: RestoreOptions, observer: Observer,
) -> Tally:  # fmt: skip
    """Restore *point* as the folder *destination* (an absolute path), or *paths* into it.

    Raises UsageError when that would overwrite and was not asked to, EntryNotFound, IbtfsError.
    Entries that fail are counted as problems and the rest goes on.
    """
    entries = [(path, find_entry(repository, point, path)) for path in paths]
    _refuse(destination, entries, options)
    work = _Restore(repository, point, options, Tally(observer))
    if not options.dry_run:
        _make_destination(destination)
    if not paths:
        work.tree(destination, root_entry(point), b"", own_metadata=not point.single)
    for path, entry in entries:
        work.into(destination, entry, path)
    work.say_unset()
    return work.tally


def _refuse(
    destination: bytes, entries: list[tuple[bytes, Entry]], options: RestoreOptions
) -> None:
    """Raise UsageError rather than overwrite unasked."""
    shown = os.fsdecode(destination)
    if os.path.lexists(destination) and not os.path.isdir(destination):
        raise UsageError(f"{shown!r} is not a folder")
    bases = [os.path.basename(path) or b"." for path, _ in entries]
    if len(set(bases)) != len(bases):
        raise UsageError("Two of the paths have the same name: restore them one after the other")
    if options.overwrite != REFUSE:
        return
    if options.delete:
        raise UsageError("--delete needs --overwrite: say how existing files are to be treated")
    if not entries and os.path.isdir(destination) and os.listdir(destination):
        raise UsageError(f"{shown!r} is not empty: name a new folder, or say --overwrite")
    for base in bases:
        there = os.path.join(destination, base)
        if os.path.lexists(there):
            raise UsageError(f"{os.fsdecode(there)!r} exists: name another folder, or --overwrite")


def _make_destination(destination: bytes) -> None:
    try:
        os.makedirs(destination, mode=0o700, exist_ok=True)
    except OSError as error:
        raise RestoreFailed(
            f"Cannot make {os.fsdecode(destination)!r}: {error.strerror}"
        ) from error


class _Restore:
    """One restore; one thread."""

    def __init__(
        self, repository: Repository, point: Point, options: RestoreOptions, tally: Tally
    ) -> None:
        self._repository, self._point, self._options = repository, point, options
        self._contents = Contents(repository)
        users = {} if options.numeric_ids else user_numbers(point.users)
        groups = {} if options.numeric_ids else group_numbers(point.groups)
        self._writer = EntryWriter(self._contents, users, groups)
        self._links: dict[tuple[object, ...], bytes] = {}
        self._top = -1
        self._cut = 0
        self.tally = tally

    def tree(self, destination: bytes, entry: Entry, path: bytes, *, own_metadata: bool) -> None:
        """Restore what the directory *entry* holds into *destination*."""
        chosen = self._options.include is None
        top = _Folder(entry, path, b"", None, chosen, self._entries(entry, path))
        if not self._options.dry_run:
            top.descriptor = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._top = top.descriptor
        self._links.clear()
        self._cut = len(path) + 1 if path else 0
        try:
            self._walk(top)
            if own_metadata and top.descriptor >= 0:
                self._writer.metadata(entry, top.descriptor)
        finally:
            top.close()

    def into(self, destination: bytes, entry: Entry, path: bytes) -> None:
        """Restore the one *entry* at *path* into *destination*, under its base name."""
        name = os.path.basename(path)
        if not name:
            self.tree(destination, entry, path, own_metadata=True)
            return
        parent = entry._replace(name=b"")
        top = _Folder(parent, os.path.dirname(path), b"", None, True, iter([entry]))
        if not self._options.dry_run:
            top.descriptor = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._top = top.descriptor
        self._links.clear()
        self._cut = len(top.path) + 1 if top.path else 0
        try:
            self._walk(top, delete=False)
        finally:
            top.close()

    def _entries(self, entry: Entry, path: bytes) -> Iterator[Entry]:
        """What a directory holds, files before folders, as it was backed up."""
        if entry.state is None:
            return iter(())
        try:
            entries = list(Directory(self._repository, entry.state.ref).entries())
        except IntegrityError as error:
            self.tally.problem(path, str(located(error, self._point.id, path)))
            return iter(())
        entries.sort(key=lambda item: item.state is not None)
        return iter(entries)

    def _walk(self, top: _Folder, *, delete: bool = True) -> None:
        stack = [top]
        while stack:
            folder = stack[-1]
            entry = next(folder.waiting, None)
            if entry is not None:
                below = self._step(folder, entry)
                if below is not None:
                    stack.append(below)
                continue
            if delete and self._options.delete and folder.chosen:
                self._delete_others(folder)
            stack.pop()
            if stack:
                self._leave(folder)

    def _step(self, folder: _Folder, entry: Entry) -> _Folder | None:
        """Restore one entry; a folder to go on with, if it is one."""
        path = folder.path + b"/" + entry.name if folder.path else entry.name
        options, is_folder = self._options, entry.state is not None
        if options.exclude and options.exclude.match(path, is_folder):
            self.tally.counts["excluded"] += 1
            return None
        chosen = folder.chosen or (
            options.include is not None and options.include.match(path, is_folder)
        )
        try:
            if is_folder:
                below = _Folder(entry, path, entry.name, folder, chosen, self._entries(entry, path))
                if chosen:
                    self._ensure(below)
                return below
            if chosen:
                self._file(folder, entry, path)
        except (RestoreFailed, IntegrityError) as error:
            if isinstance(error, IntegrityError):
                error = located(error, self._point.id, path)
            self.tally.problem(path, str(error))
        except OSError as error:
            self.tally.problem(path, str(failed(error)))
        return None

    def _ensure(self, folder: _Folder) -> int:
        """The descriptor of *folder*, which is made, and all above it, when missing."""
        if folder.descriptor >= 0 or folder.parent is None or self._options.dry_run:
            return folder.descriptor
        parent = self._ensure(folder.parent)
        try:
            os.mkdir(folder.name, 0o700, dir_fd=parent)
        except FileExistsError:
            self._make_way(parent, folder.name)
        folder.descriptor = os.open(folder.name, _FOLDER, dir_fd=parent)
        return folder.descriptor

    def _make_way(self, parent: int, name: bytes) -> None:
        """Something is where a folder is to be: fine if it is a folder."""
        if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            return
        if self._options.overwrite not in (ALWAYS, IF_CHANGED):
            raise RestoreFailed("something that is not a folder is in its place")
        os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)

    def _leave(self, folder: _Folder) -> None:
        """A folder's metadata come last, for what is put in it changes its times."""
        self.tally.counts["folders"] += folder.chosen
        if folder.descriptor < 0:
            return
        try:
            self._writer.metadata(folder.entry, folder.descriptor)
        except (OSError, IntegrityError) as error:
            self.tally.problem(folder.path, str(error))
        finally:
            folder.close()

    def _file(self, folder: _Folder, entry: Entry, path: bytes) -> None:
        """Restore what is not a folder, as the overwrite policy says."""
        counts, observer = self.tally.counts, self.tally.observer
        parent = self._ensure(folder)
        there = self._there(parent, entry.name)
        if there is not None and self._skips(entry, there):
            counts["skipped"] += 1
            if self._options.overwrite == IF_CHANGED and not self._options.dry_run:
                self._refresh(entry, parent)
            return
        if not self._options.dry_run:
            self._put(entry, parent, there, path)
        counts["files"] += 1
        counts["bytes"] += entry.size if stat.S_ISREG(entry.mode) else 0
        observer.file("restored", path)
        observer.progress(1, entry.size)

    def _there(self, parent: int, name: bytes) -> os.stat_result | None:
        if parent < 0:
            return None
        try:
            return os.lstat(name, dir_fd=parent)
        except FileNotFoundError:
            return None

    def _skips(self, entry: Entry, there: os.stat_result) -> bool:
        """Whether what is there stays."""
        overwrite = self._options.overwrite
        if overwrite in (REFUSE, NEVER):
            return True
        same = stat.S_IFMT(there.st_mode) == stat.S_IFMT(entry.mode)
        same = same and stat.S_ISREG(entry.mode) and entry.links < 2
        same = same and (there.st_size, there.st_mtime_ns) == (entry.size, entry.mtime_ns)
        return overwrite == IF_CHANGED and same

    def _refresh(self, entry: Entry, parent: int) -> None:
        """Set the metadata of a file whose contents stay."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(entry.name, flags, dir_fd=parent)
        try:
            self._writer.metadata(entry, descriptor)
        finally:
            os.close(descriptor)

    def _put(self, entry: Entry, parent: int, there: os.stat_result | None, path: bytes) -> None:
        """Make the entry; what is there is replaced only when the new one is whole."""
        if there is None:
            self._make(entry, parent, entry.name, path)
            return
        name = b".ibtfs-%b" % secrets.token_hex(8).encode()
        self._make(entry, parent, name, path)
        if stat.S_ISDIR(there.st_mode):
            self._remove(parent, entry.name, path)
        os.rename(name, entry.name, src_dir_fd=parent, dst_dir_fd=parent)
        # renaming one link over another of the same file does nothing, and leaves both
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass

    def _make(self, entry: Entry, parent: int, name: bytes, path: bytes) -> None:
        key = self._link_key(entry)
        first = self._links.get(key) if key else None
        if first is not None and self._link(first, parent, name):
            return
        if stat.S_ISREG(entry.mode):
            self._writer.file(entry, parent, name)
        else:
            self._writer.special(entry, parent, name)
        if key:
            self._links[key] = b"/proc/self/fd/%d/%b" % (self._top, path[self._cut :])

    def _link(self, first: bytes, parent: int, name: bytes) -> bool:
        """Make *name* a link to the file restored first of its group; False if it cannot be."""
        try:
            os.link(first, name, dst_dir_fd=parent, follow_symlinks=False)
        except OSError:
            return False
        return True

    def _link_key(self, entry: Entry) -> tuple[object, ...] | None:
        """What all links to one file agree in; None for an entry with one link."""
        if entry.links < 2:
            return None
        digest = self._contents.record(entry.content).digest if entry.content else b""
        return (
            entry.extras.get(GROUP, 0), entry.inode, *entry[1:6], digest, entry.target, entry.rdev,
        )  # fmt: skip

    def _delete_others(self, folder: _Folder) -> None:
        """Remove what the point does not have from a restored folder."""
        descriptor = folder.descriptor
        if descriptor < 0 or folder.entry.state is None:
            return
        try:
            entries = Directory(self._repository, folder.entry.state.ref).entries()
            wanted = {entry.name for entry in entries}
        except IntegrityError:
            return  # what is not known to be too much stays
        for text in os.listdir(descriptor):
            name = os.fsencode(text)
            path = folder.path + b"/" + name if folder.path else name
            exclude = self._options.exclude
            if name in wanted or (exclude and exclude.match(path, False)):
                continue
            self._remove(descriptor, name, path)
            self.tally.counts["deleted"] += 1
            self.tally.observer.file("deleted", path)

    def _remove(self, parent: int, name: bytes, path: bytes) -> None:
        """Remove *name* and all below it."""
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            os.unlink(name, dir_fd=parent)
            return
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
        try:
            for below in os.listdir(descriptor):
                self._remove(descriptor, os.fsencode(below), path)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=parent)

    def say_unset(self) -> None:
        """Tell what metadata could not be set."""
        for what, count in self._writer.unset.items():
            self.tally.counts[f"unset_{what.replace(' ', '_')}"] = count
            self.tally.observer.note(
                f"The {what} of {count} entries could not be set (restore as root to set them)"
            )
