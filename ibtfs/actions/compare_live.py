"""Comparing a backup point with the source as it is now; what looks unchanged is not read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from blake3 import blake3

from ibtfs.actions.source.filesystems import FileSystems
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
from ibtfs.format.entry import CTIME, LEFT_OUT, MODE, NAME, XATTRS, Stamp
from ibtfs.format.index import Reference
from ibtfs.format.patterns import Patterns
from ibtfs.format.point import Point
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.compare import Change, Comparison, PathChange
from ibtfs.store.trees.directory import Entry, StateRef, entry_xattrs
from ibtfs.store.trees.paths import root_entry
from ibtfs.store.trees.previous import OldDirectory, same_stamp

PIECE: Final = 1 << 20
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
        patterns = Patterns.from_lines([*exclude_lines(descriptor), *self._lines])
        self._exclusions = Exclusions(patterns)
        try:
            what = self._folder_differs(root, stamp_of(b"", found), descriptor)
            if what:
                live = _live(stamp_of(b"", found))
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
            before = old.find(os.path.basename(source)) or old.find(old.stamps[0][NAME])
            yield from self._compared(folder, before, stamp)
        except OSError as error:
            raise SourceError(f"{os.fsdecode(source)}: {source_error(error)}") from error
        finally:
            os.close(parent)

    def _walk(self, root: int, device: int, old: OldDirectory) -> Iterator[PathChange]:
        stack: list[_LiveFolder] = []
        try:
            stack.append(_LiveFolder(root, b"", device, old, self._names(root, b"", old)))
            while stack:
                folder = stack[-1]
                found = next(folder.names, None)
                if found is None:
                    os.close(stack.pop().descriptor)
                    continue
                name, stamp = found
                before = folder.old.find(name) if folder.old else None
                path = _below(folder.path, name)
                try:
                    yield from self._compared(folder, before, stamp)
                    entered = self._entered(folder, before, stamp)
                except IbtfsError as error:
                    live = _live(stamp) if stamp else None
                    yield PathChange(path, Change(name, before, live), error)
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
            if not match(_below(path, stamp[NAME]), stat.S_ISDIR(stamp[MODE])):
                live.setdefault(stamp[NAME], None)
        return iter(sorted(live.items()))

    def _entered(
        self, folder: _LiveFolder, before: Entry | None, stamp: Stamp | None
    ) -> _LiveFolder | None:
        """The folder listed as *stamp*, to be walked through; None if it is not to be."""
        if stamp is None or not stat.S_ISDIR(stamp[MODE]):
            return None
        if before is not None and (before.state is None or before.flags & LEFT_OUT):
            if before.flags & LEFT_OUT:
                return None
            before = None
        descriptor, found = open_folder(stamp[NAME], folder.descriptor)
        try:
            if self._systems.is_virtual(found.st_dev) and found.st_dev != folder.device:
                os.close(descriptor)
                return None
            state = before.state if before else None
            old = OldDirectory(self._repository, state) if state else None
            path = _below(folder.path, stamp[NAME])
            names = self._names(descriptor, path, old)
            return _LiveFolder(descriptor, path, found.st_dev, old, names)
        except BaseException:
            os.close(descriptor)
            raise

    # One entry

    def _compared(
        self, folder: _LiveFolder, before: Entry | None, stamp: Stamp | None
    ) -> Iterator[PathChange]:
        """The changes of one entry, and all below it if it is gone."""
        live = _live(stamp) if stamp else None
        name = live.name if live else before.name if before else b""
        path = _below(folder.path, name)
        if before is not None and live is not None and _is_folder(before) == _is_folder(live):
            what = self._differs(folder, before, live)
            if what:
                yield PathChange(path, Change(name, before, live, what))
            return
        if before is not None:
            yield PathChange(path, Change(name, before, None))
            for below in self._comparison.tree_changes(before, None):
                yield below._replace(path=_below(path, below.path) if below.path else path)
        if live is not None:
            yield PathChange(path, Change(name, None, live))

    def _differs(self, folder: _LiveFolder, old: Entry, live: Entry) -> tuple[str, ...]:
        if same_stamp(live.stamp, old.stamp, inodes=self._systems.keeps_inodes(folder.device)):
            return ()
        if live.state is not None:
            descriptor, _ = open_folder(live.name, folder.descriptor)
            try:
                return self._folder_differs(old, live.stamp, descriptor)
            finally:
                os.close(descriptor)
        if stat.S_IFMT(old.mode) != stat.S_IFMT(live.mode):
            return ("type",)
        place = b"/proc/self/fd/%d/%b" % (folder.descriptor, live.name)
        found = [
            self._data_differs(folder, old, live),
            "mode" if old.mode != live.mode else "",
            "owner" if (old.uid, old.gid) != (live.uid, live.gid) else "",
            "mtime" if old.mtime_ns != live.mtime_ns else "",
            "xattrs" if self._xattrs(old) != read_xattrs(place, follow=False) else "",
            "links" if old.links != live.links else "",
        ]
        return tuple(filter(None, found))

    def _folder_differs(self, old: Entry, stamp: Stamp, descriptor: int) -> tuple[str, ...]:
        live = _live(stamp)
        found = [
            "mode" if old.mode != live.mode else "",
            "owner" if (old.uid, old.gid) != (live.uid, live.gid) else "",
        ]
        if stamp[CTIME] != old.ctime_ns and self._xattrs(old) != read_xattrs(descriptor):
            found.append("xattrs")
        return tuple(filter(None, found))

    def _xattrs(self, old: Entry) -> dict[bytes, bytes]:
        if old.xattrs_content is None:
            return dict(old.extras.get(XATTRS, {}))
        return dict(entry_xattrs(old, self._contents))

    def _data_differs(self, folder: _LiveFolder, old: Entry, live: Entry) -> str:
        if stat.S_ISLNK(live.mode):
            try:
                target = os.readlink(live.name, dir_fd=folder.descriptor)
            except OSError as error:
                raise source_error(error) from error
            return "target" if target != old.target else ""
        if stat.S_ISCHR(live.mode) or stat.S_ISBLK(live.mode):
            found = os.lstat(live.name, dir_fd=folder.descriptor)
            return "device" if found.st_rdev != old.rdev else ""
        if live.size != old.size:
            return "contents"
        if old.content is None:
            return ""
        with opened_file(live.name, folder.descriptor, live.inode) as (descriptor, _):
            digest = _digest(descriptor)
        return "contents" if self._contents.record(old.content).digest != digest else ""


def _digest(descriptor: int) -> bytes:
    hasher = blake3()
    try:
        while data := os.read(descriptor, PIECE):
            hasher.update(data)
    except OSError as error:
        raise source_error(error) from error
    return hasher.digest()


def _live(stamp: Stamp) -> Entry:
    """The entry of something live; nothing of it is stored."""
    return Entry(*stamp, None, LIVE if stat.S_ISDIR(stamp[MODE]) else None, b"", 0, {}, None)


def _is_folder(entry: Entry) -> bool:
    return entry.state is not None


def _below(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name
