"""Tags given to backup points, and taken from them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from ibtfs.actions.forget.run import sole_point
from ibtfs.format.point import Point
from ibtfs.store.lock import SHARED
from ibtfs.store.repository import Repository
from ibtfs.store.taking import give_tag, take_tags


class Tagged(NamedTuple):
    """The points whose tags were changed, and those that were *already* as they should be."""

    done: list[Point]
    already: list[Point]


def tag_points(repository: Repository, tag: str, words: Sequence[str], now: datetime) -> Tagged:
    """Give *tag* to the points that *words* mean; *now* is as of select_point.

    Raises PointNotFound, UsageError, PointDamaged, RepositoryLocked, StorageFailed.
    """
    repository.require_writable()
    with repository.lock(SHARED):
        result = Tagged([], [])
        for point in _meant(repository, words, now):
            is_new = give_tag(repository, point.id, tag)
            (result.done if is_new else result.already).append(point)
    return result


def untag_points(repository: Repository, tag: str, words: Sequence[str], now: datetime) -> Tagged:
    """Take *tag* from the points that *words* mean; else as tag_points."""
    repository.require_writable()
    with repository.lock(SHARED):
        result = Tagged([], [])
        points = _meant(repository, words, now)
        had = take_tags(repository, [(point.id, tag) for point in points])
        for point in points:
            (result.done if (point.id, tag) in had else result.already).append(point)
    return result


def _meant(repository: Repository, words: Sequence[str], now: datetime) -> list[Point]:
    """The points that *words* mean, each once."""
    found = repository.points.all()
    points = [sole_point(repository, found, one, now) for one in words]
    return list({point.id: point for point in points}.values())
