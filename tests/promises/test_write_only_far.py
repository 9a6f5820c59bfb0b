"""Machines that only write, far away; what a hostile one puts beside what others have copies of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.archives.newest import open_newest
from ibtfs.store.point_lists import write_list
from ibtfs.store.repository import Repository
from ibtfs.store.sealing import WriterUnlock
from ibtfs.store.storage.local import LocalStorage
from ibtfs.view.tree import RepositoryView
from tests.support import snapshot
from tests.support.far import FarStorage, Requests
from tests.support.repositories import HOST, damages, settle, the_point
from tests.support.sealing import create_sealed, open_sealed
from tests.support.trees import make_tree
from tests.support.views import Tree, viewed_tree
from tests.support.writers import Machine


class FarMachine(Machine):
    """A machine that only writes, to a repository far away."""

    def __init__(self, place: Path, folder: Path, name: str) -> None:
        super().__init__(place, folder, name)
        self.requests = Requests()

    def opened(self) -> Repository:
        unlocking = WriterUnlock([self.file], os.fsencode(self.folder))
        far = FarStorage(LocalStorage(os.fsencode(self.place)), self.requests)
        cache = os.fsencode(self.folder / "cache")
        return Repository.open(far, unlock=unlocking, cache_folder=cache)


@pytest.fixture
def place(fast_path: Path) -> Path:
    create_sealed(fast_path / "repo")
    return fast_path / "repo"


@pytest.fixture
def source(fast_path: Path) -> Path:
    make_tree(fast_path / "source", {
        f"d{folder}": {f"f{name}": os.urandom(300) for name in range(20)} for folder in range(5)
    })  # fmt: skip
    return fast_path / "source"


@pytest.fixture
def seen(place: Path, fast_path: Path) -> Callable[[Point], Tree]:
    """Looks at a point, as a process far away that has just begun, with the cache of others."""
    (fast_path / "cache").mkdir()

    def look(point: Point) -> Tree:
        repository = far_owner(place, fast_path / "cache")
        repository.only_look()
        repository.look_around()
        RepositoryView(repository).sources()
        return viewed_tree(repository, point)

    return look


def far_owner(place: Path, cache: Path | None = None) -> Repository:
    """The repository, as who has a key has it, far away."""
    unlocked = open_sealed(place).unlocked
    return Repository.open(
        FarStorage(LocalStorage(os.fsencode(place))), unlock=lambda *_: unlocked,
        cache_folder=os.fsencode(cache) if cache else b"",
    )  # fmt: skip


def copies(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.indexes/*"))


def test_it_reads_nothing_far_away_and_keeps_no_copies(
    place: Path, source: Path, fast_path: Path, seen: Callable[[Point], Tree]
) -> None:
    backup(open_sealed(place), os.fsencode(source), BackupOptions(host="desk"), Observer())
    machine = FarMachine(place, fast_path / "state", "laptop")
    trees = []
    for turn in range(3):
        (source / "d1" / f"new-{turn}").write_bytes(os.urandom(5000))
        settle()
        machine.requests = Requests()
        trees.append((the_point(machine.back_up(source)), snapshot(source)))
        asked = [one.name for one in machine.requests.made if one.kind in ("open", "fetch", "read")]
        assert {name for name in asked if name != layout.CONFIG} == set()
        assert copies(machine.folder / "cache") == []
    points = open_sealed(place).points.all().points
    assert [point.full for point in points if point.writer] == [True, False, False]
    for point, tree in trees:
        assert seen(point) == tree


@pytest.fixture
def points(place: Path, source: Path) -> list[Point]:
    """Points of who has a key: of the second the archive leads to that of the first."""
    found = []
    for turn in range(2):
        (source / "d1" / "new").write_bytes(os.urandom(5000 + turn))
        settle()
        result = backup(open_sealed(place), os.fsencode(source), BackupOptions(HOST), Observer())
        found.append(the_point(result))
    return found


def junk(place: Path, archive_id: str, number: int) -> list[Path]:
    """What a hostile machine puts beside the files of an archive, as their generation *number*."""
    made = []
    for path in list((place / "archives" / archive_id).glob("*.1")):
        made.append(path.with_name(f"{path.name[:-1]}{number}"))
        made[-1].write_bytes(os.urandom(900))
    return made


def test_what_lies_beside_hides_nothing_far_away(
    place: Path, source: Path, points: list[Point], fast_path: Path, seen: Callable[[Point], Tree]
) -> None:
    """Neither from who has copies of indexes nor from who has none, and backups go on."""
    before = [seen(point) for point in points]
    kept = copies(fast_path / "cache")
    assert len(kept) == 2
    for point in points:
        junk(place, point.state.archive, 999)
        assert [seen(point) for point in points] == before
        repository = far_owner(place)
        assert [viewed_tree(repository, point) for point in points] == before
        settle()
        options = BackupOptions(HOST, cache=os.fsencode(fast_path / "cache"))
        owner = far_owner(place, fast_path / "cache")
        after = the_point(backup(owner, os.fsencode(source), options, Observer()))
        assert after.statistics["bytes_read"] == 0
        assert seen(after) == before[-1]
    assert damages(open_sealed(place)) == []


def test_what_lies_beside_is_on_no_list_and_counts_for_no_removal(
    place: Path, points: list[Point], fast_path: Path, seen: Callable[[Point], Tree]
) -> None:
    """Else who takes it away again would be told that an older state was put back."""
    before = seen(points[1])
    put = junk(place, points[1].state.archive, 999)
    owner = far_owner(place, fast_path / "cache")
    owner.points.remove(points[0].id)
    prune(owner, PruneOptions(all_of_it=True), Observer())
    listed = write_list(far_owner(place)).generations
    assert all(number < 999 for number in listed.values())
    assert seen(points[1]) == before
    for path in put:
        path.unlink(missing_ok=True)
    assert seen(points[1]) == before
    assert viewed_tree(open_sealed(place), points[1]) == before


def test_a_copy_of_what_rotted_lets_no_earlier_generation_count(
    place: Path, points: list[Point], fast_path: Path, seen: Callable[[Point], Tree]
) -> None:
    first = points[0].state.archive
    folder = place / "archives" / first
    old = (folder / "index.1").read_bytes()
    before = seen(points[1])
    owner = open_sealed(place)
    owner.points.remove(points[0].id)
    prune(owner, PruneOptions(all_of_it=True), Observer())
    (path,) = folder.glob("index.*")
    (folder / "index.1").write_bytes(old)  # as if a removal had been cut off
    good, times = path.read_bytes(), path.stat()
    for data in (good[:-200] + os.urandom(100) + good[-100:], good):  # it rots, and is healed
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        repository = far_owner(place, fast_path / "cache")
        opened = open_newest(repository.storage, repository.keys, first, layout.INDEX).opened
        opened.close()
        assert (opened.generation > 1) == (data == good)
        assert len(copies(fast_path / "cache")) > 0
    assert seen(points[1]) == before


def test_one_manifest_of_many_that_is_junk_keeps_no_other_from_coming(
    place: Path, source: Path, points: list[Point], fast_path: Path
) -> None:
    machine = FarMachine(place, fast_path / "state", "laptop")
    made = the_point(machine.back_up(source))
    torn = place / "points" / points[0].id
    put = [f"{points[1].id[:16]}_{os.urandom(10).hex()}", f"{made.id[:-9]}0{made.id[-8:]}"]
    for name in put:
        (place / "points" / name).write_bytes(os.urandom(900))
    torn.write_bytes(torn.read_bytes()[:-9])
    (fast_path / "cache").mkdir()
    for cache in (None, fast_path / "cache", fast_path / "cache"):
        repository = far_owner(place, cache)
        found, damaged = repository.points.all()
        assert {point.id for point in found} == {points[1].id, made.id}
        assert damaged.keys() == {points[0].id, *put}
        repository.points.remember()
