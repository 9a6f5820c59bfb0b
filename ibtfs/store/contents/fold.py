"""Folding a window of a content through the chain of its bases, newest map first.

What a map does not copy is final; the rest is looked for in its base, and so on.  Where copies lie
where they lay in the base (data changed in place), only the other ranges need to be looked at:
a chain of 30 generations then costs a window a few tenths of a millisecond.
"""

from __future__ import annotations

import itertools
import operator
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from ibtfs.errors import FormatDamaged
from ibtfs.format.extents import BASE, ZEROS, ExtentMap
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store import layout

CHAIN_LIMIT = 4_000_000
"""Ranges of all maps of a chain, but for copies in place: writers keep below, and so it takes no
more than 104 MB."""


class Level(NamedTuple):
    """One content of a chain; without *extents* its payload is the content."""

    ref: Reference
    record: ContentRecord
    extents: ExtentMap | None

    @property
    def owners(self) -> tuple[Reference | None, ...]:
        """Whose payload a range names, by its code; None for zeros and copies from the base."""
        return (None, None, self.ref, None, *self.record.donors)


Found = tuple[int, "Reference | None", int, int]
"""(position in the content asked for, owner, offset, length): *length* bytes of a content are those
from *offset* of the payload of *owner*; without an owner they are zeros, and *offset* tells what
kind: HOLE or ZEROS.  A plain tuple, for a window of a database may have a thousand."""
_Places = list[Found]
_Wanted = list[tuple[int, int, int]]
"""(offset in the content of a level, length, position in the content asked for)"""


def fold(levels: Sequence[Level], start: int, end: int) -> list[Found]:
    """Where the bytes of the first content of *levels* between *start* and *end* lie, in order.

    Each range that is found, or looked for, has a byte of its own of what is asked for: that bounds
    their number, whatever the maps say.  Raises FormatDamaged.
    """
    found: _Places = []
    wanted: _Wanted = []
    starts, ends = [start], [end]
    for depth, level in enumerate(levels):
        if not starts and not wanted:
            break
        if starts and ends[-1] > level.record.size:
            raise FormatDamaged(
                f"{name_of(levels[depth - 1].ref)}: copies from beyond its base's end"
            )
        if level.extents is None or level.record.base is None:
            wanted.extend((a, b - a, a) for a, b in zip(starts, ends))
            starts = []
        if wanted:
            wanted = _follow(level, wanted, found)
        if starts and level.extents is not None:
            _take(level, level.extents, (starts, ends), found, wanted)
    if starts or wanted:
        raise FormatDamaged(f"{name_of(levels[-1].ref)}: copies from a base that it does not have")
    found.sort()
    return found


def _take(
    level: Level,
    extents: ExtentMap,
    intervals: tuple[list[int], list[int]],
    found: _Places,
    moved: _Wanted,
) -> None:
    """Take what a map does not copy in place out of *intervals*: into *found*, or *moved*.

    What is left is put together anew, in order: to put each piece in between the others would take
    a time that grows with the square of their number.
    """
    starts, ends = intervals
    left: tuple[list[int], list[int]] = ([], [])
    owners, count = level.owners, len(starts)
    first = bisect_right(extents.ends, starts[0])
    last = bisect_left(extents.starts, ends[-1])
    if first >= last:
        return
    starts.append(sys.maxsize)  # one that begins behind every range
    ends.append(sys.maxsize)
    row, begin = 0, starts[0]  # the interval that comes next, and what of it was not looked at
    columns = (extents.starts, extents.ends, extents.codes, extents.offsets)
    for low, high, code, offset in zip(*(column[first:last] for column in columns)):
        if ends[row] <= low:
            following = bisect_right(ends, low, row)
            _leave(left, intervals, begin, row, following)
            row, begin = following, starts[following]
        while begin < high:
            end = ends[row]
            cut_begin = begin if begin > low else low
            cut_end = end if end < high else high
            place, size = offset + cut_begin - low, cut_end - cut_begin
            if code == BASE:
                moved.append((place, size, cut_begin))
            else:
                owner = owners[code]
                found.append((cut_begin, owner, place if owner else code, size))
            if begin < cut_begin:
                left[0].append(begin)
                left[1].append(cut_begin)
            if cut_end < end:
                begin = cut_end  # the rest of the interval lies behind this range
                break
            row += 1
            begin = starts[row]
    if row < count:
        _leave(left, intervals, begin, row, count)
    starts[:], ends[:] = left


def _leave(
    left: tuple[list[int], list[int]],
    intervals: tuple[list[int], list[int]],
    begin: int,
    row: int,
    until: int,
) -> None:
    """Add intervals to *left*: number *row* from *begin* on, all others up to before *until*."""
    left[0].append(begin)
    left[0].extend(intervals[0][row + 1 : until])
    left[1].extend(intervals[1][row:until])


def _follow(level: Level, wanted: _Wanted, found: _Places) -> _Wanted:
    """Look for *wanted* ranges, wherever they are copied to, at a level; what it copies itself."""
    extents = level.extents
    offsets, sizes, _ = zip(*wanted)
    ends = list(map(operator.add, offsets, sizes))
    if min(offsets) < 0 or max(ends) > level.record.size:
        raise FormatDamaged(f"{name_of(level.ref)}: is asked for bytes beyond its end")
    if extents is None:
        found.extend((place, level.ref, offset, size) for offset, size, place in wanted)
        return []
    missing: _Wanted = []
    if level.record.base is None:
        for item in wanted:
            _cut(level, extents, item, missing, found)
        return missing
    # most ranges lie where this level has nothing of its own: they go on as they are, and which
    # do is found without a step of the interpreter for each
    rows = map(bisect_right, itertools.repeat(extents.ends), offsets)
    touched = list(map(operator.lt, map(extents.starts.__getitem__, rows), ends))
    if not any(touched):
        return wanted
    missing.extend(itertools.compress(wanted, map(operator.not_, touched)))
    for item in itertools.compress(wanted, touched):
        _cut(level, extents, item, missing, found)
    return missing


def _cut(
    level: Level,
    extents: ExtentMap,
    wanted: tuple[int, int, int],
    missing: _Wanted,
    found: _Places,
) -> None:
    """Split one wanted range at the ranges of a map."""
    offset, size, place = wanted
    starts, ends, codes, offsets = extents.starts, extents.ends, extents.codes, extents.offsets
    end = offset + size
    row = bisect_right(ends, offset)
    while offset < end:
        begin = starts[row]
        if not extents.copies and begin == offset:
            whole = bisect_right(ends, end)
            if whole > row:
                _take_whole(level, extents, slice(row, whole), place - offset, found)
                offset, place, row = ends[whole - 1], place + ends[whole - 1] - offset, whole
                continue
        if begin > offset:
            stop = min(begin, end)
            missing.append((offset, stop - offset, place))
        else:
            stop, code = min(ends[row], end), codes[row]
            there = offsets[row] + offset - begin
            if code == BASE:
                missing.append((there, stop - offset, place))
            else:
                owner = level.owners[code]
                found.append((place, owner, there if owner else code, stop - offset))
            row += 1
        place, offset = place + stop - offset, stop


def _take_whole(level: Level, extents: ExtentMap, rows: slice, shift: int, found: _Places) -> None:
    """Take *rows* of a map that copies nothing, without looking at each.

    *shift* is how far what is asked for lies behind its place in this content.
    """
    begins, codes = extents.starts[rows], extents.codes[rows]
    offsets: Sequence[int] = extents.offsets[rows]
    if min(codes) <= ZEROS:
        offsets = [code if code <= ZEROS else at for code, at in zip(codes, offsets)]
    lengths = map(operator.sub, extents.ends[rows], begins)
    places = map(shift.__add__, begins) if shift else begins
    found.extend(zip(places, map(level.owners.__getitem__, codes), offsets, lengths))


def name_of(ref: Reference) -> str:
    """How messages name a content."""
    return f"{layout.archive(ref.archive)}: content {ref.number}"


def require_short(ref: Reference, ranges: int) -> None:
    """Raise FormatDamaged if the chain of *ref* has more *ranges* than any may."""
    if ranges > CHAIN_LIMIT:
        raise FormatDamaged(f"{name_of(ref)}: its chain has more ranges than it may")
