"""Deltas between two byte strings at hand: what of the new one can be copied from the old.

Every copy is compared with the base's bytes before it is kept: a wrong one becomes a literal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ibtfs.errors import LibraryMissing
from ibtfs.format.rdelta import LITERAL, Match, common_prefix, common_suffix
from ibtfs.format.rsync import fine_matches

PAGE = 4 << 10
"""What is compared at once: the unit in which databases and file systems change their files."""
AROUND = 1 << 10
"""How far around a run of changed pages the base is searched."""


LEAST = 16
"""A shorter copy is not worth the range that it takes in the map."""


def match(base: bytes, new: bytes, *, block_size: int) -> list[Match]:
    """The whole of *new* as verified matches in *base*, in order."""
    try:
        found: Iterable[Match] = fine_matches(base, new, block_size=block_size)
    except LibraryMissing:
        found = _ends(base, new)  # a larger backup is better than none
    return list(verified(found, base, new))


def match_in_place(base: bytes, at: int, new: bytes, *, block_size: int) -> list[Match]:
    """As :func:`match`, where most of *new* is expected unchanged from *at* of *base* on.

    Pages that are equal at the same place are found by comparing, at the speed of memory; librsync
    sees the middle of runs of pages that differ, and of the base their neighbourhood.  In 2,900
    changed slabs of a database this took 0.115 ms a slab, 64-byte blocks against all of it 0.47,
    and left 1.60 MB of literals, not 1.92; with all of the neighbouring page (AROUND 4 KiB) 0.152
    ms and 1.54 MB, with blocks of 32 bytes 0.152 ms and 1.42 MB.
    """
    found: list[Match] = []
    view = memoryview(new)
    for first, last, same in _runs(memoryview(base)[max(at, 0) :], view):
        if same:
            found.append((at + first, first, last - first))
        else:
            run = _changed_run(base, at + first, new[first:last], block_size)
            found.extend((source, target + first, length) for source, target, length in run)
    return found


def _changed_run(base: bytes, at: int, new: bytes, block_size: int) -> Iterator[Match]:
    """Matches of *new*, some pages that lay at *at* of *base*: what they begin and end with is
    compared, and only what lies between is given to librsync."""
    old = base[at : at + len(new)]
    head = common_prefix(old, new)
    head = head if head >= LEAST else 0
    tail = common_suffix(old[head:], new[head:]) if len(old) == len(new) else 0
    end = len(new) - (tail if tail >= LEAST else 0)
    if head:
        yield (at, 0, head)
    if end - head < block_size:
        if end > head:
            yield (LITERAL, head, end - head)
    else:
        low = max(at + head - AROUND, 0)
        window = base[low : max(at + end + AROUND, low)]
        for source, target, length in match(window, new[head:end], block_size=block_size):
            yield (source if source == LITERAL else source + low, target + head, length)
    if end < len(new):
        yield (at + end, end, len(new) - end)


def _runs(old: memoryview, new: memoryview) -> Iterator[tuple[int, int, bool]]:
    """The runs of pages of *new* that are in *old* at the same place, and of those that are not."""
    first, size = 0, len(new)
    while first < size:
        last = first + PAGE
        same = _same(old, new, first, last)
        while last < size and _same(old, new, last, last + PAGE) == same:
            last += PAGE
        yield first, min(last, size), same
        first = last


def _same(old: memoryview, new: memoryview, first: int, last: int) -> bool:
    return bytes(old[first:last]) == bytes(new[first:last])


def _ends(base: bytes, new: bytes) -> Iterator[Match]:
    """Only what both begin and end with."""
    head = common_prefix(base, new)
    tail = common_suffix(base[head:], new[head:])
    if head:
        yield (0, 0, head)
    if len(new) > head + tail:
        yield (LITERAL, head, len(new) - head - tail)
    if tail:
        yield (len(base) - tail, len(new) - tail, tail)


def verified(found: Iterable[Match], base: bytes, new: bytes) -> Iterator[Match]:
    """*found* with every copy that is not true to *base* made a literal."""
    for source, target, length in found:
        if source != LITERAL and (base[source : source + length] != new[target : target + length]):
            yield (LITERAL, target, length)
        else:
            yield (source, target, length)


def without_crumbs(found: Iterable[Match], least: int) -> list[Match]:
    """*found* with copies shorter than *least* bytes made part of the literals around them.

    What continues the match before it is joined first; at both ends of the data short copies stay,
    for they may go on in the data that lies next.
    """
    joined: list[Match] = []
    for source, target, length in found:
        before, _, size = joined[-1] if joined else (0, 0, -1)
        is_literal = source == LITERAL
        follows = is_literal if before == LITERAL else before + size == source
        if size >= 0 and follows:
            joined[-1] = (before, joined[-1][1], size + length)
        else:
            joined.append((source, target, length))
    kept = joined[:1]
    for source, target, length in joined[1:-1]:
        is_literal = source == LITERAL or length < least
        before, first, size = kept[-1]
        if is_literal and before == LITERAL:
            kept[-1] = (LITERAL, first, size + length)
        else:
            kept.append((LITERAL if is_literal else source, target, length))
    return kept + joined[max(len(joined) - 1, 1) :]


def literal_bytes(found: list[Match]) -> int:
    """How many bytes of the new string are not found in the base."""
    return sum(length for source, _, length in found if source == LITERAL)
