"""Extent maps: a content as an ordered list of ranges.

Each range takes its bytes from a *code*: a hole, zeros that were stored as such, the content's own
payload, its base content (a copy), or the payload of one of its donors.  Maps are held as
packed integer columns, for one of a large file has hundreds of thousands of ranges.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ibtfs.errors import FormatDamaged, LimitExceeded
from ibtfs.format.packing import expect_ints, pack, unpack_tuple

HOLE, ZEROS, OWN, BASE, DONOR = 0, 1, 2, 3, 4
"""Codes; DONOR + i is the payload of donor i."""

RANGE_LIMIT = 1_000_000
PART_RANGES = 65_536
CONTENT_LIMIT = (1 << 63) - 1


class Range(NamedTuple):
    """*length* bytes from *offset* of what *code* names; holes and zeros have offset 0."""

    code: int
    offset: int
    length: int


class ExtentMap:
    """The ranges of one content, in order, in columns; shared between threads, never changed.

    Copies that lie where they lay in the base are not kept: they are what lies between the others.
    *starts* and *ends* say where in the content each range lies; behind the last start stands the
    content's size.  *copies* says whether anything is copied from the base.
    """

    __slots__ = ("codes", "copies", "count", "ends", "offsets", "size", "starts")

    def __init__(
        self, lengths: Sequence[int], codes: Sequence[int], offsets: Sequence[int]
    ) -> None:
        """Ranges that continue each other are not joined; see :class:`MapBuilder`."""
        ends = array("q", itertools.accumulate(lengths))
        starts = array("q", [0, *ends])
        self.size, self.count = starts[-1], len(lengths)
        self.copies = BASE in codes
        kind = "B" if max(codes, default=0) < 256 else "H"
        self.starts: array[int] = starts
        self.ends: Sequence[int] = memoryview(starts)[1:]
        self.codes, self.offsets = array(kind, codes), array("q", offsets)
        if self.copies:
            rows = [n for n, code in enumerate(codes) if code != BASE or offsets[n] != starts[n]]
            self.starts = array("q", [*map(starts.__getitem__, rows), self.size])
            self.ends = array("q", map(ends.__getitem__, rows))
            self.codes = array(kind, map(codes.__getitem__, rows))
            self.offsets = array("q", map(offsets.__getitem__, rows))

    def __len__(self) -> int:
        return self.count

    @property
    def memory_size(self) -> int:
        """About how many bytes it holds in memory."""
        return 400 + (26 if self.copies else 18) * len(self.ends)

    def ranges(self) -> Iterator[Range]:
        """All ranges; copies in place that continue each other are one."""
        position = 0
        for start, end, code, offset in zip(self.starts, self.ends, self.codes, self.offsets):
            if start > position:
                yield Range(BASE, position, start - position)
            yield Range(code, offset if code > ZEROS else 0, end - start)
            position = end
        if position < self.size:
            yield Range(BASE, position, self.size - position)


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
        lengths = [item.length for item in self.ranges]
        codes = [item.code for item in self.ranges]
        return ExtentMap(lengths, codes, [item.offset for item in self.ranges])


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


def decode_parts(bodies: Iterable[bytes], size: int, donors: int, where: str) -> ExtentMap:
    """The map of a content of *size* bytes with *donors* donors.  Raises FormatDamaged."""
    lengths: list[int] = []
    codes: list[int] = []
    deltas: list[int] = []
    for body in bodies:
        begin, *columns = unpack_tuple(body, where, 4)
        part = [expect_ints(column, where) for column in columns[:3]]
        if begin != sum(lengths) or not len(part[0]) == len(part[1]) == len(part[2]) > 0:
            raise FormatDamaged(f"{where}: a part of an extent map does not fit")
        if len(lengths) + len(part[0]) > RANGE_LIMIT or min(part[0]) < 1:
            raise FormatDamaged(f"{where}: beyond the limits of an extent map")
        lengths += part[0]
        codes += part[1]
        deltas += part[2]
    if sum(lengths) != size:
        raise FormatDamaged(f"{where}: the extent map covers {sum(lengths)} bytes, not {size}")
    if min(codes, default=0) < HOLE or max(codes, default=0) >= DONOR + donors:
        raise FormatDamaged(f"{where}: a range names a donor that the record does not have")
    offsets = _offsets(lengths, codes, deltas)
    if min(offsets, default=0) < 0 or max(offsets, default=0) > CONTENT_LIMIT - size:
        raise FormatDamaged(f"{where}: a range lies beyond the limits of the format")
    return ExtentMap(lengths, codes, offsets)


def _offsets(lengths: Sequence[int], codes: Sequence[int], deltas: Sequence[int]) -> list[int]:
    """The offsets of ranges, from how each differs from where it would lie if it went on."""
    offsets = list(itertools.accumulate(lengths, initial=0))
    offsets.pop()
    shift, expected = 0, dict.fromkeys(codes, 0)
    moved = any(deltas)
    for row, code in enumerate(codes):
        if code == BASE:
            if moved:
                shift += deltas[row]
                offsets[row] += shift
        elif code > ZEROS:
            offset = expected[code] + deltas[row]
            offsets[row] = offset
            expected[code] = offset + lengths[row]
        else:
            offsets[row] = 0
    return offsets
