"""Repositories whose archives lie in bundles, and what is left of them looked at."""

from __future__ import annotations

import os
import random
from pathlib import Path

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, PruneResult, prune
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.removal.bundling import Bounds
from ibtfs.store.repository import Repository
from tests.support import Entry, snapshot
from tests.support.independent_reader import IndependentReader
from tests.support.repositories import back_up, damages, reopened, settled, the_point

from .repositories import on_disk

SOON = Bounds(least=2, age=-3600, tiers=(64 << 20,))
"""Any two archives, however young, become a bundle."""
NEVER = Bounds(archive_size=0)


def put_together(repository: Repository, bounds: Bounds = SOON, **options: object) -> PruneResult:
    """Prune by a repository opened anew, with these bounds of bundles."""
    chosen = PruneOptions(bundles=bounds, **options)  # type: ignore[arg-type]
    return prune(reopened(repository), chosen, Observer())


def folders(repository: Repository) -> list[str]:
    """The archives that have folders."""
    return sorted(os.listdir(on_disk(repository.storage, layout.ARCHIVES)))


def bundles(repository: Repository) -> list[Path]:
    """The bundles there are."""
    return sorted(Path(on_disk(repository.storage, layout.BUNDLES)).iterdir())


def make_points(
    repository: Repository, source: Path, count: int
) -> list[tuple[Point, dict[bytes, Entry]]]:
    """Back up *source*, in which some files change each time, *count* times."""
    rng = random.Random(5)
    source.mkdir(exist_ok=True)
    made = []
    large = bytearray(rng.randbytes(200_000))
    for number in range(count):
        (source / "new").write_bytes(b"%d" % number * 100)
        (source / f"stays{number}").write_bytes(rng.randbytes(3000))
        large[rng.randrange(len(large))] ^= 1
        (source / "large").write_bytes(large)
        for path in source.iterdir():
            settled(path)
        settled(source / "large")
        os.utime(source / "large", ns=(10**18 + number, 10**18 + number))
        os.utime(source / "new", ns=(10**18 + number, 10**18 + number))
        made.append((the_point(back_up(repository, source)), snapshot(source)))
    return made


def make_versions(
    repository: Repository, source: Path, count: int
) -> list[tuple[Point, dict[bytes, Entry]]]:
    """Back up *source*, a file of which has nothing in common with what it was, *count* times."""
    rng = random.Random(count)
    source.mkdir(exist_ok=True)
    made = []
    for number in range(count):
        (source / "version").write_bytes(rng.randbytes(3000))
        os.utime(source / "version", ns=(10**18 + number, 10**18 + number))
        made.append((the_point(back_up(repository, source)), snapshot(source)))
    return made


def assert_whole(repository: Repository) -> None:
    """Each point is whole: by check, and by a reader that shares no code with it."""
    assert damages(repository) == []
    reader = IndependentReader(os.fsdecode(repository.path))
    for point in reader.points():
        for _, entry in point.entries():
            if entry.content is not None:
                entry.content.whole()
    assert [one.id for one in reader.archives()] == reopened(repository).archive_ids()
