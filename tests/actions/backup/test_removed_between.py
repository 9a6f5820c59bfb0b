"""Two runs by one command: what others remove between them is not built upon by the second."""

from __future__ import annotations

import os
import random
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


@pytest.mark.parametrize("also_first", [False, True])
def test_the_second_source_needs_nothing_that_went_after_the_first(
    also_first: bool, repository: Repository, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    sources, rng = (tmp_path / "first", tmp_path / "second"), random.Random(1)
    large, small = rng.randbytes(5_000_000), rng.randbytes(3000)
    for source in sources:
        source.mkdir()
        (source / "large").write_bytes(large)
        (source / "small").write_bytes(small)
    place = os.fsdecode(repository.path)
    if also_first:  # points of both, of which the second is built upon those of the first
        run("backup", *sources, place)
        for source in sources:
            (source / "large").write_bytes(large[:2_500_000] + b"changed" + large[2_500_000:])
            (source / "more").write_bytes(rng.randbytes(2000))
    (sources[1] / "more").write_bytes((sources[0] / "more").read_bytes() if also_first else small)
    real, made = backup_run.backup, list[Point]()

    def backup(*args: Any) -> Any:
        result = real(*args)
        made.append(result.point)
        if len(made) == 1:
            gone = [point.id for point in reopened(repository).points.all().points]
            forget(repository, gone)
            assert pruned(repository, wait=0, all_of_it=True).freed > 2000
            assert not reopened(repository).has_archives()
        return result

    monkeypatch.setattr(backup_run, "backup", backup)
    run("backup", *sources, place)
    assert reopened(repository).points.ids() == [made[1].id]
    assert_whole(repository)
    assert_comes_back(repository, made[1], snapshot(sources[1]), tmp_path)
