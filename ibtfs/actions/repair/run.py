"""Repairing a repository: what can be had again is put back, and the rest is said to be lost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from ibtfs.actions.alone import WAIT_SECONDS, alone
from ibtfs.actions.backup.plan import new_id
from ibtfs.actions.check import CheckResult, check
from ibtfs.actions.damages import record_name
from ibtfs.actions.observer import Observer
from ibtfs.actions.repair.source import known_from_source
from ibtfs.errors import IbtfsError, IntegrityError
from ibtfs.format.index import Reference
from ibtfs.store import layout
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.lock import PRUNE, Lock
from ibtfs.store.mending.copies import Copy
from ibtfs.store.mending.cutting import cut, longer_files
from ibtfs.store.mending.payloads import mend_payloads
from ibtfs.store.mending.pieces import givers
from ibtfs.store.mending.records import lead_to, store_anew
from ibtfs.store.mending.sound import is_sound
from ibtfs.store.mending.verified import VerifiedBytes, known_from_other, known_from_repository
from ibtfs.store.protection.healing import Healer
from ibtfs.store.protection.keeping import Protection
from ibtfs.store.repository import Repository


@dataclass(frozen=True)
class RepairOptions:
    """How a repository is repaired; *wait*: for how many seconds others are waited for.

    With *dry_run* nothing is written.  *host* is this machine, as its sources name it.  *other* is
    a copy of the repository, or another one that has the same contents: it is asked instead of the
    source.
    """

    dry_run: bool = False
    wait: float = WAIT_SECONDS
    host: str = ""
    other: Repository | None = None


@dataclass
class RepairResult:
    """What was *healed* (or would be): names of objects, and what was done to each.

    *unhealed* says of others why they could not be; *left* is what check finds then.
    """

    healed: dict[str, str] = field(default_factory=dict)
    unhealed: dict[str, str] = field(default_factory=dict)
    left: CheckResult | None = None

    @property
    def is_all_well(self) -> bool:
        """Whether nothing is left that is damaged, or lost; check does not miss a manifest."""
        points = any(name.startswith(f"{layout.POINTS}/") for name in self.unhealed)
        return not points and not (self.left is not None and self.left.damages)


def repair(repository: Repository, options: RepairOptions, observer: Observer) -> RepairResult:
    """Heal what is damaged.

    Raises RepositoryLocked, LockLost, StorageFull, StorageFailed, IbtfsError.
    """
    repository.require_writable()
    with repository.lock(PRUNE) as lock:
        work = Repair(repository, lock, options, observer)
        work.by_parity()
        work.cut()
        if options.other is None:
            work.from_source()
        else:
            work.from_other(options.other)
        work.finish()
    return work.result


class Repair:
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
                self.attempt(one.name, work, f"{one.behind} bytes behind its end were cut off")

    def from_source(self) -> None:
        """Put back contents that files of the source still are."""
        if self._options.dry_run and self.result.healed:
            return  # what parity heals needs no source, and it is tried first
        damaged = self.damaged()
        if damaged:
            beat, host = self._lock.refresh, self._options.host
            known = known_from_source(self._repository, damaged, host, beat)
            self.put_back(known)
            left = [ref for ref in damaged if not is_sound(self._repository, ref, beat)]
            self.put_back(known_from_repository(self._repository, left, beat))

    def from_other(self, other: Repository) -> None:
        """Take from another repository what it has: of a copy, files, frames and manifests."""
        repository, beat = self._repository, self._lock.refresh
        if other.id == repository.id:
            self._from_copy(Copy(repository, other, beat))
            if self._options.dry_run:
                return  # the contents come with the files
        damaged = self.damaged()
        if damaged:
            self.put_back(known_from_other(repository, other, damaged, beat))
            left = [ref for ref in damaged if not is_sound(repository, ref, beat)]
            self.put_back(known_from_repository(repository, left, beat))

    def _from_copy(self, copy: Copy) -> None:
        repository = self._repository
        lacking = list(copy.lacking())
        if self._options.dry_run:
            for lack in lacking:
                self.result.healed[lack.name] = "would be taken from the copy"
            return
        if lacking:
            with alone(repository, self._lock, self._observer, self._options.wait):
                for lack in lacking:
                    self.attempt(lack.name, partial(copy.take, lack), "taken from the copy")
                repository.forget_read()
        hurt = copy.hurt()
        if hurt:
            with alone(repository, self._lock, self._observer, self._options.wait):
                for archive_id in hurt:
                    try:
                        done = copy.mend(archive_id)
                    except IntegrityError as error:
                        self._observer.note(str(error))
                    else:
                        if done:
                            self.result.healed[layout.archive(archive_id)] = done

    def damaged(self) -> list[Reference]:
        """The contents that cannot be given back as they were."""
        repository, beat = self._repository, self._lock.refresh
        found = check(repository, read_data=True, observer=Observer())
        # also those of earlier checks; that it notes them itself takes room on the disk
        known = sorted(repository.damage.contents() | found.contents)
        return [ref for ref in known if not is_sound(repository, ref, beat)]

    def put_back(self, known: Mapping[Reference, VerifiedBytes]) -> None:
        """Have the repository hold contents again whose bytes are known."""
        if not known:
            return
        if self._options.dry_run:
            for ref, one in known.items():
                self.result.healed[record_name(ref)] = f"would be put back from {one.what}"
            return
        repository, beat = self._repository, self._lock.refresh
        with alone(repository, self._lock, self._observer, self._options.wait):
            for archive_id, giver in sorted(givers(repository, known).items()):
                try:
                    mend_payloads(repository, archive_id, giver, beat)
                except IntegrityError as error:
                    self._observer.note(str(error))
            left = {ref: one for ref, one in known.items() if not is_sound(repository, ref, beat)}
            if left:
                self._store_anew(left)
        for ref, one in known.items():
            if is_sound(repository, ref, beat):
                self.result.healed[record_name(ref)] = f"put back from {one.what}"

    def _store_anew(self, known: Mapping[Reference, VerifiedBytes]) -> None:
        """Store contents anew whose payload alone is not enough, and lead their records there."""
        archive_id = f"{new_id(self._repository, self._options.host, time.time_ns())}.0"
        try:
            with compression_pool() as pool:
                stored = store_anew(self._repository, archive_id, known, pool)
            lead_to(self._repository, stored)
        except IntegrityError as error:
            self._observer.note(str(error))

    def attempt(self, name: str, work: Callable[[], object], done: str) -> None:
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
        bad = self.result.left.indexes
        if not self._options.dry_run and repository.damage.all().indexes - bad:
            repository.damage.trim(os.urandom(8).hex(), lambda _: True, bad.__contains__)

    def _trim_notes(self) -> None:
        """Note contents that are sound again as damaged no more."""
        repository, beat = self._repository, self._lock.refresh
        noted = repository.damage.contents()
        sound = {ref for ref in noted if is_sound(repository, ref, beat)}
        if sound:
            repository.damage.trim(os.urandom(8).hex(), lambda ref: ref not in sound)
