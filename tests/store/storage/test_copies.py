"""What is kept of objects far away, by threads that read, drop and replace at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.frames import STATES
from ibtfs.store import layout
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.index_cache import IndexCache
from ibtfs.store.repository import Repository
from ibtfs.store.storage.bundled import BundledStorage
from ibtfs.store.storage.local import LocalStorage
from tests.support.bundles import make_versions
from tests.support.far import FarObject, FarStorage
from tests.support.repositories import create, reopened

ARCHIVE = "20260101T000000Z_host_0123456789.0"
INDEX = layout.archive_file(ARCHIVE, layout.INDEX, 1)


class Meanwhile(FarStorage):
    """A storage far away; something is done while an index is under way."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def shared_as(self, shared: bool) -> Meanwhile:
        return self

    def open_end(self, name: str, most: int, size: int = -1) -> tuple[FarObject, bytes]:
        found = super().open_end(name, most, size)
        if layout.is_index(name):
            self.meanwhile()
        return found


@pytest.fixture
def place(fast_path: Path) -> Meanwhile:
    local = LocalStorage(os.fsencode(fast_path / "place"))
    local.create()
    local.make_folders()
    local.put_new(INDEX, b"old data")
    return Meanwhile(local)


@pytest.fixture
def storage(place: Meanwhile, fast_path: Path) -> BundledStorage:
    made = BundledStorage(place, b"i" * 16)
    (fast_path / "cache").mkdir()
    made.keep_in(IndexCache(os.fsencode(fast_path / "cache"), b"i" * 16))
    made.known_names(ARCHIVE)
    return made


def kept(fast_path: Path) -> list[Path]:
    return sorted((fast_path / "cache").glob("*.indexes/*"))


def test_what_was_on_its_way_when_all_was_dropped_is_not_kept(
    storage: BundledStorage, place: Meanwhile, fast_path: Path
) -> None:
    place.meanwhile = lambda: storage.doubt(ARCHIVE, storage.drops(ARCHIVE))
    with storage.open(INDEX) as stored:
        assert stored.read(0, 100) == b"old data"
    assert kept(fast_path) == []
    place.meanwhile = lambda: None
    fetched = len(place.requests.made)
    with storage.open(INDEX) as stored:
        assert stored.read(0, 100) == b"old data"
    assert len(place.requests.made) > fetched
    assert len(kept(fast_path)) == 1


def test_who_read_before_others_dropped_it_tries_again(storage: BundledStorage) -> None:
    storage.open(INDEX).close()
    before = storage.drops(ARCHIVE)
    assert storage.doubt(ARCHIVE, before)  # it was kept
    assert storage.doubt(ARCHIVE, before)  # somebody else read at the same time
    storage.open(INDEX).close()
    assert not storage.doubt(ARCHIVE, storage.drops(ARCHIVE))  # again so soon


def test_what_is_replaced_is_kept_no_more(
    storage: BundledStorage, place: Meanwhile, fast_path: Path
) -> None:
    """Though it was doubted just before, and read again while the new one was on its way."""
    storage.open(INDEX).close()
    assert storage.doubt(ARCHIVE, storage.drops(ARCHIVE))
    with storage.replace(INDEX) as upload:
        upload.write(b"new data")
        storage.open(INDEX).close()
        assert kept(fast_path)
        upload.finish()
    assert kept(fast_path) == []
    with storage.open(INDEX) as stored:
        assert stored.read(0, 100) == b"new data"


@pytest.mark.damaged
def test_many_who_read_a_damaged_copy_at_once_all_get_what_is_stored(fast_path: Path) -> None:
    made = create(fast_path / "made")
    ((point, _),) = make_versions(made, fast_path / "source", 1)
    path = fast_path / "made/archives" / point.state.archive / "index.1"
    good = path.read_bytes()
    place = reopened(made).archive(point.state.archive).file(layout.INDEX).table(STATES).offsets[0]
    bad = good[: place + 30] + bytes([good[place + 30] ^ 1]) + good[place + 31 :]
    times = path.stat()
    for count in (2, 4, 8):
        path.write_bytes(bad)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        opened = Repository.open(FarStorage(LocalStorage(made.path)))
        archive = opened.archive(point.state.archive)
        assert archive.header
        path.write_bytes(good)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert read_at_once(archive, point.state.number, count) == []


def read_at_once(archive: ArchiveReader, number: int, count: int) -> list[FormatDamaged]:
    """What *count* threads were told that read a state at the same time."""
    barrier, failed = threading.Barrier(count), list[FormatDamaged]()

    def read() -> None:
        barrier.wait()
        try:
            archive.state(number)
        except FormatDamaged as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed
