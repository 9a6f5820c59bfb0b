"""What is known again of a payload, piece by piece, from several who know some of it."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged
from ibtfs.format.frames import LITERALS, SMALL
from ibtfs.format.index import Reference
from ibtfs.store.mending.pieces import ContentGiver, _Piece, first_of
from ibtfs.store.removal.rebase import joined

GOOD, BAD = Reference("archive", 1), Reference("archive", 2)
RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=6)


class Known:
    """A content of which each byte is its place."""

    def read(self, offset: int, length: int) -> bytes:
        return bytes(range(offset, offset + length))


class Lost:
    def read(self, _: int, __: int) -> bytes:
        raise FormatDamaged("lost")


def giver(ranges: list[tuple[int, int]], ref: Reference = GOOD) -> ContentGiver:
    pieces = sorted(_Piece(low, low + size, ref, low + 100) for low, size in ranges)
    return ContentGiver({LITERALS: pieces}, cast(Any, {GOOD: Known(), BAD: Lost()}))


def addresses(ranges: list[tuple[int, int]]) -> list[int]:
    return [address for low, size in ranges for address in range(low, low + size)]


@given(RANGES, st.integers(0, 45), st.integers(1, 20))
def test_bytes_are_given_once_each_at_their_address(
    ranges: list[tuple[int, int]], start: int, length: int
) -> None:
    found = giver(ranges).give(LITERALS, start, start + length)
    given_bytes = [(low + n, byte) for low, data in found for n, byte in enumerate(data)]
    expected = sorted(set(addresses(ranges)) & set(range(start, start + length)))
    assert given_bytes == [(address, address + 100) for address in expected]
    assert giver(ranges).give(SMALL, start, start + length) == []
    assert giver(ranges, BAD).give(LITERALS, start, start + length) == []


@given(RANGES, RANGES)
def test_who_comes_first_is_asked_first_and_the_others_for_the_rest(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    asked: list[tuple[int, int]] = []

    class Asked:
        def give(self, stream: int, start: int, end: int) -> list[tuple[int, bytes]]:
            asked.append((start, end - start))
            return giver(other).give(stream, start, end)

    found = first_of([giver(one), cast(Any, Asked())], LITERALS, 5, 40)
    assert all(data for _, data in found)
    got = addresses([(low, len(data)) for low, data in found])
    assert got == sorted((set(addresses(one)) | set(addresses(other))) & set(range(5, 40)))
    assert addresses(asked) == sorted(set(range(5, 40)) - set(addresses(one)))
    assert len(asked) == len(joined([(low, low + size) for low, size in asked]))
