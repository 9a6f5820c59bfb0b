"""What two stored contents have in common, told from where their bytes lie, without reading them.

Two ranges that come from the same place of the same payload are equal.  So are zeros that are
stored as zeros.  Nothing else is known here: equal bytes that were stored twice are told apart.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ibtfs.format.index import Reference
from ibtfs.format.rdelta import LITERAL, Match
from ibtfs.store.contents.reader import Segment

LEAST_ZEROS = 64
"""A run of zeros shorter than this is not copied again and again to make a longer one."""
LEAST_COPY = 16
"""A copy of fewer bytes costs about as much as the bytes."""
_ZEROS = -1


class _Stored(NamedTuple):
    """The ranges of one payload that a content uses, in order of *offsets*; none overlap."""

    offsets: array[int]
    lengths: array[int]
    places: array[int]


class Places:
    """Which stored bytes make up a content of *size* bytes, to be found by where they lie.

    About 50 bytes of memory for each of *segments*, which are all of the content, in order;
    never changed after it was made.
    """

    def __init__(self, segments: Iterable[Segment], size: int) -> None:
        self.size = size
        self._numbers: dict[Reference, int] = {}
        self._starts, self._owners, self._offsets = array("q"), array("q"), array("q")
        self._zeros = (0, 0)
        self._add_all(segments)
        self._stored = self._by_owner()

    def _add_all(self, segments: Iterable[Segment]) -> None:
        position, row = 0, -1
        for owner, offset, length in segments:
            number, place = _ZEROS, 0
            if owner is not None:
                number, place = self._numbers.setdefault(owner, len(self._numbers)), offset
            follows = row >= 0 and self._owners[row] == number
            if follows and number != _ZEROS:
                follows = self._offsets[row] + position - self._starts[row] == place
            if not follows:
                row += 1
                self._starts.append(position)
                self._owners.append(number)
                self._offsets.append(place)
            position += length
            if number == _ZEROS and position - self._starts[row] > self._zeros[1]:
                self._zeros = (self._starts[row], position - self._starts[row])

    def _end(self, row: int) -> int:
        return self._starts[row + 1] if row + 1 < len(self._starts) else self.size

    def _by_owner(self) -> list[_Stored]:
        """The ranges of each payload, sorted; of bytes used twice the first place by offset."""
        stored = [_Stored(array("q"), array("q"), array("q")) for _ in self._numbers]
        for row in sorted(range(len(self._starts)), key=self._offsets.__getitem__):
            if self._owners[row] == _ZEROS:
                continue
            offsets, lengths, places = stored[self._owners[row]]
            begin, place = self._offsets[row], self._starts[row]
            end = begin + self._end(row) - place
            covered = offsets[-1] + lengths[-1] if offsets else 0
            if end > covered:
                skipped = max(covered - begin, 0)
                offsets.append(begin + skipped)
                lengths.append(end - begin - skipped)
                places.append(place + skipped)
        return stored

    def matches(self, segments: Iterable[Segment]) -> Iterator[Match]:
        """The content made of *segments*, as matches with this one; see ``format/rdelta``."""
        position, shift = 0, 0
        for owner, offset, length in segments:
            number = _ZEROS if owner is None else self._numbers.get(owner, len(self._stored))
            done = 0
            while done < length:
                wanted = (number, 0 if owner is None else offset + done, length - done)
                place, size = self._find(wanted, position + shift)
                yield place, position, size
                if place != LITERAL and number != _ZEROS:  # zeros tell nothing about a place
                    shift = place - position
                position, done = position + size, done + size

    def _find(self, wanted: tuple[int, int, int], hint: int) -> tuple[int, int]:
        """Where *(owner, offset, length)* is, or LITERAL, and how much of it; best at *hint*."""
        number, offset, length = wanted
        if 0 <= hint < self.size:
            row = bisect_right(self._starts, hint) - 1
            here = self._offsets[row] + hint - self._starts[row]
            if self._owners[row] == number and (number == _ZEROS or here == offset):
                return hint, min(self._end(row) - hint, length)
        if number == _ZEROS:
            place, run = self._zeros
            return (
                (place, min(run, length)) if run >= min(LEAST_ZEROS, length) else (LITERAL, length)
            )
        if number >= len(self._stored):
            return LITERAL, length
        return self._lookup(self._stored[number], offset, length)

    @staticmethod
    def _lookup(stored: _Stored, offset: int, length: int) -> tuple[int, int]:
        row = bisect_right(stored.offsets, offset) - 1
        if row >= 0:
            into = offset - stored.offsets[row]
            if into < stored.lengths[row]:
                return stored.places[row] + into, min(stored.lengths[row] - into, length)
        if row + 1 < len(stored.offsets):
            return LITERAL, min(stored.offsets[row + 1] - offset, length)
        return LITERAL, length


def joined(matches: Iterable[Match]) -> Iterator[Match]:
    """*matches* with those that continue each other made one."""
    last: Match | None = None
    for place, position, size in matches:
        if last is not None:
            begin, start, length = last
            if place == (LITERAL if begin == LITERAL else begin + length):
                last = (begin, start, length + size)
                continue
            yield last
        last = (place, position, size)
    if last is not None:
        yield last


def worthwhile(matches: Iterable[Match]) -> Iterator[Match]:
    """*matches*, joined, and without copies that would cost more than their bytes."""
    long_enough = (
        (place if size >= LEAST_COPY else LITERAL, position, size)
        for place, position, size in joined(matches)
    )
    return joined(long_enough)
