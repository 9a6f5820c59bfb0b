"""Sets of marks are what sets of bytes are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ibtfs.format.marks import MARK_SIZE, Marks

SETS = st.frozensets(st.binary(min_size=MARK_SIZE, max_size=MARK_SIZE))


@given(SETS, SETS)
def test_they_are_sets(one: frozenset[bytes], other: frozenset[bytes]) -> None:
    made = Marks.of(one)
    assert list(made) == sorted(one)
    assert len(made) == len(one)
    assert bool(made) == bool(one)
    assert made | Marks.of(other) == Marks.of(one | other) == Marks.of(other) | made
    for mark in one | other:
        assert (mark in made) == (mark in one)
        assert made.without(mark) == Marks.of(one - {mark})
    assert Marks.of([*one, *one]) == made == Marks(b"".join(sorted(one)))
