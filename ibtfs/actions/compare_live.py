"""Comparing a backup point with the source as it is now; what looks unchanged is not read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from ibtfs.actions.source.chunks import FileSource
from ibtfs.actions.source.filesystems import FileSystems
from ibtfs.actions.source.holes import has_holes
from ibtfs.actions.source.opening import (
    open_folder,
    open_source,
    opened_file,
    read_xattrs,
    source_error,
    stamp_of,
)
from ibtfs.actions.source.scan import Exclusions, exclude_lines, list_folder
from ibtfs.errors import IbtfsError, SourceError
from ibtfs.format.digests import Digests
from ibtfs.format.entry import LEFT_OUT, MODE, NAME, Stamp
from ibtfs.format.index import Reference
from ibtfs.format.patterns import Patterns
from ibtfs.format.point import Point
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.compare import Change, Comparison, PathChange
from ibtfs.store.trees.differences import differences
from ibtfs.store.trees.directory import Entry, StateRef, child_path, entry_xattrs
from ibtfs.store.trees.old_directory import OldDirectory, same_stamp
from ibtfs.store.trees.paths import root_entry

LIVE: Final = StateRef(Reference("", 0), b"")
"""Stands for what a live directory holds."""


class _LiveFolder(NamedTuple):
    """A live folder, open, and what its point has of it."""

    descriptor: int
    path: bytes
    device: int
    old: OldDirectory | None
    names: Iterator[tuple[bytes, Stamp | None]]


class LiveComparison:
    """Compares *point* with a folder or file; used once, by one thread.

    What is excluded by *lines* of patterns, or by the source's own ``.exclude``, is left out.
    """

    def __init__(self, repository: Repository, point: Point, lines: tuple[str, ...] = ()) -> None:
        self._repository, self._point, self._lines = repository, point, lines
        self._contents = Contents(repository)
        self._comparison = Comparison(repository, self._contents)
        self._systems = FileSystems()
        self._exclusions = Exclusions()

    def changes(self, source: bytes) -> Iterator[PathChange]:
        """What differs now, at *source*, from the point, by path.

        What cannot be read, on either side, comes as a PathChange with an error.  Raises
        SourceError if *source* itself cannot be read.
        """
        root = root_entry(self._point)
        old = OldDirectory(self._repository, StateRef(self._point.state, self._point.digest))
        if self._point.single:
            yield from self._single(source, old)
            return
        descriptor, found = open_source(source)
        try:
            patterns = Patterns.from_lines([*exclude_lines(descriptor), *self._lines])
            self._exclusions = Exclusions(patterns)
            live = _live(stamp_of(b"", found))
            what = differences(root, live, _LiveFacts(self._contents, descriptor))
            if what:
                yield PathChange(b"", Change(b"", root, live, what))
        except BaseException:
            os.close(descriptor)
            raise
        yield from self._walk(descriptor, found.st_dev, old)

    def _single(self, source: bytes, old: OldDirectory) -> Iterator[PathChange]:
        real = os.path.realpath(source)
        parent, found = open_source(os.path.dirname(real))
        try:
            stamp = stamp_of(
                os.path.basename(real), os.lstat(os.path.basename(real), dir_fd=parent)
            )
            folder = _LiveFolder(parent, b"", found.st_dev, old, iter(()))
            entry = old.find(os.path.basename(source)) or old.find(old.stamps[0][NAME])
            yield from self._compared(folder, entry, stamp)
        except OSError as error:
            raise SourceError(f"{os.fsdecode(source)}: {source_error(error)}") from error
        finally:
            os.close(parent)

    def _walk(self, root: int, device: int, old: OldDirectory) -> Iterator[PathChange]:
        stack = [_LiveFolder(root, b"", device, old, iter(()))]
        try:
            stack[0] = stack[0]._replace(names=self._names(root, b"", old))
            while stack:
                folder = stack[-1]
                found = next(folder.names, None)
                if found is None:
                    os.close(stack.pop().descriptor)
                    continue
                name, stamp = found
                entry = folder.old.find(name) if folder.old else None
                path = child_path(folder.path, name)
                try:
                    yield from self._compared(folder, entry, stamp)
                    entered = self._entered(folder, entry, stamp)
                except IbtfsError as error:
                    live = _live(stamp) if stamp else None
                    yield PathChange(path, Change(name, entry, live), error)
                    continue
                if entered is not None:
                    stack.append(entered)
        finally:
            for folder in stack:
                os.close(folder.descriptor)

    def _names(
        self, descriptor: int, path: bytes, old: OldDirectory | None
    ) -> Iterator[tuple[bytes, Stamp | None]]:
        """The names in the folder, or in the point, that are to be looked at, sorted."""
        listing = list_folder(descriptor, path, self._exclusions)
        if listing.failed:
            name, error = next(iter(listing.failed.items()))
            raise SourceError(f"{os.fsdecode(name)!r}: {error}")
        if old is not None and tuple(listing.stamps) == tuple(old.stamps):
            folders = [s for s in listing.stamps if stat.S_ISDIR(s[MODE])]
            return iter([(stamp[NAME], stamp) for stamp in folders])
        live: dict[bytes, Stamp | None] = {stamp[NAME]: stamp for stamp in listing.stamps}
        match = self._exclusions.patterns.match
        for stamp in old.stamps if old else ():
            if not match(child_path(path, stamp[NAME]), stat.S_ISDIR(stamp[MODE])):
                live.setdefault(stamp[NAME], None)
        return iter(sorted(live.items()))

    def _entered(
        self, folder: _LiveFolder, old: Entry | None, stamp: Stamp | None
    ) -> _LiveFolder | None:
        """The folder listed as *stamp*, to be walked through; None if it is not to be."""
        if stamp is None or not stat.S_ISDIR(stamp[MODE]):
            return None
        if old is not None and old.flags & LEFT_OUT:
            return None
        descriptor, found = open_folder(stamp[NAME], folder.descriptor)
        try:
            if self._systems.is_virtual(found.st_dev) and found.st_dev != folder.device:
                os.close(descriptor)
                return None
            state = old.state if old else None
            inside = OldDirectory(self._repository, state) if state else None
            path = child_path(folder.path, stamp[NAME])
            names = self._names(descriptor, path, inside)
            return _LiveFolder(descriptor, path, found.st_dev, inside, names)
        except BaseException:
            os.close(descriptor)
            raise

    # One entry

    def _compared(
        self, folder: _LiveFolder, old: Entry | None, stamp: Stamp | None
    ) -> Iterator[PathChange]:
        """The changes of one entry, and all below it if it is gone."""
        new = _live(stamp) if stamp else None
        name = new.name if new else old.name if old else b""
        path = child_path(folder.path, name)
        if old is not None and new is not None and (old.state is None) == (new.state is None):
            keeps_inodes = self._systems.keeps_inodes(folder.device)
            if not same_stamp(new.stamp, old.stamp, inodes=keeps_inodes):
                new = _with_data(new, folder.descriptor)
                what = differences(old, new, _LiveFacts(self._contents, folder.descriptor))
                if what:
                    yield PathChange(path, Change(name, old, new, what))
            return
        if old is not None:
            yield PathChange(path, Change(name, old, None))
            for below in self._comparison.tree_changes(old, None):
                inside = child_path(path, below.path) if below.path else path
                yield below._replace(path=inside)
        if new is not None:
            yield PathChange(path, Change(name, None, new))


class _LiveFacts:
    """Of a stored entry and of what has its name in the open folder *parent* now.

    Raises SourceError, IntegrityError where one of them cannot be read.
    """

    def __init__(self, contents: Contents, parent: int) -> None:
        self._contents, self._parent = contents, parent

    def same_contents(self, old: Entry, new: Entry) -> bool:
        """Whether the file has the digest that was stored; reads all of it."""
        if old.content is None:
            return True
        with opened_file(new.name, self._parent, new.inode) as (descriptor, found):
            digest = _digest(descriptor, found, self._contents.digests)
        return self._contents.record(old.content).digest == digest

    def same_xattrs(self, old: Entry, new: Entry) -> bool:
        """Whether the file has those that were stored; the folder itself is called ``b""``."""
        place = b"/proc/self/fd/%d/%b" % (self._parent, new.name)
        return entry_xattrs(old, self._contents) == read_xattrs(place, follow=False)


def _digest(descriptor: int, found: os.stat_result, digests: Digests) -> bytes:
    source = FileSource(descriptor, found.st_size, sparse=has_holes(descriptor, found))
    hasher = digests.hasher()
    while (chunk := source.chunk(hasher.size)).length:
        if chunk.is_hole:
            hasher.add_zeros(chunk.length)
        else:
            hasher.update(chunk.data)
    return hasher.finish()


def _live(stamp: Stamp) -> Entry:
    """The entry of something live; nothing of it is stored."""
    return Entry(*stamp, None, LIVE if stat.S_ISDIR(stamp[MODE]) else None, b"", 0, {}, None)


def _with_data(live: Entry, parent: int) -> Entry:
    """*live* with its target or device, if it has one.  Raises SourceError."""
    try:
        if stat.S_ISLNK(live.mode):
            return live._replace(target=os.readlink(live.name, dir_fd=parent))
        if stat.S_ISCHR(live.mode) or stat.S_ISBLK(live.mode):
            return live._replace(rdev=os.lstat(live.name, dir_fd=parent).st_rdev)
    except OSError as error:
        raise source_error(error) from error
    return live
