"""Tags given to backup points, and taken from them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from ibtfs.actions.forget.run import sole_point
from ibtfs.errors import ObjectExists
from ibtfs.format.point import Point
from ibtfs.store.lock import SHARED
from ibtfs.store.point_lists import look_for_list, withdraw_tags
from ibtfs.store.repository import Repository


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
        look_for_list(repository)  # somebody may have taken the tag away a moment ago
        for point in _meant(repository, words, now):
            try:
                repository.points.add_tag(point.id, tag)
            except ObjectExists:
                result.already.append(point)
            else:
                result.done.append(point)
    return result


def untag_points(repository: Repository, tag: str, words: Sequence[str], now: datetime) -> Tagged:
    """Take *tag* from the points that *words* mean; else as tag_points."""
    repository.require_writable()
    with repository.lock(SHARED):
        result = Tagged([], [])
        for point in _meant(repository, words, now):
            has_it = tag in repository.points.tags(point.id)
            if has_it:
                repository.points.remove_tag(point.id, tag)
            (result.done if has_it else result.already).append(point)
        withdraw_tags(repository, [(point.id, tag) for point in result.done])
    return result


def _meant(repository: Repository, words: Sequence[str], now: datetime) -> list[Point]:
    """The points that *words* mean, each once."""
    found = repository.points.all()
    points = [sole_point(repository, found, one, now) for one in words]
    return list({point.id: point for point in points}.values())
