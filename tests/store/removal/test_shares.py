"""What records and payloads weigh, and what is freed: as the files are when it is done."""

from __future__ import annotations

import random
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.format.compression import Codec
from ibtfs.format.frames import LARGE, LITERALS, MAPS, SMALL, Address
from ibtfs.format.packing import unpack_bodies
from ibtfs.store import layout
from ibtfs.store.archives import rewriter
from ibtfs.store.archives.file import FrameFileReader
from ibtfs.store.archives.reader import ArchiveReader
from ibtfs.store.archives.rewriter import FileRewriter
from ibtfs.store.archives.writer import ArchiveWriter, compression_pool
from ibtfs.store.removal import records_cut
from ibtfs.store.removal.marking import NEVER
from ibtfs.store.removal.payloads_cut import payloads_freed
from ibtfs.store.removal.records_cut import records_freed
from ibtfs.store.removal.shares import DataFile, Owners, frame_weights, shares
from ibtfs.store.removal.sizes import Freed
from ibtfs.store.repository import Repository
from tests.support.repositories import create

ID = "20260101T000000Z_host_0123456789.0"
BODIES = [b"%d," % (n * n) * (5 + n % 7) for n in range(200)]


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    """A repository with one archive of payloads: bytes that compress, more or less."""
    repository, chance = create(fast_path / "repository"), random.Random(1)
    with compression_pool() as pool:
        writer = ArchiveWriter(
            repository.storage, repository.keys, ID, epoch=0, codec=Codec(), pool=pool
        )
        for stream, size in ((SMALL, 2000), (LARGE, 700_000), (LITERALS, 50_000)):
            for _ in range(9):
                writer.append(stream, chance.randbytes(size // 2) + b"text" * (size // 8))
        writer.finish()
    return repository


@pytest.fixture
def with_maps(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """The same with records, numbered from 7 on, some in each frame."""
    monkeypatch.setattr(rewriter, "RECORD_FRAME", 200)
    name = layout.archive_object(ID, layout.INDEX)
    old = opened(repository, layout.INDEX)
    with FileRewriter(repository.storage, repository.keys, name, old, Codec()) as file:
        file.copy_all(16)
        file.add_records(MAPS, 7, BODIES)
        file.finish()
    return repository


def opened(repository: Repository, kind: str) -> FrameFileReader:
    reader = ArchiveReader(repository.storage, repository.keys, ID, repository.cache)
    return reader.file(kind)


def stored(file: FrameFileReader) -> int:
    """Bytes of all frames."""
    return sum(sum(table.sizes) for table in file.tables.values())


@pytest.mark.damaged
@pytest.mark.parametrize("seed", range(6))
def test_records_that_go_free_what_the_file_loses(with_maps: Repository, seed: int) -> None:
    """Some frames go, some lose a part, some nothing; all of few are measured."""
    chance, file = random.Random(seed), opened(with_maps, layout.INDEX)
    table = file.table(MAPS)
    assert len(table.starts) > 20
    kept: set[int] = set()
    parted = set(chance.sample(range(len(table.starts)), 8))
    for row, (start, count) in enumerate(zip(table.starts, table.counts)):
        numbers = range(start, start + count)
        some = chance.sample(numbers, count // 2) if row in parted else ()
        kept.update(some or (numbers if chance.random() < 0.5 else ()))
    whole = lost = 0
    for row, (start, count) in enumerate(zip(table.starts, table.counts)):
        bodies = unpack_bodies(file.frame(MAPS, row).raw, count, "")
        gone = [len(b or b"") + 3 for n, b in enumerate(bodies, start) if n not in kept]
        whole += table.sizes[row] if len(gone) == count else 0
        lost += table.sizes[row] if len(gone) == count else sum(gone)
    found = records_freed(file, {MAPS: kept}, Codec())
    assert found.lost == lost
    name = layout.archive_object(ID, layout.INDEX)
    with FileRewriter(with_maps.storage, with_maps.keys, name, file, Codec()) as made:
        made.copy_all(16)
        made.keep_records(MAPS, bytearray(n in kept for n in range(300)))
        made.finish()
    again = opened(with_maps, layout.INDEX)
    assert found.freed == stored(file) - stored(again)
    assert found.freed > whole > 0
    # nothing more goes of what lost some before
    assert records_freed(again, {MAPS: kept}, Codec()) == (0, 0)
    assert records_freed(again, {}, Codec()) == (0, 0)


@pytest.mark.damaged
def test_many_frames_of_records_are_told_by_some(
    with_maps: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = opened(with_maps, layout.INDEX)
    kept = {number for number in range(7, 300) if number % 2}
    monkeypatch.setattr(records_cut, "MEASURED_FIRST", 1000)
    exact = records_freed(file, {MAPS: kept}, Codec())
    encoded: list[int] = []
    real = FrameFileReader.encoded_size

    def counted(file: FrameFileReader, address: Address, raw: bytes, codec: Codec) -> int:
        encoded.append(1)
        return real(file, address, raw, codec)

    monkeypatch.setattr(FrameFileReader, "encoded_size", counted)
    for first, every, expected in ((0, 1, None), (4, 5, None), (3, 1000, 3), (0, 1000, 1)):
        monkeypatch.setattr(records_cut, "MEASURED_FIRST", first)
        monkeypatch.setattr(records_cut, "MEASURED_OF", every)
        encoded.clear()
        some = records_freed(file, {MAPS: kept}, Codec())
        frames = len(file.table(MAPS).starts)
        measured = sum(1 for n in range(frames) if n < first or n % every == 0)
        assert len(encoded) == (measured if expected is None else expected)
        assert some.lost == exact.lost
        assert some.freed == pytest.approx(exact.freed, rel=0.3)
        assert (some.freed == exact.freed) or every > 1


@pytest.mark.damaged
@pytest.mark.parametrize("seed", range(6))
def test_payloads_that_go_free_what_the_file_loses(repository: Repository, seed: int) -> None:
    chance, file = random.Random(seed), opened(repository, layout.DATA)
    needed: dict[int, list[tuple[int, int]]] = {}
    for _ in range(2):
        lost = 0
        for stream in (SMALL, LARGE, LITERALS):
            end, before = file.table(stream).end, needed.get(stream)
            points = sorted(chance.sample(range(max(end, 6)), 2 * chance.randrange(4)))
            cut = list(zip(points[::2], points[1::2]))
            if before is not None:
                cut = [(max(a, c), min(b, d)) for a, b in cut for c, d in before
                       if max(a, c) < min(b, d)]  # fmt: skip
            held = end if before is None else sum(b - a for a, b in before)
            lost += held - sum(b - a for a, b in cut)
            needed[stream] = cut
        found = payloads_freed(file, needed, Codec(), exact=True)
        assert found.lost == lost
        name = layout.archive_object(ID, layout.DATA)
        with FileRewriter(repository.storage, repository.keys, name, file, Codec()) as made:
            made.keep_payloads(needed)
            made.finish()
        again = opened(repository, layout.DATA)
        assert found.freed == stored(file) - stored(again)
        file = again
    assert payloads_freed(file, needed, Codec(), exact=True) == (0, 0)
    everything = payloads_freed(file, {}, Codec(), exact=True)
    held = sum(b - a for ranges in needed.values() for a, b in ranges)
    assert everything == (stored(file), held)


def test_a_frame_weighs_as_much_as_its_records_together(with_maps: Repository) -> None:
    file = opened(with_maps, layout.INDEX)
    table = file.table(MAPS)
    numbers: list[int] = []
    for row, start in enumerate(table.starts):
        found = list(shares(file, MAPS, row, "here"))
        numbers += [number for number, _, _ in found]
        assert found[0][0] == start
        assert sum(weight for _, _, weight in found) == pytest.approx(table.sizes[row])
        rates = {round(weight / (len(body) + 3), 9) for _, body, weight in found}
        assert len(rates) == 1
        assert [body for _, body, _ in found] == [BODIES[number - 7] for number, _, _ in found]
    assert numbers == list(range(7, 207))
    # those of one span weigh together, those of several by their shares
    spans = array("i", [0] * 7 + [1] * 100 + [2] * 100)
    weights = [0.0, 0.0, 0.0]
    for span, weight in frame_weights(file, MAPS, Owners([(0, 207, spans)])):
        weights[span] += weight
    assert weights[0] == 0
    assert sum(weights) == pytest.approx(sum(table.sizes))
    first = sum(
        weight for row in range(len(table.starts))
        for number, _, weight in shares(file, MAPS, row, "here") if number < 107
    )  # fmt: skip
    assert weights[1] == pytest.approx(first)
    assert sum(w for _, w in frame_weights(file, MAPS, Owners([]))) == sum(table.sizes)


def test_bytes_of_a_frame_weigh_alike(repository: Repository) -> None:
    file = opened(repository, layout.DATA)
    data, table = DataFile(file), file.table(LARGE)
    assert data.weight(LARGE, 0, table.end) == pytest.approx(sum(table.sizes))
    assert len(table.starts) > 3
    for row, (start, count) in enumerate(zip(table.starts, table.counts)):
        size = table.sizes[row]
        assert data.weight(LARGE, start, start + count) == pytest.approx(size)
        assert data.weight(LARGE, start + 1, start + 11) == pytest.approx(10 * size / count)
        assert data.weight(LARGE, start, start) == 0
    middle = data.weight(LARGE, 100, table.starts[1] + 100)
    rates = [size / count for size, count in zip(table.sizes, table.counts)]
    assert middle == pytest.approx((table.starts[1] - 100) * rates[0] + 100 * rates[1])
    assert data.weight(LARGE, table.end, table.end + 5) == 0
    assert data.weight(LARGE, table.end - 1, table.end + 5) == pytest.approx(rates[-1])
    assert DataFile(opened(repository, layout.INDEX)).weight(LARGE, 0, 10) == 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.booleans()), max_size=8),
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
)
def test_owners_are_those_of_each_number(
    steps: list[tuple[int, int, bool]], frames: list[int]
) -> None:
    rows: list[tuple[int, int, int | array[int]]] = []
    owner_of: dict[int, int] = {}
    place = 0
    for number, (gap, count, is_column) in enumerate(steps):
        place += gap
        spans = [100 * number + n if is_column else number for n in range(count)]
        owner_of.update(zip(range(place, place + count), spans))
        rows.append((place, place + count, array("i", spans) if is_column else number))
        place += count
    owners, start = Owners(rows), 0
    for count in frames:
        found = owners.within(start, start + count)
        assert list(found) == [owner_of.get(n, NEVER) for n in range(start, start + count)]
        start += count


@pytest.mark.parametrize(
    ("size", "freed", "worth"),
    [
        (0, 1023, False), (20_480, 1024, True), (20_481, 1024, False), (1024, 1024, True),
        (1 << 30, (1 << 30) // 20, False), (1 << 30, (1 << 30) // 20 + 1, True), (0, -5, False),
    ],
)  # fmt: skip
def test_a_file_is_written_anew_for_a_kilobyte_and_a_twentieth(
    size: int, freed: int, worth: bool
) -> None:
    assert Freed(size, freed).is_worth_it() is worth
    assert Freed(size, freed).is_worth_it(all_of_it=True) is False
    assert Freed(size, freed, loses=True).is_worth_it(all_of_it=True) is True
    assert Freed(size, freed, loses=True).is_worth_it() is worth
