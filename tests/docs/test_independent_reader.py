"""A reader made from FORMAT.rst alone reads the repositories kept in tests/data as ibtfs does."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ibtfs.format.digests import SLAB
from ibtfs.format.frames import FRAME_LIMIT
from ibtfs.format.index import Reference
from ibtfs.format.marks import Marks
from ibtfs.format.point_list import mark_of
from ibtfs.sealing.keys import SealedKeys
from ibtfs.sealing.names import SealedNames
from ibtfs.store import layout
from ibtfs.store.contents import slabs as vault
from ibtfs.store.contents.whole import is_whole
from ibtfs.store.point_lists import newest_list, write
from ibtfs.store.repository import Repository
from ibtfs.store.returning import admit
from ibtfs.store.sealing import SPEAKING
from ibtfs.store.taking import put_back
from tests.support import TYPES, Entry, differences, independent_reader, independent_sealed
from tests.support.fixtures import DATA, FIXTURES, expected_points
from tests.support.independent_reader import OWN, Content, IndependentReader
from tests.support.sealing import create_sealed, either, open_sealed


def test_the_independent_reader_knows_nothing_of_ibtfs() -> None:
    modules = (independent_reader, independent_sealed)
    source = "".join(Path(str(module.__file__)).read_text() for module in modules)
    imports = re.findall(r"^\s*(?:import|from) (\S+)", source, re.MULTILINE)
    assert not [name for name in imports if name.startswith(("ibtfs", "support", "."))]
    assert {name for name in imports if name.startswith("tests")} == {independent_sealed.__name__}


@pytest.mark.parametrize("name", FIXTURES)
def test_the_independent_reader_reads_every_point(name: str) -> None:
    reader = IndependentReader(str(DATA / name))
    points = reader.points()
    expected = expected_points(DATA / name)
    assert [p.values["id"] for p in points] == [facts["id"] for facts, _ in expected]
    known: dict[int, str] = {}
    for read, (facts, tree) in zip(points, expected):
        for key in facts.keys() - {"tags", "display"}:
            assert read.values[key] == facts[key]
        shown = (read.values["display"], f"{read.values['display']}@{facts['host']}")
        assert facts["display"] == shown[name.endswith("-writers") and facts["host"] != "example"]
        assert read.tags == facts["tags"]
        found = _independent_tree(read, known)
        if facts["single"]:
            del found[b""]
        assert differences(tree, found, also={"blocks", "directory_size"}) == []


def _independent_tree(read: independent_reader.Point, known: dict[int, str]) -> dict[bytes, Entry]:
    entries = dict(read.entries())
    groups: dict[Any, set[bytes]] = {}
    for path, found in entries.items():
        groups.setdefault(found.link_key or path, set()).add(path)
    return {
        path: Entry(
            type=TYPES[stat.S_IFMT(found.mode)], mode=stat.S_IMODE(found.mode), uid=found.uid,
            gid=found.gid, size=found.size, mtime_ns=found.mtime_ns, nlink=found.links,
            rdev=found.device, target=found.target, sha256=_sha256(found, known),
            blocks=found.blocks if TYPES[stat.S_IFMT(found.mode)] in ("file", "directory") else 0,
            xattrs={os.fsdecode(k): v for k, v in sorted(found.xattrs.items())},
            links=frozenset(groups.get(found.link_key, ())),
        )
        for path, found in entries.items()
    }  # fmt: skip


def _sha256(found: independent_reader.Entry, known: dict[int, str]) -> str | None:
    if not stat.S_ISREG(found.mode):
        return None
    if found.content is None:
        return hashlib.sha256().hexdigest()
    if id(found.content) not in known:
        known[id(found.content)] = hashlib.sha256(found.content.whole()).hexdigest()
    return known[id(found.content)]


@pytest.mark.parametrize("name", FIXTURES)
def test_both_readers_read_every_record_and_slab_alike(name: str) -> None:
    reader = IndependentReader(str(DATA / name))
    mine = Repository.open(os.fsencode(DATA / name), unlock=either())
    assert [archive.id for archive in reader.archives()] == mine.archive_ids()
    deltas = slabs = 0
    for archive in reader.archives():
        own = mine.archive(archive.id)
        assert own.header.epoch == archive.header["epoch"]
        for number, record in own.contents():
            other = archive.content(number)
            assert (other.digest, other.depth, other.size) == (
                record.digest, record.depth, record.size
            )  # fmt: skip
            if record.is_shell:
                _assert_kept(mine, Reference(archive.id, number), other)
                continue
            if not is_whole(mine, Reference(archive.id, number), record):
                with pytest.raises(LookupError):
                    other.whole()
                continue
            data = other.whole()
            deltas += record.depth > 0
            if record.slabs >= 0:
                digests = other.slab_digests()
                assert b"".join(digests) == vault.load_slabs(mine, record, archive.id).data
                cut = range(0, len(data), SLAB)
                own_way = mine.keys.digests.slab
                assert digests == [vault.kept_of(own_way(data[n : n + SLAB])) for n in cut]
                slabs += 1
    assert deltas
    assert slabs > 3


def _assert_kept(mine: Repository, ref: Reference, shell: Content) -> None:
    """Both give the same bytes of what is kept of a payload."""
    place = 0
    for code, offset, length in shell.extents or [(OWN, 0, shell.length)]:
        if code == OWN:
            assert offset == place
            pieces = mine.archive(ref.archive).payload(shell.stream, shell.start + offset, length)
            assert b"".join(pieces) == shell.payload(offset, offset + length)
        place += length


SEALED = DATA / "repo-v1-sealed"


def test_both_readers_know_names_notes_and_lists_of_a_sealed_repository_alike() -> None:
    reader = IndependentReader(str(SEALED))
    mine = Repository.open(os.fsencode(SEALED), unlock=either())
    assert sorted(map(tuple, mine.damage.contents())) == reader.damaged()
    assert sorted(mine.damage.all().indexes) == reader.damaged_indexes()
    found = newest_list(mine)
    assert found.damaged == {}
    listed = reader.listed()
    assert (found.found.number, sorted(found.found.points)) == (listed["number"], listed["points"])
    assert {year: list(marks) for year, marks in found.found.gone.items()} == listed["gone"]
    assert found.found.generations == listed["generations"]
    assert listed["generations"]
    assert found.found.withdrawn == listed["withdrawn"]
    assert listed["withdrawn"]
    assert list(found.found.earlier) == listed["earlier"]
    assert listed["gone"]
    assert reader.keys is not None
    assert reader.keys.mark_of_id("point-000") == mark_of(mine.keys, b"point-000")
    for folder in ("forgotten", "copied", *(f"archives/{each.id}" for each in reader.archives())):
        stored = SEALED / folder
        names = [path.name for path in stored.iterdir()] if stored.exists() else []
        meant = {reader.keys.meant(f"{folder}/{name}") for name in names} if reader.keys else set()
        assert meant - {""} == set(mine.storage.list(folder)) & meant
    assert len(reader.keys.masters) == 2


def test_both_readers_read_a_list_of_several_frames(tmp_path: Path) -> None:
    mine = create_sealed(tmp_path / "repo")
    ids = frozenset(f"20261129T{n:06}Z_{n * 2654435761 % (1 << 80):020x}" for n in range(110_000))
    gone = {2026: Marks.of(os.urandom(16) for _ in range(70_000)), 0: Marks.of([b"x" * 16])}
    write(mine, lambda before: replace(before, points=ids, gone=gone))
    assert len(ids) * 39 > FRAME_LIMIT
    found = newest_list(open_sealed(tmp_path / "repo")).found
    listed = IndependentReader(str(tmp_path / "repo")).listed()
    assert listed["points"] == sorted(ids) == sorted(found.points)
    assert listed["gone"] == {year: list(marks) for year, marks in gone.items()}
    assert found.gone == gone


def test_both_readers_know_what_was_taken_away_and_put_back(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(SEALED, copy)
    mine = Repository.open(os.fsencode(copy), unlock=either())
    (point,) = newest_list(mine).found.withdrawn
    assert mine.points.tags(point) == ["again"]
    assert isinstance(mine.keys, SealedKeys)
    first = SealedNames(mine.keys, SPEAKING).stored(f"tags/{point}/again")
    assert [path.name[-2:] for path in (copy / "tags" / point).iterdir()] == [".2"]
    keys = IndependentReader(str(copy)).keys
    assert keys is not None
    assert put_back(mine) == keys.put_back(str(copy)) == []
    (copy / first).write_bytes(b"")
    assert put_back(mine) == keys.put_back(str(copy)) == [first]
    assert mine.points.tags(point) == ["again"]
    (told,) = [p for p in IndependentReader(str(copy)).points() if p.values["id"] == point]
    assert told.tags == ["again"]
    for path in (copy / "tags" / point).iterdir():
        if path.name != first.rpartition("/")[2]:
            path.unlink()
    assert mine.points.tags(point) == []
    (told,) = [p for p in IndependentReader(str(copy)).points() if p.values["id"] == point]
    assert told.tags == []


def test_both_readers_know_that_a_point_was_put_back(tmp_path: Path) -> None:
    """No name of it means anything from then on but those that it got since."""
    copy = tmp_path / "copy"
    shutil.copytree(SEALED, copy)
    mine = Repository.open(os.fsencode(copy), unlock=either())
    point = next(one.id for one in mine.points.all().points if mine.points.tags(one.id))
    tags = mine.points.tags(point)
    manifest = (copy / "points" / point).read_bytes()
    (copy / "points" / point).unlink()
    mine.points.note_forgotten(point)
    assert admit(mine, point)
    assert mine.points.tags(point) == []
    mine.points.add_tag(point, "since")
    (copy / "points" / point).write_bytes(manifest)
    reader = IndependentReader(str(copy))
    (told,) = [one for one in reader.points() if one.values["id"] == point]
    assert told.tags == mine.points.tags(point) == ["since"]
    assert reader.keys is not None
    assert sorted(reader.keys.put_back(str(copy))) == sorted(put_back(mine))
    assert len(put_back(mine)) == len(tags) + 1


@pytest.mark.parametrize("fixture", [SEALED, DATA / "repo-v1-writers"], ids=lambda path: path.name)
def test_the_independent_reader_takes_nothing_that_was_changed(
    fixture: Path, tmp_path: Path
) -> None:
    with pytest.raises(PermissionError):
        IndependentReader(str(fixture), "wrong horse")
    copy = tmp_path / "copy"
    for top in ("points", "keys"):
        for name in sorted(os.listdir(fixture / top)):
            if layout.parse_revoked(name):
                continue  # it is empty, and for nobody who reads
            shutil.copytree(fixture, copy)
            path = copy / top / name
            data = bytearray(path.read_bytes())
            data[60] ^= 1
            path.write_bytes(data)
            with pytest.raises(ValueError, match=r"."):
                IndependentReader(str(copy)).points()
            shutil.rmtree(copy)
