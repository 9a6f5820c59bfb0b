"""Locks: kept fresh while a run waits, lost when the machine slept, told by the storage's clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from ibtfs.errors import IbtfsError, LockLost, RepositoryLocked
from ibtfs.store import lock
from ibtfs.store.lock import (
    EXCLUSIVE,
    FOREIGN_SECONDS,
    PRUNE,
    SHARED,
    STALE_SECONDS,
    Lock,
    parse_holder,
)
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import UNFINISHED
from tests.support.repositories import on_disk


def test_a_lock_is_kept_fresh_while_a_run_waits(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "REFRESH_SECONDS", 0.05)
    with Lock(repository.storage, SHARED, host="here", process=1, token="0" * 8) as held:
        path = on_disk(repository.storage, f"locks/{held.name}")
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 60
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
            path = on_disk(repository.storage, f"locks/{own.name}")
            assert own.others_at_work()
        # the same, where all times that this storage gives are two days behind this machine's
        now = os.stat(on_disk(repository.storage, f"locks/{far.name}")).st_mtime
        os.utime(on_disk(repository.storage, f"locks/{far.name}"), (now - 172_800, now - 172_800))
        storage = repository.storage
        assert storage.age(f"locks/{far.name}", f"locks/{far.name}") == 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "ibtfs.store.storage.lease.FileLease.refresh",
                lambda lease: os.utime(lease._descriptor, (now - 172_790, now - 172_790)),
            )
            with repository.lock(SHARED) as own:
                assert own.others_at_work()
                path = on_disk(storage, f"locks/{own.name}")
                assert os.stat(path).st_mtime == now - 172_790


def test_an_exclusive_lock_keeps_out_a_shared_one(repository: Repository) -> None:
    with repository.lock(EXCLUSIVE), pytest.raises(IbtfsError, match="locked"):
        repository.lock(SHARED)


def left(repository: Repository, kind: str, host: str, age: float) -> str:
    """The name of a lock that nobody holds any more, made *age* seconds before one made now."""
    name = f"{kind}_1_{host}_1_0000000a"
    repository.storage.put_new(f"locks/{name}", b"")
    made = time.time() - age
    os.utime(on_disk(repository.storage, f"locks/{name}"), (made, made))
    return name


def take(repository: Repository, kind: str, **options: Any) -> Lock:
    return Lock(repository.storage, kind, host="here", process=2, token="0000000b", **options)


@pytest.mark.parametrize("kind", [SHARED, PRUNE, EXCLUSIVE])
@pytest.mark.parametrize("other", [SHARED, PRUNE, EXCLUSIVE])
def test_only_backups_go_beside_others(repository: Repository, kind: str, other: str) -> None:
    together = {kind, other} in ({SHARED}, {SHARED, PRUNE})
    with Lock(repository.storage, other, host="far", process=1, token="0" * 8) as held:
        if together:
            take(repository, kind).release()
        else:
            with pytest.raises(RepositoryLocked, match=rf"\({other}\) by process 1 on far"):
                take(repository, kind)
        take(repository, kind, beside=[held.name]).release()
        assert repository.storage.list("locks") == [held.name]


def test_a_lock_of_another_machine_is_broken_when_it_is_stale_and_not_before(
    repository: Repository,
) -> None:
    name = left(repository, EXCLUSIVE, "far", STALE_SECONDS - 60)
    with pytest.raises(RepositoryLocked):
        take(repository, SHARED)
    assert repository.storage.list("locks") == [name]
    repository.storage.delete(f"locks/{name}")
    left(repository, EXCLUSIVE, "far", STALE_SECONDS + 60)
    part = "points/p.0000000a00000000" + UNFINISHED
    open(on_disk(repository.storage, part), "x").close()
    with take(repository, SHARED) as own:
        assert repository.storage.list("locks") == [own.name]
        # and nothing that its owner had begun can be finished
        assert repository.storage.list("points", unfinished=True) == []


def test_a_dead_lock_of_this_machine_excludes_nothing(repository: Repository) -> None:
    left(repository, EXCLUSIVE, "here", 0)
    with take(repository, EXCLUSIVE) as own:
        assert repository.storage.list("locks") == [own.name]


def test_another_machine_may_be_at_work_for_a_day_and_a_dead_process_not(
    repository: Repository,
) -> None:
    with take(repository, SHARED) as own:
        assert not own.others_at_work()
        dead = left(repository, SHARED, "here", 0)
        assert own.is_of_same_machine(dead)
        assert not own.others_at_work()
        far = left(repository, SHARED, "far", FOREIGN_SECONDS - 60)
        assert not own.is_of_same_machine(far)
        assert own.others_at_work()
        os.utime(on_disk(repository.storage, f"locks/{far}"), (1, 1))
        assert not own.others_at_work()
        # who is not counted any more is to finish nothing, should he only have slept
        own.remove_dead(pytest.fail)
        assert repository.storage.list("locks") == [own.name]
        repository.storage.put_new("locks/no lock", b"")
        assert not own.others_at_work()


def test_a_lock_that_was_given_back_is_lost(repository: Repository) -> None:
    held = take(repository, SHARED)
    held.release()
    held.release()
    with pytest.raises(LockLost):
        held.verify()


def test_a_lock_is_looked_at_once_a_minute(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with take(repository, SHARED) as held:
        os.unlink(on_disk(repository.storage, f"locks/{held.name}"))
        held.refresh()
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        monkeypatch.setattr(lock, "_now", lambda: now + lock.REFRESH_SECONDS + 5)
        with pytest.raises(LockLost):
            held.refresh()


@pytest.mark.parametrize(
    "name",
    ["", "shared_1_far_1_0000000", "shared_1_far_1_0000000a0", "other_1_far_1_0000000a",
     "shared_1__1_0000000a", "shared_x_far_1_0000000a", "shared_1_far_1_0000000A",
     "xshared_1_far_1_0000000a", "shared_1_far_1_0000000a\n"],
)  # fmt: skip
def test_other_names_are_no_locks(name: str) -> None:
    assert parse_holder("shared_7_far-a.b_9_0000000a") == (SHARED, 7, "far-a.b", 9, "0000000a")
    assert parse_holder(name) is None


def test_a_process_that_ends_with_a_lock_does_not_wait_for_it(repository: Repository) -> None:
    code = (
        "import sys; from ibtfs.store.repository import Repository;"
        "held = Repository.open(sys.argv[1].encode()).lock('shared'); raise SystemExit(5)"
    )
    path = os.fsdecode(repository.path)
    done = subprocess.run([sys.executable, "-c", code, path], check=False, timeout=240)
    assert done.returncode == 5
    assert len(repository.storage.list("locks")) == 1
    with repository.lock(EXCLUSIVE) as own:
        assert repository.storage.list("locks") == [own.name]


def test_ages_by_which_a_lock_is_told() -> None:
    assert (STALE_SECONDS, FOREIGN_SECONDS) == (30 * 60, 24 * 60 * 60)
    assert 5 * lock.REFRESH_SECONDS < STALE_SECONDS


@pytest.mark.parametrize("host", ["a b_c", "x" * 100, "", "_", "ä.b-C9"])
def test_any_host_has_a_name_in_a_lock(repository: Repository, host: str) -> None:
    with Lock(repository.storage, SHARED, host=host, process=7, token="0000000b") as held:
        holder = parse_holder(held.name)
        assert holder is not None
        assert (holder.kind, holder.process, holder.token) == (SHARED, 7, "0000000b")
        assert holder.host == ("".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-"
                                       for c in host)[:64] or "-")  # fmt: skip
        assert abs(holder.since - time.time()) < 600
        with pytest.raises(RepositoryLocked, match=rf"by process 7 on {holder.host} since 20"):
            take(repository, EXCLUSIVE)
