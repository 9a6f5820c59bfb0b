"""Copies in sealed repositories: nothing tells where their points came from, and all are known."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.actions.copy.survey import gone_there
from ibtfs.actions.forget.tags import untag_points
from ibtfs.format.point import Point
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.point_lists import newest_list
from ibtfs.store.repository import Repository
from tests.actions.copy.test_points import NOW, here, ids
from tests.support.copying import copied_well
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import Backup, reopened, restored_tree, settle, the_point
from tests.support.sealing import create_sealed


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Repository]:
    made = create_sealed(tmp_path / "target")
    yield made
    assert_whole(made)


@pytest.fixture
def points(source: Path, backup_of: Backup) -> list[Point]:
    """Three points of `source`, on a host that nobody is to know."""
    made = []
    for number in range(3):
        (source / "file").write_bytes(random.Random(number).randbytes(3000))
        settle()
        made.append(the_point(backup_of(source, host="hidden-host", tags=(f"tag{number}",))))
    return made


def test_nothing_tells_where_a_copy_came_from(
    repository: Repository, target: Repository, points: list[Point], tmp_path: Path
) -> None:
    copied_well(repository, target)
    root = Path(os.fsdecode(target.path))
    seen = [path.relative_to(root).as_posix().encode() for path in root.rglob("*")]
    seen += [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    for word in ("hidden-host", repository.id.hex(), *ids(*points)):
        assert not any(word.encode() in text for text in seen), word
    assert not any(repository.id in text for text in seen)
    for made, point in zip(reopened(target).points.all().points, points):
        assert re.fullmatch(r"[0-9]{8}T[0-9]{6}Z_[0-9a-f]{20}", made.id)
        assert made.id[:16] == point.id[:16]
        assert (made.source, made.sequence) == (point.source, point.sequence)
        tree = restored_tree(repository, point, tmp_path / point.id)
        assert restored_tree(target, made, tmp_path / made.id) == tree
    parents = [made.parent for made in reopened(target).points.all().points]
    assert parents == ["", *[made.id for made in reopened(target).points.all().points][:-1]]


def test_copies_are_known_again(
    repository: Repository, target: Repository, points: list[Point], source: Path,
    backup_of: Backup,
) -> None:  # fmt: skip
    copied_well(repository, target)
    before = here(target)
    again = copied_well(repository, target)
    assert (again.copied, len(again.found.already)) == ([], 3)
    assert CopiedPoints(target).of(repository.id) == before
    last = the_point(backup_of(source, host="hidden-host"))
    [one] = copied_well(repository, target).copied
    assert one.here is not None
    assert one.here.parent in before
    assert one.tally.counts["bytes_stored"] < 4000  # of what is there nothing is stored again
    forget(target, [reopened(target).points.all().points[0]])
    result = copied_well(repository, target)
    assert (result.copied, len(result.found.declined)) == ([], 1)
    copied_well(repository, target, points[0].id)  # unless it is named, as it is called there
    assert here(target) == {*before, one.here.id}
    forget(repository, [last])
    assert [gone.id for gone in gone_there(reopened(repository), reopened(target))] == [one.here.id]


def test_tags_are_kept_alike(
    repository: Repository, target: Repository, points: list[Point]
) -> None:
    copied_well(repository, target)
    untag_points(repository, "tag1", [points[1].id], NOW)
    copied_well(repository, target, same_tags=True)
    found = reopened(target)
    assert [found.points.tags(one.id) for one in found.points.all().points] == [
        ["tag0"], [], ["tag2"]
    ]  # fmt: skip
    assert newest_list(found).found.withdrawn
    pruned(target)


def test_a_point_is_the_same_whichever_way_it_came(
    repository: Repository, target: Repository, points: list[Point], tmp_path: Path
) -> None:
    copied_well(repository, target)
    other = create_sealed(tmp_path / "other")
    copied_well(target, other)
    assert here(other).isdisjoint(here(target))  # nor do they tell that they are the same
    assert copied_well(repository, other).copied == []
    assert copied_well(target, repository).copied == []
    assert here(repository) == set(ids(*points))
    assert gone_there(reopened(repository), reopened(target)) == []
    assert gone_there(reopened(target), reopened(repository)) == []


def test_what_the_list_has_as_removed_is_not_copied_though_the_storage_takes_the_note_of_it(
    repository: Repository, target: Repository, points: list[Point]
) -> None:
    copied_well(repository, target)
    by_time = {point.time_ns: point for point in reopened(target).points.all().points}
    forget(target, [by_time[points[0].time_ns]])
    pruned(target)
    for note in Path(os.fsdecode(target.path), "forgotten").iterdir():
        note.unlink()
    result = copied_well(repository, target)
    assert (result.copied, len(result.found.declined)) == ([], 1)
    [one] = copied_well(repository, target, points[0].id).copied  # unless it is named
    assert one.here is not None
    assert one.here.id == by_time[points[0].time_ns].id
