"""Folding a window of a content through the chain of its bases, newest map first.

What a map does not copy is final; the rest is looked for in its base, and so on.  Where copies lie
where they lay in the base (data changed in place), only the other ranges need to be looked at:
a chain of 30 generations then costs a window a few tenths of a millisecond.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from ibtfs.errors import FormatDamaged
from ibtfs.format.extents import BASE, OWN, SOURCE, ZEROS, ExtentMap, Overlay
from ibtfs.format.index import ContentRecord, Reference

SEGMENT_LIMIT = 1 << 17
"""Ranges in one window: copies are of 16 bytes and more, so no real content has as many."""


class Segment(NamedTuple):
    """*length* bytes of a content: from *offset* of the payload of *owner*.

    Without an owner they are zeros, and *offset* tells what kind: HOLE or ZEROS.
    """

    owner: Reference | None
    offset: int
    length: int


class Level(NamedTuple):
    """One content of a chain; without *extents* its payload is the content."""

    ref: Reference
    record: ContentRecord
    extents: ExtentMap | None

    def owner(self, code: int) -> Reference | None:
        """Whose payload a range of this *code* names; None for zeros."""
        if code <= ZEROS:
            return None
        return self.ref if code == OWN else self.record.sources[code - SOURCE]


_Found = list[tuple[int, "Reference | None", int, int]]
"""(position in the content asked for, owner, offset, length)"""
_Wanted = list[tuple[int, int, int]]
"""(offset in the content of a level, length, position in the content asked for)"""


def fold(levels: Sequence[Level], start: int, end: int) -> list[Segment]:
    """The segments of the first content of *levels* between *start* and *end*, in order.

    Raises FormatDamaged.
    """
    found: _Found = []
    starts, ends = [start], [end]
    for depth, level in enumerate(levels):
        if not starts:
            break
        if ends[-1] > level.record.size:
            raise FormatDamaged(f"{_name(levels[depth - 1])}: copies from beyond its base's end")
        if level.extents is None or level.record.base is None:
            _follow(levels[depth:], [(a, b - a, a) for a, b in zip(starts, ends)], found)
            break
        moved: _Wanted = []
        _take(level, level.extents.overlay, (starts, ends), found, moved)
        _follow(levels[depth + 1 :], moved, found)
    if len(found) > SEGMENT_LIMIT:
        raise FormatDamaged(f"{_name(levels[0])}: more ranges in a window than can be")
    found.sort()
    return [Segment(owner, offset, length) for _, owner, offset, length in found]


def _take(
    level: Level,
    overlay: Overlay,
    intervals: tuple[list[int], list[int]],
    found: _Found,
    moved: _Wanted,
) -> None:
    """Take what *overlay* covers out of *intervals*: into *found*, or *moved* if it is a copy."""
    starts, ends = intervals
    first = bisect_right(overlay.ends, starts[0])
    last = bisect_left(overlay.starts, ends[-1])
    for low, high, code, offset in zip(
        overlay.starts[first:last],
        overlay.ends[first:last],
        overlay.codes[first:last],
        overlay.offsets[first:last],
    ):
        row = bisect_right(ends, low)
        while row < len(starts) and starts[row] < high:
            begin, end = starts[row], ends[row]
            cut_begin, cut_end = max(begin, low), min(end, high)
            place, size = offset + cut_begin - low, cut_end - cut_begin
            if code == BASE:
                moved.append((place, size, cut_begin))
            else:
                owner = level.owner(code)
                found.append((cut_begin, owner, place if owner else code, size))
            # what is left of the interval: before the cut, behind it, both, or nothing
            left = [(begin, cut_begin)] if begin < cut_begin else []
            if cut_end < end:
                left.append((cut_end, end))
            starts[row : row + 1] = [a for a, _ in left]
            ends[row : row + 1] = [b for _, b in left]
            row += len(left)


def _follow(levels: Sequence[Level], wanted: _Wanted, found: _Found) -> None:
    """Look for *wanted* ranges through *levels*, wherever copies come from."""
    for level in levels:
        if not wanted:
            return
        if level.extents is None:
            found.extend((place, level.ref, offset, size) for offset, size, place in wanted)
            return
        missing: _Wanted = []
        starts, ends = level.extents.overlay.starts, level.extents.overlay.ends
        limit, last = level.record.size, len(starts)
        for item in wanted:
            offset, size, _ = item
            end = offset + size
            if offset < 0 or end > limit:
                raise FormatDamaged(f"{_name(level)}: is asked for bytes beyond its end")
            row = bisect_right(ends, offset)
            # most ranges lie where this level has nothing of its own: they go on as they are
            if last and (row == last or starts[row] >= end):
                missing.append(item)
            else:
                _cut(level, level.extents, item, missing, found)
        if len(missing) + len(found) > SEGMENT_LIMIT:
            raise FormatDamaged(f"{_name(level)}: more ranges in a window than can be")
        wanted = missing
    if wanted:
        raise FormatDamaged(f"{_name(levels[-1])}: copies from a base that it does not have")


def _cut(
    level: Level,
    extents: ExtentMap,
    wanted: tuple[int, int, int],
    missing: _Wanted,
    found: _Found,
) -> None:
    """Split one wanted range at the ranges of a map."""
    offset, size, place = wanted
    starts, codes, offsets = extents.starts, extents.codes, extents.offsets
    end, last = offset + size, len(starts) - 1
    row = bisect_right(starts, offset) - 1
    while offset < end:
        stop = min(starts[row + 1] if row < last else extents.size, end)
        code, length = codes[row], stop - offset
        source = offsets[row] + offset - starts[row]
        if code == BASE:
            missing.append((source, length, place))
        elif code <= ZEROS:
            found.append((place, None, code, length))
        else:
            found.append((place, level.owner(code), source, length))
        offset, place, row = stop, place + length, row + 1


def _name(level: Level) -> str:
    return f"archives/{level.ref.archive}: content {level.ref.number}"
