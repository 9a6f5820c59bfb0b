"""Ranges of a payload that goes: those that lie in no other are copied, and are found again."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from ibtfs.format.extents import DONOR, HOLE, ZEROS
from ibtfs.format.frames import LITERALS
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.removal.copied import _Copying, _largest, _Moved

RANGES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 9)).map(lambda r: (r[0], sum(r))), min_size=1
)


@given(RANGES)
def test_each_range_is_in_one_that_is_copied_and_nothing_is_copied_twice(
    ranges: list[tuple[int, int]],
) -> None:
    found = _largest(ranges)
    assert set(found) <= set(ranges)
    assert all(any(low <= start and end <= high for low, high in found) for start, end in ranges)
    for one, other in itertools.pairwise(found):
        assert one[0] < other[0]
        assert one[1] < other[1]


@given(RANGES)
def test_a_byte_is_found_where_its_range_went(ranges: list[tuple[int, int]]) -> None:
    """As they are copied: the last one first."""
    found = _largest(ranges)
    copied: list[int] = []
    places = []
    for start, end in reversed(found):
        places.append(len(copied))
        copied += range(start, end)
    moved = _Moved(Reference("archive", 0), [start for start, _ in found], places[::-1])
    for start, end in ranges:
        place = moved.place(start)
        assert copied[place : place + end - start] == list(range(start, end))


def test_bytes_and_zeros_that_follow_each_other_are_one() -> None:
    one, two = Reference("archive", 1), Reference("archive", 2)
    segments = [(one, 0, 5), (two, 9, 3), (None, HOLE, 4), (None, HOLE, 2), (None, ZEROS, 7),
                (one, 0, 1)]  # fmt: skip
    copying = object.__new__(_Copying)
    copying._contents = cast(Any, SimpleNamespace(segments=lambda *_: segments))
    record = ContentRecord(bytes(32), 22, LITERALS, 0, 22)
    assert copying._holes(one, record) == [(DONOR, 8), (HOLE, 6), (ZEROS, 7), (DONOR, 1)]
