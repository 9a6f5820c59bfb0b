"""Two runs by one command: what others remove between them is not built upon by the second."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ibtfs.actions.backup import run as backup_run
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from tests.support import snapshot
from tests.support.commands import run
from tests.support.faking import Patch
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import assert_comes_back, reopened


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: Patch) -> tuple[Path, Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    return tmp_path / "first", tmp_path / "second"


def between(patch: Patch, act: Callable[[], object]) -> list[Point]:
    """Have *act* happen behind the first run of a command; the points that it makes."""
    real, made = backup_run.backup, list[Point]()

    def backup(*args: Any) -> Any:
        result = real(*args)
        made.append(result.point)
        if len(made) == 1:
            act()
        return result

    patch.setattr(backup_run, "backup", backup)
    return made


def test_what_went_between_two_sources_is_not_built_upon(
    sources: tuple[Path, Path], repository: Repository, tmp_path: Path, monkeypatch: Patch
) -> None:
    """The first run has read the index in which the second would find it."""
    (first, second), rng = sources, random.Random(1)
    contents = {"large": rng.randbytes(5_000_000), "small": rng.randbytes(3000)}
    for name, data in {**contents, "kept": rng.randbytes(200_000)}.items():
        (first / name).write_bytes(data)
    run("backup", first, os.fsdecode(repository.path))
    (old,) = reopened(repository).points.ids()
    for name in contents:
        (first / name).unlink()
    run("backup", first, os.fsdecode(repository.path))
    for name, data in contents.items():
        (second / name).write_bytes(data)
    with (first / "kept").open("ab") as file:
        file.write(b"more")

    def remove() -> None:
        forget(repository, [old])
        assert pruned(repository, wait=0, all_of_it=True).freed > 5_000_000

    made = between(monkeypatch, remove)
    run("backup", *sources, os.fsdecode(repository.path))
    assert_whole(repository)
    for source, point in zip(sources, made):
        assert_comes_back(repository, point, snapshot(source), tmp_path)


def test_all_that_there_was_goes_between_two_sources(
    sources: tuple[Path, Path], repository: Repository, tmp_path: Path, monkeypatch: Patch
) -> None:
    """Also the point that the command has just made, and is about to tell of."""
    data = random.Random(1).randbytes(5_000_000)
    for source in sources:
        (source / "large").write_bytes(data)

    def remove() -> None:
        forget(repository, reopened(repository).points.ids())
        pruned(repository, wait=0, all_of_it=True)
        assert not reopened(repository).has_archives()

    made = between(monkeypatch, remove)
    run("backup", *sources, os.fsdecode(repository.path))
    assert reopened(repository).points.ids() == [made[1].id]
    assert_whole(repository)
    assert_comes_back(repository, made[1], snapshot(sources[1]), tmp_path)
