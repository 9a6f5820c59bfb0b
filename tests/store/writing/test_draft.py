"""A content while it is written: what record becomes of it, and that it reads as it was given."""

from __future__ import annotations

import ast
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ibtfs
from ibtfs.errors import BaseDamaged
from ibtfs.format.digests import SLAB
from ibtfs.format.extents import BASE, HOLE, ZEROS
from ibtfs.format.frames import LARGE, LITERALS, SLABS, SMALL, Codec
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.format.packing import unpack_tuple
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.slabs import SlabDigests, load_slabs
from ibtfs.store.contents.whole import require_whole
from ibtfs.store.repository import Repository
from ibtfs.store.writing import draft as draft_module
from ibtfs.store.writing import flatten
from ibtfs.store.writing.catalog import Catalog
from ibtfs.store.writing.draft import Draft, Stored
from ibtfs.store.writing.run import RunWriter, holes_among
from tests.support.plain import digest, slab_digest
from tests.support.repositories import create, reopened

KIB, MIB = 1 << 10, 1 << 20
Patch = pytest.MonkeyPatch
Finished = tuple[Reference, int]


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def slabs_of(data: bytes) -> SlabDigests:
    slabs = SlabDigests()
    for first in range(0, len(data), SLAB):
        slabs.append(slab_digest(data[first : first + SLAB]))
    return slabs


@contextmanager
def writing(repository: Repository, number: int = 0) -> Iterator[RunWriter]:
    """A run; its last archive is closed at the end."""
    opened = reopened(repository)
    with compression_pool() as pool, Catalog(opened, b"") as catalog:
        writer = RunWriter(
            opened, f"20260101T0000{number:02}Z_pc_0123456789", epoch=0, catalog=catalog,
            codec=Codec(), pool=pool,
        )  # fmt: skip
        with writer:
            yield writer
            writer.close_archive()


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


def record_of(repository: Repository, ref: Reference) -> ContentRecord:
    return reopened(repository).archive(ref.archive).content(ref.number)


def content(repository: Repository, ref: Reference) -> bytes:
    opened = reopened(repository)
    contents = Contents(opened)
    record = contents.record(ref)
    data = contents.read(ref, 0, record.size)
    assert digest(data) == record.digest
    require_whole(opened, ref, record)
    return data


def stored(repository: Repository, ref: Reference, data: bytes = b"") -> Stored:
    return Stored(ref, record_of(repository, ref), slabs_of(data))


def whole(repository: Repository, data: bytes, number: int = 0) -> Stored:
    """*data*, stored whole, and in its vault the digests of its slabs."""
    with writing(repository, number) as writer:
        draft = Draft(writer)
        draft.append(data)
        ref, _ = draft.finish(digest(data), len(data), slabs_of(data))
    return stored(repository, ref, data)


# What becomes of one content


def test_literals_alone_are_a_plain_content(repository: Repository) -> None:
    data = noise(1, 300_000)
    with writing(repository) as writer:
        draft = Draft(writer)
        for first in range(0, len(data), 70_000):
            draft.append(data[first : first + 70_000])
        ref, added = draft.finish(digest(data), len(data))
    record = record_of(repository, ref)
    assert record == ContentRecord(digest(data), len(data), LARGE, 0, len(data))
    assert added == len(data)
    assert content(repository, ref) == data


def test_every_kind_of_range_comes_back(repository: Repository) -> None:
    old, other = noise(1, 200_000), noise(2, 50_000)
    base, donor = whole(repository, old), whole(repository, other, 1)
    data = old[100:5000] + bytes(3000) + b"new" + bytes(100) + other[7:77] + old[:10]
    with writing(repository, 2) as writer:
        draft = Draft(writer, base)
        draft.add(BASE, 100, 4900)
        draft.add(HOLE, 0, 3000)
        draft.append(b"new")
        draft.add(ZEROS, 0, 100)
        code = draft.donor(donor.ref)
        assert draft.donor(donor.ref) == code
        draft.add(code, 7, 70)
        draft.add(BASE, 0, 10)
        assert draft.holes == ((4900, 3000),)
        ref, added = draft.finish(digest(data), len(data))
        assert writer.holes_of(ref) == ((4900, 3000),)
    record = record_of(repository, ref)
    assert (record.stream, record.depth, record.base) == (LITERALS, 1, base.ref)
    assert (record.donors, record.length, added) == ((donor.ref,), 3, 3)
    assert content(repository, ref) == data
    with writing(repository, 3) as writer:  # read from the map now
        assert writer.holes_of(ref) == ((4900, 3000),)


def test_a_base_that_nothing_is_copied_from_is_none(repository: Repository) -> None:
    base = whole(repository, noise(1, 1000))
    with writing(repository, 1) as writer:
        draft = Draft(writer, base)
        draft.append(b"all new")
        ref, _ = draft.finish(digest(b"all new"), 7)
    record = record_of(repository, ref)
    assert (record.base, record.depth, record.stream) == (None, 0, LITERALS)
    assert record.is_plain
    assert content(repository, ref) == b"all new"


def test_it_may_become_a_delta_before_it_has_bytes_of_its_own(repository: Repository) -> None:
    old = noise(1, 1000)
    base = whole(repository, old)
    data = bytes(500) + old
    with writing(repository, 1) as writer:
        draft = Draft(writer, expected=len(data))
        draft.add(HOLE, 0, 500)
        draft.rebase(base)
        draft.add(BASE, 0, 1000)
        with pytest.raises(ValueError, match="already"):
            draft.rebase(base)
        ref, added = draft.finish(digest(data), len(data))
        late = Draft(writer)
        late.append(b"x")
        with pytest.raises(ValueError, match="already"):
            late.rebase(base)
    assert (record_of(repository, ref).base, added) == (base.ref, 0)
    assert content(repository, ref) == data


@pytest.mark.parametrize("has_vault", [False, True])
def test_slabs_are_listed_as_they_differ_from_those_of_the_base(
    has_vault: bool, repository: Repository
) -> None:
    old = noise(1, 5 * SLAB)
    base = whole(repository, old)
    if not has_vault:
        base = base._replace(record=base.record._replace(slabs=-1))
    data = old[: 2 * SLAB] + noise(2, SLAB) + old[3 * SLAB :]
    with writing(repository, 1) as writer:
        draft = Draft(writer, base, expected=len(data))
        draft.add(BASE, 0, 2 * SLAB)
        draft.append(data[2 * SLAB : 3 * SLAB])
        draft.add(BASE, 3 * SLAB, 2 * SLAB)
        ref, _ = draft.finish(digest(data), len(data), slabs_of(data))
    record = record_of(repository, ref)
    assert load_slabs(reopened(repository), record, ref.archive).data == slabs_of(data).data
    parts = unpack_tuple(reopened(repository).archive(ref.archive).body(SLABS, record.slabs), "", 2)
    assert parts[0] == ((2,) if has_vault else None)


@pytest.mark.parametrize(
    ("ranges", "holes"),
    [
        ([], ()),
        ([(HOLE, 5)], ((0, 5),)),
        ([(BASE, 3), (HOLE, 5), (HOLE, 2), (ZEROS, 4), (HOLE, 1)], ((3, 7), (14, 1))),
    ],
)
def test_holes_that_touch_are_one(
    ranges: list[tuple[int, int]], holes: tuple[tuple[int, int], ...]
) -> None:
    assert holes_among(ranges) == holes


# Chains


def chain(
    repository: Repository, length: int, change: Callable[[int, bytes], tuple[int, bytes]]
) -> Iterator[tuple[bytes, Finished]]:
    """Contents, each a delta of the one before; *change* gives what is written over, and where."""
    data = noise(0, 40_000)
    base = whole(repository, data)
    for number in range(1, length + 1):
        at, piece = change(number, data)
        end = at + len(piece)
        data = data[:at] + piece + data[end:]
        with writing(repository, number) as writer:
            draft = Draft(writer, base)
            draft.add(BASE, 0, at)
            draft.append(piece)
            draft.add(BASE, end, len(data) - end)
            finished = draft.finish(digest(data), len(data))
        base = stored(repository, finished[0], data)
        yield data, finished


def elsewhere(number: int, _: bytes) -> tuple[int, bytes]:
    return number * 1000, noise(number, 100)


def test_at_the_bound_of_a_chain_the_map_names_payloads(
    repository: Repository, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(flatten, "DEPTH_BOUND", 3)
    depths, refs = [], []
    for data, (ref, added) in chain(repository, 8, elsewhere):
        record = record_of(repository, ref)
        depths.append(record.depth)
        refs.append(ref)
        assert added == 100
        assert content(repository, ref) == data
    assert depths == [1, 2, 3, 0, 1, 2, 3, 0]
    flat = record_of(repository, refs[3])
    assert flat.base is None
    assert set(flat.donors[1:]) == set(refs[:3])


def test_a_flattened_content_has_few_donors(repository: Repository, monkeypatch: Patch) -> None:
    monkeypatch.setattr(flatten, "DEPTH_BOUND", 3)
    monkeypatch.setattr(flatten, "DONORS_KEPT", 1)
    monkeypatch.setattr(draft_module, "COPY_BYTES", 30)
    made = list(chain(repository, 4, elsewhere))
    data, (ref, added) = made[-1]
    record = record_of(repository, ref)
    assert len(record.donors) == 1
    assert record.length == added == 4 * 100
    assert content(repository, ref) == data


@pytest.mark.parametrize("keep_holes", [False, True])
def test_with_too_many_ranges_all_is_written_anew(
    keep_holes: bool, repository: Repository, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(flatten, "DEPTH_BOUND", 0)
    monkeypatch.setattr(flatten, "RANGE_LIMIT", 8 if keep_holes else 3)
    old = noise(1, 10_000)
    base = whole(repository, old)
    data = b""
    with writing(repository, 1) as writer:
        draft = Draft(writer, base)
        for number in range(5):
            draft.add(BASE, number * 100, 50)
            draft.append(b"literal%d" % number)
            data += old[number * 100 : number * 100 + 50] + b"literal%d" % number
        draft.add(HOLE, 0, 70)
        data += bytes(70)
        ref, added = draft.finish(digest(data), len(data))
    record = record_of(repository, ref)
    assert (record.base, record.donors) == (None, ())
    assert record.length == added == len(data) - (70 if keep_holes else 0)
    assert content(repository, ref) == data


def test_large_contents_are_bound_by_the_ranges_of_their_chain(
    repository: Repository, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(flatten, "CHAIN_RANGES", 4)
    data = noise(0, 4 * SLAB)
    base, depths = whole(repository, data), []
    for number in range(1, 6):
        data = data[: number * 100] + b"!" + data[number * 100 + 1 :]
        with writing(repository, number) as writer:
            draft = Draft(writer, base, expected=len(data))
            draft.add(BASE, 0, number * 100)
            draft.append(b"!")
            draft.add(BASE, number * 100 + 1, len(data) - number * 100 - 1)
            ref, _ = draft.finish(digest(data), len(data), slabs_of(data))
        base = stored(repository, ref, data)
        depths.append(base.record.depth)
        assert content(repository, ref) == data
        slabs = load_slabs(reopened(repository), base.record, ref.archive)
        assert slabs.data == slabs_of(data).data
    assert depths == [1, 2, 3, 0, 1]


def damage(repository: Repository, ref: Reference) -> None:
    """Make the payload of *ref* unreadable."""
    folder = Path(os.fsdecode(repository.path), "archives", ref.archive)
    path = folder / "data.1" if (folder / "data.1").exists() else folder / "index.1"
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"\xff" * 20, 100)


@pytest.mark.parametrize("limit", [2, 3, 64])
def test_of_damage_a_chain_grows_to_the_limit_of_the_format(
    limit: int, repository: Repository, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(flatten, "DEPTH_BOUND", 1)
    monkeypatch.setattr(flatten, "DONORS_KEPT", 0)
    monkeypatch.setattr(flatten, "DEPTH_LIMIT", limit)
    old = noise(0, 200_000)
    first = whole(repository, old)
    with writing(repository, 1) as writer:
        draft = Draft(writer, first)
        draft.add(BASE, 0, 100_000)
        second, _ = draft.finish(digest(old[:100_000]), 100_000)
    base = stored(repository, second)
    damage(repository, first.ref)
    with writing(repository, 2) as writer:
        draft = Draft(writer, base)
        draft.add(BASE, 0, 50_000)
        if limit == 2:
            with pytest.raises(BaseDamaged, match="checksum"):
                draft.finish(digest(old[:50_000]), 50_000)
            return
        ref, _ = draft.finish(digest(old[:50_000]), 50_000)
    record = record_of(repository, ref)
    assert (record.depth, record.base) == (2, second)


# Parts


@pytest.mark.parametrize("cut", [False, True])
def test_it_is_cut_where_an_archive_is_to_be_closed(cut: bool, repository: Repository) -> None:
    data = noise(1, 6 * MIB)
    with writing(repository) as writer:
        writer.archive_bytes = MIB
        draft = Draft(writer, expected=len(data) if cut else None)
        draft.add(HOLE, 0, 5)
        for first in range(0, len(data), SLAB):
            draft.append(data[first : first + SLAB])
        assert draft.own < len(data) or not cut
        ref, added = draft.finish(digest(bytes(5) + data), 5 + len(data), slabs_of(bytes(5) + data))
    record = record_of(repository, ref)
    assert added == len(data)
    assert content(repository, ref) == bytes(5) + data
    assert len(record.donors) == (5 if cut else 0)
    assert len(reopened(repository).archive_ids()) == 1 + len(record.donors)
    position = 0
    for donor in record.donors:
        part = content(repository, donor)
        kept = load_slabs(reopened(repository), record_of(repository, donor), donor.archive)
        assert part == data[position : position + len(part)]
        assert kept.data == slabs_of(part).data
        position += len(part)


def test_parts_stay_few_where_the_size_is_not_known(
    repository: Repository, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(draft_module, "PARTS_LIMIT", 2)
    data = noise(1, 4 * MIB)
    with writing(repository) as writer:
        writer.archive_bytes = SLAB
        draft = Draft(writer, expected=0)
        for first in range(0, len(data), SLAB):
            draft.append(data[first : first + SLAB])
        ref, _ = draft.finish(digest(data), len(data))
    assert len(record_of(repository, ref).donors) < 12
    assert content(repository, ref) == data


def test_a_part_of_pieces_that_are_no_slabs_has_those_in_its_vault(
    repository: Repository,
) -> None:
    with writing(repository) as writer:
        writer.archive_bytes = MIB
        draft, data = Draft(writer, expected=3 * MIB), noise(1, 3 * MIB)
        for first in range(0, len(data), 50_000):
            draft.append(data[first : first + 50_000])
        ref, _ = draft.finish(digest(data), len(data))
    donors = record_of(repository, ref).donors
    assert donors
    for donor in donors:
        record, part = record_of(repository, donor), content(repository, donor)
        assert record.digest == digest(part)
        kept = load_slabs(reopened(repository), record, donor.archive)
        assert kept.data == slabs_of(part).data
    assert content(repository, ref) == data


# Who may make records


def test_records_of_contents_are_made_here_alone() -> None:
    package = Path(str(ibtfs.__file__)).parent
    for path in package.rglob("*.py"):
        where = path.relative_to(package).as_posix()
        if where == "store/writing/draft.py" or where.startswith("format/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) != "ContentRecord", f"{where}:{node.lineno}"
            if isinstance(node, ast.Attribute) and node.attr == "archive":
                inside = where.startswith("store/writing/")
                assert inside or not ast.unparse(node.value).endswith("writer"), where


def test_a_small_whole_content_needs_no_draft(repository: Repository) -> None:
    with writing(repository) as writer:
        ref = writer.add_whole(SMALL, digest(b"data"), b"data")
        assert writer.find(digest(b"data"), 4) == ref
    assert record_of(repository, ref) == ContentRecord(digest(b"data"), 4, SMALL, 0, 4)
