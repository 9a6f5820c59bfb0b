"""Random histories, copied in any order and in portions, cut off in between: all of it is the same.

The bounds of the format are lowered for most, and for half of them both repositories are taken to
make digests in different ways.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from ibtfs.actions.copy import work
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from tests.promises.test_histories import CONFIGURATIONS
from tests.support import Entry, differences, snapshot
from tests.support.copying import assert_same_point, copied, copied_well, holes_of, order_of
from tests.support.crashing import CutOff, Steps
from tests.support.histories import History
from tests.support.removal import assert_whole, pruned
from tests.support.repositories import back_up, create, reopened, restored_tree, the_point
from tests.support.views import viewed_tree

GENERATIONS = 7
EXAMPLES = 2
PLAYED = ["as it is", "short chains", "few states, small pages", "little memory", "small archives",
          "all"]  # fmt: skip


class Game:
    """A history of backups, and a plain model of what the copy is to hold."""

    def __init__(self, path: Path, number: int) -> None:
        path.mkdir()
        self.path, self.rng = path, random.Random(number)
        self.history = History(path / "source", self.rng, max_bytes=2 << 20, max_entries=30)
        self.source, self.target = create(path / "from"), create(path / "to")
        self.trees: dict[str, dict[bytes, Entry]] = {}
        self.points: list[Point] = []
        self.here: set[str] = set()

    def back_up(self) -> None:
        self.trees_of(the_point(back_up(self.source, self.history.root,
                                        full=self.rng.randrange(8) == 0)))  # fmt: skip

    def trees_of(self, point: Point) -> None:
        self.points.append(point)
        self.trees[point.id] = snapshot(self.history.root)

    def step(self) -> None:
        """Something happens: in the source, or by a copy that is cut off or comes to its end."""
        self.history.step()
        self.back_up()
        for _ in range(self.rng.choice((0, 0, 1, 2))):
            self.copy_some()
        if self.rng.randrange(4) == 0:
            self.thin()

    def copy_some(self) -> None:
        ids = [point.id for point in self.points]
        words = self.rng.sample(ids, self.rng.randrange(1, len(ids) + 1))
        if self.rng.randrange(2):
            self.cut_off(words)
        else:
            copied_well(self.source, self.target, *words)
            self.here.update(words)

    def cut_off(self, words: list[str]) -> None:
        """A copy that is killed; what it had copied is whole."""
        with pytest.MonkeyPatch.context() as patch:
            Steps(patch, self.rng.randrange(60))
            try:
                copied(self.source, self.target, words)
            except CutOff:
                pass
        for repository in (self.source, self.target):  # this process still lives
            for lock in Path(repository.path.decode(), "locks").iterdir():
                lock.unlink()
        self.here.update(set(words).intersection(reopened(self.target).points.ids()))

    def thin(self) -> None:
        """Points go here, or there, and their space is freed."""
        for repository, left in ((self.source, 2), (self.target, 1)):
            ids = reopened(repository).points.ids()
            if not ids:
                continue  # who was cut off before the first left archives of no point
            gone = self.rng.sample(ids, self.rng.randrange(max(len(ids) - left, 0) + 1))
            for (
                point_id
            ) in gone:  # a copy by name, cut off, may have left the note of an earlier time
                reopened(repository).points.remove(point_id)
            pruned(repository)
            if repository is self.target:
                self.here.difference_update(gone)
            else:
                self.points = [point for point in self.points if point.id not in gone]

    def finish(self) -> None:
        """All is copied by name, also what was removed; each point is as it was."""
        ids = [point.id for point in self.points]
        copied_well(self.source, self.target, *ids)
        self.here.update(ids)
        assert set(reopened(self.target).points.ids()) == self.here
        assert order_of(self.target, set(ids)) == order_of(self.source, set(ids))
        for point_id in self.here:
            point = reopened(self.target).points.get(point_id)
            tree = self.trees[point_id]
            assert differences(tree, viewed_tree(reopened(self.target), point)) == []
            back = restored_tree(self.target, point, self.path / "restored")
            assert differences(tree, back) == []
        for point_id in ids:
            assert_same_point(self.source, self.target, point_id)
        assert_whole(self.target)
        assert copied_well(self.source, self.target).copied == []


@pytest.fixture
def lowered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for module, name, value in CONFIGURATIONS[request.param]:
        monkeypatch.setattr(module, name, value)
    return str(request.param)


@pytest.mark.parametrize("alike", [True, False], ids=["by digest", "by bytes"])
@pytest.mark.parametrize("lowered", PLAYED, indirect=True)
def test_every_copy_is_the_same_point(
    lowered: str, fast_path: Path, monkeypatch: pytest.MonkeyPatch, *, alike: bool
) -> None:
    monkeypatch.setattr(work, "same_digests", lambda *_: alike)
    played = set()

    @seed(f"{lowered} {alike}")
    @settings(max_examples=EXAMPLES, phases=[Phase.generate], database=None, deadline=None)
    @given(st.integers(0, (1 << 64) - 1))
    def play(number: int) -> None:
        path = fast_path / f"{number:x}"
        try:
            game = Game(path, number)
            game.back_up()
            for _ in range(GENERATIONS):
                game.step()
            game.finish()
        finally:
            shutil.rmtree(path)
        played.add(number)

    play()
    assert len(played) == EXAMPLES


def sizes(*repositories: Repository) -> list[int]:
    return [
        sum(p.stat().st_size for p in Path(r.path.decode()).rglob("*") if p.is_file())
        for r in repositories
    ]


def test_a_copy_takes_no_more_room_and_has_the_same_holes(fast_path: Path) -> None:
    game = Game(fast_path / "game", 11)
    for _ in range(12):
        game.history.step()
        game.back_up()
    copied_well(game.source, game.target)
    there, here = sizes(game.source, game.target)
    assert here < there * 1.05
    for point in game.points:
        mine = reopened(game.target).points.get(point.id)
        assert holes_of(reopened(game.target), mine) == holes_of(reopened(game.source), point)
