"""What is large costs little: judged by counts, not by time.

A file of 52 MiB, more than is kept in memory, through 70 generations (IBTFS_TEST_BIG=512 makes it
as large as the requirements say), a sparse one of 5 GiB, a folder of 8,000 entries.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ibtfs.format.frames import Frame
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.payloads import Payloads
from ibtfs.store.cache import ByteCache
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import CACHE_BYTES, Repository
from ibtfs.store.trees.directory import Directory as StoredDirectory
from ibtfs.store.trees.paths import find_entry
from ibtfs.store.writing.flatten import DEPTH_BOUND
from tests.support.plain import digest
from tests.support.plain import hasher as new_hasher
from tests.support.realdata import mixed
from tests.support.repositories import (
    Backup,
    back_up,
    create,
    damages,
    reopened,
    restored,
    settle,
    the_point,
)
from tests.support.trees import Sparse, make_tree

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZE = int(os.environ.get("IBTFS_TEST_BIG", "52")) * MIB
GENERATIONS = 70
EDITS = 40
ENTRIES, MOST_STORED = 8000, 21 * KIB


@dataclass
class Read:
    """What the library read from the repository's files: frames, and the bytes they unpacked to."""

    frames: int = 0
    raw_bytes: int = 0
    largest_cache: int = 0


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Counts payload frames while they are decompressed, and how large caches become."""
    counts = Read()
    frame, keep = FrameFileReader.frame, ByteCache._keep

    def counted(self: FrameFileReader, stream: int, row: int) -> Frame:
        found = frame(self, stream, row)
        if stream < 16:  # the data streams
            counts.frames += 1
            counts.raw_bytes += len(found.raw)
        return found

    def kept(self: ByteCache, key: object, value: object, size: int) -> None:
        keep(self, key, value, size)
        counts.largest_cache = max(counts.largest_cache, self.size)

    monkeypatch.setattr(FrameFileReader, "frame", counted)
    monkeypatch.setattr(ByteCache, "_keep", kept)
    return counts


@dataclass
class Big:
    """A repository with all generations of one file, and the digest of each."""

    repository: Repository
    points: list[Point]
    digests: list[bytes]

    def content(self, generation: int) -> tuple[Repository, Reference]:
        """The content of a generation, in a repository that has nothing cached."""
        repository = reopened(self.repository)
        found = find_entry(repository, self.points[generation], b"database").content
        assert found is not None
        return repository, found


def edit(path: Path, rng: random.Random) -> None:
    """Pages rewritten in place, some rows inside pages, a little appended."""
    with path.open("r+b", buffering=0) as file:
        size = os.path.getsize(path)
        for _ in range(EDITS):
            length = rng.choice((20, 300, 4096, 4096, 10_000))
            file.seek(rng.randrange(size - length))
            file.write(rng.randbytes(length))
        file.seek(0, os.SEEK_END)
        file.write(rng.randbytes(5000))


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Big]:
    place, rng = tmp_path_factory.mktemp("big"), random.Random(70)
    source = place / "source"
    source.mkdir()
    with (source / "database").open("wb") as file:
        for number in range(SIZE // (4 * MIB)):
            file.write(mixed(number, 4 * MIB))
    made = Big(create(place / "repository"), [], [])
    for generation in range(GENERATIONS + 1):
        if generation:
            edit(source / "database", rng)
        data = (source / "database").read_bytes()
        made.digests.append(digest(data))
        made.points.append(the_point(back_up(made.repository, source)))
    yield made
    assert damages(made.repository) == []
    shutil.rmtree(place)


def test_the_bound_is_crossed_twice(big: Big) -> None:
    depths = []
    for generation in range(GENERATIONS + 1):
        repository, ref = big.content(generation)
        record = repository.archive(ref.archive).content(ref.number)
        depths.append(record.depth)
        assert len(record.donors) <= 64
    assert max(depths) == DEPTH_BOUND
    assert depths.count(0) == 3
    assert depths[DEPTH_BOUND : DEPTH_BOUND + 2] == [DEPTH_BOUND, 0]


def test_deltas_are_small(big: Big) -> None:
    stored = [point.statistics["bytes_stored"] for point in big.points]
    edited = EDITS * 3800 + 5000
    deltas = [n for g, n in enumerate(stored) if g and g % (DEPTH_BOUND + 1)]
    assert max(deltas) < 2 * edited
    flattened = [n for g, n in enumerate(stored) if g and g % (DEPTH_BOUND + 1) == 0]
    assert max(flattened) < 36 * edited  # the payloads beyond the 16 largest are written anew


def test_every_generation_is_what_the_file_was(big: Big) -> None:
    """That their bytes have these digests is seen by check, when the repository is given up."""
    for generation, expected in enumerate(big.digests):
        repository, ref = big.content(generation)
        assert repository.archive(ref.archive).content(ref.number).digest == expected


@pytest.mark.parametrize("generation", [0, 31, 32, 33, 50, 64, 65, 66, 69, 70])
def test_a_random_read_touches_few_frames(big: Big, generation: int, read: Read) -> None:
    rng = random.Random(generation)
    repository, ref = big.content(generation)
    size = repository.archive(ref.archive).content(ref.number).size
    for _ in range(20):
        repository = reopened(big.repository)
        before = read.frames
        data = Contents(repository).read(ref, rng.randrange(size // 2, size - 4096), 4096)
        assert len(data) == 4096
        assert read.frames - before <= 6
    assert read.raw_bytes / 20 <= 1200 * KIB


@pytest.mark.parametrize("generation", [0, 32, 33, 65, 66, 70])
@pytest.mark.parametrize("step", [128 * KIB, MIB])
def test_a_sequential_read_unpacks_each_frame_once(
    big: Big, generation: int, step: int, read: Read
) -> None:
    repository, ref = big.content(generation)
    contents, size = Contents(repository), repository.archive(ref.archive).content(ref.number).size
    hasher = new_hasher()
    for offset in range(0, size, step):
        hasher.update(contents.read(ref, offset, step))
    assert hasher.finish() == big.digests[generation]
    assert read.raw_bytes <= 1.2 * size
    assert read.largest_cache <= CACHE_BYTES


def test_a_restore_unpacks_each_frame_once(big: Big, read: Read, tmp_path: Path) -> None:
    tally = restored(big.repository, big.points[-1], tmp_path / "back")
    assert tally.problems == []
    with (tmp_path / "back/database").open("rb") as file:
        assert digest(file.read()) == big.digests[-1]
    assert read.raw_bytes <= 1.2 * os.path.getsize(tmp_path / "back/database")
    shutil.rmtree(tmp_path / "back")


def test_a_small_cache_is_kept_to(big: Big, read: Read) -> None:
    _, ref = big.content(GENERATIONS)
    repository = Repository.open(big.repository.path, cache_bytes=4 * MIB)
    contents = Contents(repository)
    size = repository.archive(ref.archive).content(ref.number).size
    hasher = new_hasher()
    for offset in range(0, size, MIB):
        hasher.update(contents.read(ref, offset, MIB))
    assert hasher.finish() == big.digests[-1]
    assert read.largest_cache <= 4 * MIB
    assert repository.cache.size <= 4 * MIB


def test_instructions_are_read_without_the_data(big: Big, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a file, and asking what it is, reads nothing of what deltas hold."""

    def refuse(*_: object) -> None:
        raise AssertionError("Data was read")

    monkeypatch.setattr(Payloads, "read", refuse)
    repository, ref = big.content(GENERATIONS)
    assert len(list(Contents(repository).segments(ref, 0, 2 * MIB))) > 1


def test_a_sparse_file_of_5_gib(tmp_path: Path, repository: Repository, backup_of: Backup) -> None:
    source, place = tmp_path / "source", random.Random(11)
    data = {0: b"start", 3 * GIB + 5: place.randbytes(100_000), 5 * GIB - 3: b"end"}
    make_tree(source, {"image": Sparse(5 * GIB, data)})
    first = the_point(backup_of(source))
    for offset in (7, GIB, 3 * GIB + 50_000, 4 * GIB + 123):
        with (source / "image").open("r+b") as file:
            file.seek(offset)
            file.write(b"changed")
    second = backup_of(source)
    assert second.tally.counts["bytes_added"] < 20_000
    assert second.tally.counts["bytes_stored"] < 50_000
    for point, changed in ((first, b"\0" * 7), (the_point(second), b"changed")):
        opened = reopened(repository)
        entry = find_entry(opened, point, b"image")
        assert entry.content is not None
        read = Contents(opened).read
        assert read(entry.content, GIB, 7) == read(entry.content, 4 * GIB + 123, 7) == changed
        assert read(entry.content, 5 * GIB - 4, 9) == b"\0end"
        assert read(entry.content, 2 * GIB, MIB) == bytes(MIB)
    restored(repository, the_point(second), tmp_path / "back")
    there = os.stat(tmp_path / "back/image")
    assert there.st_size == 5 * GIB
    assert there.st_blocks <= os.stat(source / "image").st_blocks + 16
    with (tmp_path / "back/image").open("rb") as one, (source / "image").open("rb") as other:
        for offset in (0, GIB - MIB, 3 * GIB, 4 * GIB, 5 * GIB - MIB):
            one.seek(offset)
            other.seek(offset)
            assert one.read(MIB) == other.read(MIB)


KIB = 1 << 10


def stored_bytes(repository: Repository) -> int:
    found = 0
    for folder, _, files in os.walk(repository.path):
        found += sum(os.path.getsize(os.path.join(folder, name)) for name in files)
    return found


def test_one_change_in_a_folder_of_8_000_entries(fast_path: Path) -> None:
    source = fast_path / "source"
    many = source / "many"
    many.mkdir(parents=True)
    for number in range(ENTRIES):
        os.mknod(many / f"file-{number:06}")
    repository = create(fast_path / "repository")
    settle()
    assert back_up(repository, source).tally.counts["bytes_stored"] > 1.1 * MOST_STORED

    def change(number: int) -> None:
        if number == 0:
            (many / "file-004000").write_bytes(b"changed")
        elif number == 1:
            (many / "file-004001").unlink()
        else:
            (many / "file-004001-new").write_bytes(b"new")

    for number in range(3):
        before = stored_bytes(repository)
        change(number)
        result = back_up(repository, source)
        assert stored_bytes(repository) - before < MOST_STORED
        assert result.tally.counts["bytes_stored"] < MOST_STORED
        assert result.tally.counts["files"] == ENTRIES - (number == 1)
    opened = reopened(repository)
    stored = StoredDirectory(opened, find_entry(opened, the_point(result), b"many").state.ref)
    found = {entry.name: entry.size for entry in stored.entries()}
    with os.scandir(os.fsencode(many)) as listing:
        assert found == {entry.name: entry.stat().st_size for entry in listing}
    assert damages(repository) == []
