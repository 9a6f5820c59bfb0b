"""Contents read where their own bytes are damaged, or gone; and bytes of any range of a delta."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged, IntegrityError, ObjectMissing
from ibtfs.format.extents import BASE, HOLE, ZEROS
from ibtfs.format.frames import LARGE, LITERALS, SMALL
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.store.contents import reader
from ibtfs.store.contents.holes import holes, may_have_holes, stretches
from ibtfs.store.contents.reader import Contents
from ibtfs.store.contents.whole import is_whole, require_whole
from ibtfs.store.repository import Repository
from ibtfs.store.writing.draft import Draft, Stored
from tests.store.writing.test_draft import record_of, slabs_of, writing
from tests.support.plain import digest
from tests.support.repositories import create, reopened

pytestmark = pytest.mark.damaged


@pytest.fixture
def repository(fast_path: Path) -> Repository:
    return create(fast_path / "repository")


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def added(repository: Repository, number: int, data: bytes, name: bytes = b"") -> Reference:
    """*data*, stored whole by a run of its own, with the digest of *name*."""
    with writing(repository, number) as writer:
        return writer.add_whole(SMALL, digest(name or data), data)


def spoil(repository: Repository, ref: Reference) -> None:
    folder = Path(os.fsdecode(repository.path), "archives", ref.archive)
    path = folder / "data.1" if (folder / "data.1").exists() else folder / "index.1"
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"\xff" * 20, 100)


def test_the_newest_other_record_with_the_digest_is_read(repository: Repository) -> None:
    data = noise(1, 70_000)
    refs = [added(repository, number, data) for number in range(4)]
    other = added(repository, 5, noise(2, 70_000))
    contents = Contents(reopened(repository))
    assert contents.read(refs[1], 10, 100) == data[10:110]
    for ref in (refs[1], refs[3], refs[0]):
        spoil(repository, ref)
    contents = Contents(reopened(repository))
    assert contents.read(refs[1], 10, 100) == data[10:110]
    assert contents.whole(refs[3], 70_000) == data
    with pytest.raises(FormatDamaged, match="checksum"):
        contents.own_pieces(refs[1], 0, 10)
    spoil(repository, refs[2])
    contents = Contents(reopened(repository))
    with pytest.raises(FormatDamaged, match=refs[1].archive):
        contents.read(refs[1], 0, 10)
    assert contents.read(other, 0, 70_000) == noise(2, 70_000)


def test_an_index_that_is_damaged_offers_no_copies(repository: Repository) -> None:
    data = noise(1, 70_000)
    refs = [added(repository, number, data) for number in range(3)]
    spoil(repository, refs[0])
    path = Path(os.fsdecode(repository.path), "archives", refs[2].archive, "index.1")
    path.write_bytes(path.read_bytes()[:-1])
    assert Contents(reopened(repository)).read(refs[0], 0, 70_000) == data
    assert Contents(reopened(repository)).read(refs[1], 0, 70_000) == data
    # of a record that cannot be read nobody knows what it was
    with pytest.raises(IntegrityError, match=refs[2].archive):
        Contents(reopened(repository)).read(refs[2], 0, 70_000)


def test_bytes_of_another_content_are_not_given(repository: Repository) -> None:
    ref = added(repository, 0, noise(1, 70_000), b"another")
    contents = Contents(reopened(repository))
    with pytest.raises(FormatDamaged, match="do not have the digest"):
        contents.whole(ref, 70_000)
    good = added(repository, 1, noise(1, 70_000))
    contents = Contents(reopened(repository))
    for size in (69_999, 70_001):
        with pytest.raises(FormatDamaged):
            contents.whole(good, size)
    assert contents.read(good, 69_990, 100) == noise(1, 70_000)[-10:]
    assert contents.read(good, 70_000, 5) == contents.read(good, 80_000, 5) == b""


def test_bytes_beyond_a_payload_are_not_given(repository: Repository) -> None:
    ref = added(repository, 0, noise(1, 70_000))
    added(repository, 1, noise(2, 100))
    contents = Contents(reopened(repository))
    assert b"".join(contents.payload(ref, 5, 70)) == noise(1, 70_000)[5:75]
    assert b"".join(contents.payload(ref, 0, 70_000)) == noise(1, 70_000)
    for offset, length in ((-1, 5), (69_999, 2), (70_000, 1)):
        with pytest.raises(FormatDamaged, match="beyond its payload"):
            contents.payload(ref, offset, length)


@pytest.fixture
def delta(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> tuple[Contents, Reference, bytes]:
    """A delta of all kinds of ranges, larger than several windows."""
    monkeypatch.setattr(reader, "WINDOW", 50_000)
    old, chance = noise(1, 200_000), random.Random(2)
    with writing(repository) as writer:
        draft = Draft(writer)
        draft.append(old)
        base, _ = draft.finish(digest(old), len(old), slabs_of(old))
    stored = Stored(base, record_of(repository, base), slabs_of(old))
    data = b""
    with writing(repository, 1) as writer:
        draft = Draft(writer, stored)
        for number in range(60):
            size = chance.randrange(1, 9000)
            code = (BASE, HOLE, ZEROS, -1)[number % 4]
            if code == BASE:
                at = chance.randrange(len(old) - size)
                draft.add(BASE, at, size)
                data += old[at : at + size]
            elif code == -1:
                piece = chance.randbytes(size)
                draft.append(piece)
                data += piece
            else:
                draft.add(code, 0, size)
                data += bytes(size)
        ref, _ = draft.finish(digest(data), len(data))
    return Contents(reopened(repository)), ref, data


def test_any_range_of_a_delta_is_read(delta: tuple[Contents, Reference, bytes]) -> None:
    contents, ref, data = delta
    chance = random.Random(3)
    assert contents.record(ref).depth == 1
    assert contents.whole(ref, len(data)) == data
    for _ in range(200):
        start = chance.randrange(len(data))
        size = chance.choice((1, 100, 9000, 60_000, 200_000))
        assert contents.read(ref, start, size) == data[start : start + size]
        end = min(start + size, len(data))
        position = start
        for owner, offset, length in contents.segments(ref, start, end):
            piece = data[position : position + length]
            if owner is None:
                assert piece == bytes(length)
            else:
                assert b"".join(contents.payload(owner, offset, length)) == piece
            position += length
        assert position == end
    with pytest.raises(FormatDamaged, match="where more are expected"):
        list(contents.segments(ref, 0, len(data) + 1))
    assert list(contents.segments(ref, 5, 5)) == []


def test_holes_of_a_delta_are_those_that_it_was_given(
    delta: tuple[Contents, Reference, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, ref, data = delta
    extents = contents.chain(ref)[0].extents
    assert extents is not None
    expected, position = set[int](), 0
    for code, _, length in extents.ranges():
        if code == HOLE:
            expected.update(range(position, position + length))
        position += length
    assert len(expected) > 10_000
    for window in (1000, 50_000, 1 << 20):
        monkeypatch.setattr("ibtfs.store.contents.holes.WINDOW", window)
        found = list(holes(contents, ref))
        assert all(length > 0 for _, length in found)
        places = [place for start, length in found for place in range(start, start + length)]
        assert places == sorted(expected)
    assert may_have_holes(contents, ref)
    base = contents.record(ref).base
    assert base is not None
    assert not may_have_holes(contents, base)
    assert list(holes(contents, base)) == []
    for piece in (700, 5000, 1 << 20):
        position = 0
        for start, length, is_hole in stretches(contents, ref, piece):
            assert start == position
            assert length > 0
            if is_hole:
                assert length >= piece
                assert expected.issuperset(range(start, start + length))
            else:
                assert start // piece == (start + length - 1) // piece
            position += length
        assert position == len(data)


def test_chains_are_as_long_as_the_format_allows(
    delta: tuple[Contents, Reference, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents, ref, _ = delta
    levels = contents.chain(ref)
    assert [level.record.depth for level in levels] == [1, 0]
    assert levels[0].extents is not None
    assert contents.chain_ranges(ref) == len(levels[0].extents.ends)
    record = contents.record(ref)
    require_whole(contents._repository, ref, record)
    for module in ("reader", "whole"):
        monkeypatch.setattr(f"ibtfs.store.contents.{module}.DEPTH_LIMIT", 0)
    fresh = Contents(reopened(contents._repository))
    with pytest.raises(FormatDamaged, match="is the base of a chain that is too long"):
        fresh.chain(ref)
    with pytest.raises(FormatDamaged, match="is the base of a chain that is too long"):
        require_whole(contents._repository, ref, record)
    assert record.base is not None
    assert len(fresh.chain(record.base)) == 1


def test_what_is_missing_of_a_content_is_told(repository: Repository) -> None:
    old, donor = noise(1, 70_000), noise(2, 70_000)
    base, other = added(repository, 0, old), added(repository, 1, donor)
    data = old[:60_000] + donor[100:5000]
    with writing(repository, 2) as writer:
        draft = Draft(writer, Stored(base, record_of(repository, base), slabs_of(old)))
        draft.add(BASE, 0, 60_000)
        draft.add(draft.donor(other), 100, 4900)
        ref, _ = draft.finish(digest(data), len(data))
    record = record_of(repository, ref)
    assert record.stream in (SMALL, LARGE, LITERALS)
    opened = reopened(repository)
    assert is_whole(opened, ref, record)
    shell = ContentRecord(bytes(32), 9, SMALL, 0, 9)
    with pytest.raises(ObjectMissing, match="is gone but for its payload"):
        require_whole(opened, ref, shell)
    beyond = record_of(repository, base)._replace(start=5)
    with pytest.raises(ObjectMissing, match="its payload is not in the archive's data"):
        require_whole(opened, base, beyond)
    for gone in (base, other):
        path = Path(os.fsdecode(repository.path), "archives", gone.archive)
        path.rename(path.with_name("away"))
        assert not is_whole(reopened(repository), ref, record)
        path.with_name("away").rename(path)
        assert is_whole(reopened(repository), ref, record)


def test_what_is_missing_is_looked_for_again_as_long_as_anything_changes(
    repository: Repository,
) -> None:
    contents, tries = Contents(repository), list[int]()

    def missing(changes: int) -> None:
        tries.append(1)
        if len(tries) <= changes:
            repository.cache.begin_era()
        raise ObjectMissing("gone")

    for changes, expected in ((0, 1), (1, 2), (3, 4), (100, reader.ATTEMPTS + 1)):
        tries.clear()
        with pytest.raises(ObjectMissing):
            contents._settled(lambda c=changes: missing(c))  # type: ignore[misc]
        assert len(tries) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Repository, "refresh", lambda _: len(tries) < 3)
        tries.clear()
        with pytest.raises(ObjectMissing):
            contents._settled(lambda: missing(0))
        assert len(tries) == 3
    assert contents._settled(lambda: 5) == 5
