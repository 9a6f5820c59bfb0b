"""Points removed and space freed, as a command would do it, and what is left looked at."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, PruneResult, prune
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.repository import Repository
from tests.support.independent_reader import IndependentReader
from tests.support.repositories import damages, reopened


def forget(repository: Repository, points: Iterable[Point | str]) -> None:
    """Remove points, or those with these ids, on purpose: their archives may go at once."""
    for point in points:
        point_id = point if isinstance(point, str) else point.id
        repository.storage.put_new(layout.forgotten(point_id), b"")
        repository.storage.delete(layout.point(point_id))


def forget_some(repository: Repository, rng: random.Random) -> list[str]:
    """Remove some points, whichever, but not all; the ids of those that stay."""
    ids = reopened(repository).points.ids()
    gone = rng.sample(ids, rng.randrange(len(ids)))
    forget(repository, gone)
    return [point_id for point_id in ids if point_id not in gone]


def pruned(repository: Repository, **options: object) -> PruneResult:
    """Prune by a repository opened anew."""
    chosen: dict[str, Any] = {"allow_none": True, **options}
    return prune(reopened(repository), PruneOptions(**chosen), Observer())


def stored_bytes(repository: Repository) -> int:
    """Bytes of all files."""
    root = Path(os.fsdecode(repository.path))
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def assert_whole(repository: Repository) -> None:
    """Each point is whole: by check, which compares all digests up to the manifest, and by a
    reader that shares no code with it."""
    assert damages(repository) == []
    reader = IndependentReader(os.fsdecode(repository.path))
    for point in reader.points():
        for _, entry in point.entries():
            if entry.content is not None:
                entry.content.whole()
