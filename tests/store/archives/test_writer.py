"""The lanes of an archive that is written: what they hold until a frame is full."""

from __future__ import annotations

import os

import pytest

from ibtfs.format.frames import LARGE, STATES, raw_limit
from ibtfs.format.packing import unpack_bodies
from ibtfs.store.archives.writer import RECORD_FRAME, _Lane, _Records


def test_small_pieces_do_not_keep_what_they_were_cut_from() -> None:
    lane = _Lane(LARGE, lambda *_: None)
    for size, copied in ((4096, True), (64 << 10, False)):
        data = bytearray(1 << 20)
        lane.append(memoryview(data)[:size])
        if copied:
            data.clear()  # a view would forbid it
        else:
            with pytest.raises(BufferError):
                data.clear()
    assert lane.held == (4 << 10) + (64 << 10)


def test_frames_of_records_hold_each_once_and_no_more_than_they_may() -> None:
    emitted: list[tuple[int, int, bytes]] = []
    lane = _Records(STATES, lambda _, start, count, raw: emitted.append((start, count, raw)))
    lane.flush()
    assert emitted == []
    bodies = [os.urandom(RECORD_FRAME // 5) for _ in range(23)]
    bodies.insert(7, os.urandom(2 * RECORD_FRAME))  # one alone may be larger
    for number, body in enumerate(bodies):
        assert lane.append(body) == number
        assert lane.held > 0
    lane.flush()
    assert lane.held == 0
    found = [body for _, count, raw in emitted for body in unpack_bodies(raw, count, "")]
    assert found == bodies
    starts = [start for start, _, _ in emitted]
    assert starts == [sum(count for _, count, _ in emitted[:n]) for n in range(len(emitted))]
    assert all(len(raw) <= RECORD_FRAME + 100 for _, count, raw in emitted if count > 1)
    assert all(len(raw) <= raw_limit(STATES) for _, _, raw in emitted)
    assert len(emitted) <= 8


def test_a_lane_of_bytes_is_emitted_whole_and_numbered_on() -> None:
    emitted: list[tuple[int, int, bytes]] = []
    lane = _Lane(LARGE, lambda _, start, count, raw: emitted.append((start, count, raw)))
    for data in (b"abc", b"", b"de"):
        lane.append(memoryview(data))
    lane.flush()
    lane.flush()
    lane.append(memoryview(b"f"))
    lane.flush()
    assert emitted == [(0, 5, b"abcde"), (5, 1, b"f")]
