"""Which points are copied, where they stand, and what is remembered of them."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from ibtfs.actions.check import check
from ibtfs.actions.copy.survey import Choice, gone_there
from ibtfs.actions.observer import Observer
from ibtfs.errors import PointNotFound, RepositoryLocked, UsageError
from ibtfs.format.point import Point
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.lock import EXCLUSIVE, PRUNE
from ibtfs.store.repository import Repository
from tests.support.copying import assert_same_point, copied, copied_well, order_of, rows
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import Backup, back_up, create, reopened, settle, the_point


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Repository]:
    made = create(tmp_path / "target")
    yield made
    assert_whole(made)


@pytest.fixture
def points(source: Path, backup_of: Backup) -> list[Point]:
    """Five points of `source`."""
    made = []
    for number in range(5):
        (source / "file").write_bytes(random.Random(number).randbytes(3000))
        settle()
        made.append(the_point(backup_of(source, tags=(f"tag{number}",))))
    return made


NOW = datetime(2027, 1, 1)


def ids(*points: Point) -> list[str]:
    return [point.id for point in points]


def here(repository: Repository) -> set[str]:
    return set(reopened(repository).points.ids())


def missing(repository: Repository) -> tuple[str, ...]:
    return check(reopened(repository), read_data=False, observer=Observer()).missing


def test_all_are_copied_oldest_first_and_once(
    repository: Repository, target: Repository, points: list[Point]
) -> None:
    first = copied_well(repository, target)
    assert [one.there.id for one in first.copied] == ids(*points)
    again = copied_well(repository, target)
    assert (again.copied, ids(*again.found.already)) == ([], ids(*points))
    assert missing(target) == ()


def test_words_tags_and_sources(
    repository: Repository, target: Repository, points: list[Point], source: Path
) -> None:
    copied_well(repository, target, "latest~1")
    assert here(target) == {points[3].id}
    copied_well(repository, target, choice=Choice(tags=("tag0", "tag1")))
    assert here(target) == {*ids(*points[:2]), points[3].id}
    other = the_point(back_up(repository, source, name="other"))
    copied_well(repository, target, choice=Choice(sources=("other",)))
    assert other.id in here(target)
    assert order_of(target, set(ids(*points))) == [points[n].id for n in (0, 1, 3)]
    for words, kind in ((("source/nothing",), PointNotFound), (("latest",), UsageError)):
        with pytest.raises(kind):
            copied(repository, target, words)
    with pytest.raises(PointNotFound):
        copied(repository, target, choice=Choice(tags=("unknown",)))


def test_copied_backwards_they_are_in_order(
    repository: Repository, target: Repository, points: list[Point]
) -> None:
    for point in reversed(points):
        copied_well(repository, target, point.id)
    assert order_of(target, here(target)) == ids(*points)
    for point in points:
        assert_same_point(repository, target, point.id)


@pytest.mark.parametrize("also_prune", [False, True])
def test_what_was_removed_on_purpose_comes_only_by_name(
    repository: Repository, target: Repository, points: list[Point], *, also_prune: bool
) -> None:
    copied_well(repository, target)
    forget(target, points[1:3])
    if also_prune:
        pruned(target, all_of_it=True)
    result = copied_well(repository, target)
    assert ids(*result.found.declined) == ids(*points[1:3])
    assert result.copied == []
    copied_well(repository, target, points[1].id)
    assert here(target) == {points[n].id for n in (0, 1, 3, 4)}
    assert missing(target) == ()
    pruned(target)
    assert copied_well(repository, target).copied == []
    assert_same_point(repository, target, points[1].id)


def test_what_was_lost_here_is_told_and_comes_again(
    repository: Repository, target: Repository, points: list[Point]
) -> None:
    copied_well(repository, target)
    Path(os.fsdecode(target.path), "points", points[2].id).unlink()
    [told] = missing(target)
    assert points[2].id in told
    [one] = copied_well(repository, target).copied
    assert one.there.id == points[2].id
    assert missing(target) == ()


def test_gaps_in_numbers_and_what_a_killed_copy_left_are_no_loss(
    repository: Repository, target: Repository, points: list[Point], source: Path
) -> None:
    copied_well(repository, target, points[4].id)
    (source / "file").write_bytes(b"another")
    lost = the_point(back_up(target, source))
    (source / "file").write_bytes(b"one more")
    back_up(target, source)
    assert missing(target) == ()
    Path(os.fsdecode(target.path), "points", lost.id).unlink()
    assert len(missing(target)) == 1


def test_notes_of_points_that_are_gone_everywhere_go(
    repository: Repository, target: Repository, points: list[Point]
) -> None:
    copied_well(repository, target)
    assert CopiedPoints(target).of(repository.id) == set(ids(*points))
    for one in (repository, target):
        forget(one, points[:2])
    copied_well(repository, target)
    assert CopiedPoints(target).of(repository.id) == set(ids(*points[2:]))
    pruned(target)
    left = set(reopened(target).points.forgotten())
    assert left.isdisjoint(ids(*points[:2]))


def test_backups_go_on_where_the_copies_end(
    repository: Repository, target: Repository, points: list[Point], source: Path
) -> None:
    copied_well(repository, target)
    result = back_up(target, source)
    assert result.tally.counts["bytes_read"] == 0
    assert the_point(result).parent == points[4].id
    assert order_of(target, here(target)) == [*ids(*points), the_point(result).id]


def test_two_disks_that_took_turns_are_put_in_order(
    repository: Repository, target: Repository, source: Path, tmp_path: Path
) -> None:
    disks, made = [repository, create(tmp_path / "second")], []
    for number in range(6):
        (source / "file").write_bytes(b"%d" % number)
        back_up(disks[0], source, name="a source of the first disk alone")
        made.append((disks[number % 2], the_point(back_up(disks[number % 2], source))))
    copied_well(disks[0], target)
    copied_well(disks[1], target)
    wanted = [point.id for _, point in made]
    assert order_of(target, set(wanted)) == wanted
    for disk, point in made:
        assert rows(target, reopened(target).points.get(point.id)) == rows(disk, point)


def test_a_chain_of_copies(
    repository: Repository, target: Repository, points: list[Point], tmp_path: Path
) -> None:
    third = create(tmp_path / "third")
    copied_well(repository, target)
    copied_well(target, third)
    assert copied_well(repository, third).copied == []
    for point in points:
        assert_same_point(repository, third, point.id)
    assert_whole(third)


def test_the_same_repository_is_refused(
    repository: Repository, points: list[Point], tmp_path: Path
) -> None:
    assert points
    shutil.copytree(os.fsdecode(repository.path), tmp_path / "clone")
    for other in (repository, Repository.open(os.fsencode(tmp_path / "clone"))):
        with pytest.raises(UsageError, match="same repository"):
            copied(repository, other)


def test_both_are_locked(repository: Repository, target: Repository, points: list[Point]) -> None:
    for one in (repository, target):
        with reopened(one).lock(EXCLUSIVE), pytest.raises(RepositoryLocked):
            copied(repository, target)
        with reopened(one).lock(PRUNE):
            copied_well(repository, target, points[0].id)
    assert here(target) == {points[0].id}


def test_tags_follow_if_that_is_asked_for(
    repository: Repository, target: Repository, points: list[Point]
) -> None:
    copied_well(repository, target)
    repository.points.add_tag(points[0].id, "later")
    repository.points.remove_tag(points[1].id, "tag1")
    copied_well(repository, target)
    assert target.points.tags(points[0].id) == ["tag0"]
    copied_well(repository, target, same_tags=True)
    assert target.points.tags(points[0].id) == ["later", "tag0"]
    assert target.points.tags(points[1].id) == []


def test_only_what_came_from_there_goes_with_it(
    repository: Repository, target: Repository, points: list[Point], source: Path, tmp_path: Path
) -> None:
    other = create(tmp_path / "other")
    the_point(back_up(other, source, name="of another"))
    the_point(back_up(target, source))
    copied_well(other, target)
    copied_well(repository, target)
    assert gone_there(repository, target) == []
    forget(repository, points[1:3])
    assert ids(*gone_there(repository, target)) == ids(*points[1:3])
    with pytest.raises(UsageError, match="no backup points"):
        gone_there(create(tmp_path / "empty"), target)
