"""What two contents share by where their bytes are stored, against a plain list of places."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ibtfs.format.extents import ZEROS
from ibtfs.format.index import Reference
from ibtfs.format.rdelta import LITERAL
from ibtfs.store.contents.overlap import Places

OWNERS = [None, Reference("archive", 1), Reference("archive", 2)]
Segment = tuple[Reference | None, int, int]
SEGMENTS = st.lists(
    st.tuples(st.sampled_from(OWNERS), st.integers(0, 12), st.integers(1, 6)).map(
        lambda item: (item[0], ZEROS, item[2]) if item[0] is None else item
    ),
    max_size=6,
)


def places(segments: list[Segment]) -> list[tuple[Reference, int] | None]:
    return [None if owner is None else (owner, offset + n)
            for owner, offset, length in segments for n in range(length)]  # fmt: skip


@given(SEGMENTS, SEGMENTS)
def test_every_stored_byte_that_both_have_is_found(old: list[Segment], new: list[Segment]) -> None:
    before, after = places(old), places(new)
    position = 0
    for place, start, length in Places(old, len(before)).matches(new):
        assert start == position
        assert length > 0
        for n in range(length):
            if place != LITERAL:
                assert before[place + n] == after[position + n]
            else:
                assert after[position + n] is None or after[position + n] not in before
        position += length
    assert position == len(after)


def test_a_range_goes_on_as_long_as_both_do() -> None:
    one = OWNERS[1]
    found = Places([(None, ZEROS, 10), (one, 0, 100)], 110).matches([(one, 0, 100)])
    assert list(found) == [(10, 0, 100)]
