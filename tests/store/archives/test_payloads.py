"""Bytes of a data stream by address, against plain bytes: those that are there, and no others."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import ObjectMissing
from ibtfs.format.frames import SMALL, Runs, encode_runs
from ibtfs.format.tables import StreamTable
from ibtfs.store.archives.payloads import RUN_BYTES, Payloads
from ibtfs.store.cache import ByteCache

SIZE = 60


class Stored:
    """Stands for an open file: frames of bytes that are their addresses, some of them cut."""

    name, generation = "archives/x/data.1", 1

    def __init__(self, frames: list[tuple[int, int, list[tuple[int, int]] | None]]) -> None:
        self.there: set[int] = set()
        self._table, self._raw = StreamTable(), list[Any]()
        place = 0
        for gap, count, runs in frames:
            place += gap
            self._table.add(place, count, 0, 1)
            raw: Any = bytes(range(place, place + count))
            kept = set(range(count))
            if runs is not None:
                cut = [(low, length) for low, length in runs if low + length <= count]
                kept = {n for low, length in cut for n in range(low, low + length)}
                raw = Runs(encode_runs(cut, raw), count, "here")
            self.there |= {place + n for n in kept}
            self._raw.append(raw)
            place += count

    def table(self, _: int) -> StreamTable:
        return self._table

    def has_runs(self, _: int, row: int) -> bool:
        return isinstance(self._raw[row], Runs)

    def payload_frame(self, _: int, row: int) -> bytes | Runs:
        return cast("bytes | Runs", self._raw[row])


RUNS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), max_size=3).map(
    lambda steps: [(sum(map(sum, steps[:n])) + gap - 1, size)
                   for n, (gap, size) in enumerate(steps)]
)  # fmt: skip
FRAMES = st.lists(st.tuples(st.sampled_from([0, 0, 1, 5]), st.integers(1, 8),
                            st.one_of(st.none(), RUNS)), max_size=5)  # fmt: skip


@given(FRAMES, st.integers(0, SIZE), st.integers(1, 20))
def test_bytes_are_read_whole_or_told_to_be_gone(
    frames: list[tuple[int, int, list[tuple[int, int]] | None]], start: int, length: int
) -> None:
    stored = Stored(frames)
    payloads = Payloads("x", cast(Any, stored), ByteCache(1 << 20))
    wanted = range(start, start + length)
    is_there = stored.there.issuperset(wanted)
    assert payloads.covers(SMALL, start, length) == is_there
    assert payloads.covers(SMALL, start, 0)
    if is_there:
        assert b"".join(payloads.read(SMALL, start, length)) == bytes(wanted)
    else:
        with pytest.raises(ObjectMissing, match=r"archives/x/data\.1"):
            payloads.read(SMALL, start, length)


def test_a_frame_is_given_as_a_whole_or_not() -> None:
    payloads = Payloads(
        "x", cast(Any, Stored([(3, 4, None), (0, 5, [(0, 5)])])), ByteCache(1 << 20)
    )
    assert payloads.frame_at(SMALL, 6) == (3, bytes(range(3, 7)))
    assert payloads.frame_at(SMALL, 7) is None
    for address in (2, 12):
        with pytest.raises(ObjectMissing, match=f"from {address} are gone"):
            payloads.frame_at(SMALL, address)


def test_what_is_left_of_a_frame_weighs_as_much_as_its_runs_do() -> None:
    cache = ByteCache(1 << 20)
    runs = [(place, 1) for place in range(0, 60, 2)]
    payloads = Payloads("x", cast(Any, Stored([(0, 60, runs)])), cache)
    payloads.read(SMALL, 0, 1)
    assert cache.size >= 30 * RUN_BYTES
