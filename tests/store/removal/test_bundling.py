"""Small old archives come into bundles, all of them comes back, and what is dead goes."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from ibtfs.errors import StorageFailed
from ibtfs.store import layout
from ibtfs.store.lock import PRUNE
from ibtfs.store.removal.bundling import BOUNDS, Bounds, Bundler
from ibtfs.store.removal.held import held_in_bundles
from ibtfs.store.repository import Repository
from ibtfs.store.storage.bundled import BundledStorage
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.upload import LocalUpload
from tests.support import snapshot
from tests.support.bundles import (
    NEVER,
    SOON,
    assert_whole,
    bundles,
    folders,
    make_points,
    make_versions,
    put_together,
)
from tests.support.histories import History
from tests.support.removal import forget
from tests.support.repositories import (
    assert_comes_back,
    back_up,
    create,
    on_disk,
    reopened,
    settle,
    the_point,
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return create(tmp_path / "repository")


def test_archives_come_into_one_file_and_back(repository: Repository, tmp_path: Path) -> None:
    made = make_points(repository, tmp_path / "source", 5)
    before = reopened(repository).index_generations()
    assert put_together(repository).bundled == len(before) == 5
    assert folders(repository) == []
    assert len(bundles(repository)) == 1
    assert reopened(repository).index_generations() == before
    assert_whole(repository)
    for point, expected in made:
        assert_comes_back(repository, point, expected, tmp_path)
    assert put_together(repository).bundled == 0


def test_backups_go_on_with_what_lies_in_bundles(repository: Repository, tmp_path: Path) -> None:
    make_points(repository, tmp_path / "source", 3)
    put_together(repository)
    same = the_point(back_up(repository, tmp_path / "source"))
    assert same.statistics["bytes_stored"] < 3000
    shutil.copytree(tmp_path / "source", tmp_path / "other")
    other = the_point(back_up(repository, tmp_path / "other"))
    assert other.statistics["bytes_stored"] < 10_000  # all but the listing was found by its digest
    with open(tmp_path / "source" / "large", "ab") as file:
        file.write(b"more")
    point = the_point(back_up(repository, tmp_path / "source"))
    assert point.statistics["bytes_stored"] < 10_000  # and is built upon
    assert_whole(repository)
    assert_comes_back(repository, point, snapshot(tmp_path / "source"), tmp_path)


def test_young_and_large_archives_stay_in_folders(repository: Repository, tmp_path: Path) -> None:
    make_points(repository, tmp_path / "source", 3)
    assert put_together(repository, SOON._replace(age=BOUNDS.age)).bundled == 0
    assert put_together(repository, NEVER).bundled == 0
    assert put_together(repository, SOON._replace(least=4)).bundled == 0
    assert put_together(repository, max_rewrite=0).bundled == 0
    assert len(folders(repository)) == 3
    assert bundles(repository) == []


def test_an_archive_in_a_bundle_has_its_age(repository: Repository, tmp_path: Path) -> None:
    make_points(repository, tmp_path / "source", 2)
    (first, _) = reopened(repository).archive_ids()
    index = on_disk(repository.storage, layout.archive_file(first, layout.INDEX, 1))
    old = os.stat(index).st_mtime - 500_000
    os.utime(index, (old, old))
    for _ in range(2):
        opened = reopened(repository)
        with opened.lock("shared") as lock:
            ages = [opened.age(name, lock) for name in opened.archive_ids()]
        assert 500_000 <= ages[0] < 500_300
        assert 0 <= ages[1] < 300
        put_together(repository)
    assert folders(repository) == []


def test_removed_archives_stay_removed(repository: Repository, tmp_path: Path) -> None:
    """What says so goes when the bundle is without them, and no sooner."""
    made = make_versions(repository, tmp_path / "source", 8)
    ids = [f"{point.id}.0" for point, _ in made]
    put_together(repository)
    (old,) = bundles(repository)
    forget(repository, [made[3][0].id])
    result = put_together(repository)
    assert result.removed == 1
    assert (bundles(repository), folders(repository)) == ([old], [ids[3]])
    assert reopened(repository).archive_ids() == sorted(ids[:3] + ids[4:])
    assert put_together(repository).removed == 0
    assert os.listdir(on_disk(repository.storage, layout.archive(ids[3]))) == [layout.REMOVED]
    assert_whole(repository)

    forget(repository, [made[number][0].id for number in (0, 4)])
    result = put_together(repository)
    assert result.freed > 5000
    assert (bundles(repository) != [old], folders(repository)) == (True, [])
    assert reopened(repository).archive_ids() == sorted(ids[n] for n in (1, 2, 5, 6, 7))
    assert_whole(repository)
    for number in (1, 2, 5, 6, 7):
        assert_comes_back(repository, *made[number], tmp_path)


def test_what_cannot_be_removed_behind_a_bundle_is_told(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_versions(repository, tmp_path / "source", 8)
    put_together(repository)
    forget(repository, [made[number][0].id for number in (0, 3, 4)])
    delete = LocalStorage.delete

    def failing(storage: LocalStorage, name: str) -> None:
        if name.endswith(f"/{layout.REMOVED}"):
            raise StorageFailed(f"{name}: Input/output error")
        delete(storage, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "delete", failing)
        result = put_together(repository)
    assert result.removed == 3
    assert sorted(result.failed) == [
        f"{layout.removed(name)}: Input/output error" for name in folders(repository)
    ]
    assert len(result.failed) == 3
    assert put_together(repository).failed == []
    assert folders(repository) == []
    assert_whole(repository)


def test_nothing_dead_stays_if_all_of_it_is_to_go(repository: Repository, tmp_path: Path) -> None:
    made = make_versions(repository, tmp_path / "source", 8)
    put_together(repository)
    forget(repository, [made[3][0].id])
    put_together(repository, all_of_it=True)
    assert folders(repository) == []
    assert [held.archives for held in held_in_bundles(reopened(repository).storage)] == [7]
    assert_whole(repository)


def test_a_bundle_of_nothing_goes(repository: Repository, tmp_path: Path) -> None:
    make_points(repository, tmp_path / "source", 3)
    put_together(repository)
    assert len(bundles(repository)) == 1
    shutil.rmtree(tmp_path / "source")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(b"a")
    last = the_point(back_up(repository, tmp_path / "source", full=True))
    forget(repository, [name for name in reopened(repository).points.ids() if name != last.id])
    put_together(repository)
    assert bundles(repository) == []  # and is none of those that the archive left could join
    assert len(reopened(repository).archive_ids()) == 1
    assert_whole(repository)


def test_their_number_grows_like_a_logarithm(repository: Repository, tmp_path: Path) -> None:
    bounds = Bounds(least=3, age=-3600, tiers=(4 << 10, 16 << 10, 64 << 10, 1 << 20))
    source = tmp_path / "source"
    source.mkdir()
    rng = random.Random(1)
    for _ in range(40):
        (source / "file").write_bytes(rng.randbytes(600))
        back_up(repository, source)
        put_together(repository, bounds)
        assert len(folders(repository)) + len(bundles(repository)) <= 2 * len(bounds.tiers)
    assert len(reopened(repository).archive_ids()) == 40
    assert_whole(repository)


def test_an_archive_that_cannot_be_read_stays(repository: Repository, tmp_path: Path) -> None:
    make_points(repository, tmp_path / "source", 4)
    name = reopened(repository).archive_ids()[1]
    path = Path(on_disk(repository.storage, layout.archive_file(name, layout.INDEX, 1)))
    path.chmod(0o600)
    path.unlink()
    path.symlink_to("nowhere")  # the disk does not give it
    opened = reopened(repository)
    with opened.lock(PRUNE) as lock:
        done = list(Bundler(opened, lock, SOON).run())
    assert sum(one.archives for one in done) == 3
    assert folders(repository) == [name]


# Crashes


class Stopped(BaseException):
    """The machine goes off."""


def _stop_at(patch: pytest.MonkeyPatch, turn: int) -> list[str]:
    """Go off at the operation *turn* that changes the repository; what was done before."""
    done: list[str] = []

    def counted(name: str) -> None:
        if len(done) == turn:
            raise Stopped
        done.append(name)

    delete, finish = BundledStorage.delete, LocalUpload.finish

    def deleted(self: BundledStorage, name: str) -> None:
        if not name.startswith(layout.LOCKS):
            counted(f"delete {name}")
        delete(self, name)

    def finished(self: LocalUpload) -> None:
        counted(f"put {self.name}")
        finish(self)

    patch.setattr(BundledStorage, "delete", deleted)
    patch.setattr(LocalUpload, "finish", finished)
    return done


def test_it_may_be_cut_off_at_any_moment(repository: Repository, tmp_path: Path) -> None:
    made = make_versions(repository, tmp_path / "source", 5)
    made += make_points(repository, tmp_path / "source", 3)
    put_together(repository)
    made += make_points(repository, tmp_path / "source", 2)
    forget(repository, [made[number][0].id for number in (0, 2, 3, 5)])
    begun = tmp_path / "begun"
    root = Path(os.fsdecode(repository.path))
    root.rename(begun)
    turn = 0
    while True:
        shutil.copytree(begun, root, symlinks=True)
        with pytest.MonkeyPatch.context() as patch:
            done = _stop_at(patch, turn)
            try:
                put_together(repository)
                stopped = False
            except Stopped:
                stopped = True
        assert_whole(repository)
        put_together(repository)
        assert_whole(repository)
        storage = reopened(repository).storage
        assert all(not held.dead and not held.folders for held in held_in_bundles(storage))
        assert folders(repository) == []
        shutil.rmtree(root)
        turn += 1
        if not stopped:
            break
    assert any(name.startswith("put bundles/") for name in done)
    assert turn > 12, done


# Random sequences


@pytest.mark.parametrize("seed", range(4))
def test_random_lives_of_repositories(repository: Repository, tmp_path: Path, seed: int) -> None:
    """Backups, forgotten points and prunes in any order; every point that is left comes back."""
    rng = random.Random(seed)
    history = History(tmp_path / "source", rng, max_bytes=1 << 20, max_entries=25)
    settle()
    points = {}
    for _ in range(14):
        history.step()
        settle()
        result = back_up(repository, tmp_path / "source")
        points[the_point(result).id] = the_point(result), snapshot(tmp_path / "source")
        if rng.random() < 0.4 and len(points) > 2:
            gone = rng.sample(sorted(points), rng.randrange(1, len(points) - 1))
            forget(repository, gone)
            for point_id in gone:
                del points[point_id]
        if rng.random() < 0.6:
            bounds = SOON._replace(
                least=rng.choice((2, 3)),
                tiers=rng.choice((SOON.tiers, BOUNDS.tiers, (2 << 10, 8 << 10, 1 << 20))),
                dead_share=rng.choice((1, 4, 100)),
            )
            result_of_prune = put_together(repository, bounds, all_of_it=rng.random() < 0.3)
            assert result_of_prune.failed == []
            assert_whole(repository)
    put_together(repository)
    assert bundles(repository) != []
    for point, expected in points.values():
        assert_comes_back(repository, point, expected, tmp_path)
