"""Deltas between two byte strings at hand: what of the new one can be copied from the old.

Every copy is compared with the base's bytes before it is kept: a wrong one becomes a literal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ibtfs.errors import LibraryMissing
from ibtfs.format.rdelta import LITERAL, Match, common_prefix, common_suffix
from ibtfs.format.rsync import fine_matches


def match(base: bytes, new: bytes, *, block_size: int) -> list[Match]:
    """The whole of *new* as verified matches in *base*, in order."""
    try:
        found: Iterable[Match] = fine_matches(base, new, block_size=block_size)
    except LibraryMissing:
        found = _ends(base, new)  # a larger backup is better than none
    return list(verified(found, base, new))


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


def literal_bytes(found: list[Match]) -> int:
    """How many bytes of the new string are not found in the base."""
    return sum(length for source, _, length in found if source == LITERAL)
