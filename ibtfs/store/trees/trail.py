"""The way from the root of a tree to where a walk is, and what it must not lead to.

Archives of runs that went on side by side may refer to each other, so no order among archives
tells that a tree ends.  The way there does: a directory that comes twice on it holds itself.
"""

from __future__ import annotations

from typing import Final

from ibtfs.errors import FormatDamaged
from ibtfs.format.entry import NAME_LIMIT
from ibtfs.format.index import Reference
from ibtfs.store import layout

DEPTH_LIMIT: Final = 8192
"""Directories below the root, one in the other."""
PATH_LIMIT: Final = 64 << 10
"""Bytes of a path within a tree.  A walk holds one for each directory that it is in, so both
together bound what it takes."""


class Trail:
    """The directories that a walk is in, one in the other; used by one thread."""

    def __init__(self) -> None:
        self._refs: list[Reference] = []
        self._held: set[Reference] = set()

    def enter(self, depth: int, ref: Reference, path: bytes = b"") -> None:
        """Go into the directory *ref*, at *path*, *depth* below the root; deeper ones are left.

        Raises FormatDamaged if it is one of those above, or too deep; then it is not gone into.
        """
        while len(self._refs) > depth:
            self._held.remove(self._refs.pop())
        if ref in self._held:
            raise FormatDamaged(f"{_name(ref)}: a directory that holds itself")
        require_depth(depth, path, _name(ref))
        self._refs.append(ref)
        self._held.add(ref)


def require_depth(depth: int, path: bytes, where: str) -> None:
    """Raise FormatDamaged for what lies deeper than anything can in a tree."""
    if depth > DEPTH_LIMIT or len(path) > PATH_LIMIT:
        raise FormatDamaged(f"{where}: lies deeper than the format allows")


def depth_of(path: bytes) -> int:
    """How many directories a path leads down."""
    return path.count(b"/") + 1 if path else 0


def may_hold_more(path: bytes) -> bool:
    """Whether a writer may store what lies in the directory at *path*: else it stays empty."""
    return depth_of(path) < DEPTH_LIMIT and len(path) < PATH_LIMIT - NAME_LIMIT


def _name(ref: Reference) -> str:
    return f"{layout.archive(ref.archive)}: record {ref.number}"
