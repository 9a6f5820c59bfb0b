"""Windows of contents, what of payloads is kept, and zeros: against plain models."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.format.extents import HOLE, ZEROS
from ibtfs.format.index import Reference
from ibtfs.format.rdelta import LITERAL, Match
from ibtfs.store.contents.overlap import Places, worthwhile
from ibtfs.store.contents.overlap import joined as joined_matches
from ibtfs.store.contents.reader import Segment
from ibtfs.store.contents.whole import _holds
from ibtfs.store.contents.windows import Piece, joined

OWNERS = [Reference("archive", 1), Reference("archive", 2)]
Place = tuple[Reference | None, int]
PIECES = st.lists(
    st.tuples(st.sampled_from([None, None, *OWNERS]), st.integers(0, 9), st.integers(1, 6)).map(
        lambda item: (None, item[1] % 2, item[2]) if item[0] is None else item
    ),
    min_size=1, max_size=9,
)  # fmt: skip


def places(rows: list[Piece]) -> list[Place]:
    return [(owner, offset + n if owner else offset)
            for owner, offset, length in rows for n in range(length)]  # fmt: skip


@settings(deadline=None)
@given(PIECES, st.integers(0, 100), st.data())
def test_a_window_has_the_bytes_that_were_found_and_gives_any_part(
    rows: list[Piece], first: int, data: st.DataObject
) -> None:
    expected, found, position = places(rows), [], first
    for owner, offset, length in rows:
        found.append((position, owner, offset, length))
        position += length
    window = joined(found)
    assert places(window.rows) == expected
    assert window.starts[0] == first
    for (owner, offset, length), (other, follows, _) in itertools.pairwise(window.rows):
        assert (other, follows) != (owner, offset + length if owner else offset)
    before = list(window.rows)
    start = data.draw(st.integers(0, len(expected) - 1))
    end = data.draw(st.integers(start + 1, len(expected)))
    cut = window.cut(first + start, first + end)
    assert places(cut) == expected[start:end]
    assert all(length > 0 for _, _, length in cut)
    assert window.rows == before


def test_holes_and_zeros_are_told_apart() -> None:
    window = joined([(0, None, HOLE, 5), (5, None, HOLE, 5), (10, None, ZEROS, 5)])
    assert window.rows == [(None, HOLE, 10), (None, ZEROS, 5)]
    assert window.cut(3, 12) == [(None, HOLE, 7), (None, ZEROS, 2)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)).map(lambda r: (r[0], sum(r)))),
    st.integers(0, 15), st.integers(1, 8),
)  # fmt: skip
def test_ranges_that_are_kept_hold_what_lies_in_one(
    ranges: list[tuple[int, int]], start: int, length: int
) -> None:
    """Sorted, and each ends behind the one before, as the maps of payloads have them."""
    kept: list[tuple[int, int]] = []
    for one in sorted(ranges):
        if not kept or one[1] > kept[-1][1]:
            kept.append(one)
    alone = [one for n, one in enumerate(kept) if n == 0 or one[0] >= kept[n - 1][1]]
    expected = any(low <= start and start + length <= high for low, high in alone)
    assert _holds(alone, start, start + length) is expected


MATCHES = st.lists(
    st.tuples(st.sampled_from([LITERAL, LITERAL, 0, 3, 10, 40]), st.integers(1, 30)), max_size=9
)


def in_order(items: list[tuple[int, int]]) -> list[Match]:
    return [(place, sum(size for _, size in items[:n]), size)
            for n, (place, size) in enumerate(items)]  # fmt: skip


def sources(matches: list[Match]) -> list[int]:
    return [LITERAL if place == LITERAL else place + n
            for place, _, size in matches for n in range(size)]  # fmt: skip


@settings(deadline=None)
@given(MATCHES)
def test_matches_that_go_on_are_one_and_short_copies_none(items: list[tuple[int, int]]) -> None:
    matches = in_order(items)
    found = list(joined_matches(matches))
    assert sources(found) == sources(matches)
    assert [start for _, start, _ in found] == [
        sum(size for _, _, size in found[:n]) for n in range(len(found))
    ]
    for (place, _, size), (follows, _, _) in itertools.pairwise(found):
        assert follows != (LITERAL if place == LITERAL else place + size)
    kept = [(place if size >= 16 else LITERAL, start, size) for place, start, size in found]
    worth = list(worthwhile(matches))
    assert sources(worth) == sources(kept)
    assert list(joined_matches(worth)) == worth


@pytest.mark.parametrize(
    ("there", "wanted", "expected"),
    [
        (64, 200, [(0, 0, 64), (0, 64, 64), (0, 128, 64), (0, 192, 8)]),
        (63, 200, [(LITERAL, 0, 200)]), (63, 63, [(0, 0, 63)]), (63, 64, [(LITERAL, 0, 64)]),
        (10, 10, [(0, 0, 10)]), (10, 11, [(LITERAL, 0, 11)]), (100, 3, [(0, 0, 3)]),
    ],
)  # fmt: skip
def test_zeros_are_copied_if_there_are_enough_of_them(
    there: int, wanted: int, expected: list[Match]
) -> None:
    old = [Segment(None, ZEROS, there), Segment(OWNERS[0], 0, 1000)]
    # where the hint leads to bytes, the longest run is taken
    new = [Segment(OWNERS[1], 0, 1000), Segment(None, ZEROS, wanted)]
    found = list(Places(old, there + 1000).matches(new))
    assert found[0] == (LITERAL, 0, 1000)
    assert [(place, start - 1000, size) for place, start, size in found[1:]] == expected
