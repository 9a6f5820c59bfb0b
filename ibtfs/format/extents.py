"""Extent maps: a content as an ordered list of ranges.

Each range takes its bytes from a *code*: a hole, zeros that were stored as such, the content's own
payload, its base content (a copy), or the payload of one of its other sources.  Maps are held as
packed integer columns, for one of a large file has hundreds of thousands of ranges.
"""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ibtfs.errors import FormatDamaged, LimitExceeded
from ibtfs.format.packing import expect_ints, pack, unpack_tuple

HOLE, ZEROS, OWN, BASE, SOURCE = 0, 1, 2, 3, 4
"""Codes; SOURCE + i is the payload of source i."""

RANGE_LIMIT = 1_000_000
PART_RANGES = 65_536
CONTENT_LIMIT = (1 << 63) - 1


class Range(NamedTuple):
    """*length* bytes from *offset* of what *code* names; holes and zeros have offset 0."""

    code: int
    offset: int
    length: int


class ExtentMap:
    """The ranges of one content, in order; immutable once built, so shared between threads."""

    __slots__ = ("codes", "offsets", "size", "starts")

    def __init__(self, ranges: Sequence[Range]) -> None:
        """Ranges that continue each other are not joined; see :class:`MapBuilder`."""
        lengths = [item[2] for item in ranges]
        ends = list(itertools.accumulate(lengths, initial=0))
        self.size = ends.pop()
        self.starts = array("q", ends)
        self.codes = array("B" if _narrow(ranges) else "H", [item[0] for item in ranges])
        self.offsets = array("q", [item[1] for item in ranges])

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def memory_size(self) -> int:
        """About how many bytes it holds in memory."""
        return 200 + 18 * len(self.starts)

    def window(self, start: int, end: int) -> Iterator[Range]:
        """The ranges between *start* and *end*, cut to fit; *end* may not exceed the size."""
        starts, codes, offsets, size = self.starts, self.codes, self.offsets, self.size
        row = max(bisect.bisect_right(starts, start) - 1, 0)
        last = len(starts) - 1
        while start < end:
            stop = starts[row + 1] if row < last else size
            code = codes[row]
            cut = min(stop, end)
            offset = offsets[row] + start - starts[row] if code > ZEROS else 0
            yield Range(code, offset, cut - start)
            start = cut
            row += 1

    def ranges(self) -> Iterator[Range]:
        """All ranges."""
        return self.window(0, self.size)


def _narrow(ranges: Sequence[Range]) -> bool:
    return all(item[0] < 256 for item in ranges)


class MapBuilder:
    """Collects ranges in order and joins those that continue each other."""

    def __init__(self) -> None:
        self.ranges: list[Range] = []
        self.size = 0

    def add(self, code: int, offset: int, length: int) -> None:
        """Append a range; ignored when *length* is 0."""
        if not length:
            return
        if self.ranges:
            last = self.ranges[-1]
            joins = last.code == code and (code <= ZEROS or last.offset + last.length == offset)
            if joins:
                self.ranges[-1] = Range(code, last.offset, last.length + length)
                self.size += length
                return
        self.ranges.append(Range(code, offset, length))
        self.size += length

    def finish(self) -> ExtentMap:
        """The map of what was added."""
        return ExtentMap(self.ranges)


def encode_parts(extents: ExtentMap) -> list[bytes]:
    """The map as record bodies of at most PART_RANGES ranges each, in order.

    Offsets are stored as the difference to where the range would lie if it went on from the last
    range of the same code; for copies from the base, if it were shifted as the last copy was.
    Nearly all of them are then 0, and compress to nothing.  Raises LimitExceeded.
    """
    if len(extents) > RANGE_LIMIT:
        raise LimitExceeded(f"An extent map would have {len(extents)} ranges")
    expected: dict[int, int] = {}
    parts, position = [], 0
    ranges = list(extents.ranges())
    for first in range(0, len(ranges), PART_RANGES):
        rows = ranges[first : first + PART_RANGES]
        begin, deltas = position, []
        for code, offset, length in rows:
            if code == BASE:
                deltas.append(offset - position - expected.get(BASE, 0))
                expected[BASE] = offset - position
            elif code > ZEROS:
                deltas.append(offset - expected.get(code, 0))
                expected[code] = offset + length
            else:
                deltas.append(0)
            position += length
        lengths, codes = [row.length for row in rows], [row.code for row in rows]
        parts.append(pack((begin, lengths, codes, deltas)))
    return parts


def decode_parts(bodies: Sequence[bytes], size: int, sources: int, where: str) -> ExtentMap:
    """The map of a content of *size* bytes with *sources* other sources.  Raises FormatDamaged."""
    ranges: list[Range] = []
    expected: dict[int, int] = {}
    position = 0
    for body in bodies:
        begin, *columns = unpack_tuple(body, where, 4)
        lengths, codes, deltas = (expect_ints(column, where) for column in columns[:3])
        if begin != position or not len(lengths) == len(codes) == len(deltas) > 0:
            raise FormatDamaged(f"{where}: a part of an extent map does not fit")
        if len(ranges) + len(lengths) > RANGE_LIMIT or min(lengths) < 1:
            raise FormatDamaged(f"{where}: beyond the limits of an extent map")
        if min(codes) < HOLE or max(codes) >= SOURCE + sources:
            raise FormatDamaged(f"{where}: a range names a source that the record does not have")
        position = _decode_rows(zip(lengths, codes, deltas), position, expected, ranges)
        if position > size:
            break
    low = min((item.offset for item in ranges), default=0)
    high = max((item.offset + item.length for item in ranges), default=0)
    if low < 0 or high > CONTENT_LIMIT:
        raise FormatDamaged(f"{where}: a range lies beyond the limits of the format")
    if position != size:
        raise FormatDamaged(f"{where}: the extent map covers {position} bytes, not {size}")
    return ExtentMap(ranges)


def _decode_rows(
    rows: Iterator[tuple[int, int, int]] | zip[tuple[int, int, int]],
    position: int,
    expected: dict[int, int],
    ranges: list[Range],
) -> int:
    """Append the ranges of one part; the position after it."""
    make = Range._make
    for length, code, delta in rows:
        if code == BASE:
            shift = expected.get(BASE, 0) + delta
            expected[BASE] = shift
            ranges.append(make((code, position + shift, length)))
        elif code > ZEROS:
            offset = expected.get(code, 0) + delta
            expected[code] = offset + length
            ranges.append(make((code, offset, length)))
        else:
            ranges.append(make((code, 0, length)))
        position += length
    return position
