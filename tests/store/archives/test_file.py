"""One file of an archive: what of it is believed, what is told of it, and when it has its name."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import (
    FormatDamaged,
    ObjectExists,
    ObjectMissing,
    StorageFailed,
    UnsupportedFormat,
)
from ibtfs.format.compression import Codec
from ibtfs.format.frames import (
    CONTENTS,
    FLAG_RUNS,
    HEADER,
    SMALL,
    STATES,
    Address,
    encode_frame,
    encode_runs,
    object_key,
)
from ibtfs.format.index import IndexHeader, encode_plain
from ibtfs.format.keys import PlainFrames, PlainKeys
from ibtfs.format.packing import pack_bodies
from ibtfs.format.tables import BEHIND_LIMIT, StreamTable, Trailer, encode_end, encode_trailer
from ibtfs.store.archives.file import HEAD_LIMIT, FrameFileReader, FrameFileWriter
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.cache import ByteCache
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.upload import LocalUpload
from tests.support.generations import put_generation
from tests.support.memory import BytesObject

REPOSITORY, NAME = b"i" * 16, "archives/20260101T000000Z_h_0123456789.0/data"
KEY = object_key(REPOSITORY, NAME)
ID = "20260101T000000Z_h_0123456789.0"


def made(
    *frames: tuple[Address, bytes, int], key: bytes = KEY, generation: int = 1, runs: int = -1,
    mark: int = 0,
) -> bytes:  # fmt: skip
    """The bytes of a file of these frames: address, raw bytes, flags.

    The table has *runs* and *mark* of all; below 0: what is right.
    """
    data, tables = b"", dict[int, StreamTable]()
    for address, raw, flags in frames:
        frame = encode_frame(key, address, raw, Codec(), flags=flags)
        table = tables.setdefault(address.stream, StreamTable())
        left = (len(raw) if flags else 0) if runs < 0 else runs
        table.add(address.start, address.length, len(data), len(frame), runs=left, mark=mark)
        data += frame
    end = encode_end(
        PlainFrames(key), REPOSITORY, tables, len(data), Codec(), generation=generation
    )
    return data + end


def opened(data: bytes, generation: int = 1) -> FrameFileReader:
    return FrameFileReader(PlainKeys(REPOSITORY), NAME, BytesObject(data, f"{NAME}.{generation}"))


RUNS = encode_runs([(0, 2), (5, 3)], b"01234567")
GOOD = [
    (Address(SMALL, 0, 5), b"01234", 0), (Address(SMALL, 9, 8), RUNS, FLAG_RUNS),
    (Address(STATES, 3, 2), b"any", 0),
]  # fmt: skip


def test_frames_are_found_and_read() -> None:
    data = made(*GOOD, generation=12)
    file = opened(data, 12)
    assert (file.generation, file.size, file.behind, file.name) == (12, len(data), 0, f"{NAME}.12")
    assert file.frame(SMALL, 0) == (b"01234", 0)
    assert file.frame(SMALL, 1) == (RUNS, FLAG_RUNS)
    assert file.frame(STATES, 0).raw == b"any"
    assert file.payload_frame(SMALL, 0) == b"01234"
    left: Any = file.payload_frame(SMALL, 1)
    assert left.runs == [(0, 2, 20), (5, 3, 22)]
    assert list(file.table(SMALL).runs) == [0, len(RUNS)]
    assert [file.has_runs(SMALL, row) for row in (0, 1)] == [False, True]
    for address, raw, flags in GOOD:
        size = file.encoded_size(address, raw, Codec(), flags=flags)
        assert size == len(encode_frame(KEY, address, raw, Codec(), flags=flags))
    table = file.table(SMALL)
    for row in (0, 1):
        start = table.offsets[row]
        assert file.stored_frame(SMALL, row) == data[start : start + table.sizes[row]]
    assert file.table(CONTENTS).end == 0
    beats: list[None] = []
    file.verify(lambda: beats.append(None))
    assert len(beats) == 3
    file.verify()


def test_payloads_of_another_length_are_damage() -> None:
    for stream in (SMALL, 2, 3):
        for raw in (b"0123", b"012345"):
            file = opened(made((Address(stream, 0, 5), raw, 0)))
            told = rf"data\.1: frame at 0: holds {len(raw)} bytes, not 5"
            with pytest.raises(FormatDamaged, match=told):
                file.frame(stream, 0)
            with pytest.raises(FormatDamaged, match=told):
                file.verify()
    for stream in (HEADER, STATES):
        opened(made((Address(stream, 0, 5), b"0123", 0))).verify()


def test_a_frame_is_the_one_that_the_table_tells_of() -> None:
    for frame, runs, told in (
        (GOOD[0], 5, "holds 5 bytes, not 5"),
        (GOOD[1], 0, f"holds {len(RUNS)} bytes, not 0"),
        (GOOD[1], len(RUNS) - 1, f"holds {len(RUNS)} bytes, not {len(RUNS) - 1}"),
        (GOOD[2], 3, "holds 3 bytes, not 2"),
    ):
        file = opened(made(frame, runs=runs))
        assert file.has_runs(frame[0].stream, 0) == bool(runs)
        with pytest.raises(FormatDamaged, match=rf"data\.1: frame at 0: {told}"):
            file.frame(frame[0].stream, 0)
    for frame in GOOD:
        file = opened(made(frame, mark=1))
        with pytest.raises(FormatDamaged, match="not the one that the frame table tells of"):
            file.verify()


def test_a_file_is_of_the_generation_that_its_name_tells() -> None:
    for told, named in ((1, 2), (2, 1), (12, 2)):
        with pytest.raises(FormatDamaged, match="frame table: is that of another generation"):
            opened(made(*GOOD, generation=told), named)


def test_bytes_behind_the_end_are_told_and_do_no_harm() -> None:
    data = made(*GOOD)
    for more in (1, BEHIND_LIMIT):
        file = opened(data + bytes(more))
        assert (file.behind, file.size) == (more, len(data) + more)
        assert file.frame(SMALL, 0).raw == b"01234"
        with pytest.raises(FormatDamaged, match=f"{more} bytes lie behind its end"):
            file.verify()
    with pytest.raises(FormatDamaged):
        opened(data + bytes(BEHIND_LIMIT + 1))
    for size in (0, 1, 63, 64, len(data) - 1):
        with pytest.raises(FormatDamaged):
            opened(data[:size])


@pytest.mark.parametrize(("more", "told"), [(0, "checksum"), (1, "beyond the limits")])
def test_a_table_has_so_many_bytes_at_most(more: int, told: str) -> None:
    size = (4 << 20) + HEAD_LIMIT + more
    data = bytes(size) + encode_trailer(KEY, REPOSITORY, Trailer(0, size))
    with pytest.raises(FormatDamaged, match=told):
        opened(data)


def test_a_file_that_cannot_be_read_any_more_is_gone() -> None:
    file = opened(made(*GOOD))
    assert not file.is_gone()
    assert not file.is_removed

    def gone(*_: int) -> bytes:
        raise ObjectMissing("gone")

    file._stored.read = gone  # type: ignore[assignment, method-assign]
    assert file.is_gone()


# Writing


@pytest.fixture
def storage(fast_path: Path) -> LocalStorage:
    made_storage = LocalStorage(os.fsencode(fast_path / "r"))
    made_storage.create()
    made_storage.make_folders()
    return made_storage


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        yield threads


def writer(storage: LocalStorage, pool: concurrent.futures.Executor) -> FrameFileWriter:
    return FrameFileWriter(storage, PlainKeys(REPOSITORY), NAME, Codec(), pool)


def test_frames_are_stored_in_the_order_in_which_they_came(
    storage: LocalStorage, pool: concurrent.futures.Executor
) -> None:
    file = writer(storage, pool)
    assert file.is_empty
    assert file.finish() == 0
    for number in range(30):
        file.add(SMALL if number % 3 else STATES, number, 1, bytes([number]))
        assert not file.is_empty
    assert not file.may_be_named
    size = file.finish()
    assert file.may_be_named
    with storage.open(f"{NAME}.1") as stored:
        found = FrameFileReader(PlainKeys(REPOSITORY), NAME, stored)
        assert found.size == size
        found.verify()
        offsets = {}
        for stream in (SMALL, STATES):
            table = found.table(stream)
            offsets.update(zip(table.starts, table.offsets))
            for row, start in enumerate(table.starts):
                assert found.frame(stream, row).raw == bytes([start])
        assert sorted(offsets) == sorted(offsets, key=offsets.__getitem__) == list(range(30))


def test_few_frames_wait_for_their_turn(
    storage: LocalStorage, pool: concurrent.futures.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is slow, and so all behind it wait, up to a number."""
    slow, real, most = threading.Event(), PlainFrames.encode, []

    def encoded(
        frames: PlainFrames, address: Address, raw: bytes, codec: Codec, *, flags: int = 0
    ) -> bytes:
        if address.start == 0:
            assert slow.wait(timeout=5)
        return real(frames, address, raw, codec, flags=flags)

    monkeypatch.setattr(PlainFrames, "encode", encoded)
    file = writer(storage, pool)
    for number in range(8):
        file.add(SMALL, number, 1, b"x")
        most.append(len(file._pending))
    assert most == list(range(1, 9))
    slow.set()
    file.add(SMALL, 8, 1, b"x")
    assert len(file._pending) <= 8
    file.finish()


def test_a_file_that_is_dropped_leaves_nothing_but_what_others_have(
    storage: LocalStorage, pool: concurrent.futures.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = writer(storage, pool)
    dropped.abort()
    dropped.add(SMALL, 0, 1, b"x")
    dropped.abort()
    assert storage.list("archives", unfinished=True) == []
    first = writer(storage, pool)
    first.add(SMALL, 0, 1, b"1")
    first.finish()
    second = writer(storage, pool)
    second.add(SMALL, 0, 1, b"2")
    with pytest.raises(ObjectExists):
        second.finish()
    assert not second.may_be_named
    second.abort()
    assert storage.list(NAME.rpartition("/")[0], unfinished=True) == ["data.1"]
    first.abort()  # it is finished, and is to go all the same
    assert storage.list("archives", unfinished=True) == []
    third = writer(storage, pool)
    third.add(SMALL, 0, 1, b"3")

    def failing(_: LocalUpload) -> None:
        raise StorageFailed("Input/output error")

    monkeypatch.setattr(LocalUpload, "finish", failing)
    with pytest.raises(StorageFailed):
        third.finish()
    assert third.may_be_named


# An archive, read


def index(storage: LocalStorage, *frames: tuple[Address, bytes, int]) -> ArchiveReader:
    key = object_key(REPOSITORY, f"archives/{ID}/index")
    storage.put_new(f"archives/{ID}/index.1", made(*frames, key=key))
    return ArchiveReader(storage, PlainKeys(REPOSITORY), ID, ByteCache(1 << 20))


def headed(archive: str = ID, **values: Any) -> tuple[Address, bytes, int]:
    fields = {"has_data": False, "has_sigs": False, "contents": 9, **values}
    header = IndexHeader((archive,), epoch=0, states=0, **fields)
    return Address(HEADER, 0, 1), pack_bodies([header.encode()]), 0


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ((Address(HEADER, 0, 1), pack_bodies([None]), 0), "header: missing"),
        (headed("20260101T000000Z_h_0123456789.1"), r"is the index of .*789\.1"),
        ((Address(HEADER, 0, 1), pack_bodies([b"\x80"]), 0), "not the header of an index"),
    ],
)  # fmt: skip
def test_a_header_that_is_none_is_damage(
    storage: LocalStorage, frame: tuple[Address, bytes, int], told: str
) -> None:
    archive = index(storage, frame)
    for _ in range(2):
        with pytest.raises((FormatDamaged, UnsupportedFormat), match=told):
            archive.require_header()
        with pytest.raises((FormatDamaged, UnsupportedFormat), match=told):
            archive.header


def test_records_that_are_left_are_found_and_others_told(storage: LocalStorage) -> None:
    """They lie in frames with gaps, of records and of numbers."""
    bodies = {number: encode_plain(bytes([number]) * 32, 9, SMALL, 9 * number) for number in
              (0, 2, 5, 6, 11)}  # fmt: skip
    shell = encode_plain(bytes(32), 9, SMALL, 0)
    archive = index(
        storage, headed(),
        (Address(CONTENTS, 0, 3), pack_bodies([shell, None, bodies[2]]), 0),
        (Address(CONTENTS, 5, 2), pack_bodies([bodies[5], bodies[6]]), 0),
        (Address(CONTENTS, 10, 2), pack_bodies([None, bodies[11]]), 0),
    )  # fmt: skip
    assert [number for number, _ in archive.contents()] == [0, 2, 5, 6, 11]
    assert dict(archive.content_bodies()) == {**bodies, 0: shell}
    assert archive.content_digest(5) == bytes([5]) * 32
    assert archive.content(11).start == 99
    with pytest.raises(ObjectMissing, match="content 0 is gone but for its payload"):
        archive.content_digest(0)
    for number in (1, 10):
        told = f"index: record {number} of the contents is gone"
        with pytest.raises(ObjectMissing, match=told):
            archive.body(CONTENTS, number)
    for number in (3, 4, 7, 12, -1):
        with pytest.raises(ObjectMissing, match=f"holds no record {number} of the contents"):
            archive.content(number)
    assert list(archive.may_hold(bytes([6]) * 32)) == [6]
    assert list(archive.may_hold(b"z" * 32)) == []
    assert archive.kinds == ("index",)
    assert archive.generation == 1
    assert archive.where == f"archives/{ID}"
    archive.close()
    assert archive.content(2).start == 18


def test_what_is_refreshed_is_read_anew_and_not_kept(storage: LocalStorage) -> None:
    bodies = pack_bodies([encode_plain(b"1" * 32, 9, SMALL, 0)])
    archive = index(storage, headed(), (Address(CONTENTS, 0, 1), bodies, 0))
    cache, keys = archive._cache, list[object]()
    cache.get("other", object)
    archive.refresh()  # nothing is open
    assert cache.era == 0
    assert archive.content(0).start == 0
    cache.drop(lambda key: bool(keys.append(key)))  # type: ignore[func-returns-value]
    assert len(keys) == 3
    assert not archive.is_outdated()
    put_generation(Path(os.fsdecode(storage.path(f"archives/{ID}/index.1"))), 2)
    os.unlink(storage.path(f"archives/{ID}/index.1"))
    assert archive.is_outdated()
    archive.refresh()
    assert cache.era == 1
    keys.clear()
    cache.drop(lambda key: bool(keys.append(key)))  # type: ignore[func-returns-value]
    assert keys == ["other"]
    assert not archive.is_outdated()
    assert archive.generation == 2
    # a file without a name is let go, others are not
    archive.drop_removed()
    assert cache.era == 1
    os.unlink(storage.path(f"archives/{ID}/index.2"))
    archive.drop_removed()
    assert cache.era == 2
    with pytest.raises(ObjectMissing):
        archive.content(0)
