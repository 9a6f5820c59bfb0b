"""A window of a content, resolved: where each of its bytes lies."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from ibtfs.format.index import Reference
from ibtfs.store.contents.fold import Found

Piece = tuple["Reference | None", int, int]
"""The values of a Segment; making one of those takes as long as all else that is done with it."""


class Window(NamedTuple):
    """The segments of one window, and where each begins, relative to the content."""

    starts: list[int]
    rows: list[Piece]

    def cut(self, start: int, end: int) -> list[Piece]:
        """The segments between *start* and *end*, of which there is a byte, cut to fit."""
        first, stop = bisect_right(self.starts, start) - 1, bisect_left(self.starts, end)
        rows = self.rows[first:stop]
        owner, offset, length = rows[-1]
        beyond = self.starts[stop - 1] + length - end
        if beyond > 0:
            rows[-1] = owner, offset, length - beyond
        before = start - self.starts[first]
        if before:
            owner, offset, length = rows[0]
            rows[0] = owner, offset + before if owner else offset, length - before
        return rows


def joined(found: list[Found]) -> Window:
    """A window of what was *found*, in which what continues each other is made one."""
    rows: list[Piece] = []
    starts: list[int] = []
    last_owner: Reference | None = None
    follows = -1
    for position, owner, offset, length in found:
        if offset == follows and owner == last_owner:
            rows[-1] = owner, rows[-1][1], rows[-1][2] + length
        else:
            rows.append((owner, offset, length))
            starts.append(position)
        last_owner, follows = owner, offset + length if owner else offset
    return Window(starts, rows)
