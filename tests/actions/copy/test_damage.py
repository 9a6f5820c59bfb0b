"""Damage in the repository that is copied from, and in the one that is copied to."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from ibtfs.actions.copy import work
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from tests.actions.copy.test_points import here
from tests.promises.test_healing_contents import damage_content, flip
from tests.support import Entry, differences, snapshot
from tests.support.copying import assert_same_point, copied, copied_well
from tests.support.damage import lowered
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import (
    Recorder,
    back_up,
    create,
    damages,
    reopened,
    restored_tree,
    row,
    settle,
    the_point,
)
from tests.support.sealing import create_sealed
from tests.support.trees import File, make_tree

pytestmark = pytest.mark.damaged
MIB = 1 << 20


class Made:
    """A repository of three points, as it was and as it is, and one to copy to."""

    def __init__(self, path: Path) -> None:
        self.path, source = path, path / "source"
        self.repository, self.target = create(path / "from"), create(path / "to")
        rng = random.Random(5)
        source.mkdir()
        make_tree(source, {
            "small": rng.randbytes(5000), "large": rng.randbytes(5 * MIB), "other": b"x" * 500,
            "attributes": File(b"a", xattrs={"user.large": rng.randbytes(600)}),
            "d": {"e": {f"f{n}": rng.randbytes(300) for n in range(5)}}, "delta": b"",
        })  # fmt: skip
        text = bytearray(rng.randbytes(100_000))
        self.points: list[Point] = []
        self.trees: list[dict[bytes, Entry]] = []
        for number in range(3):
            text[number * 3000 : number * 3000 + 500] = rng.randbytes(500)
            (source / "delta").write_bytes(text)
            settle()
            self.points.append(the_point(back_up(self.repository, source)))
            self.trees.append(snapshot(source))
        shutil.copytree(self.root, path / "sound")

    @property
    def root(self) -> Path:
        return Path(os.fsdecode(self.repository.path))

    def heal(self) -> None:
        """The repository is repaired, by whatever means."""
        shutil.rmtree(self.root)
        shutil.copytree(self.path / "sound", self.root)

    def damage(self, name: bytes) -> None:
        damage_content(self.repository, row(self.repository, self.points[0], name))

    def assert_healed(self) -> None:
        """All is copied by now, and nothing of what was incomplete is seen."""
        assert set(reopened(self.target).points.ids()) == {point.id for point in self.points}
        for point, tree in zip(self.points, self.trees):
            assert_same_point(self.repository, self.target, point.id)
            mine = reopened(self.target).points.get(point.id)
            assert differences(tree, restored_tree(self.target, mine, self.path / "back")) == []
        assert_whole(self.target)
        pruned(self.target)
        assert_whole(self.target)


@pytest.fixture
def made(fast_path: Path) -> Made:
    return Made(fast_path)


@pytest.mark.parametrize("alike", [True, False], ids=["by digest", "by bytes"])
@pytest.mark.parametrize("name", [b"small", b"large", b"delta", b"attributes"])
def test_what_cannot_be_read_is_told_and_comes_when_it_was_repaired(
    made: Made, name: bytes, monkeypatch: pytest.MonkeyPatch, *, alike: bool
) -> None:
    monkeypatch.setattr(work, "same_digests", lambda *_: alike)
    made.damage(name)
    heard = Recorder()
    result = copied(made.repository, made.target, observer=heard)
    assert not result.is_all_well
    assert (result.error, result.failed) == (None, {})
    told = {path for path, _ in heard.problems}  # small files share a frame
    assert name in told
    assert damages(made.target) == []
    for one, tree in zip(result.copied, made.trees):
        assert one.here is not None
        assert one.here.id != one.there.id
        assert one.here.statistics["problems"] == one.tally.counts["problems"]
        assert "incomplete copy: " in one.here.comment
        found = restored_tree(made.target, one.here, made.path / "back")
        assert {key for key in tree if key not in found} <= told
        assert {key for key in found if tree[key] != found[key]} <= {*told, b"", b"d", b"d/e"}
    before = reopened(made.target).points.ids()
    again = copied(made.repository, made.target)
    assert not again.is_all_well
    assert [one.here for one in again.copied] == [None] * 3
    assert sum(one.tally.counts["bytes_added"] for one in again.copied) == 0
    assert reopened(made.target).points.ids() == before
    reopened(made.target).points.add_tag(before[0], "by hand")
    made.heal()
    copied_well(made.repository, made.target)
    assert sum("by hand" in made.target.points.tags(one.id) for one in made.points) == 1
    for point in made.points:
        made.target.points.remove_tag(point.id, "by hand")
    made.assert_healed()


def test_an_earlier_version_is_kept_of_what_cannot_be_read(made: Made) -> None:
    copied_well(made.repository, made.target, made.points[0].id)
    damage_content(made.repository, row(made.repository, made.points[2], b"delta"))
    result = copied(made.repository, made.target)
    assert [one.here is not None and one.here.id == one.there.id for one in result.copied] == [
        True, False,
    ]  # fmt: skip
    last = result.copied[1].here
    assert last is not None
    kept = row(made.target, last, b"delta")
    assert kept.flags == 1
    assert kept.content == row(made.target, reopened(made.target).points.get(made.points[1].id),
                               b"delta").content  # fmt: skip
    made.heal()
    copied_well(made.repository, made.target)
    made.assert_healed()


def state_of(made: Made, path: bytes) -> Reference:
    state = row(made.repository, made.points[0], path).state
    assert state is not None
    return state.ref


def test_a_folder_that_cannot_be_read(fast_path: Path) -> None:
    with lowered():
        made = Made(fast_path)
        copied_well(made.repository, made.target, made.points[0].id)
        ref = state_of(made, b"d/e")
        opened = reopened(made.repository).archive(ref.archive).file("index")
        table = opened.table(18)
        frame = table.find(ref.number)
        flip(Path(os.fsdecode(made.repository.path), opened.name), table.offsets[frame] + 30)
        fresh = create(made.path / "fresh")
        result = copied(made.repository, fresh)
        assert not result.is_all_well
        assert damages(fresh) == []
        made.heal()
        copied_well(made.repository, fresh)
        made.target = fresh
        made.assert_healed()


def test_a_manifest_that_cannot_be_read_is_told(made: Made) -> None:
    flip(made.root / "points" / made.points[1].id, 60)
    result = copied(made.repository, made.target)
    assert not result.is_all_well
    assert list(result.found.there.damaged) == [made.points[1].id]
    assert len(result.copied) == 2
    made.heal()
    copied_well(made.repository, made.target)
    made.assert_healed()


def test_a_root_that_cannot_be_read_fails_that_point_alone(made: Made) -> None:
    ref = made.points[1].state
    os.truncate(made.root / "archives" / ref.archive / "index.1", 100)
    result = copied(made.repository, made.target)
    assert list(result.failed) == [made.points[1].id]
    assert [one.there.id for one in result.copied] == [made.points[0].id, made.points[2].id]
    made.heal()
    copied_well(made.repository, made.target)
    made.assert_healed()


def test_an_incomplete_copy_that_was_removed_is_not_made_again(made: Made) -> None:
    made.damage(b"small")
    copied(made.repository, made.target)
    gone = reopened(made.target).points.ids()
    forget(made.target, gone[:1])
    pruned(made.target)
    made.heal()
    result = copied_well(made.repository, made.target)
    assert len(result.copied) == 2
    assert len(result.found.declined) == 1


def test_what_is_damaged_here_is_not_built_upon(made: Made) -> None:
    copied_well(made.repository, made.target, made.points[0].id, made.points[1].id)
    mine = reopened(made.target).points.get(made.points[0].id)
    damage_content(made.target, row(made.target, mine, b"large"))
    assert damages(made.target) != []  # and noted
    copied_well(made.repository, made.target)
    last = reopened(made.target).points.get(made.points[2].id)
    found = restored_tree(made.target, last, made.path / "back")
    assert differences(made.trees[2], found) == []


@pytest.mark.parametrize("kind", ["index", "data"])
def test_archives_that_are_gone_here_are_not_built_upon(made: Made, kind: str) -> None:
    copied_well(made.repository, made.target, made.points[0].id, made.points[1].id)
    mine = reopened(made.target).points.get(made.points[0].id)
    folder = Path(os.fsdecode(made.target.path), "archives", mine.state.archive)
    (folder / f"{kind}.1").unlink()
    result = copied_well(made.repository, made.target)
    last = result.copied[-1].here
    assert last is not None
    assert last.id == made.points[2].id
    found = restored_tree(made.target, last, made.path / "back")
    assert differences(made.trees[2], found) == []


def test_a_repository_that_needs_no_lock_is_read(made: Made) -> None:
    """What may not be written to is read all the same, and that is told."""
    heard = Recorder()
    shutil.rmtree(made.root / "locks")
    (made.root / "locks").write_bytes(b"in the way")
    result = copied(made.repository, made.target, observer=heard)
    assert result.is_all_well
    assert any("No lock there" in note for note in heard.notes)
    made.heal()
    made.assert_healed()


def test_copies_serve_later_ones_though_incomplete(made: Made) -> None:
    """What is sure of an incomplete copy is not walked again: one entry of the next differs."""
    made.damage(b"large")
    result = copied(made.repository, made.target)
    assert [one.tally.counts["entries"] for one in result.copied][1:] == [1, 1]
    ref = row(made.target, _here(made.target, result.copied[2].there), b"delta").content
    assert ref is not None
    assert reopened(made.target).archive(ref.archive).content(ref.number).depth == 2


def _here(target: Repository, point: Point) -> Point:
    points = reopened(target).points.all().points
    return next(one for one in points if one.id.startswith(point.id))


def test_what_is_damaged_there_is_copied_beside_what_came_another_way_until_it_is_seen_to_be_that(
    tmp_path: Path,
) -> None:
    made = Made(tmp_path)
    between, target = create(tmp_path / "between"), create_sealed(tmp_path / "sealed")
    copied_well(made.repository, between)
    copied_well(between, target)
    before = here(target)
    made.damage(b"small")
    result = copied(made.repository, target)
    assert (len(result.copied), result.is_all_well) == (len(made.points), False)
    assert len(here(target) - before) == len(made.points)
    made.heal()
    result = copied_well(made.repository, target)
    assert (result.copied, len(result.found.already)) == ([], len(made.points))
    assert here(target) == before
    result = copied_well(made.repository, target)  # and this is remembered
    assert (result.copied, result.found.wanted) == ([], [])
    assert_whole(target)
