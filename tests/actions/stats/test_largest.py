"""The paths that cost most, against a plain sum over all points."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.actions.stats.gather import statistics
from ibtfs.actions.stats.largest import largest
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.repository import Repository
from ibtfs.store.trees.paths import walk
from tests.support.histories import History
from tests.support.removal import forget
from tests.support.repositories import back_up, create, reopened

Paths = dict[tuple[str, bytes], set[Reference]]


def all_paths(repository: Repository, points: list[Point]) -> Paths:
    """The contents of each path of a source, over *points*."""
    found: Paths = defaultdict(set)
    for point in points:
        for path, entry in walk(repository, point, b"", recursive=True):
            if entry.content is not None:
                found[point.display, path].add(entry.content)
    return found


def built_on(
    repository: Repository, ref: Reference, with_path: set[Reference]
) -> Iterator[Reference]:
    record = repository.archive(ref.archive).content(ref.number)
    for other in (*record.donors, *([record.base] if record.base else [])):
        if other not in with_path:
            yield other
            yield from built_on(repository, other, with_path)


@pytest.mark.parametrize("seed", range(4))
def test_all_paths_of_a_random_repository(fast_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    repository = create(fast_path / "repository")
    histories = [History(fast_path / name, rng, max_bytes=1 << 20) for name in ("one", "two")]
    for _ in range(8):
        history = rng.choice(histories)
        history.step()
        back_up(repository, history.root)
    if seed % 2:
        forget(repository, rng.sample(repository.points.all().points, 3))
        prune(reopened(repository), PruneOptions(), Observer())
    opened = reopened(repository)
    weights = statistics(opened).weights
    everything = opened.points.all().points
    for points in (everything, everything[:1], [p for p in everything if p.display == "two"]):
        paths = all_paths(opened, points)
        with_path = set().union(*all_paths(opened, everything).values())
        found, damages = largest(opened, weights, points, 1000)
        assert damages == []
        assert {(one.source, one.cost.path) for one in found} == set(paths)
        for source, cost in found:
            refs = paths[source, cost.path]
            assert cost.versions == len(refs)
            below = {other for ref in refs for other in built_on(opened, ref, with_path)}
            payloads = [weights.archives[r.archive].payloads[r.number] for r in refs | below]
            assert cost.stored == pytest.approx(sum(payloads), abs=1)
        stored = [one.cost.stored for one in found]
        assert stored == sorted(stored, reverse=True)
        assert largest(opened, weights, points, 3)[0] == found[:3]


def test_a_large_file_costs_all_its_versions(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    repository = create(tmp_path / "repository")
    for _ in range(3):
        (source / "log").write_bytes(os.urandom(200_000))
        (source / "kept").write_bytes(b"k" * 1000)
        back_up(repository, source)
    opened = reopened(repository)
    found, _ = largest(opened, statistics(opened).weights, opened.points.all().points, 1)
    ((name, cost),) = found
    assert (name, cost.path, cost.versions) == ("source", b"log", 3)
    assert cost.stored == pytest.approx(600_000, rel=0.01)
