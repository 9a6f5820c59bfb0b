"""Full backups: they need nothing older, and check sees to it."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup import run as backup_module
from ibtfs.actions.backup.plan import Plan
from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.store.repository import Repository
from ibtfs.store.writing.catalog import Catalog
from ibtfs.store.writing.run import RunWriter
from tests.support import differences, snapshot
from tests.support.faking import Patch
from tests.support.realdata import mixed
from tests.support.repositories import (
    HOST,
    Backup,
    Recorder,
    assert_comes_back,
    back_up,
    create,
    damages,
    reopened,
    restored_tree,
    the_point,
)
from tests.support.trees import make_tree

MIB = 1 << 20


def large_and_small(source: Path, number: int) -> None:
    """Change a tree so that its newest state has full contents and deltas of several points."""
    data = bytearray(mixed(3, 6 * MIB))
    for n in range(number + 1):
        data[n * 700_000 : n * 700_000 + 100] = b"%0100d" % n
    (source / "database").write_bytes(data)
    (source / "same").write_bytes(mixed(4, 200_000))
    (source / "notes").write_bytes(mixed(5, 100_000) + b"%d" % number)
    make_tree(source / "folder", {f"{number}": mixed(number, 1000)})


def test_after_a_full_all_that_is_older_can_be_lost(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    made = []
    for number in range(7):
        large_and_small(source, number)
        expected = snapshot(source)
        made.append((the_point(backup_of(source, full=number == 4)), expected))
    assert [point.epoch for point, _ in made] == [0, 0, 0, 0, 1, 1, 1]
    assert [point.full for point, _ in made] == [True, *[False] * 3, True, *[False] * 2]
    opened, root = reopened(repository), Path(os.fsdecode(repository.path))
    for archive_id in opened.archive_ids():
        if opened.archive(archive_id).header.epoch == 0:
            shutil.rmtree(root / "archives" / archive_id)
    for point, _ in made[:4]:
        (root / "points" / point.id).unlink()
    assert damages(repository) == []
    for point, expected in made[4:]:
        assert_comes_back(repository, point, expected, tmp_path)


def test_sources_that_never_asked_for_a_full_share_with_it(
    source: Path, repository: Repository, backup_of: Backup, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    large_and_small(source, 0)
    make_tree(other, {"x": b"x"})
    backup_of(other)
    full = backup_of(source, full=True)
    shutil.copytree(source, other / "copy")
    shared = backup_of(other)
    assert (the_point(full).epoch, the_point(shared).epoch) == (1, 0)
    assert shared.tally.counts["bytes_added"] == 0
    again = backup_of(source, full=True)
    assert the_point(again).epoch == 2
    assert again.tally.counts["bytes_added"] > 6 * MIB


@pytest.mark.damaged
def test_check_finds_a_reference_to_an_older_epoch(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch
) -> None:
    large_and_small(source, 0)
    backup_of(source)
    find = Catalog._find
    monkeypatch.setattr(Catalog, "_find", lambda self, *what: find(self, *what[:2], 0))
    monkeypatch.setattr(RunWriter, "_may_refer", lambda *_: True)
    result = backup_of(source, full=True)
    assert result.tally.counts["bytes_added"] == 0
    assert any("older epoch" in line for line in damages(repository, read_data=False))


def test_two_full_backups_at_once_need_nothing_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may take the same epoch, and refer to each other: never to what was there before."""
    repository, rng = create(tmp_path / "repository"), random.Random(2)
    sources = [tmp_path / "one", tmp_path / "two"]
    for path in sources:
        path.mkdir()
        (path / "shared").write_bytes(b"the same in both" * 10_000)
        (path / "own").write_bytes(rng.randbytes(50_000))
        back_up(repository, path)
    before = {*repository.archive_ids()}, {*repository.points.ids()}
    barrier, look = threading.Barrier(2, timeout=120), backup_module.make_plan

    def together(*arguments: Any, **options: Any) -> Plan:
        plan = look(*arguments, **options)
        barrier.wait()  # both have looked before either has stored
        return plan

    monkeypatch.setattr(backup_module, "make_plan", together)

    def full(path: Path) -> None:
        repo = Repository.open(repository.path)
        backup(repo, os.fsencode(path), BackupOptions(HOST, full=True), Recorder())

    threads = [threading.Thread(target=full, args=(path,)) for path in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    points = [p for p in reopened(repository).points.all().points if p.id not in before[1]]
    assert [point.epoch for point in points] == [1, 1]
    (sources[0] / "own").write_bytes(rng.randbytes(50_000))
    points.append(the_point(back_up(repository, sources[0])))
    for archive in before[0]:
        shutil.rmtree(tmp_path / "repository" / "archives" / archive)
    for point_id in before[1]:
        (tmp_path / "repository" / "points" / point_id).unlink()
    assert damages(repository) == []
    assert len(points) == 3
    for path in sources:
        newest = [p for p in points if p.source.path == os.fsencode(path)][-1]
        tree = restored_tree(repository, newest, tmp_path / "back")
        assert differences(snapshot(path), tree) == []
