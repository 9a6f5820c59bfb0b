"""What is known again of a payload, piece by piece, from several who know some of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged
from ibtfs.format.frames import LITERALS, SMALL
from ibtfs.format.index import Reference
from ibtfs.store.mending.pieces import ContentGiver, _Piece, first_of, givers
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


def test_what_is_known_is_told_by_the_archives_that_have_its_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Contents that cannot be followed are passed over."""
    other = Reference("other", 7)
    segments: dict[Reference, list[Any]] = {
        GOOD: [(GOOD, 2, 5), (None, 0, 3), (other, 10, 4), (GOOD, 0, 2)],
        other: [(other, 0, 9)],
    }  # fmt: skip
    records = {GOOD: SimpleNamespace(stream=SMALL, start=100),
               other: SimpleNamespace(stream=LITERALS, start=0)}  # fmt: skip

    class Contents:
        def __init__(self, _: object) -> None: ...

        def segments(self, ref: Reference, start: int, end: int) -> Any:
            assert start == 0
            if ref == BAD:
                raise FormatDamaged("its map is lost")
            return iter(segments[ref])

        def record(self, ref: Reference) -> Any:
            return records[ref]

    class Whole(Known):
        size = 14

    monkeypatch.setattr("ibtfs.store.mending.pieces.Contents", Contents)
    known = cast(Any, {BAD: Whole(), GOOD: Whole(), other: Whole()})
    found = givers(cast(Any, None), known)
    assert sorted(found) == ["archive", "other"]
    assert found["archive"].give(SMALL, 0, 200) == [
        (100, bytes([12, 13])), (102, bytes(range(5)))
    ]  # fmt: skip
    assert found["archive"].give(LITERALS, 0, 200) == []
    assert found["other"].give(LITERALS, 0, 200) == [
        (0, bytes(range(9))), (10, bytes([8, 9, 10, 11]))
    ]  # fmt: skip
    assert found["other"].give(LITERALS, 9, 10) == []
