"""Locks: shared for backups, exclusive for what removes.

A lock is an empty file in ``locks/`` whose name says everything: kind, when, which host, which
process.  On a local folder its owner also holds an flock on it, from before the name appears, so
that a process that died is told from one that is slow without any clock.  A process writes its
own lock first and looks at the others' afterwards: of two that exclude each other at least one
sees the other.
"""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import NamedTuple

from ibtfs.errors import LockLost, RepositoryLocked
from ibtfs.store.storage import Lease, LocalStorage

SHARED, EXCLUSIVE = "shared", "exclusive"
STALE_SECONDS = 30 * 60
REFRESH_SECONDS = 60
_NAME = re.compile(
    r"(shared|exclusive)_(\d{1,12})_([0-9A-Za-z.-]{1,64})_(\d{1,10})_([0-9a-f]{8})\Z"
)


class Holder(NamedTuple):
    """Who holds a lock: kind, since when (seconds since 1970), host, process number."""

    kind: str
    since: int
    host: str
    process: int


class Lock:
    """A lock that is held; a context manager that releases it.

    *host* is this machine's name, *process* this process' number, *token* 8 random hexadecimal
    digits.  Raises RepositoryLocked when somebody else holds one that excludes it.
    """

    def __init__(
        self, storage: LocalStorage, kind: str, *, host: str, process: int, token: str
    ) -> None:
        self._storage, self._kind, self._host = storage, kind, host
        clean = re.sub(r"[^0-9A-Za-z.-]", "-", host)[:64] or "-"
        self._name = f"{kind}_{int(time.time())}_{clean}_{process}_{token}"
        self._refreshed = time.monotonic()
        self._lease: Lease | None = storage.lease(f"locks/{self._name}")
        try:
            self._refuse_others(clean)
        except BaseException:
            self.release()
            raise

    def _refuse_others(self, host: str) -> None:
        for name in self._storage.list("locks"):
            holder = parse_holder(name)
            if holder is None or name == self._name:
                continue
            if SHARED == self._kind == holder.kind:
                continue
            if self._is_stale(name, holder, host):
                self._storage.delete(f"locks/{name}")
                continue
            raise RepositoryLocked(
                f"The repository is locked ({holder.kind}) by process {holder.process} on "
                f"{holder.host} since {time.strftime('%F %T', time.localtime(holder.since))}: "
                "wait until it has finished"
            )

    def _is_stale(self, name: str, holder: Holder, host: str) -> bool:
        """Whether the owner of lock *name* is gone."""
        held = self._storage.is_held(f"locks/{name}")
        if held is not None and holder.host == host:
            return not held
        return self._storage.age(f"locks/{name}") > STALE_SECONDS

    def refresh(self) -> None:
        """Say that the owner lives; cheap, to be called often.  Raises LockLost."""
        if time.monotonic() - self._refreshed > REFRESH_SECONDS:
            self.verify()

    def verify(self) -> None:
        """Raise LockLost unless the lock is still there and fresh; then refresh it."""
        name = f"locks/{self._name}"
        lease = self._lease
        if lease is None or self._storage.age(name) > STALE_SECONDS or not lease.is_in_place():
            raise LockLost(
                "The lock of this run was removed or went stale (was the machine asleep?); "
                "nothing is lost, run the command again"
            )
        lease.refresh()
        self._refreshed = time.monotonic()

    def release(self) -> None:
        """Give the lock back; harmless if it is gone."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.release()


def parse_holder(name: str) -> Holder | None:
    """What the name of a lock says; None if it is not one."""
    match = _NAME.match(name)
    if match is None:
        return None
    return Holder(match[1], int(match[2]), match[3], int(match[4]))


def live_shared(storage: LocalStorage, host: str) -> list[Holder]:
    """The backups that run now, as far as can be told from *host*."""
    clean = re.sub(r"[^0-9A-Za-z.-]", "-", host)[:64] or "-"
    holders = []
    for name in storage.list("locks"):
        holder = parse_holder(name)
        if holder is not None and holder.kind == SHARED:
            held = storage.is_held(f"locks/{name}") if holder.host == clean else None
            if held or (held is None and storage.age(f"locks/{name}") <= STALE_SECONDS):
                holders.append(holder)
    return holders
