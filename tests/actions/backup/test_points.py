"""The point that a backup makes: its time, its name, and nothing else when nothing changed."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from ibtfs.store.damage_notes import DamageNotes
from ibtfs.store.naming import displayed_names, select_point
from ibtfs.store.points import Points
from ibtfs.store.repository import Repository
from tests.support import snapshot
from tests.support.faking import Patch, set_clock
from tests.support.realdata import mixed
from tests.support.repositories import Backup, assert_comes_back, reopened, settle, the_point
from tests.support.trees import make_tree

YEAR_NS = 365 * 86_400 * 10**9


def test_a_clock_that_jumps_harms_nothing(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch, tmp_path: Path
) -> None:
    made = []
    for number, shift in enumerate((0, -YEAR_NS, YEAR_NS, 0, -YEAR_NS)):
        set_clock(monkeypatch, time.time_ns() + shift)
        (source / "file").write_bytes(mixed(7, 50_000) + b"%d" % number)
        expected = snapshot(source)
        made.append((the_point(backup_of(source)), expected))
        monkeypatch.undo()
    points = reopened(repository).points.all().points
    assert [point.id for point in points] == [point.id for point, _ in made]
    assert [point.sequence for point in points] == [1, 2, 3, 4, 5]
    assert [point.parent for point in points] == ["", *(point.id for point, _ in made[:-1])]
    moment = datetime.now()
    assert select_point(points, "latest", moment) is points[4]
    assert select_point(points, "latest~2", moment) is points[2]
    assert select_point(points, "@latest~2", moment) is points[2]
    assert select_point(points, "2d", moment) is points[4]  # the later of two of that time
    for point, tree in made:
        assert_comes_back(repository, point, tree, tmp_path)


def test_two_points_in_one_second(
    source: Path, repository: Repository, backup_of: Backup, monkeypatch: Patch
) -> None:
    made, moment = [], time.time_ns() // 10**9 * 10**9
    for part in (1, 2, 3):
        set_clock(monkeypatch, moment + part * 100_000_000)
        made.append(the_point(backup_of(source)))
        monkeypatch.undo()
    assert len({point.time_ns // 10**9 for point in made}) == 1
    shown = displayed_names(reopened(repository).points.all().points)
    first, second, third = (shown[point.id] for point in made)
    digits = [point.id.rpartition("_")[2][:6] for point in made]
    assert (second, third) == (f"{first}-{digits[1]}", f"{first}-{digits[2]}")
    assert len({point.id for point in made}) == 3


def test_a_run_that_changes_nothing_writes_a_manifest_only(
    source: Path, repository: Repository, backup_of: Backup
) -> None:
    make_tree(source, {"a": {"b": b"1"}, "c": b"2"})
    settle()
    backup_of(source)
    archives = reopened(repository).archive_ids()
    result = backup_of(source)
    assert reopened(repository).archive_ids() == archives
    assert (result.tally.counts["bytes_read"], result.tally.counts["unchanged"]) == (0, 2)
    assert result.tally.counts["bytes_stored"] < 2000


def test_a_run_looks_at_points_and_notes_once(
    source: Path, backup_of: Backup, monkeypatch: Patch
) -> None:
    looks: list[str] = []

    def counted(owner: type, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **o: looks.append(name) or real(*a, **o))

    counted(Points, "all")
    counted(DamageNotes, "contents")
    (source / "file").write_bytes(b"contents")
    backup_of(source)
    assert sorted(looks) == ["all", "contents"]
