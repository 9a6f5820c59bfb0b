"""Entries of backup points as nodes of the mounted tree."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from blake3 import blake3

from ibtfs.errors import (
    FormatDamaged,
    IntegrityError,
    NotADirectory,
    ObjectMissing,
    PartlyDamaged,
    PointGone,
)
from ibtfs.format.entry import BLOCKS, GROUP, HASH_SIZE, XATTRS, expected_blocks
from ibtfs.format.extents import HOLE
from ibtfs.format.index import Reference
from ibtfs.format.packing import pack
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.contents.reader import WINDOW, Contents
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Directory, Entry, Gap, StateRef, entry_xattrs
from ibtfs.store.trees.paths import located, not_as_long, root_entry
from ibtfs.store.trees.trail import require_depth
from ibtfs.view.inodes import Claim
from ibtfs.view.links import inside
from ibtfs.view.node import Attributes, Node
from ibtfs.view.options import ViewOptions

ACLS = b"system.posix_acl_"
SOMEWHERE = StateRef(Reference("", 0), b"")
"""Stands for the state of a directory of which no more is known than that it is one."""


class Backing(Protocol):
    """What nodes of entries need of the view that they belong to."""

    @property
    def repository(self) -> Repository:
        """Where the entries are."""
        ...

    @property
    def contents(self) -> Contents:
        """The bytes of their files."""
        ...

    @property
    def options(self) -> ViewOptions:
        """How they are shown."""
        ...

    def inode(self, *parts: bytes) -> int:
        """A number for what *parts* describe."""
        ...

    def claim(self, *parts: bytes) -> Claim:
        """The same, for what must not share its number with anything else."""
        ...


def point_node(view: Backing, name: bytes, point: Point, way: bytes = b"") -> PointNode:
    """The root directory of *point*, shown as *name*; *way* as of PointNode."""
    host, identity = point.source.identity
    source = identity if isinstance(identity, bytes) else identity.encode()
    scope = blake3(host.encode() + b"\0" + source, key=view.repository.id * 2).digest(16)
    return PointNode(view, point, name, scope, way)


def failure(view: Backing, point: Point, path: bytes, error: IntegrityError) -> Exception:
    """*error* as what the reader is told: the point is gone, or its data is damaged."""
    repository = view.repository
    gone = isinstance(error, ObjectMissing) and repository.is_there()
    if gone and not repository.points.has(point.id):
        return PointGone(f"The backup point {point.id} was removed")
    return located(error, f"point {point.id}", path)


def partly_failed(failures: Sequence[Exception], found: Sequence[Any]) -> Exception:
    """What the reader of a listing is told, of which only *found* can be read."""
    damaged = [error for error in failures if isinstance(error, IntegrityError)]
    return PartlyDamaged.of(damaged, found) if len(damaged) == len(failures) else failures[0]


class EntryNode:
    """One entry of a backup point.

    *where* is the 16-byte hash of its source and path, equal in every point; only folders keep
    theirs, for the kernel may hold a million nodes.
    """

    __slots__ = ("_claim", "_name", "_parent", "_point", "_view", "_where", "entry")
    stable = True

    def __init__(
        self, view: Backing, point: Point, name: bytes, parent: EntryNode | None,
        entry: Entry, where: bytes | None,
    ) -> None:  # fmt: skip
        self._view, self._point, self._name, self._parent = view, point, name, parent
        self.entry, self._where = entry, where
        self._claim: Claim | None = None

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
        return failure(self._view, self._point, self.path, error)

    def attributes(self) -> Attributes:
        """What lstat showed of the original; the inode number is ours."""
        entry, options = self.entry, self._view.options
        blocks = entry.extras.get(BLOCKS)
        if blocks is None:
            blocks = expected_blocks(entry.mode, entry.size)
        size = len(self.target()) if options.inside_links and entry.target else entry.size
        return options.presented(
            Attributes(
                self._inode(), entry.mode, entry.links, entry.uid, entry.gid, entry.rdev, size,
                blocks, entry.mtime_ns, entry.ctime_ns or entry.mtime_ns,
            )
        )  # fmt: skip

    def _inode(self) -> int:
        """The same for all links to a file, and for an unchanged entry in every point."""
        entry = self.entry
        if entry.links == 1 and entry.state is None:
            return self._view.inode(*self._described())
        if self._claim is None:
            self._claim = self._view.claim(*self._described())
        return self._claim.number

    def _described(self) -> tuple[bytes, ...]:
        """What the inode number stands for."""
        entry = self.entry
        # where a reference is packed depends on the page that it lies in; flags say how it was read
        extras = {key: entry.extras[key] for key in (XATTRS, BLOCKS) if key in entry.extras}
        state = entry.state.digest[:HASH_SIZE] if entry.state else b""
        facts = (*entry[1:6], state, self.target(), entry.rdev, extras)
        if entry.links > 1 and entry.state is None:
            group = b"%d:%d" % (entry.extras.get(GROUP, 0), entry.inode)
            contents = self._digest(entry.content), self._digest(entry.xattrs_content)
            return b"links", self._root()._place(), group, pack((*facts, *contents))
        return b"path", self._place(), pack((*facts, entry.content, entry.xattrs_content))

    def _place(self) -> bytes:
        """The hash of its source and path."""
        if self._where is not None or self._parent is None:
            return self._where or b""
        return self._parent._below(self._name)

    def _below(self, name: bytes) -> bytes:
        """The hash of the source and path of what it has under *name*."""
        return blake3(self._place() + name).digest(16)

    def _digest(self, ref: Reference | None) -> bytes:
        """The digest of a content: links may refer to copies of the same one."""
        if ref is None:
            return b""
        try:
            return self._view.contents.record(ref).digest
        except IntegrityError:
            return pack(ref)

    def _root(self) -> EntryNode:
        node = self
        while node._parent is not None:
            node = node._parent
        return node

    @classmethod
    def at(cls, view: Backing, point: Point, path: bytes, entry: Entry, way: bytes) -> EntryNode:
        """The node of *entry*, which *point* has at *path*; *way* as of PointNode."""
        node: EntryNode = point_node(view, b"", point, way)
        *above, last = path.split(b"/") if path else (b"",)
        for name in above:
            node = node.child(entry._replace(name=name, state=SOMEWHERE))  # only names count
        return node.child(entry._replace(name=last)) if path else node

    def child(self, entry: Entry) -> EntryNode:
        """The node of *entry*, which this directory has."""
        where = self._below(entry.name) if entry.state is not None else None
        return EntryNode(self._view, self._point, entry.name, self, entry, where)

    def _directory(self) -> Directory:
        if self.entry.state is None:
            raise NotADirectory(f"{os.fsdecode(self._name)!r} is not a directory")
        self._require_end(self.entry.state)
        return Directory.cached(self._view.repository, self.entry.state.ref)

    def _require_end(self, state: StateRef) -> None:
        """Raise FormatDamaged if it lies in itself, or deeper than anything can."""
        depth, node = 0, self._parent
        where = layout.archive(state.ref.archive)
        while node is not None:
            if node.entry.state is not None and node.entry.state.ref == state.ref:
                raise FormatDamaged(f"{where}: a directory that holds itself")
            depth, node = depth + 1, node._parent
        require_depth(depth, b"", where)

    def lookup(self, name: bytes) -> Node:
        """The entry called *name*.  Raises EntryNotFound, NotADirectory, PointGone."""
        try:
            return self.child(self._directory().find(name))
        except IntegrityError as error:
            raise self._failed(error) from error

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """All entries, by name.  Raises PartlyDamaged with those that can be read."""
        gaps: list[Gap] = []
        try:
            pages = self._directory().readable(gaps)
            found = [(entry.name, self.child(entry)) for p in pages for entry in p.entries()]
        except IntegrityError as error:
            raise self._failed(error) from error
        if gaps:
            raise partly_failed([self._failed(gap.error) for gap in gaps], found)
        return found

    def target(self) -> bytes:
        """Where a symbolic link points."""
        target = self.entry.target
        if not (target and self._view.options.inside_links):
            return target
        depth, node = -1, self
        while node._parent is not None:
            depth, node = depth + 1, node._parent
        way = node.way if isinstance(node, PointNode) else b""
        return inside(target, self._point.root_path, depth, way)

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of a regular file.  Raises IntegrityError, PointGone."""
        content = self.entry.content
        if content is None:
            return b""
        try:
            data = self._view.contents.read(content, offset, size)
            if len(data) != min(size, max(self.entry.size - offset, 0)):
                raise not_as_long(content)
        except IntegrityError as error:
            raise self._failed(error) from error
        return data

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
            found = entry_xattrs(self.entry, self._view.contents)
        except IntegrityError as error:
            raise self._failed(error) from error
        if self._view.options.umask is None:
            return found
        return {name: value for name, value in found.items() if not name.startswith(ACLS)}


class PointNode(EntryNode):
    """The root of a backup point, or of a tree of some of what a point has.

    Where it is not shown as the point, *way* leads from its place to the point, with ``/``.
    """

    __slots__ = ("way",)

    def __init__(self, view: Backing, point: Point, name: bytes, where: bytes, way: bytes) -> None:
        super().__init__(view, point, name, None, root_entry(point), where)
        self.way = way
