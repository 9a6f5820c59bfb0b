"""Pruning: what no backup point needs goes, and what is kept is built on what is kept.

Everything is found out and prepared beside backups.  For the moment in which records go nobody else
may be at work; from then on what they needed cannot be come to any more, and is swept from the disk
beside backups again.  It can be cut off at any moment: every point is whole, and the next prune
goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from ibtfs.actions.alone import WAIT_SECONDS, alone
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.decide import Decision, decide, run_of, seen_now
from ibtfs.errors import (
    IntegrityError,
    LibraryMissing,
    LimitExceeded,
    ObjectExists,
    StorageError,
    StorageFailed,
    StorageFull,
)
from ibtfs.format.index import Reference
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.leftovers import remove_leftovers
from ibtfs.store.lock import PRUNE, Lock
from ibtfs.store.point_lists import list_first, write_list
from ibtfs.store.points import replaced_ids
from ibtfs.store.protection.keeping import Protection
from ibtfs.store.removal.bundling import BOUNDS, Bounds, Bundler
from ibtfs.store.removal.indexes import IndexRewriter
from ibtfs.store.removal.plan import Plan
from ibtfs.store.removal.sweep import Sweeper, Swept
from ibtfs.store.repository import Repository
from ibtfs.store.taking import drop_put_back, withdraw_notes

ROUNDS = 5
"""On a full disk: what is freed makes room for what frees more."""


@dataclass(frozen=True)
class PruneOptions:
    """How a repository is pruned.

    *max_rewrite* bounds the bytes that are written, *wait* for how many seconds backups that are at
    work are waited for.  *all_of_it*: files are written anew for any byte that is not needed.
    *bundles* says which small archives are put together.  *cache* is the folder of the local cache,
    empty if there is none.  *allow_none*: if there is no point, everything goes.
    """

    dry_run: bool = False
    max_rewrite: int | None = None
    wait: float = WAIT_SECONDS
    all_of_it: bool = False
    bundles: Bounds = BOUNDS
    cache: bytes = b""
    allow_none: bool = False


@dataclass
class PruneResult:
    """What a prune did, or would do: bytes *freed* and *written*, and the *room* it needs.

    *size* is what all archives had; *removed* and *rewritten* count archives, *rebuilt* contents
    that got another base, *bundled* archives that were put into bundles, which is not foreseen.
    *damages* were met, and what they may hide was kept; *failed* says what could not be done, the
    next prune tries again.
    """

    size: int = 0
    freed: int = 0
    written: int = 0
    room: int = 0
    removed: int = 0
    rewritten: int = 0
    rebuilt: int = 0
    young: int = 0
    bundled: int = 0
    damages: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def prune(repository: Repository, options: PruneOptions, observer: Observer) -> PruneResult:
    """Free what no point needs.

    Raises RepositoryLocked if another prune is at work, or somebody else for too long;
    RepositoryError if it cannot be told what is needed, LockLost, IbtfsError.
    """
    repository.require_writable()
    with repository.lock(PRUNE) as lock:
        work = Pruner(repository, lock, options, observer)
        if options.dry_run:
            work.foresee()
        else:
            remove_leftovers(repository, lock, observer.note)
            work.run()
    return work.result


class Pruner:
    """One prune; *lock* is the caller's, a prune lock.

    *change_plan* may change what is to become of records, see decide; archives of runs that were
    cut off are not kept then.
    """

    def __init__(
        self,
        repository: Repository,
        lock: Lock,
        options: PruneOptions,
        observer: Observer,
        change_plan: Callable[[Plan], object] | None = None,
    ) -> None:
        self._change_plan = change_plan
        self._repository, self._lock = repository, lock
        self._options, self._observer = options, observer
        self._sweeper = Sweeper(repository, all_of_it=options.all_of_it)
        self.result = PruneResult()
        self._dropped = 0

    def _decide(self) -> Decision:
        return decide(
            self._repository,
            lock=self._lock,
            max_rewrite=self._options.max_rewrite,
            all_of_it=self._options.all_of_it,
            change_plan=self._change_plan,
            cache=self._options.cache,
            allow_none=self._options.allow_none,
        )

    def _tell(self, decision: Decision) -> None:
        """Take over what a decision says of the repository."""
        result = self.result
        result.size = max(result.size, sum(one.size for one in decision.sizes.values()))
        result.room = max(result.room, decision.room)
        result.young = len(decision.young)
        result.damages = list(dict.fromkeys(decision.plan.damages))

    def foresee(self) -> None:
        """Find out what would be done."""
        decision = self._decide()
        self._tell(decision)
        result = self.result
        result.freed, result.written = decision.freed, decision.written
        result.removed, result.rewritten = len(decision.removed), len(decision.rewritten)
        result.rebuilt = decision.rebuilt

    def run(self) -> None:
        """Do it, in more than one round where the disk is full."""
        self._repository.settle_changes()
        for point_id in self._repository.points.hidden():
            self._repository.points.remove(point_id)  # before what it leads to goes
        list_first(self._repository)
        for _ in range(ROUNDS):
            decision = self._decide()
            self._tell(decision)
            if decision.removed or decision.rewritten:
                decision, is_full = self._take_away(decision)
            else:
                is_full = False
            before = self._dropped
            swept_full = self._sweep()
            if not (is_full or swept_full) or self._dropped == before:
                break
        if not (is_full or swept_full):
            self._bundle()
        self._clean_up()

    def left(self) -> list[str]:
        """What files hold that nobody needs, though all of it was to go; a line each."""
        lines = []
        for name in self._repository.archive_ids():
            try:
                kinds = self._sweeper.wasteful(name)
            except IntegrityError as error:
                lines.append(str(error))
                continue
            lines += [f"{name}: its {kind} holds bytes still that nobody needs" for kind in kinds]
        return lines

    def run_after(self, prepare: Callable[[Lock], None], end: Callable[[], object]) -> None:
        """Do it between *prepare* and *end* while nobody else is at work; sweep beside backups.

        *prepare* is given the exclusive lock.
        """
        self._repository.settle_changes()
        list_first(self._repository)
        with alone(self._repository, self._lock, self._observer, self._options.wait) as lock:
            prepare(lock)
            decision = self._decide()
            self._tell(decision)
            self._publish(decision)
            end()
        self._repository.forget_read()
        if not self._sweep():
            self._bundle()
        self._clean_up()

    # The moment in which records go

    def _take_away(self, decision: Decision) -> tuple[Decision, bool]:
        """Do what was decided to the records; whether the disk had no room for all of it."""
        with alone(self._repository, self._lock, self._observer, self._options.wait):
            if seen_now(self._repository) != decision.seen:
                decision = self._decide()
                self._tell(decision)
            is_full = self._publish(decision)
        self._repository.forget_read()
        return decision, is_full

    def _publish(self, decision: Decision) -> bool:
        """Remove archives and write indexes, each before what it is built on loses anything."""
        plans, repository = decision.plan.archives, self._repository
        # whoever removed points may have been cut off before they were surely gone
        repository.settle_changes()
        first = [name for name in decision.order if not plans[name].in_use]
        for name in first:
            if name in decision.removed:
                self._remove(name)
        for name in decision.order:
            if name in decision.removed:
                if plans[name].in_use:
                    self._remove(name)
            elif name in decision.rewritten:
                try:
                    self.result.written += IndexRewriter(repository, plans[name]).write()
                except StorageFull as error:
                    self.result.failed.append(str(error))
                    return True
                except (IntegrityError, ObjectExists) as error:
                    # what comes behind may be needed by this one as it is
                    self.result.failed.append(str(error))
                    return False
                self.result.rewritten += 1
                self.result.rebuilt += len(plans[name].rebuilt)
                self._observer.progress(1, 0)
        return False

    def _remove(self, archive_id: str) -> None:
        self._repository.remove(archive_id)
        self.result.removed += 1
        self._observer.progress(1, 0)

    # Beside backups again

    def _sweep(self) -> bool:
        """Sweep all archives; whether the disk had no room for some of it."""
        sweeps: list[tuple[Callable[[str], Swept], list[str]]] = [
            (self._sweeper.clear, self._sweeper.removed()),
            (self._sweep_one, self._repository.archive_ids()),
        ]
        is_full = False
        for sweep, names in sweeps:
            for name in names:
                swept = sweep(name)
                self._dropped += swept.freed
                self.result.written += swept.written
                is_full = is_full or swept.is_full
                if swept.failed:
                    self.result.failed.append(swept.failed)
                self._observer.progress(0, swept.freed)
                self._lock.refresh()
        self.result.freed = self._dropped - self.result.written
        return is_full

    def _sweep_one(self, archive_id: str) -> Swept:
        most = self._options.max_rewrite
        left = None if most is None else max(most - self.result.written, 0)
        return self._sweeper.sweep(archive_id, left)

    def _bundle(self) -> None:
        """Put small old archives together, and write bundles anew that are mostly dead.

        Not where each file has its parity beside it, and its folder has to stay for that.
        """
        options, result = self._options, self.result
        if Protection(self._repository).share and not options.all_of_it:
            return
        most = options.max_rewrite
        bundler = Bundler(
            self._repository,
            self._lock,
            options.bundles,
            most=None if most is None else max(most - result.written, 0),
            all_of_it=options.all_of_it,
            tick=self._lock.refresh,
        )
        try:
            for done in bundler.run():
                result.bundled += done.archives
                result.written += done.written
                self._dropped += done.freed
                if done.failed:
                    result.failed.append(done.failed)
                self._lock.refresh()
        except StorageFailed as error:
            result.failed.append(str(error))
        for name in self._sweeper.removed():
            swept = self._sweeper.clear(name)
            self._dropped += swept.freed
            if swept.failed and swept.failed not in result.failed:
                result.failed.append(swept.failed)
        result.freed = self._dropped - result.written

    def _clean_up(self) -> None:
        """Notes of damaged contents that are gone, and of forgotten points that left nothing."""
        repository = self._repository
        try:
            repository.damage.trim(os.urandom(8).hex(), self._is_there, self._repository.is_whole)
            self._protect()  # while it is told which points were removed on purpose
            withdraw_notes(repository)
            drop_put_back(repository)
            listed = write_list(repository)
            left = {run_of(name) for name in repository.archive_ids()}
            # of those that were copied here it is remembered: they are not to come again
            left |= CopiedPoints(repository).all()
            # and of those that a purge left less of
            left |= replaced_ids(repository.points.all().points)
            for point_id in repository.points.forgotten():
                # of one that is there, somebody is about to remove it
                if point_id in listed.points:
                    continue  # removed since: the next list says so
                if point_id not in left and not repository.points.has(point_id):
                    repository.points.drop_forgotten(point_id)
        except (StorageError, LimitExceeded) as error:
            self.result.failed.append(str(error))

    def _protect(self) -> None:
        """Write parity for what was written anew, where that is wanted."""
        try:
            self.result.failed += Protection(self._repository, self._lock.refresh).complete().failed
        except (LibraryMissing, StorageError) as error:
            self.result.failed.append(f"Not protected by parity: {error}")

    def _is_there(self, ref: Reference) -> bool:
        """Whether a content is there; so it is where that cannot be told."""
        if not self._repository.is_whole(ref.archive):
            return False
        try:
            bodies = self._repository.archive(ref.archive).content_bodies()
            return any(number == ref.number for number, _ in bodies)
        except IntegrityError:
            return True
