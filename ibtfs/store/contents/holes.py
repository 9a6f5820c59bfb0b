"""The holes of contents: found without a look at what is in them, however large they are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from ibtfs.format.extents import HOLE
from ibtfs.format.index import Reference
from ibtfs.store.contents.reader import WINDOW, Contents


class Stretch(NamedTuple):
    """*length* bytes of a content from *start*, all in one hole, or to be read."""

    start: int
    length: int
    is_hole: bool


def hole_end(contents: Contents, ref: Reference, offset: int) -> int:
    """Where the hole ends that *offset* of a content lies in, by its own map; else *offset*.

    A hole that comes from a base need not show; those of whole slabs do.  Raises ObjectMissing,
    FormatDamaged.
    """
    extents = contents.chain(ref)[0].extents
    if extents is None:
        return offset
    row = bisect_right(extents.starts, offset, hi=len(extents.ends)) - 1
    is_hole = row >= 0 and extents.codes[row] == HOLE
    return max(offset, extents.ends[row]) if is_hole else offset


def may_have_holes(contents: Contents, ref: Reference) -> bool:
    """Whether a content, or one of its bases, has a hole.  Raises ObjectMissing, FormatDamaged."""
    levels = contents.chain(ref)
    return any(level.extents is not None and HOLE in level.extents.codes for level in levels)


def stretches(contents: Contents, ref: Reference, piece: int) -> Iterator[Stretch]:
    """All of a content: holes as long as they are, if they have *piece* bytes at least, and all
    else in pieces of at most that.  Raises ObjectMissing, FormatDamaged.
    """
    position, size = 0, contents.record(ref).size
    while position < size:
        end = hole_end(contents, ref, position)
        is_hole = end - position >= piece
        if not is_hole:
            end = min(size, (position // piece + 1) * piece)
        yield Stretch(position, end - position, is_hole)
        position = end


def holes(contents: Contents, ref: Reference) -> Iterator[tuple[int, int]]:
    """Start and length of each hole of a content, in order; some touch.

    Raises ObjectMissing, FormatDamaged.
    """
    if not may_have_holes(contents, ref):
        return
    for start, length, is_hole in stretches(contents, ref, WINDOW):
        if is_hole:
            yield start, length
            continue
        position = start
        for owner, offset, count in contents.segments(ref, start, start + length):
            if owner is None and offset == HOLE:
                yield position, count
            position += count
