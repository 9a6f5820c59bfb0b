"""Purges of histories: no byte of what went is left, all else comes back as it was."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from blake3 import blake3

from ibtfs.actions.backup import entry as store_file
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.store.contents.reader import Contents
from ibtfs.store.removal import rebase
from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage
from tests.support.damage import lowered
from tests.support.far import FarStorage
from tests.support.leaks import Needles, leaks
from tests.support.purging import KIB, Scene, Secret, make_scene, random_history
from tests.support.repositories import reopened, row
from tests.support.views import viewed_tree

MIB = 1 << 20


@pytest.fixture
def scene(fast_path: Path) -> Scene:
    return make_scene(fast_path)


@pytest.mark.parametrize("seed", [2, 3])
def test_nothing_of_secrets_is_left_after_a_random_history(scene: Scene, seed: int) -> None:
    with lowered():
        random_history(scene, random.Random(seed), 7)
        found = " ".join(leaks(scene.repository, scene.needles(), scene.cache))
        for what in ("index", "data", "sigs", ".sqlite"):
            assert what in found, "the search finds nothing"
        if seed % 2:
            forget_some(scene, random.Random(seed))
        result = scene.purge(*scene.names)
        assert result.left == result.prune.failed == result.prune.damages == []
    scene.assert_is_purged()
    points = reopened(scene.repository).points
    tags = [points.tags(point.id) for point in points.all().points]
    assert tags == [[f"tag{number - 1}"] for number in sorted(scene.expected)]


def test_no_copies_of_indexes_are_left(scene: Scene) -> None:
    """Of a repository far away they have the names of all files."""
    random_history(scene, random.Random(3), 2)
    place = FarStorage(LocalStorage(scene.repository.path))
    far = Repository.open(place, cache_folder=os.fsencode(scene.cache))
    for point in far.points.all().points:
        viewed_tree(far, point)
    assert list(scene.cache.glob("*.indexes/*"))
    scene.purge(*scene.names)
    assert not list(scene.cache.glob("*.indexes"))
    scene.assert_is_purged(step=16)


def forget_some(scene: Scene, rng: random.Random) -> None:
    """Points in the middle go, and what they alone needed: then payloads without contents stay."""
    opened = reopened(scene.repository)
    for point in rng.sample(opened.points.all().points[:-1], 3):
        opened.points.remove(point.id)
        del scene.expected[point.sequence]
    prune(opened, PruneOptions(all_of_it=True), Observer())


def large_history(scene: Scene) -> None:
    """A large secret that is changed in place, and a file that begins like it and has a part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_file, "MEMORY_LIMIT", MIB)  # so that it need not be larger
        _large_history(scene, random.Random(7))


def _large_history(scene: Scene, rng: random.Random) -> None:
    scene.names = [b"sEcReT7f3a9c"]
    secret = Secret(scene, scene.source / os.fsdecode(scene.names[0]), rng, 5 * MIB // 4)
    copy = scene.source / "copy"
    for generation in range(4):
        if generation:
            with open(secret.path, "r+b", buffering=0) as file:
                for _ in range(3):
                    os.pwrite(file.fileno(), rng.randbytes(700), rng.randrange(MIB))
            scene.secrets.append(secret.path.read_bytes())
        if generation in (1, 2):
            data = scene.secrets[0]
            copy.write_bytes(data[: MIB // 4 + 5] + rng.randbytes(3 * KIB) + data[MIB // 2 :])
            scene.kept.append(copy.read_bytes())
        scene.back_up()


def test_nothing_of_a_large_secret_is_left(scene: Scene) -> None:
    large_history(scene)
    point = scene.repository.points.all().points[-1]
    contents = Contents(reopened(scene.repository))
    content = row(scene.repository, point, scene.names[0]).content
    assert content is not None
    assert contents.record(content).depth > 1, "not the case that this is about"
    assert leaks(scene.repository, scene.needles(step=16)) != []
    result = scene.purge(*scene.names)
    assert result.prune.rebuilt >= 1
    assert result.left == []
    scene.assert_is_purged(step=16)


def test_what_no_map_has_room_for_is_written_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebase, "RANGE_LIMIT", 1)
    large_history(scene)
    result = scene.purge(*scene.names)
    assert result.left == []
    scene.assert_is_purged(step=16)
    repository = reopened(scene.repository)
    content = row(repository, repository.points.all().points[1], b"copy").content
    assert content is not None
    record = Contents(repository).record(content)
    assert (record.base, record.depth, len(record.donors)) == (None, 0, 1)


def test_a_short_secret_in_a_frame_that_compresses_well(scene: Scene) -> None:
    """Its share of the stored frame, and of the records of the index, is less than a byte."""
    rng = random.Random(5)
    scene.names = [b"5"]
    for number in range(100):
        (scene.source / f"{number}").write_bytes(b"%d" % number + b"a" * 10_000)
    Secret(scene, scene.source / "5", rng, 20)
    Secret(scene, scene.source / "5", rng, 20)
    scene.back_up()
    needles = Needles(scene.secrets, [blake3(data).digest() for data in scene.secrets], [])
    assert leaks(scene.repository, needles) != []
    scene.purge(b"/5")
    assert leaks(scene.repository, needles) == []
    scene.assert_rest_is_whole()


def test_what_followed_what_is_not_left_either(scene: Scene) -> None:
    """Two files have between them all of the secret; nobody is to see how it was put together."""
    rng = random.Random(6)
    scene.names = [b"sEcReT5a5a"]
    with lowered():
        secret = Secret(scene, scene.source / "sEcReT5a5a", rng, 200 * KIB)
        scene.back_up()
        data = secret.path.read_bytes()
        for name, other in (
            ("one", data[:100_777] + rng.randbytes(50_000)),
            ("two", data[:70_000] + rng.randbytes(30_777) + data[100_777:]),
        ):
            (scene.source / name).write_bytes(other)
            scene.kept.append(other)
            scene.back_up()
        result = scene.purge(*scene.names)
    assert result.prune.rebuilt == 2
    assert len(scene.needles().windows) == 7  # five bytes and more of each
    scene.assert_is_purged()
