"""Which points are the same: copies of one, whichever way they came; none that was purged."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ibtfs.actions.copy.run import CopyResult
from ibtfs.actions.copy.survey import gone_there
from ibtfs.actions.forget.run import Way, forget_named
from ibtfs.actions.forget.tags import tag_points
from ibtfs.actions.observer import Observer
from ibtfs.actions.purge.run import PurgeOptions, purge
from ibtfs.errors import RepositoryError
from ibtfs.format.point import Origin, Point
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.repository import Repository
from tests.actions.copy.test_points import NOW, here, ids
from tests.support import Entry
from tests.support.copying import copied, copied_well
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import (
    Backup,
    back_up,
    create,
    damages,
    remove,
    reopened,
    restored_tree,
    settle,
    the_point,
)
from tests.support.sealing import create_sealed, open_sealed
from tests.support.writers import Machine

Make = Callable[[Path], Repository]
Trees = dict[tuple[int, int], dict[bytes, Entry]]

PLAIN_OR_SEALED = pytest.mark.parametrize("make", [create, create_sealed])


@pytest.fixture
def points(source: Path, backup_of: Backup) -> list[Point]:
    """Two points of `source`, with a file in a folder that is to be purged, and another."""
    made = []
    (source / "d").mkdir()
    (source / "d" / "secret").write_bytes(b"private" * 2000)
    (source / "d" / "other").write_bytes(b"x" * 3000)
    for number in range(2):
        (source / "file").write_bytes(b"%d" % number * 3000)
        settle()
        made.append(the_point(backup_of(source)))
    return made


def purged(repository: Repository, path: Path) -> None:
    result = purge(reopened(repository), [os.fsencode(path)], PurgeOptions(), Observer())
    assert result.replaced
    assert not result.left


def mirrored(source: Repository, target: Repository) -> CopyResult:
    """As ``ibtfs copy --mirror`` does it."""
    gone = gone_there(reopened(source), reopened(target))
    result = copied_well(source, target, same_tags=True)
    if gone:
        forget_named(reopened(target), ids(*gone), NOW, Way(allow_none=True))
    return result


def trees(repository: Repository, path: Path) -> Trees:
    """What all points come back as, by when they were made, and which one it was of that time."""
    found: Trees = {}
    for point in reopened(repository).points.all().points:
        number = sum(time == point.time_ns for time, _ in found)
        found[point.time_ns, number] = restored_tree(repository, point, path / "restored")
    return found


@PLAIN_OR_SEALED
def test_what_was_purged_there_leaves_the_mirror(
    make: Make, repository: Repository, source: Path, points: list[Point], tmp_path: Path
) -> None:
    target = make(tmp_path / "target")
    mirrored(repository, target)
    purged(repository, source / "d/secret")
    (source / "new").write_bytes(b"n" * 4000)
    (source / "d" / "secret").unlink()
    settle()
    back_up(repository, source)
    result = mirrored(repository, target)
    assert len(result.copied) == len(points) + 1
    assert trees(target, tmp_path) == trees(repository, tmp_path)
    assert mirrored(repository, target).copied == []
    (source / "d" / "other").write_bytes(b"y" * 3000)
    settle()
    back_up(repository, source)
    assert len(mirrored(repository, target).copied) == 1
    assert trees(target, tmp_path) == trees(repository, tmp_path)
    assert not any(b"d/secret" in tree for tree in trees(target, tmp_path).values())
    assert_whole(target)


@PLAIN_OR_SEALED
def test_what_was_purged_here_comes_from_no_copy_and_is_in_what_holds_it(
    make: Make, repository: Repository, source: Path, points: list[Point], tmp_path: Path
) -> None:
    target = make(tmp_path / "target")
    copied_well(repository, target)
    for path in ("d/secret", "d/other"):  # the second replaces what the first has made
        purged(target, source / path)
    before = here(target)
    result = copied_well(repository, target)
    assert (result.copied, len(result.found.declined)) == ([], len(points))
    assert gone_there(reopened(repository), reopened(target)) == []
    (source / "new").write_bytes(b"n" * 4000)
    settle()
    last = the_point(back_up(repository, source))  # still holds what was purged elsewhere
    [one] = copied_well(repository, target).copied
    assert one.here is not None
    assert here(target) == {*before, one.here.id}
    tree = restored_tree(target, one.here, tmp_path / "restored")
    assert tree == restored_tree(repository, last, tmp_path / "restored")
    forget(repository, points)
    assert set(ids(*gone_there(reopened(repository), reopened(target)))) == before
    assert_whole(target)


@PLAIN_OR_SEALED
def test_what_was_purged_here_does_not_come_back_from_a_copy_of_it(
    make: Make, repository: Repository, source: Path, points: list[Point], tmp_path: Path
) -> None:
    copy = make(tmp_path / "copy")
    copied_well(repository, copy)
    purged(repository, source / "d/secret")
    result = copied_well(copy, repository)
    assert (result.copied, len(result.found.declined)) == ([], len(points))
    assert not any(b"d/secret" in tree for tree in trees(repository, tmp_path).values())
    # nor if what it left is gone as well
    settle()
    last = the_point(back_up(repository, source))
    forget(repository, here(repository) - {last.id})
    pruned(repository)
    result = copied_well(copy, repository)
    assert (result.copied, len(result.found.declined)) == ([], len(points))


@PLAIN_OR_SEALED
def test_what_was_forgotten_does_not_come_back_under_another_id(
    make: Make, repository: Repository, points: list[Point], tmp_path: Path
) -> None:
    copy = make(tmp_path / "copy")
    copied_well(repository, copy)
    forget(repository, points[:1])
    result = copied_well(copy, repository)
    assert (result.copied, len(result.found.declined)) == ([], 1)
    assert here(repository) == {points[1].id}
    by_id = {point.time_ns: point.id for point in reopened(copy).points.all().points}
    [one] = copied_well(copy, repository, by_id[points[0].time_ns]).copied  # unless it is named
    assert one.here is not None
    assert (one.here.id, one.here.origin) == (points[0].id, None)  # it is what it was
    assert_whole(repository)


@pytest.mark.parametrize("directly_first", [False, True])
@PLAIN_OR_SEALED
def test_a_point_that_comes_by_two_ways_comes_once(
    make: Make, repository: Repository, points: list[Point], tmp_path: Path, *, directly_first: bool
) -> None:
    between, target = create_sealed(tmp_path / "between"), make(tmp_path / "target")
    copied_well(repository, between)
    ways = [between, repository]
    if directly_first:
        ways.reverse()
    first = copied_well(ways[0], target)
    second = copied_well(ways[1], target)
    assert (len(first.copied), second.copied) == (len(points), [])
    assert len(second.found.already) == len(points)
    if make is create:
        assert here(target) == set(ids(*points))
    for back in (between, repository):
        assert copied_well(target, back).copied == []
    forget(target, here(target))
    for way in ways:
        assert copied_well(way, target).copied == []
    assert_whole(target)


def test_a_manifest_that_cannot_be_read_lets_nothing_go(
    repository: Repository, points: list[Point], tmp_path: Path
) -> None:
    between, target = create_sealed(tmp_path / "between"), create(tmp_path / "target")
    for source, to in ((repository, between), (repository, target), (between, target)):
        copied_well(source, to)
    assert here(target) == set(ids(*points))
    for place in (between, target):
        for path in Path(os.fsdecode(place.path), "points").iterdir():
            data = path.read_bytes()
            path.write_bytes(data[:-1])
            with pytest.raises(RepositoryError, match=f"the manifest of {path.name} in"):
                gone_there(reopened(between), reopened(target))
            if place is between:
                copied(between, target)
            path.write_bytes(data)
            assert gone_there(reopened(between), reopened(target)) == []
    assert CopiedPoints(target).of(between.id) == here(target)  # nor is forgotten what came


@PLAIN_OR_SEALED
def test_what_was_there_a_moment_ago_and_is_not_lets_nothing_go(
    make: Make, repository: Repository, points: list[Point], tmp_path: Path
) -> None:
    """A storage could show all to who compares it with what was seen, and less to who mirrors."""
    source, target = make(tmp_path / "between"), create(tmp_path / "target")
    copied_well(repository, source)
    copied_well(source, target)
    opened = reopened(source)
    [first, *_] = opened.points.ids()
    taken = Path(os.fsdecode(source.path), "points", first)
    taken.rename(tmp_path / "taken")
    with pytest.raises(RepositoryError, match=f"{first} was in .* a moment ago"):
        gone_there(opened, reopened(target))
    (tmp_path / "taken").rename(taken)
    forget_named(reopened(source), [first], NOW, Way())
    assert len(gone_there(opened, reopened(target))) == 1


def test_what_was_made_here_does_not_go_with_a_mirror_of_a_copy(
    repository: Repository, points: list[Point], tmp_path: Path
) -> None:
    copy = create(tmp_path / "copy")
    for _ in range(2):
        mirrored(repository, copy)
        mirrored(copy, repository)
    forget(copy, points[:1])
    mirrored(copy, repository)
    assert here(repository) == set(ids(*points))


@pytest.mark.parametrize("order", ["directly first", "directly last"])
@PLAIN_OR_SEALED
def test_what_came_by_two_ways_goes_when_both_have_lost_it(
    make: Make, repository: Repository, points: list[Point], tmp_path: Path, order: str
) -> None:
    between, target = create(tmp_path / "between"), make(tmp_path / "target")
    copied_well(repository, between)
    ways = [repository, between] if order == "directly first" else [between, repository]
    for way in ways:
        mirrored(way, target)
    before = here(target)
    by_time = {point.time_ns: point.id for point in reopened(target).points.all().points}
    gone = by_time[points[0].time_ns]
    tag_points(reopened(target), "mine", [gone], NOW)
    for way in ways:
        assert here(target) == before
        assert "mine" in reopened(target).points.tags(gone)
        forget(way, points[:1])
        mirrored(way, target)
    assert here(target) == before - {gone}


@PLAIN_OR_SEALED
def test_a_point_that_says_it_is_another_of_its_repository_hides_none(
    make: Make, repository: Repository, points: list[Point], tmp_path: Path
) -> None:
    target, (first, last) = make(tmp_path / "target"), points
    forged = replace(
        last, id=f"{last.id[:-1]}x", suffix="", sequence=99, origin=Origin(repository.id, first.id)
    )
    reopened(repository).points.put(forged)
    result = copied(repository, target)
    assert set(result.failed) == {forged.id}
    assert "and is not" in result.failed[forged.id]
    expected = trees(repository, tmp_path)
    remove(repository, forged)
    assert trees(target, tmp_path) == {key: expected[key] for key in trees(repository, tmp_path)}
    assert len(mirrored(repository, target).found.already) == 2
    # nor does it if the other one is a copy
    between = create(tmp_path / "between")
    copied_well(repository, between)
    reopened(between).points.put(replace(forged, state=first.state, digest=last.digest))
    other = make(tmp_path / "other")
    result = copied(between, other)
    assert set(result.failed) == {first.id, forged.id}
    assert set(copied(between, other, [forged.id]).failed) == {forged.id}
    assert len(here(other)) == 1


@pytest.mark.parametrize("make_true", [create, create_sealed])
@PLAIN_OR_SEALED
def test_a_lie_about_a_point_of_another_repository_keeps_that_from_nobody(
    make: Make, make_true: Make, repository: Repository, source: Path, points: list[Point],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Nor is anything built upon it."""
    true, target = make_true(tmp_path / "true"), make(tmp_path / "target")
    (source / "d" / "secret").write_bytes(b"true" * 2000)
    one = the_point(back_up(true, source))
    forged = replace(
        points[0], id="20260101T000000Z_evil_aaaaaaaaaa", source=one.source, suffix="",
        time_ns=one.time_ns, root=one.root, origin=Origin(true.id, one.id),
    )  # fmt: skip
    reopened(repository).points.put(forged)
    copied_well(repository, target, forged.id)
    [lie] = here(target)
    for number in range(3):
        assert len(copied_well(true, target).copied) == 1
        settle()
        (source / "new").write_bytes(b"%d" % number)
        back_up(true, source)
    found = reopened(target).points.all().points
    assert len(found) == 4
    for point in found:
        tree = restored_tree(target, point, tmp_path / "restored")
        assert (tree[b"d/secret"].size == len(b"true" * 2000)) == (point.id != lie)
    assert gone_there(reopened(true), reopened(target)) == []
    forget(repository, [forged])
    assert ids(*gone_there(reopened(repository), reopened(target))) == [lie]


@PLAIN_OR_SEALED
def test_what_was_purged_here_and_forgotten_is_remembered(
    make: Make, repository: Repository, source: Path, points: list[Point], tmp_path: Path
) -> None:
    """Also by who was never copied to."""
    first = make(tmp_path / "first")
    copied_well(repository, first)
    copies = [create(tmp_path / "plain"), create_sealed(tmp_path / "sealed")]
    for copy in copies:
        copied_well(first, copy)
    purged(first, source / "d/secret")
    settle()
    last = the_point(back_up(first, source))
    forget(first, here(first) - {last.id})
    forget(repository, points[:1])
    for _ in range(2):
        pruned(first)
        copied_well(repository, first)
    for copy in copies:
        result = copied_well(copy, first)
        assert (result.copied, len(result.found.declined)) == ([], len(points))
    assert damages(first) == []
    if make is create_sealed:  # there is a list of all that was removed
        forget(first, [last])
        copied_well(first, copies[0])
        back_up(first, source)
        pruned(first)
        assert copied_well(copies[0], first).copied == []


def test_points_of_machines_that_only_write_are_known_again(source: Path, tmp_path: Path) -> None:
    place, target = tmp_path / "place", create(tmp_path / "target")
    owner = create_sealed(place)
    machine = Machine(place, tmp_path / "state", "laptop")
    made = []
    for number in range(2):
        (source / "file").write_bytes(b"%d" % number)
        made.append(the_point(machine.back_up(source)))
    tree = restored_tree(open_sealed(place), made[0], tmp_path / "restored")
    copied_well(open_sealed(place), target)
    assert here(target) == set(ids(*made))
    other = create_sealed(tmp_path / "other")
    copied_well(target, other)
    for way in (open_sealed(place), target):
        for back in (other, open_sealed(place)):
            assert way.id == back.id or copied_well(way, back).copied == []
    forget_named(open_sealed(place), [made[0].id], NOW, Way())
    for way in (target, other):
        result = copied_well(way, open_sealed(place))
        assert (result.copied, len(result.found.declined)) == ([], 1)
    [one] = copied_well(target, open_sealed(place), made[0].id).copied  # unless it is named
    assert one.here is not None
    assert one.here.id != made[0].id  # that is for what the machine has signed
    assert (one.here.writer, one.here.origin) == (machine.secrets.tag, (owner.id, made[0].id))
    assert restored_tree(open_sealed(place), one.here, tmp_path / "restored") == tree
    for way in (target, other):
        assert copied_well(way, open_sealed(place)).copied == []
    assert_whole(open_sealed(place))


@PLAIN_OR_SEALED
def test_copies_that_do_not_say_what_they_are_copies_of_are_known_by_their_ids(
    make: Make, repository: Repository, source: Path, points: list[Point], tmp_path: Path
) -> None:
    """So earlier versions made them."""
    target = make(tmp_path / "target")
    copied_well(repository, target)
    for point in reopened(target).points.all().points:
        assert point.origin is not None
        remove(target, point)
        reopened(target).points.put(replace(point, origin=None))
    before = here(target)
    result = copied_well(repository, target)
    assert (result.copied, len(result.found.already)) == ([], len(points))
    purged(repository, source / "d/secret")
    mirrored(repository, target)
    assert here(target).isdisjoint(before)
    assert trees(target, tmp_path) == trees(repository, tmp_path)


def test_a_lie_about_which_point_one_is_takes_no_other(
    repository: Repository, source: Path, points: list[Point], tmp_path: Path
) -> None:
    target = create(tmp_path / "target")
    own = the_point(back_up(target, source, name="own"))
    claimed = Origin(target.id, own.id)
    forged = [replace(points[0], id=f"{points[0].id[:-1]}x", suffix="", origin=claimed)]
    forged.append(replace(own, id="forged-0", state=points[0].state, origin=claimed))
    told = []
    for one in forged:
        reopened(repository).points.put(one)
        result = copied(repository, target)
        told.append((set(result.failed), own.id in ids(*result.found.already)))
        remove(repository, one)
        assert gone_there(reopened(repository), reopened(target)) == []
    assert told == [({own.id}, False), (set(), True)]
    assert reopened(target).points.get(own.id) == own
