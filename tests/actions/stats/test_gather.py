"""Statistics beside removals, and of runs that left no point."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, prune
from ibtfs.actions.stats.gather import Statistics, statistics
from ibtfs.store.repository import Repository
from tests.support.removal import forget
from tests.support.repositories import back_up, create, remove, reopened


@pytest.fixture
def grown(fast_path: Path) -> Repository:
    """Eight points, of which each has something of its own, and of a log that grows."""
    source = fast_path / "source"
    source.mkdir()
    repository = create(fast_path / "repository")
    for number in range(8):
        (source / "own").write_bytes(os.urandom(100_000))
        with (source / "log").open("ab") as log:
            log.write(os.urandom(20_000))
        (source / f"kept{number}").write_bytes(os.urandom(1000))
        back_up(repository, source)
    return repository


def summed(found: Statistics) -> tuple[object, ...]:
    costs = [(cost.point.id, cost.added, cost.alone, cost.with_earlier)
             for source in found.sources for cost in source.points]  # fmt: skip
    return found.footprint, costs, round(found.weights.unneeded), found.damages


def test_who_has_looked_before_sees_what_was_pruned(grown: Repository) -> None:
    opened = reopened(grown)
    before = statistics(opened)
    forget(grown, before.by_time[2:6])
    between = statistics(opened)
    assert between.points == 4
    assert between.weights.unneeded > 300_000
    prune(reopened(grown), PruneOptions(), Observer())
    after = statistics(opened)
    assert summed(after) == summed(statistics(reopened(grown)))
    assert after.weights.unneeded < 5000
    assert after.footprint.total < before.footprint.total - 300_000


def test_beside_a_prune_nothing_is_damaged(grown: Repository) -> None:
    """Whatever it has taken away when the statistics come by."""
    done = threading.Event()
    damages: list[str] = []

    def look() -> None:
        while not done.is_set():
            damages.extend(statistics(reopened(grown)).damages)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(3):
            forget(grown, statistics(reopened(grown)).by_time[1:3])
            prune(reopened(grown), PruneOptions(all_of_it=True), Observer())
    finally:
        done.set()
        looker.join()
    assert damages == []
    assert statistics(reopened(grown)).points == 2


def test_archives_of_runs_without_a_point(grown: Repository) -> None:
    found = statistics(reopened(grown))
    newest = found.by_time[-1]
    assert (found.added_by_none, round(found.weights.unneeded)) == (0, 0)
    remove(grown, newest)  # as if it had been cut off
    left = statistics(reopened(grown))
    added = found.sources[0].points[-1].added - grown.points.manifest_size(newest)
    assert left.added_by_none == added
    alone = found.sources[0].points[-1].alone - grown.points.manifest_size(newest)
    assert left.weights.unneeded == pytest.approx(alone, abs=2)
    sizes = [source.freed for source in left.sources]
    assert left.footprint.total - left.footprint.other == pytest.approx(
        sum(sizes) + left.weights.unneeded, abs=2
    )
