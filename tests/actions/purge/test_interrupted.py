"""A purge that is cut off anywhere loses no point, shows none twice, and ends when done again."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ibtfs.store.repository import Repository
from ibtfs.store.storage.local import LocalStorage
from ibtfs.store.storage.upload import LocalUpload
from tests.support.damage import lowered
from tests.support.independent_reader import IndependentReader
from tests.support.purging import KIB, Scene, Secret, make_scene
from tests.support.repositories import damages, reopened

KILLED = 9


@pytest.fixture
def scene(fast_path: Path) -> Scene:
    """Three points, in the last of which the secret is not; a file that is built on it."""
    scene, rng = make_scene(fast_path), random.Random(3)
    scene.names = [b"sEcReT00112233", b"sEcReT44556677"]
    folder = scene.source / "folder"
    folder.mkdir()
    with lowered():
        small = Secret(scene, folder / "sEcReT00112233", rng, 900)
        large = Secret(scene, folder / "sEcReT44556677", rng, 90 * KIB)
        scene.back_up(tags=("first",))
        small.change()
        data = large.path.read_bytes()
        (scene.source / "copy").write_bytes(data[: 70 * KIB] + b"changed" + data[80 * KIB :])
        scene.kept.append((scene.source / "copy").read_bytes())
        scene.back_up()
        small.path.unlink()
        large.path.unlink()
        (folder / "other").write_bytes(b"other")
        scene.kept.append(b"other")
        scene.back_up(tags=("last", "keep"))
    return scene


def purge_and_die(scene: Scene, after: int) -> tuple[bool, int]:
    """Purge in a process that dies before it changes the repository for the so many-th time.

    Whether it died, and how often it changed something.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        changes = 0

        def counted(change: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **options: Any) -> Any:
                nonlocal changes
                if changes == after:
                    os._exit(KILLED)
                changes += 1
                return change(*args, **options)

            return wrapped

        code = 1
        try:
            LocalUpload.finish = counted(LocalUpload.finish)  # type: ignore[method-assign]
            LocalStorage.delete = counted(LocalStorage.delete)  # type: ignore[method-assign]
            with lowered():
                scene.purge(*scene.names)
            os.write(writing, b"%d" % changes)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED, int(told or 0)


def copy_of(scene: Scene, number: int) -> Scene:
    place = scene.place / f"{number}"
    shutil.copytree(scene.place / "repository", place / "repository")
    shutil.copytree(scene.cache, place / "cache")
    opened = Repository.open(os.fsencode(place / "repository"))
    return Scene(
        place, opened, scene.names, scene.secrets, scene.xattrs, scene.kept, scene.expected
    )


def test_killed_before_each_change(scene: Scene) -> None:
    died, changes = purge_and_die(copy_of(scene, 0), 10_000)
    assert not died
    assert changes > 20
    with_it, without_it, needles = 0, 0, scene.needles()
    for after in range(changes):
        trial = copy_of(scene, after + 1)
        died, _ = purge_and_die(trial, after)
        assert died
        points = reopened(trial.repository).points.all()
        assert points.damaged == {}
        assert [point.sequence for point in points.points] == [1, 2, 3], after
        trial.assert_rest_is_whole()
        for told in IndependentReader(os.fsdecode(trial.repository.path)).points()[:2]:
            paths = {path for path, _ in told.entries()}
            secrets = set(filter(trial.is_secret, paths))
            everything = set(filter(trial.is_secret, trial.expected[told.values["sequence"]]))
            assert secrets in (set(), everything), after
            with_it, without_it = with_it + bool(secrets), without_it + (not secrets)
        trial.purge(*trial.names)
        trial.assert_is_purged(needles)
        tags = [
            trial.repository.points.tags(p.id)
            for p in reopened(trial.repository).points.all().points
        ]
        assert tags == [["first"], [], ["keep", "last"]], after
        shutil.rmtree(trial.place)
    assert with_it
    assert without_it


def test_killed_again_and_again(scene: Scene) -> None:
    """Each time it comes further: a fault while it goes on after a fault."""
    for after in range(0, 200, 4):
        died, _ = purge_and_die(scene, after)
        assert [p.sequence for p in reopened(scene.repository).points.all().points] == [1, 2, 3]
        if not died:
            break
    assert not died
    assert damages(scene.repository) == []
    scene.assert_is_purged()
