"""Frames of bytes: how large they are, and what lies in which; files in which nothing is lost."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.errors import ObjectMissing
from ibtfs.format import extents as extents_module
from ibtfs.format.compression import Codec
from ibtfs.format.extents import HOLE, OWN, MapBuilder
from ibtfs.format.frames import FLAG_RUNS, LARGE, LITERALS, MAPS, SLABS, SMALL, STATES, Address
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store import layout
from ibtfs.store.archives import rewriter
from ibtfs.store.archives import writer as writer_module
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.archives.rewriter import FileRewriter
from ibtfs.store.archives.writer import ArchiveWriter, _Lane, _Records, compression_pool
from ibtfs.store.repository import Repository
from tests.support.repositories import create

ID = "20260101T000000Z_host_0123456789.0"


@pytest.mark.parametrize("stream", [SMALL, LARGE, LITERALS])
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 25), max_size=12))
def test_frames_are_full_and_small_contents_whole(stream: int, sizes: list[int]) -> None:
    frames: list[tuple[int, int, bytes]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(writer_module.FRAME_SIZES, stream, 10)
        lane = _Lane(stream, lambda _, start, count, raw: frames.append((start, count, raw)))
    given_bytes, place, contents = b"", 0, []
    for number, size in enumerate(sizes):
        data = bytes([number + 1]) * size
        assert lane.end == place
        lane.append(data)
        given_bytes += data
        contents.append((place, place + size))
        place += size
        assert lane.held < 10
        assert lane.start + lane.held == lane.end == place
    lane.flush()
    assert b"".join(raw for _, _, raw in frames) == given_bytes
    ends = [0]
    for start, count, raw in frames:
        assert (start, len(raw)) == (ends[-1], count)
        assert 0 < count <= 10
        ends.append(start + count)
    if stream == SMALL:
        for first, last in contents:
            if last - first <= 10:
                assert not any(first < end < last for end in ends)
    else:
        assert all(count == 10 for _, count, _ in frames[:-1])


@pytest.mark.parametrize(
    ("sizes", "counts"),
    [([10, 10, 10], [3]), ([40, 41], [2]), ([40, 57], [2]), ([40, 58], [1, 1]),
     ([200], [1]), ([200, 1], [1, 1]), ([1, 200, 1], [1, 1, 1]), ([30, 30, 34, 1], [3, 1])],
)  # fmt: skip
def test_a_frame_of_records_has_so_many_bytes(
    sizes: list[int], counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each counts three bytes more than it has."""
    monkeypatch.setattr(writer_module, "RECORD_FRAME", 100)
    found: list[int] = []
    lane = _Records(STATES, lambda _, __, count, ___: found.append(count))
    for size in sizes:
        lane.append(bytes(size))
    assert lane.held == sum(sizes[-counts[-1] :]) + 3 * counts[-1]
    lane.flush()
    assert found == counts


def write(repository: Repository, write_in: object) -> ArchiveReader:
    with compression_pool() as pool:
        writer = ArchiveWriter(
            repository.storage, repository.keys, ID, epoch=7, codec=Codec(), pool=pool
        )
        write_in(writer)  # type: ignore[operator]
        size = writer.finish()
        kinds = writer.kinds
    reader = ArchiveReader(repository.storage, repository.keys, ID, repository.cache)
    assert kinds == list(reader.kinds)
    assert size == sum(reader.file(kind).size for kind in kinds)
    return reader


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


@pytest.mark.damaged
@pytest.mark.parametrize(
    ("sizes", "in_index"),
    [({SMALL: 65_536}, True), ({SMALL: 65_537}, False), ({SMALL: 30_000, LARGE: 35_536}, True),
     ({SMALL: 30_000, LITERALS: 35_537}, False), ({LITERALS: 131_073}, False)],
)  # fmt: skip
def test_data_of_so_few_bytes_lies_in_the_index(
    repository: Repository, sizes: dict[int, int], in_index: bool
) -> None:
    data = {stream: os.urandom(size) for stream, size in sizes.items()}

    def fill(writer: ArchiveWriter) -> None:
        assert writer.is_empty
        for stream, raw in data.items():
            assert writer.position(stream) == 0
            writer.append(stream, raw)
            assert writer.position(stream) == len(raw)
        assert not writer.is_empty
        assert writer.data_bytes == sum(sizes.values())

    reader = write(repository, fill)
    assert reader.kinds == (("index",) if in_index else ("data", "index"))
    assert (reader.header.has_data, reader.header.has_sigs) == (not in_index, False)
    assert (reader.header.epoch, reader.header.contents, reader.header.states) == (7, 0, 0)
    for stream, raw in data.items():
        assert b"".join(reader.payload(stream, 0, len(raw))) == raw


@pytest.mark.damaged
def test_contents_and_slabs_get_their_numbers(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extents_module, "PART_RANGES", 60)
    builder = MapBuilder()
    for row in range(100):
        builder.add(HOLE if row % 2 else OWN, row if not row % 2 else 0, 1)
    extents = builder.finish()
    other = Reference("20260101T000000Z_host_0123456788.3", 5)
    mapped = ContentRecord(b"m" * 32, 100, LITERALS, 0, 100, 1, other)
    bodies = [os.urandom(40_000) for _ in range(3)]

    def fill(writer: ArchiveWriter) -> None:
        for number, raw in enumerate((b"abc", b"", b"de")):
            if raw:
                assert writer.add_whole(SMALL, bytes([number]) * 32, raw) == number // 2
        writer.append(LITERALS, bytes(100))
        assert writer.add_content(mapped, extents) == Reference(ID, 2)
        assert writer.add_content(mapped._replace(base=None, depth=0), extents).number == 3
        assert writer.add_slabs(bodies[:2]) == 0
        assert writer.add_slabs(bodies[2:]) == 2
        assert writer.packed(Reference(ID, 9)) == 9
        assert writer.packed(other) == (1 << 32) | 5
        assert writer.ordinal("20260101T000000Z_host_0123456787.0") == 2
        assert writer.packed(Reference("20260101T000000Z_host_0123456786.0", 1)) == (3 << 32) | 1
        writer.end_frame(SMALL)
        writer.append(SMALL, b"f")

    reader = write(repository, fill)
    assert reader.content(0) == ContentRecord(b"\0" * 32, 3, SMALL, 0, 3)
    assert reader.content(1) == ContentRecord(b"\2" * 32, 2, SMALL, 3, 2)
    assert reader.content(2) == mapped._replace(map_first=0, map_parts=2)
    assert reader.content(3).map_first == 2
    assert list(reader.extents(2, reader.content(2)).ranges()) == list(extents.ranges())
    assert [reader.body(SLABS, number) for number in range(3)] == bodies
    assert reader.kinds == ("data", "sigs", "index")
    assert list(reader.file("sigs").table(SLABS).counts) == [1, 1, 1]
    assert list(reader.file("data").table(SMALL).counts) == [5, 1]
    assert reader.header.archives[:2] == (ID, other.archive)
    assert len(reader.header.archives) == 4


# Later generations


def again(repository: Repository, rewrite: object, kind: str = layout.DATA) -> FrameFileReader:
    """The next generation of a file of the archive."""
    reader = ArchiveReader(repository.storage, repository.keys, ID, repository.cache)
    name = layout.archive_object(ID, kind)
    with FileRewriter(
        repository.storage, repository.keys, name, reader.file(kind), Codec()
    ) as file:
        rewrite(file)  # type: ignore[operator]
        size = file.finish()
    found = ArchiveReader(repository.storage, repository.keys, ID, repository.cache).file(kind)
    assert found.size == size
    return found


@pytest.fixture
def with_data(repository: Repository) -> bytes:
    """The bytes of an archive whose literals are in three frames."""
    data = random.Random(1).randbytes(300_000)
    write(repository, lambda writer: writer.append(LITERALS, data))
    return data


@pytest.mark.damaged
@pytest.mark.parametrize(
    ("pieces", "runs"),
    [
        ([(1000, 1100)], None), ([(1000, 1050), (1050, 1100)], None),
        ([(1000, 1050), (1051, 1100)], [(0, 50), (51, 100)]), ([(1001, 1100)], [(1, 100)]),
        ([(1000, 1099)], [(0, 99)]),
        ([(1000, 1010), (1010, 1020), (1030, 1031)], [(0, 20), (30, 31)]),
    ],
)  # fmt: skip
def test_a_frame_that_is_put_together_has_all_or_runs(
    repository: Repository, with_data: bytes, pieces: list[tuple[int, int]],
    runs: list[tuple[int, int]] | None,
) -> None:  # fmt: skip
    address = Address(LITERALS, 1000, 100)
    made = again(
        repository,
        lambda file: file.put_payload(
            address, [(start, with_data[start:end]) for start, end in pieces]
        ),
    )
    assert made.generation == 2
    assert list(made.table(LITERALS).starts) == [1000]
    frame = made.frame(LITERALS, 0)
    assert frame.flags == (0 if runs is None else FLAG_RUNS)
    reader = ArchiveReader(repository.storage, repository.keys, ID, repository.cache)
    for start, end in pieces:
        assert b"".join(reader.payload(LITERALS, start, end - start)) == with_data[start:end]
    assert reader.covers(LITERALS, 1000, 100) is (runs is None)


@pytest.mark.damaged
def test_a_frame_of_no_pieces_is_none(repository: Repository, with_data: bytes) -> None:
    made = again(repository, lambda file: file.put_payload(Address(LITERALS, 0, 9), []))
    assert made.tables == {}
    assert made.table(LITERALS).end == 0


@pytest.mark.damaged
@pytest.mark.parametrize(
    ("kept", "frames"),
    [
        ([], []), ([(0, 300_000)], [0, 131_072, 262_144]), ([(0, 131_072)], [0]),
        ([(131_071, 131_072)], [0]), ([(131_072, 131_073)], [131_072]),
        ([(131_071, 131_073)], [0, 131_072]), ([(5, 6), (262_144, 262_145)], [0, 262_144]),
        ([(299_999, 300_000)], [262_144]),
    ],
)  # fmt: skip
def test_frames_without_a_byte_that_stays_go(
    repository: Repository, with_data: bytes, kept: list[tuple[int, int]], frames: list[int]
) -> None:
    made = again(repository, lambda file: file.keep_payloads({LITERALS: kept}))
    assert list(made.table(LITERALS).starts) == frames
    reader = ArchiveReader(repository.storage, repository.keys, ID, repository.cache)
    for start, end in kept:
        assert b"".join(reader.payload(LITERALS, start, end - start)) == with_data[start:end]
        for low, high in ((start - 1, end), (start, end + 1)):
            if low >= 0 and high <= 300_000:
                with pytest.raises(ObjectMissing):
                    reader.payload(LITERALS, low, high - low)


@pytest.mark.damaged
def test_records_that_are_added_fill_frames_of_so_many_bytes(
    repository: Repository, with_data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rewriter, "RECORD_FRAME", 100)
    for sizes, counts in (
        ([40, 57], [2]), ([40, 58], [1, 1]), ([200, 1], [1, 1]), ([30, 30, 34, 1], [3, 1]),
        ([], []),
        ([94, 1, 97, 1, 96], [2, 1, 2]),
    ):  # fmt: skip
        bodies = [bytes([n]) * size for n, size in enumerate(sizes)]
        made = again(repository, lambda file, b=bodies: file.add_records(MAPS, 4, b), layout.INDEX)
        table = made.table(MAPS)
        assert list(table.counts) == counts
        assert list(table.starts) == [4 + sum(counts[:n]) for n in range(len(counts))]
