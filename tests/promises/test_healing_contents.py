"""Damaged contents, and their records, are made good by the next backup of the same bytes."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.errors import IntegrityError
from ibtfs.format.frames import CONTENTS
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry as Row
from tests.support import differences, snapshot
from tests.support.realdata import mixed
from tests.support.repositories import (
    Backup,
    assert_comes_back,
    back_up,
    damages,
    reopened,
    restored,
    restored_tree,
    row,
    settle,
    settled,
    the_point,
)
from tests.support.trees import File, make_tree
from tests.support.views import viewed_tree

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.damaged
@pytest.mark.parametrize("name", [b"small", b"large", b"delta", b"attributes"])
def test_a_damaged_content_heals_at_the_next_backup(
    name: bytes, source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {
        "small": random.Random(1).randbytes(5000), "large": random.Random(2).randbytes(5 * MIB),
        "delta": random.Random(3).randbytes(100_000), "other": random.Random(4).randbytes(5000),
        "attributes": File(b"x", xattrs={"user.large": random.Random(5).randbytes(600)}),
    })  # fmt: skip
    backup_of(source)
    with (source / "delta").open("r+b") as file:
        file.write(random.Random(6).randbytes(700))
    settle()
    old = the_point(backup_of(source))
    expected = snapshot(source)
    damage_content(repository, row(repository, old, name))
    [line] = [line for line in damages(repository) if "record" in line or "content" in line][:1]
    result = check(reopened(repository), read_data=True, observer=Observer())
    told = {path for damage in result.damages for path in damage.paths}
    assert name in told, line
    fresh = the_point(backup_of(source))
    assert_comes_back(repository, fresh, expected, tmp_path)
    assert_comes_back(repository, old, expected, tmp_path)
    assert row(repository, fresh, name) != row(repository, old, name)
    settled = backup_of(source)
    assert settled.tally.counts["bytes_read"] == 0


def damage_content(repository: Repository, entry: Row) -> None:
    """Flip a byte of the frame that holds the first byte of the payload of *entry*."""
    ref = entry.content if entry.name != b"attributes" else entry.xattrs_content
    assert ref is not None
    archive = reopened(repository).archive(ref.archive)
    record = archive.content(ref.number)
    opened = archive.file(archive._data_kind())
    table = opened.table(record.stream)
    frame = table.find(record.start)
    path = Path(os.fsdecode(repository.path), opened.name)
    flip(path, table.offsets[frame] + table.sizes[frame] // 2)


@pytest.mark.damaged
def test_what_is_damaged_and_gone_from_the_source_is_named_and_costs_only_itself(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {"lost": random.Random(1).randbytes(200_000), "kept": mixed(1, 5000)})
    old = the_point(backup_of(source))
    damage_content(repository, row(repository, old, b"lost"))
    (source / "lost").unlink()
    damages(repository)
    new = the_point(backup_of(source))
    assert_comes_back(repository, new, snapshot(source), tmp_path)
    with pytest.raises(IntegrityError, match="lost"):
        viewed_tree(reopened(repository), old)
    tally = restored(repository, old, tmp_path / "back")
    assert [path for path, _ in tally.problems] == [b"lost"]
    assert sorted(os.listdir(tmp_path / "back")) == ["kept"]


@pytest.mark.damaged
def test_a_damaged_record_heals(tmp_path: Path, repository: Repository) -> None:
    source = tmp_path / "source"
    make_tree(source, {"d": {f"f{n}": b"%d" % n * 300 for n in range(30)}})
    for path in (source / "d").iterdir():
        settled(path)
    back_up(repository, source)
    (archive,) = repository.archive_ids()
    opened = repository.archive(archive).file("index")
    offset = opened.tables[CONTENTS].offsets[0] + 40
    with open(os.path.join(os.fsdecode(repository.path), opened.name), "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
    again = reopened(repository)
    found = check(again, read_data=True, observer=Observer())
    assert len({path for damage in found.damages for path in damage.paths} - {b"d"}) == 30
    (source / "d/new").write_bytes(b"n")
    expected = snapshot(source)
    point = back_up(reopened(repository), source).point
    assert point
    assert not differences(expected, restored_tree(reopened(repository), point, tmp_path / "out"))
