"""A disk that is full, or runs full: whoever works there says so or does his work, and nothing that
is stored is lost. ``scripts/campaign full`` gives a little more room each time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.errors import StorageFull
from tests.support import snapshot
from tests.support.disks import Disk, fill, small_disk
from tests.support.faulty_calls import JOBS
from tests.support.full_disks import SIZE, Crammed
from tests.support.removal import assert_whole, forget, pruned, stored_bytes
from tests.support.repositories import (
    back_up,
    create,
    damages,
    reopened,
    restored_tree,
    settle,
    the_point,
)
from tests.support.sealing import create_sealed, open_sealed
from tests.support.writers import Machine

ROOM = {
    "backup": (0, 20_000, 150_000, 300_000),
    "check --repair, parity": (100_000,),
    "repair --from": (60_000,),
}
"""What is too little for a command, and lets it begin; else it has nothing."""


@pytest.fixture
def disk(fast_path: Path) -> Iterator[Disk]:
    (fast_path / "below").mkdir()
    with small_disk(fast_path / "below", SIZE) as disk:
        yield disk


@pytest.mark.parametrize("name", JOBS)
def test_a_full_disk_loses_nothing(fast_path: Path, disk: Disk, name: str) -> None:
    (fast_path / "job").mkdir()
    crammed = Crammed(JOBS[name](fast_path / "job", 3, 3), disk)
    for room in ROOM.get(name, (0,)):
        done = crammed.attempt(room)
        assert done if name == "forget" else not done or name == "forget --prune"
    crammed.go_on()


def test_a_prune_frees_what_needs_no_room(fast_path: Path, disk: Disk) -> None:
    source, rng = fast_path / "source", random.Random(2)
    repository = create(disk.path / "repository")
    source.mkdir()
    ids = []
    for _ in range(3):
        (source / "file").write_bytes(rng.randbytes(1 << 20))
        ids.append(the_point(back_up(repository, source)).id)
    before = stored_bytes(repository)
    forget(repository, ids[:2])
    fill(disk.path / "filler", 0)
    result = pruned(repository)
    assert result.failed == []
    assert result.removed == 2
    assert before - stored_bytes(repository) > 2 << 20
    assert disk.free() > 2 << 20
    assert reopened(repository).points.ids() == ids[2:]
    assert_whole(repository)


def test_the_folder_of_a_machine_that_only_writes_runs_full(fast_path: Path, disk: Disk) -> None:
    """It is told whose disk it is, and nothing that was backed up is lost."""
    place, source = fast_path / "repo", fast_path / "source"
    create_sealed(place)
    source.mkdir()
    machine = Machine(place, disk.path / "state", "laptop")
    trees = {}
    for turn in range(3):
        for number in range(300):
            (source / f"{'long' * 20}-{turn}-{number}").write_bytes(b"%d" % number)
        settle()
        if turn == 1:
            fill(disk.path / "filler", 4096)
            with pytest.raises(StorageFull, match="what this machine keeps of its backups"):
                machine.back_up(source)
            (disk.path / "filler").unlink()
        trees[the_point(machine.back_up(source)).id] = snapshot(source)
    repository = open_sealed(place)
    found = {point.id: point for point in repository.points.all().points}
    assert [point.full for point in found.values()] == [True, False, False]
    for point_id, tree in trees.items():
        assert restored_tree(repository, found[point_id], fast_path / point_id) == tree
    assert damages(repository) == []
