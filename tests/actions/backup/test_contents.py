"""Contents are stored once: what was only touched, moved, copied, appended to, or came back."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from ibtfs.format.index import Reference
from ibtfs.store.contents.reader import Contents
from ibtfs.store.repository import Repository
from tests.support import differences, snapshot
from tests.support.faking import Patch
from tests.support.realdata import mixed
from tests.support.repositories import (
    Backup,
    assert_comes_back,
    back_up,
    reopened,
    restored_tree,
    row,
    settle,
    the_point,
)
from tests.support.trees import Sparse, make_tree

MIB = 1 << 20


def test_what_is_appended_to_needs_no_reading_of_what_was_there(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch, tmp_path: Path
) -> None:
    make_tree(source, {"grows": b"0123456789" * 100, "differs": b"abcdefghij" * 100})
    settle()
    backup_of(source)
    (source / "grows").write_bytes(b"0123456789" * 100 + b"more")
    (source / "differs").write_bytes(b"Abcdefghij" * 100 + b"more")
    settle()
    read, sizes = Contents.read, []

    def counted(self: Contents, ref: Reference, offset: int, size: int) -> bytes:
        sizes.append(size)
        return read(self, ref, offset, size)

    monkeypatch.setattr(Contents, "read", counted)
    result = backup_of(source)
    monkeypatch.undo()
    point = the_point(result)
    assert sizes == [1000]  # of the one that differs
    ref = row(repository, point, b"grows").content
    assert ref is not None
    record = Contents(reopened(repository)).record(ref)
    assert (record.length, record.depth) == (4, 1)
    assert_comes_back(repository, point, snapshot(source), tmp_path)


def test_a_file_that_was_only_touched_keeps_its_content(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {"one": b"1" * 1000, "two": b"2" * 1000})
    settle()
    first = the_point(backup_of(source))
    os.utime(source / "one", ns=(1, 1))
    settle()
    result = backup_of(source)
    second = the_point(result)
    assert result.tally.counts["bytes_added"] == 0
    rows = [row(repository, point, b"one") for point in (first, second)]
    assert rows[0].content == rows[1].content
    assert rows[1].mtime_ns == 1
    assert_comes_back(repository, second, snapshot(source), tmp_path)


def test_a_file_that_moves_costs_no_content(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    make_tree(source, {"a": {"small": mixed(1, 3000), "large": mixed(2, 7 * MIB)}, "b": {}})
    first = backup_of(source)
    assert first.tally.counts["bytes_added"] == 3000 + 7 * MIB
    os.rename(source / "a/small", source / "b/other")
    os.rename(source / "a/large", source / "large")
    second = backup_of(source)
    os.rename(source / "b", source / "c")
    shutil.copyfile(source / "large", source / "c/copy")
    third = backup_of(source)
    assert second.tally.counts["bytes_added"] == third.tally.counts["bytes_added"] == 0
    assert third.tally.counts["bytes_stored"] < 20_000
    assert_comes_back(repository, the_point(third), snapshot(source), tmp_path)


def test_duplicates_across_sources_and_paths(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    for name in ("one", "two"):
        make_tree(
            tmp_path / name, {"x": mixed(1, 3000), "y": mixed(2, 5 * MIB), "z": mixed(1, 3000)}
        )
    results = [backup_of(tmp_path / name) for name in ("one", "two")]
    assert [result.tally.counts["bytes_added"] for result in results] == [3000 + 5 * MIB, 0]
    assert [the_point(result).display for result in results] == ["one", "two"]
    assert the_point(results[0]).digest != b""
    make_tree(tmp_path / "three", {"own": b"x"})
    other = backup_of(tmp_path / "three", host="elsewhere", name="one")
    assert the_point(other).display == "one@elsewhere"


SLAB = 64 << 10


def test_a_base_is_not_changed_when_copies_of_it_were_kept(
    tmp_path: Path, repository: Repository
) -> None:
    rng = random.Random(1)
    x, y, z = (rng.randbytes(SLAB) for _ in range(3))
    tail = rng.randbytes(80 * SLAB)
    source = tmp_path / "source"
    for number, data in enumerate((bytes(SLAB) + y, x + z, x + y)):
        make_tree(source, {"image": data + tail}) if not number else None
        (source / "image").write_bytes(data + tail)
        expected = snapshot(source)
        point = back_up(repository, source).point
        assert point is not None
        restored = restored_tree(repository, point, tmp_path / f"out{number}")
        assert not differences(expected, restored)


def test_the_holes_of_equal_contents_differ(tmp_path: Path, repository: Repository) -> None:
    source = tmp_path / "source"
    tree = {
        "dense": bytes(2 << 20),
        "sparse": Sparse(2 << 20, {}),
        "mixed": Sparse(2 << 20, {0: bytes(SLAB)}),
    }
    make_tree(source, tree)
    expected = snapshot(source)
    point = back_up(repository, source).point
    assert point
    restored = restored_tree(repository, point, tmp_path / "out")
    assert not differences(expected, restored, also=["blocks"])


MIB = 1 << 20


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
