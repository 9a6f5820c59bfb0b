"""Repairing a repository: what can be had again is put back, and the rest is said to be lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ibtfs.actions.alone import WAIT_SECONDS, alone
from ibtfs.actions.check import CheckResult, check
from ibtfs.actions.observer import Observer
from ibtfs.errors import IbtfsError
from ibtfs.store.lock import PRUNE, Lock
from ibtfs.store.mending.cutting import cut, longer_files
from ibtfs.store.mending.sound import is_sound
from ibtfs.store.protection.healing import Healer
from ibtfs.store.protection.keeping import Protection
from ibtfs.store.repository import Repository


@dataclass(frozen=True)
class RepairOptions:
    """How a repository is repaired; *wait*: for how many seconds others are waited for.

    With *dry_run* nothing is written.  *host* is this machine, as its sources name it.
    """

    host: str = ""

    dry_run: bool = False
    wait: float = WAIT_SECONDS


@dataclass
class RepairResult:
    """What was *healed* (or would be): names of objects, and what was done to each.

    *unhealed* says of others why they could not be; *left* is what check finds then.
    """

    healed: dict[str, str] = field(default_factory=dict)
    unhealed: dict[str, str] = field(default_factory=dict)
    left: CheckResult | None = None


def repair(repository: Repository, options: RepairOptions, observer: Observer) -> RepairResult:
    """Heal what is damaged.

    Raises RepositoryLocked, LockLost, StorageFull, StorageFailed, IbtfsError.
    """
    repository.require_writable()
    with repository.lock(PRUNE) as lock:
        work = _Repair(repository, lock, options, observer)
        work.by_parity()
        work.cut()
        work.finish()
    return work.result


class _Repair:
    """One repair."""

    def __init__(
        self, repository: Repository, lock: Lock, options: RepairOptions, observer: Observer
    ) -> None:
        self._repository, self._lock = repository, lock
        self._options, self._observer = options, observer
        self.result = RepairResult()

    def by_parity(self) -> None:
        """Heal whatever is protected, as far as the share goes."""
        healer = Healer(self._repository, self._lock.refresh)
        hurt = healer.find()
        if not hurt:
            return
        if self._options.dry_run:
            for one in hurt:
                for name in one.files or (one.sidecar,):
                    self.result.healed[name] = "would be healed by parity, if enough is left"
            return
        with alone(self._repository, self._lock, self._observer, self._options.wait):
            healed = healer.heal(hurt)
        for name in healed.healed:
            self.result.healed[name] = "healed by parity"
        self.result.unhealed.update(healed.lost)
        self._repository.forget_read()

    def cut(self) -> None:
        """Take away what lies behind the ends of files."""
        longer = list(longer_files(self._repository))
        if not longer:
            return
        if self._options.dry_run:
            for one in longer:
                self.result.healed[one.name] = f"{one.behind} bytes behind its end would go"
            return
        with alone(self._repository, self._lock, self._observer, self._options.wait):
            for one in longer:
                work = partial(cut, self._repository, one, self._lock.refresh)
                self._try(one.name, work, f"{one.behind} bytes behind its end were cut off")

    def _try(self, name: str, work: Callable[[], object], done: str) -> None:
        """Do some *work* on the object *name*, and note what came of it."""
        try:
            work()
        except IbtfsError as error:
            self.result.unhealed[name] = str(error)
        else:
            self.result.healed[name] = done

    def finish(self) -> None:
        """See what is left; write what parity is missing."""
        repository = self._repository
        if not self._options.dry_run and self.result.healed:
            kept = Protection(repository, self._lock.refresh).complete()
            for message in kept.failed:
                self._observer.note(f"Not protected by parity: {message}")
        repository.forget_read()
        if not self._options.dry_run:
            self._trim_notes()
        self.result.left = check(repository, read_data=True, observer=self._observer)

    def _trim_notes(self) -> None:
        """Note contents that are sound again as damaged no more."""
        repository, beat = self._repository, self._lock.refresh
        noted = repository.damage.contents()
        sound = {ref for ref in noted if is_sound(repository, ref, beat)}
        if sound:
            repository.damage.trim(os.urandom(8).hex(), lambda ref: ref not in sound)
