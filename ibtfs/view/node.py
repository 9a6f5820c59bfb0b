"""What a mounted tree is made of, seen from the protocol adapters: nodes and their attributes.

The adapters (FUSE today) know only this module; what the tree looks like is decided in
:mod:`ibtfs.view.tree`.  Nothing here knows errno: a view raises the errors of
:mod:`ibtfs.errors`, and the adapter has the one table that turns them into numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Attributes(NamedTuple):
    """What ``stat`` shows of a node; times in nanoseconds since 1970 (may be negative)."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    mtime_ns: int
    ctime_ns: int


class Statistics(NamedTuple):
    """What ``statfs`` shows: the sizes of the file system that holds the repository."""

    block_size: int
    blocks: int
    blocks_free: int
    blocks_available: int
    files: int
    files_free: int


class Node(Protocol):
    """One file, directory, link or device of the mounted tree.

    Nodes are compared by identity by the adapters; a view may hand out the same object again,
    and does so where it can: what is another object is looked at, and read, anew.  Files and
    links may be found in several places, but a directory is in one place only.
    Every method may be called from several threads at once.
    """

    @property
    def stable(self) -> bool:
        """Whether the kernel may cache it for ever: true inside a backup point.

        All that is below a stable directory is stable.  In a directory that is not, the kernel
        keeps names and attributes for a moment only; when its listing changes, so does its mtime.
        """
        ...

    def attributes(self) -> Attributes:
        """What stat shows.  Raises PointGone, IntegrityError."""
        ...

    def lookup(self, name: bytes) -> Node:
        """The child called *name*.  Raises EntryNotFound, NotADirectory, PointGone."""
        ...

    def children(self) -> Sequence[tuple[bytes, Node]]:
        """The children in listing order, without ``.`` and ``..``.

        Raises NotADirectory, IntegrityError; PartlyDamaged has those that can be read.
        """
        ...

    def target(self) -> bytes:
        """Where a symbolic link points."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Up to *size* bytes from *offset*; fewer only at the end.  Raises IntegrityError."""
        ...

    def next_data(self, offset: int) -> int:
        """The first offset at or after *offset* that is not in a hole; -1 if none is left."""
        ...

    def next_hole(self, offset: int) -> int:
        """The first offset at or after *offset* that is in a hole or at the end."""
        ...

    def xattrs(self) -> Mapping[bytes, bytes]:
        """The extended attributes, ACLs among them (``system.posix_acl_access``)."""
        ...


class View(Protocol):
    """A whole tree to be mounted."""

    @property
    def root(self) -> Node:
        """The directory at the mount point."""
        ...

    def statistics(self) -> Statistics:
        """What statfs shows."""
        ...
