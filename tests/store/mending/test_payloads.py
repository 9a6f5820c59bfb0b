"""What of a payload is wanted, and what of that is not there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ibtfs.store.mending.payloads import _cut, _without
from ibtfs.store.removal.rebase import joined

RANGES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 8)).map(lambda r: (r[0], sum(r))), max_size=6
).map(joined)


def addresses(ranges: list[tuple[int, int]]) -> list[int]:
    return [address for start, end in ranges for address in range(start, end)]


@given(RANGES, st.integers(0, 45), st.integers(1, 20))
def test_what_lies_between_two_addresses(
    ranges: list[tuple[int, int]], start: int, length: int
) -> None:
    found = _cut(ranges, start, start + length)
    assert all(low < high for low, high in found)
    inside = range(start, start + length)
    assert addresses(found) == [one for one in addresses(ranges) if one in inside]


@given(RANGES, RANGES)
def test_what_is_lacking_is_what_is_not_held(
    ranges: list[tuple[int, int]], held: list[tuple[int, int]]
) -> None:
    found = _without(ranges, [(low, bytes(high - low)) for low, high in held])
    assert all(low < high for low, high in found)
    there = set(addresses(held))
    assert addresses(found) == [one for one in addresses(ranges) if one not in there]
