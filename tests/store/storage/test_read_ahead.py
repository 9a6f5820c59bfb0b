"""Reading ahead: in order or not, by several at once, and when something fails."""

from __future__ import annotations

import gc
import os
import random
import threading
import time

import pytest

from ibtfs.errors import StorageFailed
from ibtfs.store.storage.background import Background
from ibtfs.store.storage.read_ahead import GAP, PIECE, STREAMS, ReadAhead, Room
from tests.support.memory import BytesObject

MIB = 1 << 20
DATA = os.urandom(40 * MIB + 12345)


class Counted(BytesObject):
    """Bytes of which each read is noted; those in *broken* places fail."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, "archives/a/data.1")
        self.reads: list[tuple[int, int]] = []
        self.broken: set[int] = set()
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()

    def read(self, offset: int, size: int) -> bytes:
        self.reads.append((offset, size))
        self.gate.wait()
        if any(offset <= place < offset + size for place in self.broken):
            raise StorageFailed("no connection")
        return super().read(offset, size)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def stored() -> Counted:
    return Counted(DATA)


def left(room: Room) -> int:
    """How much room there is."""
    size = 0
    while room.take(MIB):
        size += MIB
    room.give(size)
    return size


def test_who_reads_in_order_gets_pieces_that_were_on_the_way(stored: Counted) -> None:
    room = Room()
    ahead = ReadAhead(stored, Background(4), room)
    for offset in range(0, len(DATA), MIB):
        assert ahead.read(offset, MIB) == DATA[offset : offset + MIB]
    assert len(stored.reads) < len(DATA) // MIB * 2 // 3
    assert sum(size for _, size in stored.reads) == len(DATA)
    assert max(size for _, size in stored.reads) == PIECE
    ahead.close()
    assert stored.closed
    assert left(room) == left(Room())


def test_who_reads_here_and_there_reads_nothing_else(stored: Counted) -> None:
    ahead = ReadAhead(stored, Background(4), Room())
    for offset in range(len(DATA) - MIB, MIB, -2 * MIB):
        assert ahead.read(offset, 4096) == DATA[offset : offset + 4096]
    assert all(size == 4096 for _, size in stored.reads)


def test_several_who_read_in_order_do_not_disturb_each_other(stored: Counted) -> None:
    ahead = ReadAhead(stored, Background(8), Room())
    places = [number * 10 * MIB for number in range(STREAMS)]
    for step in range(0, 10 * MIB, MIB):
        for place in places:
            assert ahead.read(place + step, MIB) == DATA[place + step : place + step + MIB]
    # nothing twice, but what lies behind the end of what each of them wants: as much as he has read
    behind = (STREAMS - 1) * (10 * MIB + PIECE)
    assert sum(size for _, size in stored.reads) <= len(DATA) + behind


def test_anything_in_any_order_by_many_at_once(stored: Counted) -> None:
    room = Room(6 * PIECE)
    ahead = ReadAhead(stored, Background(4), room)
    wrong: list[tuple[int, int]] = []

    def read(seed: int) -> None:
        rng, offset = random.Random(seed), 0
        for _ in range(150):
            size = rng.choice([1, 4096, 100_000, MIB, 5 * MIB])
            offset = (
                rng.randrange(len(DATA)) if rng.random() < 0.2 else offset + rng.choice([0, GAP])
            )
            if ahead.read(offset, size) != DATA[offset : offset + size]:
                wrong.append((offset, size))
            offset = (offset + size) % len(DATA)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    ahead.close()
    until = time.monotonic() + 120
    while left(room) != left(Room(6 * PIECE)):  # what is on its way takes room until it has come
        assert time.monotonic() < until
        time.sleep(0.001)


def test_the_end_is_read_once(stored: Counted) -> None:
    ahead = ReadAhead(stored, Background(4), Room())
    assert ahead.read(len(DATA) - 10, 100) == DATA[-10:]
    assert ahead.read(len(DATA), 100) == b""
    assert ahead.read(len(DATA) + 5, 100) == b""


def test_what_fails_ahead_is_read_again_by_who_wants_it(stored: Counted) -> None:
    ahead = ReadAhead(stored, Background(4), Room())
    stored.broken = {5 * MIB}
    for offset in range(0, 5 * MIB, MIB):
        assert ahead.read(offset, MIB) == DATA[offset : offset + MIB]
    with pytest.raises(StorageFailed):
        ahead.read(5 * MIB, MIB)
    stored.broken = set()
    for offset in range(5 * MIB, 20 * MIB, MIB):
        assert ahead.read(offset, MIB) == DATA[offset : offset + MIB]


def test_room_comes_back_from_what_is_dropped(stored: Counted) -> None:
    room, background = Room(), Background(4)
    ahead = ReadAhead(stored, background, room)
    for offset in range(0, 10 * MIB, MIB):
        ahead.read(offset, MIB)
    assert left(room) < left(Room())
    del ahead
    gc.collect()
    background.rest()
    assert left(room) == left(Room())


def test_room_of_who_reads_no_more_is_for_others() -> None:
    """Though he has the object open."""
    room, background = Room(), Background(4)
    objects = [Counted(DATA) for _ in range(8)]
    opened = [ReadAhead(one, background, room) for one in objects]
    for one, ahead in zip(objects, opened):
        for offset in range(0, 24 * MIB, MIB):
            assert ahead.read(offset, MIB) == DATA[offset : offset + MIB]
        background.rest()
        assert PIECE in [size for _, size in one.reads]
    # whoever comes back is as good as new
    for offset in range(24 * MIB, len(DATA), MIB):
        assert opened[0].read(offset, MIB) == DATA[offset : offset + MIB]


def test_those_who_read_at_the_same_time_take_nothing_from_each_other() -> None:
    room, background = Room(8 * PIECE), Background(4)
    objects = [Counted(DATA) for _ in range(8)]
    opened = [ReadAhead(one, background, room) for one in objects]
    for offset in range(0, len(DATA), MIB):
        for ahead in opened:
            assert ahead.read(offset, MIB) == DATA[offset : offset + MIB]
    for one in objects:
        assert sum(size for _, size in one.reads) < 1.05 * len(DATA)


def test_what_is_being_read_takes_its_room_until_it_has_come(stored: Counted) -> None:
    room, background = Room(), Background(1)
    ahead = ReadAhead(stored, background, room)
    ahead.read(0, MIB)
    stored.gate.clear()
    stored.reads = []
    ahead._go_on(ahead._streams[0])
    while not stored.reads:
        time.sleep(0.001)
    ahead.close()
    assert left(room) == left(Room()) - MIB
    stored.gate.set()
    background.rest()
    assert left(room) == left(Room())


def test_without_room_all_is_read_when_it_is_asked_for(stored: Counted) -> None:
    ahead = ReadAhead(stored, Background(4), Room(1000))
    for offset in range(0, 10 * MIB, MIB):
        assert ahead.read(offset, MIB) == DATA[offset : offset + MIB]
    assert stored.reads == [(offset, MIB) for offset in range(0, 10 * MIB, MIB)]
