"""Which bases of a content go, and what of a payload is kept for others."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged
from ibtfs.format.extents import BASE, DONOR, HOLE, OWN, MapBuilder
from ibtfs.format.frames import LITERALS
from ibtfs.format.index import DEPTH_LIMIT, ContentRecord, Reference
from ibtfs.store.removal.rebase import bases_of, joined, payload_used, shell_map

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8)).map(lambda r: (r[0], sum(r))))


def ref(number: int) -> Reference:
    return Reference("archive", number)


def record(number: int) -> ContentRecord:
    base = ref(number - 1) if number else None
    return ContentRecord(bytes(32), 9, LITERALS, 0, 9, base=base, donors=(ref(70), ref(80)))


def test_bases_go_until_the_first_that_stays() -> None:
    def load(base: Reference) -> ContentRecord:
        return record(base.number)

    assert bases_of(record(0), load, lambda _: False) == ([], None)
    assert bases_of(record(5), load, lambda _: True) == ([], ref(4))
    assert bases_of(record(5), load, lambda base: base.number == 2) == ([ref(4), ref(3)], ref(2))
    assert bases_of(record(2), load, lambda _: False) == ([ref(1), ref(0)], None)


def test_a_chain_without_an_end_is_damage() -> None:
    longest = DEPTH_LIMIT + 1
    found = bases_of(record(longest), lambda base: record(base.number), lambda _: False)
    assert len(found.going) == longest
    with pytest.raises(FormatDamaged, match="too long"):
        bases_of(record(1), lambda _: record(1), lambda _: False)


@given(RANGES)
def test_ranges_that_touch_are_made_one(ranges: list[tuple[int, int]]) -> None:
    found = joined(ranges)
    whole = {byte for start, end in ranges for byte in range(start, end)}
    assert [byte for start, end in found for byte in range(start, end)] == sorted(whole)
    assert all(start < end for start, end in found)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(found))


@given(RANGES)
def test_a_shell_holds_the_used_bytes_where_they_were(ranges: list[tuple[int, int]]) -> None:
    used = joined(ranges)
    made = shell_map(100, used)
    assert made.size == 100
    place, kept = 0, []
    for item in made.ranges():
        if item.code == OWN:
            assert item.offset == place
            kept.append((place, place + item.length))
        else:
            assert item.code == HOLE
        place += item.length
    assert place == 100
    assert kept == used


def test_what_a_content_takes_of_its_donors() -> None:
    builder = MapBuilder()
    for code, offset, length in ((OWN, 3, 4), (DONOR + 1, 10, 5), (BASE, 0, 9), (DONOR, 7, 1)):
        builder.add(code, offset, length)
    used = list(payload_used(record(1), builder.finish()))
    assert used == [(ref(80), 10, 15), (ref(70), 7, 8)]
