"""Locks: shared for backups, prune for what removes, and exclusive for its decisive moment.

A lock is an empty file in ``locks/`` whose name says everything: kind, when, which host, which
process.  On a local folder its owner also holds an flock on it, from before the name appears, so
that a process that died is told from one that is slow without any clock.  A process writes its
own lock first and looks at the others' afterwards: of two that exclude each other at least one
sees the other.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import NamedTuple

from ibtfs.errors import LockLost, RepositoryLocked, StorageFailed
from ibtfs.store import layout
from ibtfs.store.storage.background import at_once
from ibtfs.store.storage.base import LOST, Lease, LockableStorage

SHARED, PRUNE, EXCLUSIVE = "shared", "prune", "exclusive"
_TOGETHER = {(SHARED, SHARED), (SHARED, PRUNE), (PRUNE, SHARED)}
"""Kinds of locks that do not exclude each other."""
STALE_SECONDS = 30 * 60
REFRESH_SECONDS = 60
FOREIGN_SECONDS = 24 * 3600
FRESH_SECONDS = 20
"""Far away a lock that was made young so short ago is young: it only seems older to others."""
_NAME = re.compile(
    r"(shared|prune|exclusive)_(\d{1,12})_([0-9A-Za-z.-]{1,64})_(\d{1,10})_([0-9a-f]{8})\Z"
)


class Holder(NamedTuple):
    """Who holds a lock: kind, since when (seconds since 1970), host, process number, token."""

    kind: str
    since: int
    host: str
    process: int
    token: str


class Lock:
    """A lock that is held; a context manager that releases it.

    *host* names this machine (see storage/machine), *process* is this process' number, *token* is
    8 random hexadecimal digits.  A lock called like one of *beside* is the same owner's, and
    excludes nothing.  Where the storage *is_far* what can be asked for at once is.  Raises
    RepositoryLocked when somebody else holds a lock that excludes it.
    """

    def __init__(
        self,
        storage: LockableStorage,
        kind: str,
        *,
        host: str,
        process: int,
        token: str,
        beside: Collection[str] = (),
        is_far: bool = False,
    ) -> None:
        self._storage, self._kind, self._beside, self._is_far = storage, kind, beside, is_far
        clean = re.sub(r"[^0-9A-Za-z.-]", "-", host)[:64] or "-"
        self.name = f"{kind}_{int(time.time())}_{clean}_{process}_{token}"
        self._refreshed = self._verified = _now()
        self._lost = False
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="ibtfs-lock", daemon=True)
        self._lease: Lease | None = storage.lease(layout.lock(self.name), token)
        try:
            self._keeper.start()  # before others are looked at: that takes long far away
            self._refuse_others(clean)
        except BaseException:
            self.release()
            raise

    def _refuse_others(self, host: str) -> None:
        for name in self._storage.list(layout.LOCKS):
            holder = parse_holder(name)
            if holder is None or name == self.name or name in self._beside:
                continue
            if (self._kind, holder.kind) in _TOGETHER:
                continue
            if self._is_stale(name, holder, host):
                self._break(name, holder)
                continue
            raise RepositoryLocked(
                f"The repository is locked ({holder.kind}) by process {holder.process} on "
                f"{holder.host} since {time.strftime('%F %T', time.localtime(holder.since))}: "
                "wait until it has finished"
            )

    def _break(self, name: str, holder: Holder) -> None:
        """Remove a stale lock; its owner, if he only slept, can finish nothing from then on.

        What he puts is named only after a look at his lock, and begun under its token before.
        """
        self._storage.delete(layout.lock(name))
        self._storage.drop_unfinished(holder.token)

    def _is_stale(self, name: str, holder: Holder, host: str) -> bool:
        """Whether the owner of lock *name* is gone."""
        held = self._storage.is_held(layout.lock(name))
        if held:
            return False
        if held is not None and holder.host == host:
            return True
        return self._age(name) > STALE_SECONDS

    def _age(self, name: str) -> float:
        """Seconds since the lock called *name* was fresh, when this one was made so last."""
        return self._storage.age(layout.lock(name), layout.lock(self.name))

    def _keep(self) -> None:
        """Keep the lock fresh from a thread: a run may wait long for a disk, or for its input."""
        while not self._ended.wait(REFRESH_SECONDS):
            if not self._refresh():
                return

    def _refresh(self) -> bool:
        """Make the lock young again; False if it was old enough to be taken for left behind."""
        lease = self._lease
        # by a clock that nobody sets, and that goes on while the machine sleeps
        if lease is None or self._lost or _now() - self._refreshed > STALE_SECONDS:
            self._lost = True
            return False
        now = _now()  # when it was asked for: the answer may come much later
        with contextlib.suppress(OSError):  # verify tells whether it is still there
            lease.refresh()
            self._refreshed = now
        return True

    def refresh(self) -> None:
        """See that the lock is still held; cheap, to be called often.  Raises LockLost."""
        if _now() - self._verified > REFRESH_SECONDS:
            self.verify()

    def verify(self) -> None:
        """Raise LockLost unless the lock is still there and was kept fresh; then refresh it."""
        lease = self._lease
        if lease is None or not (self._ask_at_once(lease) if self._is_far else self._ask(lease)):
            raise LockLost(LOST)
        self._verified = _now()

    def _ask(self, lease: Lease) -> bool:
        return lease.is_in_place() and self._refresh()

    def _ask_at_once(self, lease: Lease) -> bool:
        """As :meth:`_ask`; that a lock which is lost is made young does nothing."""
        if _now() - self._refreshed < FRESH_SECONDS:
            return lease.is_in_place()
        told: list[bool] = []
        at_once(lambda: told.append(lease.is_in_place()), lambda: told.append(self._refresh()))
        return all(told)

    def is_of_same_machine(self, name: str) -> bool:
        """Whether the lock called *name* was taken on the machine that took this one."""
        mine, other = parse_holder(self.name), parse_holder(name)
        return mine is not None and other is not None and mine.host == other.host

    def remove_dead(self, failed: Callable[[StorageFailed], None]) -> list[str]:
        """Remove the locks of processes of this machine that are gone; the names of all others.

        *failed* is called of one that cannot be removed.
        """
        names = self._storage.list(layout.LOCKS)
        for name in list(names):
            if name != self.name and self.is_of_same_machine(name):
                held = self._storage.is_held(layout.lock(name))
                if held is not None and not held:
                    names.remove(name)
                    try:
                        self._storage.delete(layout.lock(name))
                    except StorageFailed as error:
                        failed(error)
        return names

    def others_at_work(self, seen: Collection[str] | None = None) -> bool:
        """Whether any other lock may be in use; one of another machine is, for a day.

        *seen* are the names of all locks, if they were looked at already.
        """
        if seen is not None and {self.name, *self._beside}.issuperset(seen):
            return False
        self.verify()  # by its time the age of the others is told
        for name in self._storage.list(layout.LOCKS):
            holder = parse_holder(name)
            if name == self.name or name in self._beside or holder is None:
                continue
            held = None
            if self.is_of_same_machine(name):
                held = self._storage.is_held(layout.lock(name))
            if held or (held is None and self._age(name) < FOREIGN_SECONDS):
                return True
            if held is None:
                self._break(name, holder)  # who counts it no more must not let it finish anything
        return False

    def release(self) -> None:
        """Give the lock back; harmless if it is gone."""
        self._ended.set()
        try:
            if self._keeper.is_alive():
                self._keeper.join()  # it uses what is given back
        finally:
            if self._lease is not None:
                self._lease.release()
                self._lease = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self.release()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def may_remove(name: str) -> bool:
    """Whether whoever holds the lock *name* may remove files of archives, or replace them."""
    holder = parse_holder(name)
    return holder is None or holder.kind != SHARED


def parse_holder(name: str) -> Holder | None:
    """What the name of a lock says; None if it is not one."""
    match = _NAME.match(name)
    if match is None:
        return None
    return Holder(match[1], int(match[2]), match[3], int(match[4]), match[5])
