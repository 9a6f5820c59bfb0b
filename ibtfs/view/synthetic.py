"""Nodes of the mounted tree that no backup stored: what they have in common."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence

from ibtfs.errors import EntryNotFound, NotADirectory
from ibtfs.store.trees.past import Past
from ibtfs.view.node import Attributes, Node

DIRECTORY_MODE = stat.S_IFDIR | 0o755
LINK_MODE = stat.S_IFLNK | 0o777


class SyntheticNode:
    """What a node does not do; the nodes that no backup stored override what they do."""

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


def folder_attributes(inode: int, folders: int, mtime_ns: int) -> Attributes:
    """Those of a folder that holds *folders* others, and belongs to who mounts."""
    return Attributes(
        inode, DIRECTORY_MODE, 2 + folders, os.getuid(), os.getgid(), 0, 4096, 8, mtime_ns, mtime_ns
    )


def as_in_the_past(folder: Attributes, past: Past) -> Attributes:
    """*folder* with the owner and the permissions of a directory that was as *past* tells.

    Where it had several owners it belongs to who mounts, who may read the repository anyway.
    """
    mode = stat.S_IFDIR | past.mode
    if past.uid is None:
        return folder._replace(mode=mode)
    return folder._replace(mode=mode, uid=past.uid, gid=past.gid)


class SymlinkNode(SyntheticNode):
    """A symbolic link that may lead elsewhere the next time."""

    def __init__(self, inode: int, target: bytes, time_ns: int) -> None:
        self._inode, self._target, self._time_ns = inode, target, time_ns

    def attributes(self) -> Attributes:
        """As long as its target."""
        time_ns = self._time_ns
        return Attributes(
            self._inode, LINK_MODE, 1, os.getuid(), os.getgid(), 0, len(self._target), 0, time_ns,
            time_ns,
        )  # fmt: skip

    def target(self) -> bytes:
        """Where it leads."""
        return self._target


class DamagedNode(SyntheticNode):
    """Something that is known to be there, and of which nothing can be read."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def attributes(self) -> Attributes:
        """Raises what is wrong with it."""
        raise self._error
