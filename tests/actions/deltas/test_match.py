"""Matches between a base and a new content."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ibtfs.actions.deltas.match import without_crumbs
from ibtfs.format.rdelta import LITERAL, Match

LEAST = 20


@st.composite
def matches(draw: st.DrawFn) -> list[Match]:
    made: list[Match] = []
    position = 0
    for length in draw(st.lists(st.integers(1, 60), min_size=1, max_size=12)):
        source = draw(st.sampled_from((LITERAL, position, draw(st.integers(0, 900)))))
        made.append((source, position, length))
        position += length
    return made


@given(matches())
def test_crumbs_become_literals_and_nothing_else_changes(found: list[Match]) -> None:
    def by_byte(items: list[Match]) -> list[int]:
        return [s if s == LITERAL else s + n for s, _, length in items for n in range(length)]

    kept = without_crumbs(found, LEAST)
    assert [target for _, target, _ in kept] == [
        sum(i[2] for i in kept[:n]) for n in range(len(kept))
    ]
    before, after = by_byte(found), by_byte(kept)
    assert len(before) == len(after)
    assert all(new in (old, LITERAL) for old, new in zip(before, after))
    assert all(s == LITERAL or length >= LEAST for s, _, length in kept[1:-1])
    for source, target, length in found:
        if source != LITERAL and length >= LEAST:
            assert after[target : target + length] == before[target : target + length]
    assert all(a != LITERAL or b != LITERAL for (a, *_), (b, *_) in itertools.pairwise(kept[:-1]))
