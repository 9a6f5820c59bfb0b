"""Locks: kept fresh while a run waits, lost when the machine slept, told by the storage's clock."""

from __future__ import annotations

import os
import time

import pytest

from ibtfs.errors import IbtfsError, LockLost
from ibtfs.store import lock
from ibtfs.store.lock import EXCLUSIVE, SHARED, Lock
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


def test_a_clock_that_is_days_ahead_takes_no_run_for_dead(repository: Repository) -> None:
    """Ages are told by the storage: by the time of one's own lock."""
    with Lock(repository.storage, SHARED, host="far", process=1, token="0" * 8) as far:
        with repository.lock(SHARED) as own:
            path = repository.storage.path(f"locks/{own.name}")
            assert own.others_at_work()
        # the same, where all times that this storage gives are two days behind this machine's
        now = os.stat(repository.storage.path(f"locks/{far.name}")).st_mtime
        os.utime(repository.storage.path(f"locks/{far.name}"), (now - 172_800, now - 172_800))
        storage = repository.storage
        assert storage.age(f"locks/{far.name}", f"locks/{far.name}") == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "ibtfs.store.storage.lease.FileLease.refresh",
                lambda lease: os.utime(lease._descriptor, (now - 172_790, now - 172_790)),
            )
            with repository.lock(SHARED) as own:
                assert own.others_at_work()
                path = storage.path(f"locks/{own.name}")
                assert os.stat(path).st_mtime == now - 172_790


def test_an_exclusive_lock_keeps_out_a_shared_one(repository: Repository) -> None:
    with repository.lock(EXCLUSIVE), pytest.raises(IbtfsError, match="locked"):
        repository.lock(SHARED)
