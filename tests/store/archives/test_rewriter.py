"""Later generations of an archive's files, against a plain model of what is kept."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import ObjectMissing
from ibtfs.format.compression import Codec
from ibtfs.format.frames import HEADER, LARGE, LITERALS, MAPS, SMALL
from ibtfs.format.index import IndexHeader, Reference
from ibtfs.store import layout
from ibtfs.store.archives import file as archive_file
from ibtfs.store.archives import rewriter
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.archives.rewriter import FileRewriter, within
from ibtfs.store.archives.writer import ArchiveWriter, compression_pool
from ibtfs.store.removal.rebase import joined
from ibtfs.store.removal.records_cut import records_freed
from ibtfs.store.repository import Repository
from tests.support.repositories import create

ID = "20260101T000000Z_host_0123456789.0"


@pytest.fixture
def made(fast_path: Path) -> tuple[Repository, dict[int, bytes]]:
    """A repository with one archive, and the bytes of its data streams."""
    repository, rng = create(fast_path / "repository"), random.Random(1)
    streams = {SMALL: b"", LARGE: b"", LITERALS: b""}
    with compression_pool() as pool:
        writer = ArchiveWriter(
            repository.storage, repository.keys, ID, epoch=0, codec=Codec(), pool=pool
        )
        for stream, size in ((SMALL, 300), (LARGE, 900_000), (LITERALS, 70_000)):
            for _ in range(5):
                data = rng.randbytes(size)
                writer.append(stream, data)
                streams[stream] += data
        writer.finish()
    return repository, streams


def rewritten(repository: Repository, kept: dict[int, list[tuple[int, int]]]) -> None:
    reader = ArchiveReader(repository.storage, repository.keys, ID, repository.cache)
    old = reader.file(layout.DATA)
    name = layout.archive_object(ID, layout.DATA)
    with FileRewriter(repository.storage, repository.keys, name, old, Codec()) as file:
        file.keep_payloads(kept)
        file.finish()


@pytest.mark.damaged
@pytest.mark.parametrize("seed", range(8))
def test_what_is_kept_is_there_and_the_rest_is_not(
    made: tuple[Repository, dict[int, bytes]], seed: int
) -> None:
    repository, streams = made
    rng = random.Random(seed)
    kept = {stream: [(0, len(data))] for stream, data in streams.items()}
    for _ in range(3):
        for stream in streams:
            kept[stream] = thinned(rng, kept[stream])
        rewritten(repository, kept)
        reader = ArchiveReader(repository.storage, repository.keys, ID, repository.cache)
        for stream, data in streams.items():
            for _ in range(60):
                start = rng.randrange(len(data))
                end = min(len(data), start + rng.choice((1, 5, 300, 5000, 400_000)))
                whole = any(low <= start and end <= high for low, high in kept[stream])
                assert reader.covers(stream, start, end - start) == whole
                if whole:
                    assert b"".join(reader.payload(stream, start, end - start)) == data[start:end]
                else:
                    with pytest.raises(ObjectMissing):
                        reader.payload(stream, start, end - start)


BODIES = [b"%d" % number * 8 for number in range(10)]


def reread(repository: Repository) -> ArchiveReader:
    return ArchiveReader(repository.storage, repository.keys, ID, repository.cache)


def index_of(repository: Repository) -> FileRewriter:
    """The next generation of the index, in the making; its header is there."""
    old, name = reread(repository).file(layout.INDEX), layout.archive_object(ID, layout.INDEX)
    made = FileRewriter(repository.storage, repository.keys, name, old, Codec())
    made.copy_all(HEADER)
    return made


@pytest.fixture
def with_maps(
    made: tuple[Repository, dict[int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> Repository:
    """A repository whose index has ten records from number 7 on, two in a frame."""
    monkeypatch.setattr(rewriter, "RECORD_FRAME", 25)
    with index_of(made[0]) as file:
        file.add_records(MAPS, 7, BODIES)
        file.finish()
    return made[0]


def records(repository: Repository) -> dict[int, bytes]:
    """The records that there are."""
    reader, found = reread(repository), {}
    for number in range(20):
        with suppress(ObjectMissing):
            found[number] = reader.body(MAPS, number)
    return found


def test_records_that_are_added_lie_behind_the_others_in_frames_of_some_bytes(
    with_maps: Repository,
) -> None:
    assert records(with_maps) == dict(enumerate(BODIES, 7))
    table = reread(with_maps).file(layout.INDEX).table(MAPS)
    assert (list(table.starts), list(table.counts)) == ([7, 9, 11, 13, 15], [2] * 5)


@pytest.mark.parametrize("kept", [[], [7], [8, 12], [11, 12], [7, 9, 16], list(range(7, 17))])
@pytest.mark.parametrize("replaced", [{}, {12: b"other"}])
def test_records_that_are_kept_have_their_numbers_and_the_rest_is_gone(
    with_maps: Repository, kept: list[int], replaced: dict[int, bytes]
) -> None:
    flags = bytearray(max(kept, default=0) + 1)
    for number in kept:
        flags[number] = 1
    with index_of(with_maps) as file:
        file.keep_records(MAPS, flags if kept else b"", replaced)
        file.finish()
    expected = {number: BODIES[number - 7] for number in kept}
    expected.update((number, body) for number, body in replaced.items() if number in expected)
    assert records(with_maps) == expected


@pytest.mark.parametrize("kept", [[], [7], [8, 12], [11, 12], list(range(7, 17))])
def test_records_that_are_lost_are_counted_however_the_kept_are_told(
    with_maps: Repository, kept: list[int]
) -> None:
    file, flags = reread(with_maps).file(layout.INDEX), bytearray(17)
    for number in kept:
        flags[number] = 1
    found = records_freed(file, {MAPS: flags}, Codec())
    assert found == records_freed(file, {MAPS: set(kept)}, Codec())
    assert (found.lost > 0) is (len(kept) < 10)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)).map(lambda r: (r[0], sum(r)))),
    st.integers(0, 30), st.integers(1, 12),
)  # fmt: skip
def test_what_stays_of_a_frame_are_ranges_with_bytes_in_them(
    ranges: list[tuple[int, int]], start: int, length: int
) -> None:
    """A run of no bytes would make the frame unreadable."""
    kept, end = joined(ranges), start + length
    place = sum(1 for _, last in kept if last <= start)
    found = within(kept, place, start, end)
    assert all(low < high for low, high in found)
    left = [start + byte for low, high in found for byte in range(low, high)]
    there = {byte for low, high in ranges for byte in range(low, high)}
    assert left == sorted(there & set(range(start, end)))


def thinned(rng: random.Random, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Some parts of *ranges*."""
    found = []
    for low, high in ranges:
        for _ in range(rng.randrange(4)):
            start = rng.randrange(low, high)
            found.append((start, min(high, start + rng.choice((1, 40, 200, 60_000, 2_000_000)))))
    return joined(found)


@pytest.mark.damaged
def test_the_runs_of_a_frame_are_decoded_once(
    made: tuple[Repository, dict[int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, streams = made
    ranges = [(start, start + 20) for start in range(0, 60_000, 40)]
    rewritten(repository, {SMALL: [(0, 1500)], LITERALS: ranges})
    decoded = []
    real = archive_file.Runs

    class Counted(real):  # type: ignore[valid-type, misc]
        def __init__(self, *given: object) -> None:
            decoded.append(1)
            super().__init__(*given)

    monkeypatch.setattr(archive_file, "Runs", Counted)
    reader = ArchiveReader(repository.storage, repository.keys, ID, repository.cache)
    for start, end in ranges:
        data = b"".join(reader.payload(LITERALS, start, end - start))
        assert data == streams[LITERALS][start:end]
    assert len(decoded) == 1


def test_the_header_tells_what_was_ever_given() -> None:
    header = IndexHeader((ID,), 0, 1, 2, False, False, {"maps": 7, "large": 1 << 40})
    assert IndexHeader.decode(header.encode(), "here") == header
    assert header.reference(5, "here") == Reference(ID, 5)
    assert HEADER == 16
