"""Large files through many generations, judged by counts, not by time; and files of every size.

The big file has 64 MiB and 70 generations here; IBTFS_TEST_BIG=512 makes it as large as the
requirements say.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3
from conftest import (
    Backup,
    back_up,
    create,
    damages,
    reopened,
    restored,
    restored_tree,
    the_point,
    viewed_tree,
)
from support import differences, snapshot
from support.realdata import mixed
from support.trees import Sparse, make_tree

from ibtfs.format.frames import Frame
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.cache import ByteCache
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import CACHE_BYTES, Repository
from ibtfs.store.trees.paths import find_entry
from ibtfs.store.writing.flatten import DEPTH_BOUND

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZE = int(os.environ.get("IBTFS_TEST_BIG", "64")) * MIB
GENERATIONS = 70
EDITS = 40


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


together = pytest.mark.xdist_group("big file")
"""Tests that share the 71 generations, which take long to make, run in one process."""


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
        made.digests.append(blake3(data).digest())
        made.points.append(the_point(back_up(made.repository, source)))
    yield made
    assert damages(made.repository) == []
    shutil.rmtree(place)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@together
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


@together
def test_deltas_are_small(big: Big) -> None:
    stored = [point.statistics["bytes_stored"] for point in big.points]
    edited = EDITS * 3800 + 5000
    deltas = [n for g, n in enumerate(stored) if g and g % (DEPTH_BOUND + 1)]
    assert max(deltas) < 2 * edited
    flattened = [n for g, n in enumerate(stored) if g and g % (DEPTH_BOUND + 1) == 0]
    assert max(flattened) < 36 * edited  # the payloads beyond the 16 largest are written anew


@together
def test_every_generation_is_what_the_file_was(big: Big) -> None:
    """That their bytes have these digests is seen by check, when the repository is given up."""
    for generation, expected in enumerate(big.digests):
        repository, ref = big.content(generation)
        assert repository.archive(ref.archive).content(ref.number).digest == expected


@together
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


@together
@pytest.mark.parametrize("generation", [0, 32, 33, 65, 66, 70])
@pytest.mark.parametrize("step", [128 * KIB, MIB])
def test_a_sequential_read_unpacks_each_frame_once(
    big: Big, generation: int, step: int, read: Read
) -> None:
    repository, ref = big.content(generation)
    contents, size = Contents(repository), repository.archive(ref.archive).content(ref.number).size
    hasher = blake3()
    for offset in range(0, size, step):
        hasher.update(contents.read(ref, offset, step))
    assert hasher.digest() == big.digests[generation]
    assert read.raw_bytes <= 1.2 * size
    assert read.largest_cache <= CACHE_BYTES


@together
def test_a_restore_unpacks_each_frame_once(big: Big, read: Read, tmp_path: Path) -> None:
    tally = restored(big.repository, big.points[-1], tmp_path / "back")
    assert tally.problems == []
    with (tmp_path / "back/database").open("rb") as file:
        assert blake3(file.read()).digest() == big.digests[-1]
    assert read.raw_bytes <= 1.2 * os.path.getsize(tmp_path / "back/database")
    shutil.rmtree(tmp_path / "back")


@together
def test_a_small_cache_is_kept_to(big: Big, read: Read) -> None:
    _, ref = big.content(GENERATIONS)
    repository = Repository.open(big.repository.path, cache_bytes=4 * MIB)
    contents = Contents(repository)
    size = repository.archive(ref.archive).content(ref.number).size
    hasher = blake3()
    for offset in range(0, size, MIB):
        hasher.update(contents.read(ref, offset, MIB))
    assert hasher.digest() == big.digests[-1]
    assert read.largest_cache <= 4 * MIB
    assert repository.cache.size <= 4 * MIB


@together
def test_instructions_are_read_without_the_data(big: Big, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a file, and asking what it is, reads nothing of what deltas hold."""

    def refuse(*_: object) -> None:
        raise AssertionError("Data was read")

    monkeypatch.setattr(ArchiveReader, "_payload", refuse)
    repository, ref = big.content(GENERATIONS)
    assert len(list(Contents(repository).segments(ref, 0, 2 * MIB))) > 1


# Files of every size, and what is done to them


SIZES = (0, 1, 2, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073,
         MIB - 1, MIB, MIB + 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 5 * MIB + 77)  # fmt: skip


def test_files_of_every_size(tmp_path: Path, repository: Repository, backup_of: Backup) -> None:
    source = tmp_path / "source"
    make_tree(source, {f"{size}": mixed(size, size) for size in SIZES})
    made = [(the_point(backup_of(source)), snapshot(source))]
    for change in (flip_middle, append_byte, cut_byte, prepend_byte):
        for size in SIZES:
            change(source / f"{size}")
        made.append((the_point(backup_of(source)), snapshot(source)))
    for point, expected in made:
        seen = viewed_tree(reopened(repository), point)
        assert differences(expected, seen, also=("blocks",)) == []
        assert differences(expected, restored_tree(repository, point, tmp_path / "back")) == []


def flip_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def append_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"+")


def cut_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def prepend_byte(path: Path) -> None:
    path.write_bytes(b"-" + path.read_bytes())


Steps = list[bytes]


SIZES_OF_A_LOG = (100_000, 180_000, 300_000, 500_000, 900_000, 1_500_000, 2_500_000, 4_000_000,
                  6_000_000, 9 * MIB)  # fmt: skip


def growing_log() -> Steps:
    log = mixed(1, 9 * MIB)
    return [log[:n] for n in (0, 1, 4096, 65_535, 65_536, 65_537, *SIZES_OF_A_LOG)]


def shrinking() -> Steps:
    return list(reversed(growing_log()))


def pages_rewritten() -> Steps:
    rng, data, steps = random.Random(5), bytearray(mixed(2, 6 * MIB)), []
    for _ in range(6):
        for _ in range(30):
            page = rng.randrange(6 * MIB // 4096) * 4096
            data[page : page + 4096] = rng.randbytes(4096)
        steps.append(bytes(data))
    return steps


def insertions_in_front() -> Steps:
    data = random.Random(6).randbytes(5 * MIB)
    return [mixed(n, n * 77_777) + data for n in range(4)]


def rotated() -> Steps:
    data = random.Random(7).randbytes(6 * MIB)
    return [data[cut:] + data[:cut] for cut in (0, 1_000_000, 4_444_444)]


def zeros() -> Steps:
    data = random.Random(8).randbytes(5 * MIB)
    return [data, data[:MIB] + bytes(3 * MIB) + data[4 * MIB :], bytes(5 * MIB), bytes(10)]


def doubled() -> Steps:
    data = random.Random(9).randbytes(5 * MIB)
    return [data, data + data, data[: 3 * MIB] + data]


# A mebibyte is stored before what has moved is looked for in the whole base.
COSTS = {
    growing_log: 9.1, shrinking: 9.1, pages_rewritten: 6.9, insertions_in_front: 5.6, rotated: 8.2,
    zeros: 5.1, doubled: 7.2,
}  # fmt: skip


@pytest.mark.parametrize("steps", COSTS, ids=lambda steps: steps.__name__)
def test_what_is_done_to_a_file(
    steps: type, tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    """Each step comes back, and all together add not much more than what was new in them."""
    source, made, added = tmp_path / "source", [], 0
    source.mkdir()
    for data in steps():
        (source / "file").write_bytes(data)
        result = backup_of(source)
        made.append((the_point(result), digest(data)))
        added += result.tally.counts["bytes_added"]
    for point, expected in made:
        assert viewed_tree(reopened(repository), point)[b"file"].sha256 == expected
        assert restored_tree(repository, point, tmp_path / "back")[b"file"].sha256 == expected
    assert added <= COSTS[steps] * MIB


@pytest.mark.parametrize("size", [4 * MIB - 1000, 5 * MIB])
def test_a_log_that_outgrows_memory(
    size: int, tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    """Contents that are read whole and those that are not are bases of each other."""
    source, data = tmp_path / "source", random.Random(12).randbytes(size)
    make_tree(source, {"log": data})
    backup_of(source)
    for number in range(3):
        data += b"%d" % number * 5000
        (source / "log").write_bytes(data)
        assert backup_of(source).tally.counts["bytes_added"] < 50_000
    (source / "log").write_bytes(data[:1_000_000])
    assert backup_of(source).tally.counts["bytes_added"] < 50_000


@pytest.mark.parametrize("size", [3 * MIB, 6 * MIB])
def test_a_content_that_returns_is_not_stored_again(
    size: int, tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    source, added, stored = tmp_path / "source", [], []
    source.mkdir()
    for number in (1, 2, 1, 2):
        (source / "file").write_bytes(random.Random(number).randbytes(size))
        result = backup_of(source)
        added.append(result.tally.counts["bytes_added"])
        stored.append(result.tally.counts["bytes_stored"])
    assert added[:2] == [size, size]
    assert added[2:] == [0, 0]
    assert max(stored[2:]) < 20_000


def test_a_mebibyte_in_front_of_random_data(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    rng = random.Random(10)
    source, data = tmp_path / "source", rng.randbytes(8 * MIB)
    make_tree(source, {"file": data})
    backup_of(source)
    new = rng.randbytes(MIB) + data
    (source / "file").write_bytes(new)
    result = backup_of(source)
    assert MIB <= result.tally.counts["bytes_added"] <= 1.1 * MIB
    found = viewed_tree(reopened(repository), the_point(result))
    assert found[b"file"].sha256 == digest(new)


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


def test_a_file_becomes_a_folder_becomes_a_link_and_back(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    source, made = tmp_path / "source", []
    source.mkdir()
    path = source / "x"
    for kind in ("file", "folder", "link", "file", "link", "folder", "file"):
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
        if kind == "file":
            path.write_bytes(mixed(1, 70_000))
        elif kind == "folder":
            make_tree(path, {"inside": mixed(1, 70_000), "deep": {"x": b""}})
        else:
            path.symlink_to("elsewhere")
        result = backup_of(source)
        made.append((the_point(result), snapshot(source), result.tally.counts["bytes_added"]))
    for point, expected, _ in made:
        assert differences(expected, viewed_tree(reopened(repository), point)) == []
        assert differences(expected, restored_tree(repository, point, tmp_path / "back")) == []
    assert [added for _, _, added in made[1:]] == [0] * 6
