"""Pruning a repository that is damaged: whatever is given back afterwards makes it whole again."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.decide import decide
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.errors import IntegrityError, RepositoryError
from ibtfs.format.frames import STREAMS
from tests.support import Entry, differences, snapshot
from tests.support.damage import lowered
from tests.support.protecting import protected, repaired
from tests.support.removal import forget
from tests.support.repositories import (
    back_up,
    create,
    damages,
    reopened,
    restored_tree,
    settle,
    the_point,
)

pytestmark = pytest.mark.damaged
ARCHIVES = range(4)


class Made:
    """A repository of four points, of which the first, and others, are forgotten, but for two."""

    def __init__(self, path: Path, *, share: int = 0) -> None:
        rng, self.path, source = random.Random(4), path, path / "source"
        self.trees: dict[str, dict[bytes, Entry]] = {}
        self.repository = create(path / "repository")
        self.root = path / "repository"
        if share:
            assert protected(self.repository, share) == []
        (source / "d1").mkdir(parents=True)
        (source / "d2").mkdir()
        large = bytearray(rng.randbytes(400_000))
        with lowered():
            for number in range(4):
                large[number * 5000 : number * 5000 + 100] = rng.randbytes(100)
                if number < 3:
                    (source / "d1" / "f").write_bytes(large)
                (source / "d1" / f"g{number}").write_bytes(rng.randbytes(100_000))
                (source / "d2" / "x").write_bytes(rng.randbytes(3000))
                if number == 2:
                    (source / "d1" / "g0").unlink()
                settle()
                point = the_point(back_up(self.repository, source))
                self.trees[point.id] = snapshot(source)
        self.ids = list(self.trees)

    def files(self, number: int) -> list[Path]:
        """The files of the archives of a point."""
        found = (self.root / "archives").glob(f"{self.ids[number]}.*/*")
        return sorted(path for path in found if ".parity." not in path.name)

    def frames(self, number: int) -> Iterator[tuple[Path, int]]:
        """Where in which files of an archive the first frame of each stream lies."""
        for path in self.files(number):
            file = self.repository.archive(path.parent.name).file(path.name.partition(".")[0])
            for stream in STREAMS:
                table = file.table(stream)
                if len(table.starts):
                    yield path, table.offsets[0] + table.sizes[0] // 2

    def prune(self, cache: bytes = b"") -> None:
        """Prune; it may say that nothing can be removed."""
        options = PruneOptions(all_of_it=True, cache=cache)
        with suppress(RepositoryError, IntegrityError):
            prune(reopened(self.repository), options, Observer())

    def assert_whole(self) -> None:
        assert damages(self.repository) == []
        for point in reopened(self.repository).points.all().points:
            found = restored_tree(self.repository, point, self.path / "back")
            assert differences(self.trees[point.id], found) == []


def spoil(path: Path, place: int) -> bytes:
    """Change a byte; the bytes that there were."""
    before = path.read_bytes()
    data = bytearray(before)
    data[place] ^= 1
    path.write_bytes(data)
    return before


@pytest.mark.parametrize("is_known", [False, True], ids=["marked anew", "marks known"])
@pytest.mark.parametrize("number", ARCHIVES)
def test_what_is_given_back_afterwards(fast_path: Path, number: int, is_known: bool) -> None:
    made = Made(fast_path)
    forget(made.repository, made.ids[:2])
    cache = fast_path / "cache"
    cache.mkdir()
    if is_known:
        decide(reopened(made.repository), cache=os.fsencode(cache))
    shutil.copytree(made.root, fast_path / "as it was")
    places = list(made.frames(number))
    assert len(places) > 3
    for path, place in places:
        before = spoil(path, place)
        made.prune(os.fsencode(cache) if is_known else b"")
        if path.exists():
            path.write_bytes(before)
        made.assert_whole()
        shutil.rmtree(made.root)
        shutil.copytree(fast_path / "as it was", made.root)


@pytest.mark.parametrize("number", ARCHIVES)
def test_what_parity_would_heal_it_heals_afterwards(fast_path: Path, number: int) -> None:
    made = Made(fast_path, share=30)
    forget(made.repository, made.ids[:2])
    shutil.copytree(made.root, fast_path / "as it was")
    for path, place in list(made.frames(number)):
        spoil(path, place)
        made.prune()
        left = repaired(made.repository).left
        assert left is not None
        assert left.damages == [], (path, place)
        made.assert_whole()
        shutil.rmtree(made.root)
        shutil.copytree(fast_path / "as it was", made.root)
