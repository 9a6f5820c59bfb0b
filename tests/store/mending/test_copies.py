"""What a copy of a repository has that is damaged here; and files that are too long, cut."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.errors import NotARepository, ObjectMissing
from ibtfs.format.frames import CONTENTS, SMALL
from ibtfs.format.index import Reference
from ibtfs.store import layout
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.contents.reader import Contents
from ibtfs.store.mending import copies, records
from ibtfs.store.mending.copies import Copy, CopyGiver, Lack, configured_by
from ibtfs.store.mending.cutting import cut, longer_files
from ibtfs.store.mending.records import lead_to, store_anew
from ibtfs.store.mending.verified import known_from_other, known_from_repository
from ibtfs.store.repository import Repository
from tests.support.generations import put_generation
from tests.support.repositories import back_up, create, damages, reopened, the_point

pytestmark = pytest.mark.damaged


class Pair:
    """A repository of two points, each of an archive with data, and a copy of it."""

    def __init__(self, path: Path) -> None:
        chance = random.Random(1)
        self.path, self.root, self.other = path, path / "repository", path / "copy"
        self.source = path / "source"
        self.source.mkdir()
        create(self.root)
        self.points = []
        for number in range(2):
            (self.source / f"{number}").write_bytes(chance.randbytes(70_000 + number))
            self.points.append(the_point(back_up(self.here, self.source)))
        self.archives = [point.state.archive for point in self.points]
        shutil.copytree(self.root, self.other)
        self.beats = 0

    @property
    def here(self) -> Repository:
        return Repository.open(os.fsencode(self.root))

    @property
    def copy(self) -> Copy:
        return Copy(self.here, Repository.open(os.fsencode(self.other)), self.beat)

    def beat(self) -> None:
        self.beats += 1

    def lacking(self) -> list[str]:
        return [lack.name for lack in self.copy.lacking()]

    def file(self, number: int, name: str) -> Path:
        return self.root / "archives" / self.archives[number] / name

    def name(self, number: int, name: str) -> str:
        return f"archives/{self.archives[number]}/{name}"


@pytest.fixture
def pair(fast_path: Path) -> Pair:
    return Pair(fast_path)


def spoil(path: Path, *places: int) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 1
    path.write_bytes(data)


def test_nothing_is_lacking_where_all_is_as_it_was(pair: Pair) -> None:
    assert pair.lacking() == []
    assert pair.copy.hurt() == []
    assert pair.beats > 0


@pytest.mark.parametrize("name", ["data.1", "index.1"])
def test_files_that_are_damaged_or_lost_are_taken(pair: Pair, name: str) -> None:
    before = pair.file(0, name).read_bytes()
    for damage in (lambda path: spoil(path, 100), lambda path: path.unlink()):
        damage(pair.file(0, name))
        assert list(pair.copy.lacking()) == [Lack(pair.name(0, name), pair.archives[0])]
        pair.copy.take(Lack(pair.name(0, name), pair.archives[0]))
        assert pair.file(0, name).read_bytes() == before
        assert pair.lacking() == []
    spoil(pair.file(0, name), 100)
    spoil(pair.other / pair.name(0, name), 100)
    assert pair.lacking() == []


def test_what_is_not_needed_is_not_taken(pair: Pair) -> None:
    # of archives that nothing here names, or that were removed
    stranger = "20250101T000000Z_host_0123456789.0"
    shutil.copytree(pair.other / "archives" / pair.archives[0], pair.other / "archives" / stranger)
    assert pair.lacking() == []
    (pair.root / "archives" / stranger).mkdir()
    assert pair.lacking() == []
    shutil.rmtree(pair.file(0, "x").parent)
    assert sorted(pair.lacking()) == [pair.name(0, "data.1"), pair.name(0, "index.1")]
    pair.file(0, "x").parent.mkdir()
    pair.file(0, layout.REMOVED).write_bytes(b"")
    assert pair.lacking() == []


def test_older_generations_are_not_taken(pair: Pair) -> None:
    put_generation(pair.file(0, "data.1"), 2)
    pair.file(0, "data.1").unlink()
    spoil(pair.file(0, "data.2"), 100)
    assert pair.lacking() == []
    put_generation(pair.other / pair.name(0, "data.1"), 3)
    (pair.other / pair.name(0, "data.1")).unlink()
    assert pair.lacking() == [pair.name(0, "data.3")]


def test_files_that_an_archive_never_had_are_not_taken(pair: Pair) -> None:
    shutil.copy(pair.other / pair.name(0, "data.1"), pair.other / pair.name(0, "sigs.1"))
    assert pair.lacking() == []


def test_manifests_come_back_unless_they_were_removed(pair: Pair) -> None:
    names = [layout.point(point.id) for point in pair.points]
    spoil(pair.root / names[0], 40)
    (pair.root / names[1]).unlink()
    assert pair.lacking() == names
    pair.here.points.note_forgotten(pair.points[1].id)
    assert pair.lacking() == names[:1]
    spoil(pair.other / names[0], 40)
    assert pair.lacking() == []
    # of a run that left no archive there is nothing to come back to
    pair.here.points.drop_forgotten(pair.points[1].id)
    assert pair.lacking() == names[1:]
    shutil.rmtree(pair.file(1, "x").parent)
    assert pair.lacking() == []


def test_a_point_that_is_lost_brings_back_its_archive(pair: Pair) -> None:
    """Nothing else here names that of the newest."""
    pair.file(1, "index.1").unlink()
    assert pair.lacking() == [pair.name(1, "index.1")]
    (pair.root / layout.point(pair.points[1].id)).unlink()
    assert pair.lacking() == [pair.name(1, "index.1"), layout.point(pair.points[1].id)]
    (pair.other / layout.point(pair.points[1].id)).unlink()
    assert pair.lacking() == []


def test_an_archive_is_hurt_if_anything_of_it_is_missing(pair: Pair) -> None:
    one, other = pair.archives
    spoil(pair.file(0, "data.1"), 100)
    assert pair.copy.hurt() == [one]
    pair.file(0, "data.1").unlink()
    assert pair.copy.hurt() == [one]
    shutil.rmtree(pair.other / "archives" / one)
    assert pair.copy.hurt() == []
    spoil(pair.file(1, "index.1"), 100)
    assert pair.copy.hurt() == [other]


def test_what_fits_of_an_archive_is_taken(pair: Pair) -> None:
    data, one = pair.file(0, "data.1").read_bytes(), pair.archives[0]
    assert pair.copy.mend(one) == ""
    spoil(pair.file(0, "data.1"), 100)
    told = pair.copy.mend(one)
    assert told == "70000 bytes of contents taken from the copy"
    assert damages(pair.here) == []
    assert not pair.file(0, "data.1").exists()
    assert pair.file(0, "data.2").stat().st_size == len(data)
    index = pair.here.archive(one).file("index")
    spoil(pair.file(0, "index.1"), index.table(CONTENTS).offsets[0] + 30)
    assert pair.copy.mend(one) == "1 frames of index taken from the copy"
    assert [path.name for path in pair.file(0, "x").parent.glob("index*")] == ["index.2"]
    assert damages(pair.here) == []


def test_frames_of_another_place_or_content_are_not_taken(pair: Pair) -> None:
    one = pair.archives[0]
    index = pair.here.archive(one).file("index")
    offset = index.table(CONTENTS).offsets[0]
    spoil(pair.file(0, "index.1"), offset + 30)
    # the copy's is damaged in the same way
    spoil(pair.other / pair.name(0, "index.1"), offset + 30)
    before = pair.file(0, "index.1").read_bytes()
    assert pair.copy.mend_records(one, "index") == 0
    assert pair.file(0, "index.1").read_bytes() == before
    # or has another check sum
    spoil(pair.other / pair.name(0, "index.1"), offset, offset + 30)
    assert pair.copy.mend_records(one, "index") == 0
    spoil(pair.other / pair.name(0, "index.1"), offset)
    assert pair.copy.mend_records(one, "index") == 1


def test_a_configuration_comes_from_a_copy_only(pair: Pair, fast_path: Path) -> None:
    text = (pair.root / layout.CONFIG).read_bytes()
    (pair.root / layout.CONFIG).unlink()
    copy = Repository.open(os.fsencode(pair.other))
    with pytest.raises(NotARepository, match="Nothing there belongs"):
        configured_by(os.fsencode(pair.root), create(fast_path / "stranger"))
    for path in (pair.root / "points").iterdir():
        path.unlink()
    assert configured_by(os.fsencode(pair.root), copy).id == copy.id
    assert (pair.root / layout.CONFIG).read_bytes() == text
    shutil.rmtree(pair.root / "archives")
    with pytest.raises(NotARepository):
        configured_by(os.fsencode(pair.root), copy)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 40), max_size=6), st.integers(0, 35), st.integers(1, 30))
def test_bytes_are_given_but_for_steps_that_lack_some(
    gone: set[int], start: int, length: int
) -> None:
    class Reader:
        def payload(self, _: int, first: int, size: int) -> list[bytes]:
            if gone.intersection(range(first, first + size)):
                raise ObjectMissing("gone")
            return [bytes(range(first, first + size))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "STEP", 8)
        found = CopyGiver(cast(Any, Reader())).give(SMALL, start, start + length)
    wanted = range(start, start + length)
    steps = [range(low, min(low + 8, start + length)) for low in wanted[::8]]
    expected = [n for step in steps if not gone.intersection(step) for n in step]
    assert [low + n for low, data in found for n in range(len(data))] == expected
    assert all(data == bytes(range(low, low + len(data))) for low, data in found)
    assert len(found) == 1 or gone.intersection(wanted)


# Files that are too long


def test_what_lies_behind_the_end_of_a_file_is_cut_off(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibtfs.store.mending.cutting.PIECE", 30_000)
    path = pair.file(1, "data.1")
    before = path.read_bytes()
    assert list(longer_files(pair.here)) == []
    path.write_bytes(before + b"behind")
    (found,) = longer_files(pair.here)
    assert found == (pair.archives[1], pair.name(1, "data.1"), len(before), 6)
    cut(pair.here, found, pair.beat)
    assert path.read_bytes() == before
    assert pair.beats == 3
    path.unlink()
    assert list(longer_files(pair.here)) == []


# Contents stored anew


@pytest.mark.parametrize("small", [True, False])
def test_contents_are_stored_anew_and_found_by_the_old_records(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    monkeypatch.setattr(records, "CHUNK", 30_000)
    monkeypatch.setattr(records, "SMALL_CONTENT", 70_001 if small else 70_000)
    ref = Reference(pair.archives[1], 0)
    here, other = pair.here, Repository.open(os.fsencode(pair.other))
    record = here.archive(ref.archive).content(0)
    assert record.size == 70_001
    spoil(pair.file(1, "data.1"), 100)
    assert known_from_repository(pair.here, [ref], pair.beat) == {}
    known = known_from_other(pair.here, other, [ref, Reference("none0000.0", 0)], pair.beat)
    assert list(known) == [ref]
    name = "20260101T000000Z_repair_0123456789.0"
    with compression_pool() as pool:
        stored = store_anew(pair.here, name, known, pool)
    assert {one: found.ref for one, found in stored.items()} == {ref: Reference(name, 0)}
    new = pair.here.archive(name).content(0)
    assert (new.digest, new.size, new.length) == (record.digest, 70_001, 70_001)
    assert new.stream == (1 if small else 2)
    assert pair.here.archive(name).header.epoch == 0
    lead_to(pair.here, stored)
    led = reopened(pair.here).archive(ref.archive).content(0)
    assert (led.donors, led.base, led.depth, led.digest) == (
        (stored[ref].ref,),
        None,
        0,
        record.digest,
    )
    opened = reopened(pair.here)
    data = (pair.source / "1").read_bytes()
    assert Contents(opened).whole(ref, 70_001) == data
    assert not pair.file(1, "index.1").exists()


def test_an_archive_that_could_not_be_written_leaves_nothing(pair: Pair) -> None:
    ref = Reference(pair.archives[0], 0)

    class Changed:
        def read(self, *_: int) -> bytes:
            raise ObjectMissing("changed meanwhile")

    name = "20260101T000000Z_repair_0123456789.0"
    with compression_pool() as pool, pytest.raises(ObjectMissing, match="changed meanwhile"):
        store_anew(pair.here, name, cast(Any, {ref: Changed()}), pool)
    assert sorted(pair.here.storage.list(layout.ARCHIVES)) == sorted(pair.archives)


def test_the_epoch_is_the_highest_that_can_be_read(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs: list[int] = []

    def writer(*_: object, epoch: int, **__: object) -> Any:
        epochs.append(epoch)
        return SimpleNamespace(finish=lambda: 0)

    monkeypatch.setattr(records, "ArchiveWriter", writer)
    headers = {pair.archives[0]: 7, pair.archives[1]: 3}
    real = Repository.archive

    def archive(self: Repository, archive_id: str) -> Any:
        reader = real(self, archive_id)
        header = reader.header
        reader._header = type(header)(**{**vars(header), "epoch": headers[archive_id]})
        return reader

    monkeypatch.setattr(Repository, "archive", archive)
    for expected in (7, 3):
        with compression_pool() as pool:
            assert store_anew(pair.here, "x", {}, pool) == {}
        assert epochs.pop() == expected
        spoil(pair.file(0, "index.1"), -20)
