"""Removing, as commands would do it: each with a repository opened anew."""

from __future__ import annotations

import os

from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, PruneResult, prune
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.lock import SHARED
from ibtfs.store.repository import Repository
from tests.support.repositories import reopened


def forget(repository: Repository, *points: Point) -> None:
    """Have *points* be there no more, on purpose."""
    opened = reopened(repository)
    with opened.lock(SHARED):
        for point in points:
            opened.storage.put_new(layout.forgotten(point.id), b"")
            os.unlink(opened.storage.path(layout.point(point.id)))


def pruned(repository: Repository, *, all_of_it: bool = True) -> PruneResult:
    """What a prune did that was not kept waiting."""
    options = PruneOptions(wait=0, all_of_it=all_of_it)
    return prune(reopened(repository), options, Observer())
