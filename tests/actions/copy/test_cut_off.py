"""Copies that are killed, that find no room, and that meet others at work."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ibtfs.errors import StorageFull
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.store.writing import run as run_writer
from tests.support.commands import command
from tests.support.copying import assert_same_point, copied, copied_well
from tests.support.crashing import cut_at_each_step
from tests.support.disks import fill, small_disk
from tests.support.removal import assert_whole, forget, pruned
from tests.support.repositories import back_up, create, damages, reopened, the_point
from tests.support.trees import make_tree

MIB = 1 << 20


def filled(repository: Repository, source: Path, *, size: int = 3000) -> list[Point]:
    """Three points of *source*, with a large file that becomes deltas."""
    rng, points = random.Random(3), []
    large = bytearray(rng.randbytes(100 * size))
    for number in range(3):
        large[number * 9000 : number * 9000 + 500] = rng.randbytes(500)
        make_tree(source, {f"n{number}": rng.randbytes(size), f"d{number}": {"x": b"x"}})
        (source / "large").write_bytes(large)
        points.append(the_point(back_up(repository, source, tags=("t",))))
    return points


def test_cut_off_at_each_step(
    source: Path, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_writer, "ARCHIVE_BYTES", 200_000)
    points = filled(repository, source)
    target = create(tmp_path / "target")
    copied_well(repository, target, points[0].id)
    locks = Path(os.fsdecode(repository.path), "locks")

    def work() -> None:
        copied_well(repository, target)

    for step in cut_at_each_step(Path(os.fsdecode(target.path)), work, least=30):
        for lock in locks.iterdir():
            lock.unlink()  # this process still lives
        present = reopened(target).points.ids()
        assert points[0].id in present, step
        assert damages(target) == [], step
        for point_id in present:
            assert_same_point(repository, target, point_id)
        if step is not None and step % 3 == 0:
            pruned(target)
        copied_well(repository, target)
        assert set(reopened(target).points.ids()) == {point.id for point in points}, step
        assert_whole(target)
        pruned(target)
        assert_whole(target)


def test_killed_at_any_moment(source: Path, repository: Repository, tmp_path: Path) -> None:
    points = filled(repository, source, size=60_000)
    target = create(tmp_path / "target")
    words = command("copy", "-q", repository.path, target.path)
    rng = random.Random(7)
    for _ in range(12):
        process = subprocess.Popen(words, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)})
        time.sleep(rng.uniform(0.2, 1.2))
        process.kill()
        process.wait()
        assert damages(target) == []
        forget(target, reopened(target).points.ids()[:1] if rng.randrange(3) == 0 else [])
    copied_well(repository, target, *(point.id for point in points))
    for point in points:
        assert_same_point(repository, target, point.id)
    assert_whole(target)


def test_a_full_disk_costs_nothing(source: Path, repository: Repository, fast_path: Path) -> None:
    points = filled(repository, source, size=30_000)
    (fast_path / "below").mkdir()
    with small_disk(fast_path / "below", 64 * MIB) as disk:
        target = create(disk.path / "target")
        copied_well(repository, target, points[0].id)
        for room in (0, 4096, 20_000, 60_000, 100_000):
            (disk.path / "filler").unlink(missing_ok=True)
            forget(target, reopened(target).points.ids()[1:])
            fill(disk.path / "filler", room)
            result: object = None
            try:
                result = copied(repository, target, [point.id for point in points]).error
            except StorageFull as error:
                result = error
            assert result is None or isinstance(result, StorageFull), room
            assert points[0].id in reopened(target).points.ids()
            assert damages(target) == []
            assert_same_point(repository, target, points[0].id)
        (disk.path / "filler").unlink()
        copied_well(repository, target, *(point.id for point in points))
        for point in points:
            assert_same_point(repository, target, point.id)
        assert_whole(target)


def at_once(*works: Callable[[], object]) -> None:
    failed: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_two_copies_and_a_backup_at_once(
    source: Path, repository: Repository, tmp_path: Path
) -> None:
    points, other = filled(repository, source), tmp_path / "other"
    make_tree(other, {f"{number}": b"%d" % number for number in range(50)})
    for number in range(5):
        target = create(tmp_path / f"target{number}")

        def work(target: Repository = target) -> None:
            assert copied(repository, target).error is None

        at_once(work, work, lambda t=target: back_up(t, other), lambda t=target: back_up(t, source))  # type: ignore[misc]
        ids = {point.id for point in points}
        assert ids < set(reopened(target).points.ids())
        assert len(reopened(target).points.ids()) == 5
        for point in points:
            assert_same_point(repository, target, point.id)
        assert_whole(target)
        pruned(target, all_of_it=True)
        assert_whole(target)
        assert copied_well(repository, target).copied == []
