"""The moment in which nobody else may be at work, of an action that holds a prune lock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ibtfs.actions.observer import Observer
from ibtfs.errors import RepositoryLocked
from ibtfs.store.lock import EXCLUSIVE, Lock
from ibtfs.store.repository import Repository

WAIT_SECONDS = 600.0
PAUSE_SECONDS = 1.0
AGAIN_SECONDS = 10.0
"""So long nothing is tried as long as the same locks are there: the try itself is a lock."""


@contextmanager
def alone(
    repository: Repository, lock: Lock, observer: Observer, wait: float = WAIT_SECONDS
) -> Iterator[Lock]:
    """While nobody else is at work, the exclusive lock; backups are not kept waiting before.

    *lock* is the caller's prune lock, *wait* for how many seconds others are waited for.  Raises
    RepositoryLocked, LockLost.
    """
    until = time.monotonic() + wait
    told = False
    while True:
        try:
            exclusive = repository.lock(EXCLUSIVE, beside=[lock.name])
            break
        except RepositoryLocked as error:
            if time.monotonic() > until:
                raise
            if not told:
                observer.note(f"{error}: waiting")
                told = True
        _wait_for_others(repository, lock, until)
    with exclusive:
        yield exclusive


def _wait_for_others(repository: Repository, lock: Lock, latest: float) -> None:
    """Until other locks are there than now, or for some seconds; not beyond *latest*."""
    before, until = repository.locks(), min(time.monotonic() + AGAIN_SECONDS, latest)
    while True:
        time.sleep(max(min(PAUSE_SECONDS, until - time.monotonic()), 0))
        lock.refresh()
        if time.monotonic() > until or repository.locks() != before:
            return
