"""What becomes of records: what is damaged is kept, and what never was is no reason to remove."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged
from ibtfs.format.index import Reference
from ibtfs.store.removal.marking import mark_points
from ibtfs.store.removal.plan import ArchivePlan, make_plan
from ibtfs.store.repository import Repository
from tests.support.repositories import Backup, the_point


@pytest.fixture
def two_points(tmp_path: Path, repository: Repository, backup_of: Backup) -> list[str]:
    """The archives of two points, the second of which changed one of two files."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_bytes(os.urandom(5000))
    first = the_point(backup_of(source))
    (source / "a").write_bytes(os.urandom(5000))
    second = the_point(backup_of(source))
    return [first.state.archive, second.state.archive]


def test_only_what_no_point_needs_goes(repository: Repository, two_points: list[str]) -> None:
    newest = repository.points.all().points[-1]
    plan = make_plan(repository, mark_points(repository, [newest.state]))
    assert plan.damages == []
    assert list(plan.archives) == repository.archive_ids()
    older, newer = (plan.archives[name] for name in two_points)
    assert sum(older.contents) == 1
    assert sum(newer.contents) == 1
    assert not older.is_whole
    assert newer.is_whole
    assert not older.is_dead
    assert not newer.is_dead


def test_without_points_all_goes_but_what_is_said_to_stay(
    repository: Repository, two_points: list[str]
) -> None:
    plan = make_plan(repository, mark_points(repository, []))
    assert [plan.archives[name].is_dead for name in two_points] == [True, True]
    stays = Reference(two_points[0], 1)
    plan = make_plan(repository, mark_points(repository, []), extra=[stays, stays])
    assert list(plan.archives[stays.archive].contents) == [0, 1]
    assert [plan.archives[name].is_dead for name in two_points] == [False, True]


def test_a_content_that_never_was_is_damage(repository: Repository, two_points: list[str]) -> None:
    for number in (2, 10**6):
        beyond = Reference(two_points[0], number)
        with pytest.raises(FormatDamaged, match="never was"):
            make_plan(repository, mark_points(repository, []), extra=[beyond])


def test_an_archive_that_is_fixed_is_whole_and_never_dead() -> None:
    fixed = ArchivePlan("x", bytearray(2), bytearray(1), is_fixed=True)
    assert fixed.is_whole
    assert not fixed.is_dead
    for kept in (
        ArchivePlan("x", bytearray(b"\0\1"), bytearray(1)),
        ArchivePlan("x", bytearray(2), bytearray(b"\1")),
        ArchivePlan("x", bytearray(2), bytearray(1), shells={0: [(0, 1)]}),
    ):
        assert not kept.is_whole
        assert not kept.is_dead
    assert ArchivePlan("x", bytearray(2), bytearray(1)).is_dead
    assert ArchivePlan("x", bytearray(b"\1"), bytearray(b"\1")).is_whole
