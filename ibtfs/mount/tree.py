"""What the mounted tree looks like, and nothing of how it is shown.

::

    /                                   one directory per source
      documents/
        2026-11-20_101502/              a backup point, in local time
        latest -> 2026-11-20_101502     symbolic link to the newest

New points appear at once, removed ones go.  Inside a point nothing ever changes, so the kernel
may keep it; names of points and ``latest`` are looked up each time.

Inode numbers are keyed hashes: equal in every mount, and for the same unchanged file or directory
in every point.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from blake3 import blake3

from ibtfs.errors import (
    EntryNotFound,
    IntegrityError,
    NotADirectory,
    ObjectMissing,
    PointGone,
)
from ibtfs.format.entry import BLOCKS, GROUP, HASH_SIZE, XATTRS, expected_blocks
from ibtfs.format.extents import HOLE
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.mount.node import Attributes, Node, Statistics
from ibtfs.store.browse import located, root_entry
from ibtfs.store.content import WINDOW, Contents
from ibtfs.store.repository import Repository
from ibtfs.store.select import by_source, displayed_names
from ibtfs.store.states import Directory, Entry, entry_xattrs

LATEST = b"latest"
DIRECTORY_MODE = stat.S_IFDIR | 0o755
LINK_MODE = stat.S_IFLNK | 0o777
_INODE_MASK = (1 << 63) - 1


class _Sources(NamedTuple):
    """The points by source and by the name that they are shown under."""

    stamp: int
    points: dict[bytes, dict[bytes, Point]]


class RepositoryView:
    """The tree of a repository; threads may share it."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.contents = Contents(repository)
        self._lock = threading.Lock()
        self._known = _Sources(0, {})
        self._key = blake3(repository.id, derive_key_context="ibtfs 2026 inode").digest()

    @property
    def root(self) -> Node:
        """The directory at the mount point."""
        return _Root(self)

    def sources(self) -> dict[bytes, dict[bytes, Point]]:
        """Points by source and name, as they are now."""
        with self._lock:
            stamp = self.repository.storage.folder_stamp("points")
            if not stamp or stamp != self._known.stamp:
                self._known = _Sources(stamp, self._read())
            return self._known.points

    def _read(self) -> dict[bytes, dict[bytes, Point]]:
        self.repository.require_there()
        points = self.repository.points().points
        names = displayed_names(points)
        return {
            os.fsencode(source): {names[point.id].encode(): point for point in mine}
            for source, mine in by_source(points).items()
        }

    def inode(self, *parts: bytes) -> int:
        """A number for what *parts* describe; never 0 or 1, which belong to the root."""
        hasher = blake3(key=self._key)
        for part in parts:
            hasher.update(len(part).to_bytes(4, "little") + part)
        return (int.from_bytes(hasher.digest(8), "little") & _INODE_MASK) | 2

    @property
    def changed_ns(self) -> int:
        """When a point last came or went: the adapters keep a listing as long as this stays."""
        return self.repository.storage.changed_ns("points")

    def statistics(self) -> Statistics:
        """The file system that holds the repository."""
        found = self.repository.storage.statistics()
        return Statistics(
            found.f_frsize, found.f_blocks, found.f_bfree, found.f_bavail, found.f_files,
            found.f_ffree,
        )  # fmt: skip


class _Base:
    """What a node does not do."""

    stable = False

    def lookup(self, name: bytes) -> Node:
        """Raises NotADirectory."""
        raise NotADirectory(f"Not a directory, so it holds no {os.fsdecode(name)!r}")

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """Raises NotADirectory."""
        raise NotADirectory("Not a directory")

    def target(self) -> bytes:
        """Raises EntryNotFound."""
        raise EntryNotFound("Not a symbolic link")

    def read(self, offset: int, size: int) -> bytes:
        """Raises EntryNotFound."""
        raise EntryNotFound(f"Not a file: no bytes {offset} to {offset + size}")

    def next_data(self, offset: int) -> int:
        """Nothing is ever in a hole."""
        return offset

    def next_hole(self, offset: int) -> int:
        """Nothing is ever in a hole."""
        return offset

    def xattrs(self) -> Mapping[bytes, bytes]:
        """None."""
        return {}


def _folder(inode: int, folders: int, mtime_ns: int) -> Attributes:
    return Attributes(
        inode, DIRECTORY_MODE, 2 + folders, os.getuid(), os.getgid(), 0, 4096, 8, mtime_ns, mtime_ns
    )


class _Root(_Base):
    """The directory at the mount point."""

    def __init__(self, view: RepositoryView) -> None:
        self._view = view

    def attributes(self) -> Attributes:
        """One link for each source."""
        sources = self._view.sources()
        return _folder(1, len(sources), self._view.changed_ns)

    def lookup(self, name: bytes) -> Node:
        """The source called *name*."""
        if name not in self._view.sources():
            raise EntryNotFound(f"No source {os.fsdecode(name)!r}")
        return _Source(self._view, name)

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """The sources."""
        return [(name, _Source(self._view, name)) for name in sorted(self._view.sources())]


class _Source(_Base):
    """The points of one source."""

    def __init__(self, view: RepositoryView, name: bytes) -> None:
        self._view, self._name = view, name

    def _points(self) -> dict[bytes, Point]:
        points = self._view.sources().get(self._name)
        if points is None:
            raise PointGone(f"The last point of {os.fsdecode(self._name)!r} was removed")
        return points

    def attributes(self) -> Attributes:
        """One link for each point."""
        points = self._points()
        inode = self._view.inode(b"source", self._name)
        return _folder(inode, len(points), self._view.changed_ns)

    def lookup(self, name: bytes) -> Node:
        """The point called *name*, or ``latest``."""
        points = self._points()
        if name == LATEST:
            return _Latest(self._view, self._name, points)
        point = points.get(name)
        if point is None:
            raise EntryNotFound(f"No point {os.fsdecode(name)!r}")
        return point_node(self._view, self._name + b"/" + name, point)

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """The points, oldest first, and ``latest``."""
        points = self._points()
        listed: list[tuple[bytes, Node]] = [
            (name, point_node(self._view, self._name + b"/" + name, point))
            for name, point in points.items()
        ]
        return [*listed, (LATEST, _Latest(self._view, self._name, points))]


class _Latest(_Base):
    """The symbolic link to the newest point."""

    def __init__(self, view: RepositoryView, source: bytes, points: dict[bytes, Point]) -> None:
        self._view, self._source = view, source
        self._target, self._point = list(points.items())[-1]

    def attributes(self) -> Attributes:
        """As long as its target."""
        time_ns = self._point.time_ns
        inode = self._view.inode(b"latest", self._source)
        size = len(self._target)
        return Attributes(
            inode, LINK_MODE, 1, os.getuid(), os.getgid(), 0, size, 0, time_ns, time_ns
        )

    def target(self) -> bytes:
        """The name of the newest point."""
        return self._target


def point_node(view: RepositoryView, name: bytes, point: Point) -> Node:
    """The root directory of *point*, shown as *name*."""
    host, identity = point.source.identity
    source = identity if isinstance(identity, bytes) else identity.encode()
    scope = blake3(host.encode() + b"\0" + source, key=view.repository.id * 2).digest(16)
    return EntryNode(view, point, name, None, root_entry(point), scope)


class EntryNode:
    """One entry of a backup point.

    *where* is the 16-byte hash of its source and path, equal in every point.
    """

    __slots__ = ("_name", "_parent", "_point", "_view", "_where", "entry")
    stable = True

    def __init__(
        self, view: RepositoryView, point: Point, name: bytes, parent: EntryNode | None,
        entry: Entry, where: bytes,
    ) -> None:  # fmt: skip
        self._view, self._point, self._name, self._parent = view, point, name, parent
        self.entry, self._where = entry, where

    @property
    def path(self) -> bytes:
        """The path inside the point, for messages."""
        names: list[bytes] = []
        node = self
        while node._parent is not None:
            names.append(node._name)
            node = node._parent
        return b"/".join(reversed(names)) or b"."

    def _failed(self, error: IntegrityError) -> Exception:
        """*error* as what the reader is told: the point is gone, or its data is damaged."""
        repository = self._view.repository
        gone = isinstance(error, ObjectMissing) and repository.is_there()
        if gone and not repository.has_point(self._point.id):
            return PointGone(f"The backup point {self._point.id} was removed")
        return located(error, f"point {self._point.id}", self.path)

    def attributes(self) -> Attributes:
        """What lstat showed of the original; the inode number is ours."""
        entry = self.entry
        blocks = entry.extras.get(BLOCKS)
        if blocks is None:
            blocks = expected_blocks(entry.mode, entry.size)
        return Attributes(
            self._inode(), entry.mode, entry.links, entry.uid, entry.gid, entry.rdev, entry.size,
            blocks, entry.mtime_ns, entry.ctime_ns or entry.mtime_ns,
        )  # fmt: skip

    def _inode(self) -> int:
        """The same for all links to a file, and for an unchanged entry in every point."""
        entry = self.entry
        # where a reference is packed depends on the page that it lies in; flags say how it was read
        extras = {key: entry.extras[key] for key in (XATTRS, BLOCKS) if key in entry.extras}
        state = entry.state.digest[:HASH_SIZE] if entry.state else b""
        facts = (*entry[1:6], state, entry.target, entry.rdev, extras)
        if entry.links > 1 and entry.state is None:
            group = b"%d:%d" % (entry.extras.get(GROUP, 0), entry.inode)
            contents = self._digest(entry.content), self._digest(entry.xattrs_content)
            text = repr((*facts, *contents)).encode()
            return self._view.inode(b"links", self._root()._where, group, text)
        text = repr((*facts, entry.content, entry.xattrs_content)).encode()
        return self._view.inode(b"path", self._where, text)

    def _digest(self, ref: Reference | None) -> bytes:
        """The digest of a content: links may refer to copies of the same one."""
        if ref is None:
            return b""
        try:
            return self._view.contents.record(ref).digest
        except IntegrityError:
            return repr(ref).encode()

    def _root(self) -> EntryNode:
        node = self
        while node._parent is not None:
            node = node._parent
        return node

    def _child(self, entry: Entry) -> EntryNode:
        where = blake3(self._where + entry.name).digest(16)
        return EntryNode(self._view, self._point, entry.name, self, entry, where)

    def _directory(self) -> Directory:
        if self.entry.state is None:
            raise NotADirectory(f"{os.fsdecode(self._name)!r} is not a directory")
        return Directory.cached(self._view.repository, self.entry.state.ref)

    def lookup(self, name: bytes) -> Node:
        """The entry called *name*.  Raises EntryNotFound, NotADirectory, PointGone."""
        try:
            return self._child(self._directory().find(name))
        except IntegrityError as error:
            raise self._failed(error) from error

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """All entries, by name."""
        try:
            return [(entry.name, self._child(entry)) for entry in self._directory().entries()]
        except IntegrityError as error:
            raise self._failed(error) from error

    def target(self) -> bytes:
        """Where a symbolic link points."""
        return self.entry.target

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of a regular file.  Raises IntegrityError, PointGone."""
        content = self.entry.content
        if content is None:
            return b""
        try:
            return self._view.contents.read(content, offset, size)
        except IntegrityError as error:
            raise self._failed(error) from error

    @property
    def _is_sparse(self) -> bool:
        blocks: int | None = self.entry.extras.get(BLOCKS)
        return blocks is not None and blocks * 512 < self.entry.size

    def next_data(self, offset: int) -> int:
        """The first offset from *offset* on that is not in a hole; -1 if only a hole is left."""
        return self._seek(offset, hole=False)

    def next_hole(self, offset: int) -> int:
        """The first offset from *offset* on that is in a hole, or the end."""
        return self._seek(offset, hole=True)

    def _seek(self, offset: int, *, hole: bool) -> int:
        content, size = self.entry.content, self.entry.size
        if content is None or offset >= size:
            return -1 if not hole else size
        if not self._is_sparse:
            return size if hole else offset
        try:
            while offset < size:
                end = min(size, (offset // WINDOW + 1) * WINDOW)
                for owner, code, length in self._view.contents.segments(content, offset, end):
                    if (owner is None and code == HOLE) == hole:
                        return offset
                    offset += length
        except IntegrityError as error:
            raise self._failed(error) from error
        return size if hole else -1

    def xattrs(self) -> Mapping[bytes, bytes]:
        """The extended attributes.  Raises IntegrityError, PointGone."""
        try:
            return entry_xattrs(self.entry, self._view.contents)
        except IntegrityError as error:
            raise self._failed(error) from error
