"""What a decision says that forgetting points frees, against what forgetting and pruning frees."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.decide import decide
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.actions.stats.gather import statistics
from ibtfs.store.repository import Repository
from tests.support.histories import History
from tests.support.removal import forget
from tests.support.repositories import back_up, create, damages, reopened, the_point
from tests.support.sealing import create_sealed, open_sealed

LEAST = 1 << 20
TOLERANCE = 0.05


def archives_size(repository: Repository) -> int:
    folder = Path(os.fsdecode(repository.path)) / "archives"
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def random_repository(path: Path, seed: int) -> Repository:
    rng = random.Random(seed)
    repository = create(path / "repository")
    histories = [
        History(path / f"source{number}", rng, max_bytes=6 << 20)
        for number in range(rng.choice((1, 1, 2)))
    ]
    runs = 0
    while runs < 12 or (archives_size(repository) < LEAST and runs < 40):
        history = rng.choice(histories)
        for _ in range(3):
            history.step()
        back_up(repository, history.root)
        runs += 1
    assert archives_size(repository) >= LEAST
    return reopened(repository)


@pytest.mark.parametrize("seed", range(6))
def test_forgetting_frees_what_was_promised(fast_path: Path, seed: int) -> None:
    """And no less than what the records tell that these points alone need."""
    rng = random.Random(seed)
    repository = random_repository(fast_path, seed)
    for share in (rng.uniform(0.1, 0.5), 0.5):
        points = repository.points.all().points
        gone = rng.sample(points, max(1, round(len(points) * share)))
        promised = decide(reopened(repository), without=[point.id for point in gone]).freed
        before = archives_size(repository)
        forget(repository, gone)
        result = prune(reopened(repository), PruneOptions(), Observer())
        freed = before - archives_size(repository)
        assert (result.failed, result.damages) == ([], [])
        assert promised == pytest.approx(freed, rel=TOLERANCE, abs=TOLERANCE * LEAST / 10)
        repository = reopened(repository)
    assert damages(repository) == []


def test_the_rounding_of_small_sealed_files_is_foreseen(tmp_path: Path) -> None:
    """What is freed of them is a difference of rounded sizes."""
    rng, source = random.Random(1), tmp_path / "source"
    source.mkdir()
    create_sealed(tmp_path / "repository")
    (source / "goes").write_bytes(rng.randbytes(24_000))
    (source / "stays").write_bytes(rng.randbytes(100_375))  # a size that is rounded up by much
    first = the_point(back_up(open_sealed(tmp_path / "repository"), source))
    (source / "goes").unlink()
    back_up(open_sealed(tmp_path / "repository"), source)
    repository = open_sealed(tmp_path / "repository")
    promised = decide(repository, without=[first.id]).freed
    repository.points.remove(first.id)
    result = prune(open_sealed(tmp_path / "repository"), PruneOptions(), Observer())
    assert promised == pytest.approx(result.freed, rel=TOLERANCE)


@pytest.mark.parametrize("seed", [11, 12])
def test_a_range_frees_as_much_as_is_told(fast_path: Path, seed: int) -> None:
    """Prune frees what records of these points alone take, but for files not worth writing anew."""
    repository = random_repository(fast_path, seed)
    found = statistics(repository)
    told = max(found.ranges_by_time(), key=lambda one: one.freed * (one.last != one.first))
    points = found.by_time
    gone = points[points.index(told.first) : points.index(told.last) + 1][:-1] or points[:1]
    told_freed = next(
        one.freed for one in found.ranges_by_time()
        if (one.first, one.last) == (gone[0], gone[-1])
    )  # fmt: skip
    before = archives_size(repository)
    forget(repository, gone)
    prune(reopened(repository), PruneOptions(all_of_it=True), Observer())
    freed = before - archives_size(repository)
    manifests = sum(repository.points.manifest_size(point) for point in gone)
    assert freed >= (told_freed - manifests) * (1 - TOLERANCE)


def test_many_small_files_free_what_was_promised(fast_path: Path) -> None:
    """Nearly all of it lies in indexes: rows and records."""
    rng = random.Random(1)
    repository = create(fast_path / "repository")
    source = fast_path / "source"
    for folder in range(40):
        (source / str(folder)).mkdir(parents=True)
        for number in range(100):
            (source / str(folder) / str(number)).write_bytes(rng.randbytes(150))
    for _ in range(12):
        for _ in range(30):
            path = source / str(rng.randrange(40)) / str(rng.randrange(100))
            path.write_bytes(rng.randbytes(rng.randrange(1, 300)))
        back_up(repository, source)
    assert archives_size(repository) >= LEAST
    gone = repository.points.all().points[2:9:2]
    promised = decide(reopened(repository), without=[point.id for point in gone]).freed
    before = archives_size(repository)
    forget(repository, gone)
    prune(reopened(repository), PruneOptions(), Observer())
    assert promised == pytest.approx(before - archives_size(repository), rel=TOLERANCE)
    assert promised > 50_000
