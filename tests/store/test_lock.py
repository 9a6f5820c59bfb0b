"""Locks: kept fresh while a run waits, and lost when the machine slept."""

from __future__ import annotations

import os
import time

import pytest

from ibtfs.errors import LockLost
from ibtfs.store import lock
from ibtfs.store.lock import SHARED, Lock
from ibtfs.store.repository import Repository


def test_a_lock_is_kept_fresh_while_a_run_waits(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "REFRESH_SECONDS", 0.05)
    with Lock(repository.storage, SHARED, host="here", process=1, token="0" * 8) as held:
        path = repository.storage.path(f"locks/{held.name}")
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 10
        while os.stat(path).st_mtime < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert os.stat(path).st_mtime > 2
        held.verify()
        os.unlink(path)
        with pytest.raises(LockLost):
            held.verify()


def test_a_lock_of_a_machine_that_slept_is_lost(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lock(repository.storage, SHARED, host="here", process=1, token="0" * 8) as held:
        held.verify()
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        monkeypatch.setattr(lock, "_now", lambda: now + lock.STALE_SECONDS + 5)
        with pytest.raises(LockLost):
            held.verify()
