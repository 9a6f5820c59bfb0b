"""Limits of what is read and written in a second: that they hold, and change nothing else."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ibtfs.errors import LockLost
from ibtfs.store.storage import limited
from ibtfs.store.storage.base import whole
from ibtfs.store.storage.limited import LimitedStorage, Limits, Rate
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.opening import storage_at
from tests.support.far import FarStorage
from tests.support.places import EVERYWHERE

KIB = 1 << 10


class Clock:
    """Time that goes by only while somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(limited, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def storage_in(folder: Path, *, up: int = 0, down: int = 0) -> LimitedStorage:
    storage = LimitedStorage(LocalStorage(os.fsencode(folder)), Limits(Rate(up), Rate(down)))
    if not storage.has_folder(""):
        storage.create()
        storage.make_folders()
    return storage.shared_as(False)


def test_ends_far_away_take_their_time(fast_path: Path, clock: Clock) -> None:
    storage_in(fast_path / "r").put_new("points/p", data := os.urandom(1000 * KIB))
    place = FarStorage(LocalStorage(os.fsencode(fast_path / "r")))
    storage = LimitedStorage(place, Limits(Rate(0), Rate(100 * KIB)))
    stored, end = storage.open_end("points/p", 500 * KIB)
    assert end == data[500 * KIB :]
    before = clock.now
    assert 4.5 < before - 100 < 5.5
    assert stored.read(0, 500 * KIB) == data[: 500 * KIB]
    assert 4.5 < clock.now - before < 5.5
    stored.close()


def test_what_is_written_takes_its_time(fast_path: Path, clock: Clock) -> None:
    storage = storage_in(fast_path / "r", up=100 * KIB)
    data = os.urandom(1000 * KIB)
    with storage.put("archives/x/data.1") as upload:
        upload.write(data)
        upload.finish()
    assert upload.size == len(data)
    assert 9.5 < clock.now - 100 < 10.5
    before = clock.now
    assert whole(storage, "archives/x/data.1", 1 << 20) == data  # reading has no limit
    assert clock.now == before
    storage.put_new("points/p", bytes(50 * KIB))
    storage.put_new("points/q", b"")
    assert clock.now - before < 1


def test_what_is_read_takes_its_time_whoever_reads(fast_path: Path, clock: Clock) -> None:
    storage_in(fast_path / "r").put_new("points/p", bytes(500 * KIB))
    storage = storage_in(fast_path / "r", down=100 * KIB)
    with storage.open("points/p") as one, storage.open("points/p") as other:
        for stored in (one, other, one, other):
            assert len(stored.read(0, 100 * KIB)) == 100 * KIB
        assert one.read(499 * KIB, 1 << 40) == bytes(KIB)
        assert one.read(600 * KIB, 10) == b""
        assert not one.is_removed()
    assert 3.9 < clock.now - 100 < 4.1


def test_threads_share_a_limit(fast_path: Path) -> None:
    storage = storage_in(fast_path / "r", up=400 * KIB)
    began = time.monotonic()
    threads = [
        threading.Thread(target=storage.put_new, args=(f"tags/p/{n}", bytes(100 * KIB)))
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 0.99  # the last of five waits for four


def test_pieces_are_neither_tiny_nor_all_of_it() -> None:
    assert Rate(0).piece == 0
    assert Rate(1).piece == 16 * KIB
    assert Rate(4 << 20).piece == 1 << 20


def test_all_else_is_that_of_the_place(fast_path: Path) -> None:
    storage = storage_in(fast_path / "r", up=1 << 30, down=1 << 30)
    assert storage.root == os.fsencode(fast_path / "r")
    lease = storage.lease("locks/l", "0a1b2c3d")
    upload = storage.replace("points/p")
    upload.write(b"x")
    assert storage.is_held("locks/l")
    assert storage.age("locks/l", "locks/l") == 0
    storage.drop_unfinished("0a1b2c3d")
    with pytest.raises(LockLost), upload:
        upload.finish()
    lease.release()
    storage.put_new("points/p", b"1")
    storage.sync(["points"])
    assert storage.made("points/p") > 0
    assert storage.token("points/p") == storage.token("points/p")
    assert storage.changed_ns("points") > 0
    assert storage.folder_token("points") == 0
    assert storage.space().blocks > 0
    assert storage.refusal() == ""
    assert not storage.has_repository()
    storage.require_there()
    storage.delete("points/p")
    assert storage.list("points") == []
    with suppress(RuntimeError), storage.put("points/p") as dropped:
        dropped.write(b"")
        raise RuntimeError
    dropped.abort()
    assert storage.list("points", unfinished=True) == []


@pytest.mark.parametrize("place", EVERYWHERE, indirect=True)
def test_at_every_place_both_ways_take_their_time(place: bytes) -> None:
    storage = storage_at(place, Limits(Rate(1 << 20), Rate(1 << 20)))
    storage.create()
    storage.make_folders()
    data, name = os.urandom(1280 * KIB), "archives/20260101T000000Z_h_0000000000/data.1"
    times = [time.monotonic()]
    with storage.shared_as(False).put(name) as upload:
        upload.write(data)
        upload.finish()
    times.append(time.monotonic())
    with storage.open(name) as stored:
        found = [stored.read(first, 128 * KIB) for first in range(0, len(data), 128 * KIB)]
    times.append(time.monotonic())
    assert b"".join(found) == data
    up, down = times[1] - times[0], times[2] - times[1]
    assert 1 <= up < 10
    assert 1 <= down < 10


@pytest.mark.parametrize("place", ["apache"], indirect=True)
def test_what_is_kept_first_is_limited_when_it_is_sent(place: bytes) -> None:
    storage = storage_at(place, Limits(up=Rate(1 << 20)))
    storage.create()
    storage.make_folders()
    began = time.monotonic()
    with storage.put("points/p") as upload:
        upload.write(bytes(3 << 20))
        written = time.monotonic() - began
        upload.finish()
    assert written < 2 < time.monotonic() - began


def test_without_limits_a_storage_is_as_it_is(fast_path: Path) -> None:
    assert isinstance(storage_at(os.fsencode(fast_path)), LocalStorage)
    limits = Limits(down=Rate(5))
    storage = storage_at(os.fsencode(fast_path), limits)
    assert isinstance(storage, LimitedStorage)
    assert storage_at(storage) is storage
