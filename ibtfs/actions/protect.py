"""Protecting a repository: parity beside all that it holds, and all that will be written."""

from __future__ import annotations

from typing import NamedTuple

from ibtfs.actions.observer import Observer
from ibtfs.store.lock import PRUNE
from ibtfs.store.protection.keeping import Kept, Protection
from ibtfs.store.repository import Repository


class Protected(NamedTuple):
    """What was done: what is *kept* now, and how many sidecars were *removed*."""

    kept: Kept
    removed: int


def protect(repository: Repository, share: int, observer: Observer) -> Protected:
    """Protect all of *repository* by *share* percent of its size from now on; by 0, no more.

    Raises LibraryMissing, RepositoryLocked, LockLost, StorageFull, StorageFailed, IbtfsError.
    """
    repository.require_writable()
    with repository.lock(PRUNE) as lock:
        protection = Protection(repository, lock.refresh)
        protection.set_share(share)
        if not share:
            return Protected(protection.kept, protection.take_away())
        for archive_id in repository.archive_ids():
            protection.complete_archive(archive_id)
            observer.progress(1, 0)
        return Protected(protection.complete(()), 0)
