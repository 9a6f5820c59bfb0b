"""Extent maps: encoded in parts and back, and such as cannot be."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged, LimitExceeded
from ibtfs.format import extents
from ibtfs.format.extents import (
    BASE,
    CONTENT_LIMIT,
    DONOR,
    HOLE,
    OWN,
    ZEROS,
    MapBuilder,
    Range,
    decode_parts,
    encode_parts,
)
from ibtfs.format.packing import pack

RANGES = [
    Range(BASE, 0, 5), Range(OWN, 0, 3), Range(OWN, 9, 4), Range(BASE, 7, 2), Range(HOLE, 0, 8),
    Range(DONOR, 4, 1), Range(ZEROS, 0, 2), Range(BASE, 20, 6), Range(DONOR + 1, 0, 1),
    Range(DONOR, 5, 2),
]  # fmt: skip


def test_ranges_come_back_from_parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = MapBuilder()
    for item in RANGES:
        builder.add(*item)
    made = builder.finish()
    assert (made.size, len(made)) == (34, 10)
    for size in range(1, 12):
        monkeypatch.setattr(extents, "PART_RANGES", size)
        parts = encode_parts(made)
        assert len(parts) == -(-10 // size)
        found = decode_parts(parts, 34, 2, "here")
        assert list(found.ranges()) == RANGES
        assert found.copies


def test_ranges_that_go_on_are_one() -> None:
    builder = MapBuilder()
    for item in ((OWN, 0, 3), (OWN, 3, 2), (OWN, 6, 1), (HOLE, 0, 4), (HOLE, 0, 0), (HOLE, 7, 1),
                 (ZEROS, 0, 1), (ZEROS, 0, 1), (BASE, 5, 1), (BASE, 6, 1)):  # fmt: skip
        builder.add(*item)
    assert builder.ranges == [
        (OWN, 0, 5), (OWN, 6, 1), (HOLE, 0, 5), (ZEROS, 0, 2), (BASE, 5, 2),
    ]  # fmt: skip
    assert builder.size == builder.finish().size == 15


def test_copies_in_place_are_what_lies_between() -> None:
    builder = MapBuilder()
    for item in ((BASE, 0, 4), (OWN, 0, 1), (BASE, 5, 4)):
        builder.add(*item)
    made = builder.finish()
    assert list(made.ranges()) == [(BASE, 0, 4), (OWN, 0, 1), (BASE, 5, 4)]
    assert len(made.codes) == 1
    assert len(made) == 3


def part(begin: int, *ranges: tuple[int, int, int]) -> bytes:
    """A part of *ranges*: length, code, difference of the offset."""
    lengths, codes, deltas = (list(column) for column in zip(*ranges)) if ranges else ([], [], [])
    return pack((begin, lengths, codes, deltas))


@pytest.mark.parametrize(
    "parts",
    [
        [part(0, (10, OWN, CONTENT_LIMIT - 10))],
        [part(0, (10, DONOR + 1, 0))],
        [part(0, (4, OWN, 5), (6, BASE, -4))],
        [part(0, (4, OWN, 5)), part(4, (6, OWN, -9))],
    ],
)
def test_maps_just_within_the_limits_are_taken(parts: list[bytes]) -> None:
    assert decode_parts(parts, 10, 2, "here").size == 10


@pytest.mark.parametrize(
    "parts",
    [
        [], [part(0)], [part(1, (10, OWN, 0))], [part(0, (4, OWN, 0)), part(5, (6, OWN, 0))],
        [part(0, (10, OWN, 0)), part(10)], [part(0, (9, OWN, 0))], [part(0, (11, OWN, 0))],
        [part(0, (0, OWN, 0), (10, OWN, 0))], [part(0, (11, OWN, 0), (-1, OWN, 0))],
        [part(0, (10, -1, 0))], [part(0, (10, DONOR + 2, 0))], [part(0, (10, OWN, -1))],
        [part(0, (4, OWN, 0), (6, BASE, -5))], [part(0, (10, OWN, CONTENT_LIMIT - 9))],
        [pack((0, [10], [OWN]))], [pack((0, [10], [OWN], [0.0]))], [pack((0, [10], [OWN], []))],
        [pack((0, [5, 5], [OWN], [0]))], [pack((0, [10], [OWN, OWN], [0]))],
        [pack((0, [10], [OWN], [0, 0]))],
    ],
)  # fmt: skip
def test_maps_that_cannot_be_are_damage(parts: list[bytes]) -> None:
    with pytest.raises(FormatDamaged, match="here"):
        decode_parts(parts, 10, 2, "here")


def test_a_map_has_no_more_ranges_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extents, "RANGE_LIMIT", 4)

    def made(count: int) -> extents.ExtentMap:
        builder = MapBuilder()
        for code, _ in zip(itertools.cycle((HOLE, ZEROS)), range(count)):
            builder.add(code, 0, 1)
        return builder.finish()

    parts = encode_parts(made(4))
    assert len(decode_parts(parts, 4, 0, "here")) == 4
    with pytest.raises(LimitExceeded, match="5 ranges"):
        encode_parts(made(5))
    for beyond in ([part(0, *[(1, HOLE, 0)] * 5)], [*parts, part(4, (1, HOLE, 0))]):
        with pytest.raises(FormatDamaged, match="here: beyond the limits"):
            decode_parts(beyond, 5, 0, "here")


def test_maps_of_many_codes_and_of_none() -> None:
    for most in (254, 255, 256, 65_535):
        made = extents.ExtentMap([1, 2], [OWN, most], [3, 9])
        assert list(made.ranges()) == [(OWN, 3, 1), (most, 9, 2)]
    empty = extents.ExtentMap([], [], [])
    assert list(empty.ranges()) == []
    assert (empty.size, len(empty), empty.copies) == (0, 0, False)
    assert encode_parts(empty) == []


def test_holes_and_zeros_lie_nowhere() -> None:
    made = extents.ExtentMap([1, 2, 3], [HOLE, ZEROS, OWN], [5, 6, 7])
    assert list(made.ranges()) == [(HOLE, 0, 1), (ZEROS, 0, 2), (OWN, 7, 3)]


def test_a_map_takes_memory_for_what_is_not_a_copy_in_place() -> None:
    def memory(*items: tuple[int, int, int]) -> int:
        builder = MapBuilder()
        for item in items:
            builder.add(*item)
        return builder.finish().memory_size

    empty, own = memory(), [(OWN, 2 * n, 1) for n in range(1000)]
    per_range = (memory(*own) - empty) / 1000
    assert 17 <= per_range <= 20  # a length, an offset, a code
    assert 200 < empty < 1000
    assert memory((BASE, 0, 9)) == empty
    assert memory((BASE, 0, 9), (BASE, 0, 9)) - empty == 26


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([HOLE, ZEROS, OWN, BASE, DONOR, DONOR + 1]),
                       st.integers(0, 50), st.integers(1, 9)), max_size=30),
    st.integers(1, 7),
)  # fmt: skip
def test_what_is_built_comes_back_byte_by_byte(
    items: list[tuple[int, int, int]], part_size: int
) -> None:
    """Each byte is where the ranges say that it is, however these are joined and stored."""

    def places(ranges: Iterable[tuple[int, int, int]]) -> list[tuple[int, int]]:
        return [
            (code, offset + n if code > ZEROS else 0)
            for code, offset, length in ranges
            for n in range(length)
        ]

    builder = MapBuilder()
    for item in items:
        builder.add(*item)
    made = builder.finish()
    assert places(made.ranges()) == places(items)
    assert made.size == builder.size == sum(length for _, _, length in items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extents, "PART_RANGES", part_size)
        found = decode_parts(encode_parts(made), made.size, 2, "here")
    assert list(found.ranges()) == list(made.ranges())
    assert (found.size, found.copies) == (made.size, made.copies)
    assert found.copies == any(code == BASE for code, _, _ in items)
