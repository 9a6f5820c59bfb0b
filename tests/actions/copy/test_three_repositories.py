"""Three repositories, one of them sealed, with copies and mirrors in all directions between them.

Beside them a plain model: which points each holds, what they hold, and what was removed from where.
Points are purged and forgotten anywhere.  No point comes back that was removed, none holds what it
did not, or comes twice, and no mirror keeps what is gone.
"""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from ibtfs.actions.copy.survey import gone_there
from ibtfs.actions.forget.run import Way, forget_named
from ibtfs.actions.observer import Observer
from ibtfs.actions.purge.run import PurgeOptions, purge
from ibtfs.format.point import Origin, Point
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef
from ibtfs.store.trees.paths import content_pieces
from ibtfs.store.trees.reach import reach
from tests.actions.copy.test_points import NOW
from tests.support.copying import copied, copied_well
from tests.support.removal import assert_whole
from tests.support.repositories import back_up, create, reopened, the_point
from tests.support.sealing import create_sealed

GAMES, TURNS = 8, 20
NAMES = ("one", "two", "d/three", "d/e/four")
Tree = dict[str, bytes]


@dataclass
class Place:
    """A repository, and what it is to hold: the trees of its points, by which points these are.

    *stands* tells in whose place a point stands; *removed* are those that are not to come again,
    *unsure* those of which this may have been forgotten.  *came* are those that others, by their
    ids, have or had, too; *own* are remembered as removed, whatever others have.
    """

    repository: Repository
    trees: dict[Origin, Tree] = field(default_factory=dict)
    stands: dict[Origin, set[Origin]] = field(default_factory=dict)
    removed: set[Origin] = field(default_factory=set)
    unsure: set[Origin] = field(default_factory=set)
    came: dict[bytes, set[Origin]] = field(default_factory=dict)
    own: set[Origin] = field(default_factory=set)

    def found(self) -> dict[Origin, Point]:
        points = reopened(self.repository).points.all()
        assert not points.damaged
        by_origin = {point.origin_in(self.repository.id): point for point in points.points}
        assert len(by_origin) == len(points.points)
        return by_origin

    def hidden(self) -> set[Origin]:
        return set[Origin]().union(*(self.stands.get(origin, ()) for origin in self.trees))

    def noted(self) -> set[Origin]:
        return self.own.union(*self.came.values())

    def others(self, origins: set[Origin]) -> set[Origin]:
        """Those of *origins* that were not made here."""
        return {origin for origin in origins if origin.repository != self.repository.id}

    def elsewhere(self, source: Place) -> set[Origin]:
        """What came from others than *source*."""
        others = (came for one, came in self.came.items() if one != source.repository.id)
        return set[Origin]().union(*others)

    def tidied(self, source: Place, *, is_mirror: bool = False) -> set[Origin]:
        """What came from *source*, but for what is gone here and there."""
        came = self.came.setdefault(source.repository.id, set())
        came &= set(source.trees) | set(self.trees) | self.hidden()
        if is_mirror:
            came -= self.elsewhere(source) - set(source.trees)
        return came

    def took(self, source: Place, origins: set[Origin]) -> None:
        """Note that *origins* were not here, and came from *source*."""
        for came in self.came.values():
            came.difference_update(origins)
        self.came[source.repository.id].update(origins)

    def tree(self, point: Point) -> Tree:
        opened = reopened(self.repository)
        return {
            path.decode(): b"".join(content_pieces(opened, entry))
            for visit in reach(opened, StateRef(point.state, point.digest))
            for path, entry in visit.entries()
            if entry.content is not None
        }

    def check(self) -> None:
        found = self.found()
        assert set(found) == set(self.trees)
        for origin, point in found.items():
            assert self.tree(point) == self.trees[origin]


class Game:
    """All of them, and the source that is backed up to each."""

    def __init__(self, path: Path, number: int) -> None:
        path.mkdir()
        self.rng, self.source, self.tree = random.Random(number), path / "source", Tree()
        made = [create(path / "a"), create_sealed(path / "b"), create(path / "c")]
        self.places = [Place(repository) for repository in made]
        (self.source / "d" / "e").mkdir(parents=True)
        for name in NAMES:
            self.write(name)

    def write(self, name: str) -> None:
        self.tree[name] = self.rng.randbytes(self.rng.randrange(100, 3000))
        (self.source / name).write_bytes(self.tree[name])

    def turn(self) -> None:
        turns = (self.back_up, self.copy, self.copy, self.mirror, self.mirror, self.by_name,
                 self.forget, self.purge)  # fmt: skip
        self.rng.choice(turns)()
        for place in self.places:
            place.check()

    def back_up(self) -> None:
        place = self.rng.choice(self.places)
        for name in self.rng.sample(NAMES, 2):
            self.write(name)
        point = the_point(back_up(place.repository, self.source))
        place.trees[point.origin_in(place.repository.id)] = dict(self.tree)

    def two(self) -> tuple[Place, Place]:
        source, target = self.rng.sample(self.places, 2)
        return source, target

    def copy(self) -> None:
        self.copy_from(*self.two())

    def copy_from(self, source: Place, target: Place, *, is_mirror: bool = False) -> None:
        result = copied_well(source.repository, target.repository, same_tags=is_mirror)
        there, before = set(source.trees), target.came.get(source.repository.id, set()).copy()
        came = target.tidied(source, is_mirror=is_mirror)
        declined = {result.found.ids.origin(point.id) for point in result.found.declined}
        refused = there & (target.removed | target.hidden()) - set(target.trees)
        assert refused <= declined <= refused | target.unsure
        came |= target.others(there & set(target.trees))
        target.took(source, there - declined - set(target.trees))
        if not target.repository.config.is_sealed:
            target.own |= declined - before
        target.removed |= declined
        target.unsure -= there
        for origin in source.trees:  # in an order that is the same each time
            if origin not in declined:
                target.trees.setdefault(origin, source.trees[origin])

    def mirror(self) -> None:
        source, target = self.two()
        if not source.trees:
            return
        gone = gone_there(reopened(source.repository), reopened(target.repository))
        came = target.came.get(source.repository.id, set())
        found = {point.origin_in(target.repository.id) for point in gone}
        for origin in target.trees:
            mine = {origin} | target.stands.get(origin, set())
            is_sole = mine & came and not mine & target.elsewhere(source)
            assert (origin in found) == bool(is_sole and not mine & set(source.trees))
        self.copy_from(source, target, is_mirror=True)
        for origin in found:
            self.remove(target, origin)
        kept = target.came[source.repository.id] & set(target.trees)
        assert kept == {origin for origin in kept if origin in source.trees}

    def by_name(self) -> None:
        """One point is copied, also if it was removed."""
        source, target = self.two()
        if not source.trees:
            return
        origin = self.rng.choice(list(source.trees))
        point = source.found()[origin]
        result = copied(source.repository, target.repository, [point.id])
        assert result.error is None
        came = target.tidied(source)
        is_hidden = origin in target.hidden() and origin not in target.trees
        assert bool(result.failed) == is_hidden
        if origin in target.trees:
            came |= target.others({origin})
        elif not is_hidden:
            target.trees[origin] = source.trees[origin]
            target.took(source, {origin})
            target.removed.discard(origin)
            target.unsure.discard(origin)

    def forget(self) -> None:
        place = self.rng.choice(self.places)
        if len(place.trees) > 1:
            self.remove(place, self.rng.choice(list(place.trees)))

    def remove(self, place: Place, origin: Origin) -> None:
        point = place.found()[origin]
        forget_named(reopened(place.repository), [point.id], NOW, Way(allow_none=True))
        del place.trees[origin]
        place.removed |= {origin} | place.stands.pop(origin, set())

    def purge(self) -> None:
        """A file, or a folder, leaves all points of a repository."""
        place = self.rng.choice(self.places)
        word = self.rng.choice((*NAMES, "d", "d/e"))
        if not any(_has(tree, word) for tree in place.trees.values()):
            return
        before = {origin: point.id for origin, point in place.found().items()}
        path = os.fsencode(self.source / word)
        result = purge(reopened(place.repository), [path], PurgeOptions(), Observer())
        assert set(result.replaced) <= set(before.values())
        for origin in list(place.trees):
            if before[origin] not in result.replaced:
                continue
            made = Origin(place.repository.id, result.replaced[before[origin]])
            tree = place.trees.pop(origin)
            place.trees[made] = {n: data for n, data in tree.items() if not _has({n: b""}, word)}
            place.stands[made] = {origin} | place.stands.pop(origin, set())
            place.own.add(origin)
        assert not any(_has(tree, word) for tree in place.trees.values())
        # its space was freed: who was never copied is not remembered any more, but by a list
        lost = place.removed - place.noted()
        if place.repository.config.is_sealed:
            return
        place.unsure |= lost
        place.removed -= lost


def _has(tree: Tree, word: str) -> bool:
    return any(name == word or name.startswith(f"{word}/") for name in tree)


def test_all_of_them_hold_what_they_should(fast_path: Path) -> None:
    played = set()

    @seed("three repositories")
    @settings(max_examples=GAMES, phases=[Phase.generate], database=None, deadline=None)
    @given(st.integers(0, (1 << 64) - 1))
    def play(number: int) -> None:
        path = fast_path / f"{number:x}"
        try:
            game = Game(path, number)
            for _ in range(TURNS):
                game.turn()
            for place in game.places:
                assert_whole(place.repository)
        finally:
            shutil.rmtree(path)
        played.add(number)

    play()
    assert len(played) == GAMES
