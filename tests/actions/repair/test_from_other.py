"""Repair from a copy of any age, or from another repository that has the same contents."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from ibtfs.errors import NotARepository
from ibtfs.format.frames import HEAD_SIZE
from ibtfs.store.mending.copies import configured_by
from ibtfs.store.repository import Repository
from tests.support import Entry, snapshot
from tests.support.bundles import bundles, put_together
from tests.support.crashing import cut_at_each_step
from tests.support.damage import lowered
from tests.support.protecting import files_of, repaired
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import back_up, create, reopened, restored_tree, the_point
from tests.support.trees import make_tree

pytestmark = pytest.mark.damaged


class Made:
    """A repository of several points whose source is gone, and copies of it."""

    def __init__(self, path: Path) -> None:
        rng = random.Random(3)
        self.path, source = path, path / "source"
        source.mkdir()
        self.repository = create(path / "repository")
        self.root = Path(os.fsdecode(self.repository.path))
        self.trees: dict[str, dict[bytes, Entry]] = {}
        large = bytearray(rng.randbytes(300_000))
        make_tree(source, {f"small{number:02}": rng.randbytes(300) for number in range(60)})
        with lowered():
            for number in range(4):
                large[number * 5000 : number * 5000 + 3000] = rng.randbytes(3000)
                (source / "large").write_bytes(large)
                make_tree(source, {f"n{number}": rng.randbytes(3000)})
                point = the_point(back_up(self.repository, source))
                self.trees[point.id] = snapshot(source)
        self.ids = list(self.trees)
        shutil.rmtree(source)

    def copy(self, name: str = "copy") -> Repository:
        """A copy as it is now."""
        shutil.copytree(self.root, self.path / name)
        return Repository.open(os.fsencode(self.path / name))

    def files(self, kind: str) -> list[Path]:
        return sorted((self.root / "archives").glob(f"*/{kind}.*"))

    def assert_whole(self) -> None:
        assert_whole(self.repository)
        for point in reopened(self.repository).points.all().points:
            tree = restored_tree(self.repository, point, self.path / "back")
            assert tree == self.trees[point.id]


@pytest.fixture
def made(fast_path: Path) -> Made:
    return Made(fast_path)


def spoil(path: Path, *places: int) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["data", "index", "sigs", "points"])
@pytest.mark.parametrize("damage", ["spoilt", "lost", "cut"])
def test_files_come_back_from_a_copy(made: Made, kind: str, damage: str) -> None:
    before, copy = files_of(made.repository), made.copy()
    paths = sorted((made.root / "points").iterdir()) if kind == "points" else made.files(kind)
    assert len(paths) > 1
    for path in paths[:2]:
        if damage == "spoilt":
            spoil(path, 30, path.stat().st_size - 20)
        elif damage == "lost":
            path.unlink()
        else:
            os.truncate(path, path.stat().st_size // 2)
    foreseen = repaired(made.repository, other=copy, dry_run=True)
    result = repaired(made.repository, other=copy)
    assert result.left is not None
    assert result.left.damages == []
    assert list(foreseen.healed) == list(result.healed)
    assert len(result.healed) == 2
    assert files_of(made.repository) == before
    assert files_of(copy) == before


def test_a_whole_archive_that_is_needed_comes_back(made: Made) -> None:
    before, copy = files_of(made.repository), made.copy()
    shutil.rmtree(made.files("index")[0].parent)
    repaired(made.repository, other=copy)
    assert files_of(made.repository) == before


def test_an_older_copy_gives_what_it_has(made: Made) -> None:
    """Files were written anew since: bytes and frames of the older ones still fit."""
    copy = made.copy()
    forget(made.repository, made.ids[1:3])
    assert pruned(made.repository, all_of_it=True).failed == []
    later = [path for kind in ("data", "index") for path in made.files(kind)
             if path.name.endswith(".2")]  # fmt: skip
    assert later
    for path in made.files("data"):
        spoil(path, *range(30, path.stat().st_size - 200, 3000))
    spoilt = 0
    for name in reopened(made.repository).archive_ids():
        here, there = (Repository.open(r.path).archive(name).file("index")
                       for r in (made.repository, copy))  # fmt: skip
        known = {there.stored_frame(s, row) for s, table in there.tables.items()
                 for row in range(len(table.starts))}  # fmt: skip
        for stream, table in here.tables.items():
            for row, offset in enumerate(table.offsets):
                if here.stored_frame(stream, row) in known:
                    spoil(made.root / here.name, offset + HEAD_SIZE)
                    spoilt += here.generation == 2
    assert spoilt
    result = repaired(made.repository, other=copy)
    assert result.left is not None
    assert result.left.damages == []
    assert sorted(reopened(made.repository).points.ids()) == sorted([made.ids[0], made.ids[3]])
    made.assert_whole()


def test_what_was_removed_does_not_come_back(made: Made) -> None:
    copy = made.copy()
    forget(made.repository, made.ids[:2])
    assert repaired(made.repository, other=copy).healed == {}
    assert pruned(made.repository, all_of_it=True).failed == []
    before = files_of(made.repository)
    assert repaired(made.repository, other=copy).healed == {}
    assert files_of(made.repository) == before


def test_a_damaged_copy_gives_nothing_wrong(made: Made) -> None:
    copy = made.copy()
    spoil(Path(os.fsdecode(copy.path)) / made.files("data")[0].relative_to(made.root), 40)
    spoil(made.files("data")[0], 40, 3000)
    before = files_of(made.repository)
    result = repaired(made.repository, other=copy)
    assert result.left is not None
    assert result.left.damages != []
    after = files_of(made.repository)
    assert {n: d for n, d in after.items() if n in before and "data.1" not in n} == {
        n: d for n, d in before.items() if "data.1" not in n and n in after
    }


def test_another_repository_with_the_same_contents(made: Made, fast_path: Path) -> None:
    other = create(fast_path / "other")
    restored = fast_path / "restored"
    for point in reopened(made.repository).points.all().points:
        from tests.support.repositories import restored as restore

        restore(made.repository, point, restored)
        back_up(other, restored)
        shutil.rmtree(restored)
    for path in made.files("data"):
        spoil(path, *range(30, path.stat().st_size - 200, 3000))
    result = repaired(made.repository, other=other)
    assert result.left is not None
    assert result.left.damages == []
    made.assert_whole()


def test_a_configuration_that_is_lost(made: Made, fast_path: Path) -> None:
    copy, stranger = made.copy(), create(fast_path / "stranger")
    before = files_of(made.repository)
    (made.root / "ibtfs.json").unlink()
    with pytest.raises(NotARepository, match="Nothing there belongs"):
        configured_by(made.repository.path, stranger)
    assert not (made.root / "ibtfs.json").exists()
    configured_by(made.repository.path, copy)
    assert files_of(made.repository) == before


def test_cut_off_at_any_step_it_goes_on(made: Made) -> None:
    copy = made.copy()
    forget(made.repository, made.ids[1:3])
    pruned(made.repository, all_of_it=True)
    for path in made.files("data"):
        spoil(path, *range(30, path.stat().st_size - 200, 9000))
    made.files("index")[0].unlink()
    for _ in cut_at_each_step(made.root, lambda: repaired(made.repository, other=copy), least=10):
        left = repaired(made.repository, other=copy).left
        assert left is not None
        assert left.damages == []
    made.assert_whole()


def test_archives_that_lie_in_bundles(made: Made) -> None:
    assert put_together(made.repository).bundled
    copy = made.copy()
    (bundle,) = bundles(made.repository)
    spoil(bundle, *range(300, bundle.stat().st_size // 2, 3000))
    result = repaired(made.repository, other=copy)
    assert result.left is not None
    assert result.left.damages == []
    made.assert_whole()
