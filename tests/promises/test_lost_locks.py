"""A run that sleeps at the worst moment, while its lock is broken and what it needs is pruned."""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ibtfs.errors import RepositoryLocked
from ibtfs.store import layout
from ibtfs.store.archives import writer as archive_writer
from ibtfs.store.repository import Repository
from ibtfs.store.storage import upload
from ibtfs.store.storage.base import LOST
from ibtfs.store.storage.local import LocalStorage
from tests.support.commands import run
from tests.support.faking import Patch
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import on_disk, reopened, settle

DAY = 86_400
HALF_AN_HOUR = 31 * 60
BEHIND, BEFORE = "behind the look at its lock", "before it is begun"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: Patch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "documents"
    folder.mkdir()
    return folder


@pytest.fixture
def without_flock(monkeypatch: Patch) -> None:
    """A file system that has no flock: it cannot be told whether the owner of a lock lives."""

    def flock(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture
def two_points(source: Path, repository: Repository, monkeypatch: Patch) -> list[str]:
    """Two points, and a source that has changed since: all of the next is built upon them.

    And a point of another source, which stays.
    """
    monkeypatch.setattr(archive_writer, "INSIDE_INDEX", 1000)
    rng = random.Random(7)
    (source.parent / "other").mkdir()
    (source.parent / "other" / "own").write_bytes(rng.randbytes(1000))
    run("backup", source.parent / "other", os.fsdecode(repository.path))
    (others,) = reopened(repository).points.ids()
    (source / "large").write_bytes(rng.randbytes(5_000_000))
    for number in range(3):
        with (source / "large").open("r+b") as file:
            file.seek(1_000_000 * number)
            file.write(rng.randbytes(100_000))
        (source / f"{number}").write_bytes(rng.randbytes(50_000))
        settle()
        if number < 2:
            run("backup", source, os.fsdecode(repository.path))
    return [name for name in reopened(repository).points.ids() if name != others]


def asleep(patch: Patch, when: str, kind: str, meanwhile: Callable[[], object]) -> list[str]:
    """Have *meanwhile* happen before the first object of a *kind* is named.

    *when* it is: behind the look at the lock, or before it is begun.  What was named is listed.
    """
    real_link, real_part = upload.rename_new, LocalStorage.part_name
    waiting, named = [meanwhile], list[str]()

    def sleep(base: str) -> None:
        if waiting and base.startswith(kind):
            waiting.pop()()

    def part_name(self: LocalStorage, base: str) -> str:
        if when == BEFORE:
            sleep(base)
        return real_part(self, base)

    def link(folder: int, part: str, name: str) -> None:
        if when == BEHIND:
            sleep(name)
        real_link(folder, part, name)
        named.append(name)

    patch.setattr(LocalStorage, "part_name", part_name)
    patch.setattr(upload, "rename_new", link)
    return named


def files_of(repository: Repository) -> set[str]:
    root = Path(os.fsdecode(repository.path))
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def the_lock(repository: Repository) -> str:
    (name,) = repository.storage.list(layout.LOCKS)
    return on_disk(repository.storage, layout.lock(name))


MANIFEST = "20"  # how the ids of points begin


@pytest.mark.usefixtures("without_flock")
@pytest.mark.parametrize("seconds", [HALF_AN_HOUR, DAY + HALF_AN_HOUR])
@pytest.mark.parametrize("when", [BEHIND, BEFORE])
@pytest.mark.parametrize("kind", ["data.1", "index.1", "kept", MANIFEST])
def test_nothing_is_finished_under_a_lock_that_was_broken(
    kind: str, when: str, seconds: int, two_points: list[str], repository: Repository,
    source: Path, monkeypatch: Patch,
) -> None:  # fmt: skip
    """It slept for so long, alive all the time; what its point would be built upon is pruned."""
    left = set[str]()

    def prune() -> None:
        lock = the_lock(repository)
        slept = time.time() - seconds
        os.utime(lock, (slept, slept))
        forget(repository, two_points)
        assert pruned(repository, wait=0, all_of_it=True).freed > 4_000_000
        assert not os.path.exists(lock)
        left.update(files_of(repository))

    named = asleep(monkeypatch, when, kind, prune)
    result = run("backup", "--tag", "kept", source, os.fsdecode(repository.path), code=1)
    assert LOST in " ".join(result.stderr.split())
    assert left, "it was never asleep"
    assert not [name for name in named if name.startswith(kind) and name not in two_points]
    assert len(reopened(repository).points.ids()) == 1
    assert left <= files_of(repository)
    monkeypatch.undo()
    run("backup", source, os.fsdecode(repository.path))
    assert len(reopened(repository).points.ids()) == 2
    assert_whole(repository)


@pytest.mark.usefixtures("without_flock")
@pytest.mark.parametrize("kind", ["index", MANIFEST])
def test_clocks_that_are_a_day_apart_break_no_lock(
    kind: str, two_points: list[str], repository: Repository, source: Path, monkeypatch: Patch
) -> None:
    """How old a lock is the storage tells, by the time of one's own."""
    refused = []

    def prune() -> None:
        now = time.time
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: now() + DAY)
            forget(repository, two_points[:1])
            with pytest.raises(RepositoryLocked) as error:
                pruned(repository, wait=0, all_of_it=True)
            refused.append(error.value)

    asleep(monkeypatch, BEHIND, kind, prune)
    run("backup", source, os.fsdecode(repository.path))
    assert refused
    assert len(reopened(repository).points.ids()) == 3
    assert pruned(repository, wait=0, all_of_it=True).freed > 0
    assert_whole(repository)


def test_a_lock_that_is_held_is_never_broken(
    two_points: list[str], repository: Repository, source: Path, monkeypatch: Patch
) -> None:
    """However old it seems: its owner is there."""
    refused: list[Any] = []

    def prune() -> None:
        os.utime(the_lock(repository), (1, 1))
        forget(repository, two_points[:1])
        with pytest.raises(RepositoryLocked) as error:
            pruned(repository, wait=0, all_of_it=True)
        refused.append(error.value)

    asleep(monkeypatch, BEHIND, MANIFEST, prune)
    run("backup", source, os.fsdecode(repository.path))
    assert refused
    assert len(reopened(repository).points.ids()) == 3
    assert_whole(repository)
