"""Files of archives that are gone: the next backup sees it, and its point is whole."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.store.writing.catalog import Catalog
from ibtfs.store.writing.losses import find_losses
from tests.support import differences, snapshot
from tests.support.repositories import (
    Recorder,
    back_up,
    reopened,
    restored_tree,
    settle,
    the_point,
)

CACHES = pytest.mark.parametrize("cache", ["cache", ""], ids=["catalog", "no catalog"])


def lose(repository: Repository, point: Point, what: str) -> None:
    folder = Path(os.fsdecode(repository.path)) / "archives" / point.state.archive
    if what:
        (folder / what).unlink()
    else:
        shutil.rmtree(folder)


def two_points(tmp_path: Path, repository: Repository, **options: object) -> list[Point]:
    """Of two folders; a file of one is a delta in the second point."""
    chance, source = random.Random(1), tmp_path / "source"
    for name in ("kept/a", "kept/b", "kept/deep/c", "changed/d", "changed/e"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(chance.randbytes(50_000))
    settle()
    made = [the_point(back_up(repository, source, **options))]
    with open(source / "changed/d", "ab") as file:
        file.write(b"more")
    settle()
    made.append(the_point(back_up(repository, source, **options)))
    return made


@pytest.mark.damaged
@pytest.mark.parametrize("what", ["data.1", "index.1", ""])
@CACHES
def test_the_next_point_is_whole(
    tmp_path: Path, repository: Repository, cache: str, what: str
) -> None:
    options = {"cache": os.fsencode(tmp_path / cache) if cache else b""}
    first, _ = two_points(tmp_path, repository, **options)
    lose(repository, first, what)
    told = Recorder()
    point = the_point(back_up(repository, tmp_path / "source", told, **options))
    expected = snapshot(tmp_path / "source")
    assert differences(expected, restored_tree(repository, point, tmp_path / "back")) == []
    kind = what.partition(".")[0] or "index"
    missing = [note for note in told.notes if f"{first.state.archive}/{kind} is missing" in note]
    assert len(missing) == 1
    # what was stored anew is not stored once more
    result = back_up(repository, tmp_path / "source", Recorder(), **options)
    assert result.tally.counts["bytes_added"] == 0


@CACHES
def test_what_is_there_is_not_lost(tmp_path: Path, repository: Repository, cache: str) -> None:
    options = {"cache": os.fsencode(tmp_path / cache) if cache else b""}
    first = two_points(tmp_path, repository, **options)[-1].state.archive
    opened = reopened(repository)
    with Catalog(opened, options["cache"]) as catalog:
        assert catalog.may_lack() is not bool(cache)
        assert not find_losses(opened, catalog, first, frozenset())
