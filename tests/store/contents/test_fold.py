"""Folding chains of maps, against a plain model that follows every byte by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged
from ibtfs.format.extents import BASE, DONOR, HOLE, OWN, ZEROS, ExtentMap, MapBuilder
from ibtfs.format.frames import LITERALS
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.contents.fold import Level, fold

DONORS = (Reference("other", 1), Reference("other", 2))


Place = tuple[Reference | None, int]
"""Where one byte comes from: an owner and an offset; without an owner, HOLE or ZEROS."""


def level(number: int, size: int, extents: ExtentMap | None, base: Reference | None) -> Level:
    ref = Reference("archive", number)
    record = ContentRecord(
        b"", size, LITERALS, 0, 1 << 30, donors=DONORS, base=base, map_parts=1 if extents else 0
    )
    return Level(ref, record, extents)


def model(levels: list[Level]) -> list[Place]:
    """The place of every byte of the first content, made from the last one upwards."""
    bytes_of: list[Place] = []
    for one in reversed(levels):
        if one.extents is None:
            bytes_of = [(one.ref, n) for n in range(one.record.size)]
            continue
        made: list[Place] = []
        for code, offset, length in one.extents.ranges():
            if code == BASE:
                made += bytes_of[offset : offset + length]
            elif code in (HOLE, ZEROS):
                made += [(None, code)] * length
            else:
                owner = one.ref if code == OWN else DONORS[code - DONOR]
                made += [(owner, offset + n) for n in range(length)]
        bytes_of = made
    return bytes_of


@st.composite
def maps(draw: st.DrawFn, base_size: int) -> ExtentMap:
    """A map as a backup makes it: mostly copies in place, some from elsewhere, some new bytes."""
    builder = MapBuilder()
    codes = (HOLE, ZEROS, OWN, DONOR, DONOR + 1) + (BASE,) * (6 if base_size else 0)
    for _ in range(draw(st.integers(1, 12))):
        code, length = draw(st.sampled_from(codes)), draw(st.integers(1, 40))
        offset = draw(st.integers(0, 500)) if code > ZEROS else 0
        if code == BASE:
            in_place = builder.size < base_size and draw(st.booleans())
            offset = builder.size if in_place else offset % base_size
            length = min(length, base_size - offset)
        builder.add(code, offset, length)
    return builder.finish()


@st.composite
def chains(draw: st.DrawFn) -> list[Level]:
    """A content and its bases, the newest first."""
    flat = draw(maps(0)) if draw(st.booleans()) else None
    made = [level(0, flat.size if flat else draw(st.integers(1, 300)), flat, None)]
    for number in range(1, draw(st.integers(1, 6))):
        extents = draw(maps(made[0].record.size))
        made.insert(0, level(number, extents.size, extents, made[0].ref))
    return made


@given(chains(), st.data())
def test_fold_finds_every_byte(levels: list[Level], data: st.DataObject) -> None:
    expected = model(levels)
    start = data.draw(st.integers(0, len(expected) - 1))
    end = data.draw(st.integers(start + 1, len(expected)))
    found: list[Place] = []
    for position, owner, offset, length in fold(levels, start, end):
        assert position == start + len(found)
        assert length > 0
        found += [(owner, offset + n if owner else offset) for n in range(length)]
    assert found == expected[start:end]


def test_a_map_without_a_base_may_copy_nothing() -> None:
    extents = ExtentMap([10], [BASE], [0])
    with pytest.raises(FormatDamaged, match="a base that it does not have"):
        fold([level(0, 10, extents, None)], 0, 10)
    beyond = level(1, 20, ExtentMap([5, 15], [OWN, BASE], [0, 2]), Reference("archive", 0))
    with pytest.raises(FormatDamaged, match="beyond its end"):
        fold([beyond, level(0, 10, None, None)], 0, 20)


def test_a_map_may_copy_all_of_its_base_and_no_byte_more() -> None:
    base = level(0, 10, ExtentMap([10], [OWN], [0]), None)
    for size in (10, 11):
        copied = level(1, size, ExtentMap([size], [BASE], [0]), base.ref)
        if size == 10:
            assert fold([copied, base], 0, size) == [(0, base.ref, 0, 10)]
            continue
        with pytest.raises(FormatDamaged, match="from beyond its base's end"):
            fold([copied, base], 0, size)
