"""Copying points: one after the other, each as a run that backs up would store it."""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from ibtfs.actions.backup.plan import new_id
from ibtfs.actions.copy.contents import ContentCopier, Known, same_digests
from ibtfs.actions.copy.folder import Twin
from ibtfs.actions.copy.survey import (
    Choice,
    Survey,
    Twins,
    display_here,
    forget_notes,
    incomplete_id,
    is_incomplete,
    sequence_here,
    survey,
)
from ibtfs.actions.copy.tree import TreeCopy
from ibtfs.actions.observer import Observer, Tally
from ibtfs.errors import (
    IbtfsError,
    IntegrityError,
    LimitExceeded,
    ObjectExists,
    RepositoryLocked,
    SourceError,
    UsageError,
)
from ibtfs.format.compression import Codec
from ibtfs.format.point import Point
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.leftovers import remove_leftovers
from ibtfs.store.lock import SHARED, Lock
from ibtfs.store.protection.keeping import protect_run
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import StateRef
from ibtfs.store.trees.paths import root_entry
from ibtfs.store.writing.catalog import Catalog
from ibtfs.store.writing.losses import Losses, find_losses
from ibtfs.store.writing.run import RunWriter


@dataclass(frozen=True)
class CopyOptions:
    """What is copied, and how: *cache* is the folder of the local catalog (empty: none is kept).

    With *same_tags* points that are there already get the tags that they have here, and no others.
    """

    choice: Choice = field(default_factory=Choice)
    dry_run: bool = False
    same_tags: bool = False
    cache: bytes = b""


class Copied(NamedTuple):
    """A point that was copied: as it was *there*, its copy *here* (None: it was there already, for
    an incomplete copy could not be bettered), what was counted, and the problems."""

    there: Point
    here: Point | None
    tally: Tally
    seconds: float


@dataclass
class CopyResult:
    """What became of a copy: what was *found*, the points that were *copied*.

    *failed* says of points why they could not be, by id; *error* is what ended it early.
    """

    found: Survey
    copied: list[Copied] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    error: IbtfsError | None = None

    @property
    def is_all_well(self) -> bool:
        """Whether every point that was to be copied was, and all that is in it."""
        problems = any(one.tally.problems for one in self.copied)
        return not (problems or self.failed or self.error or self.found.there.damaged)


def copy(
    source: Repository, target: Repository, options: CopyOptions, observer: Observer
) -> CopyResult:
    """Copy points of *source* to *target*.

    What goes wrong once points are being copied ends in the result.  Raises UsageError,
    PointNotFound, PointDamaged, RepositoryLocked, IbtfsError before.
    """
    if source.id == target.id:
        raise UsageError(
            "Both are the same repository, or one is a copy of the other's files: those are kept "
            "alike by rsync, and mended by ibtfs repair --from"
        )
    if options.dry_run:
        found = survey(source, target, options.choice, datetime.now())
        return CopyResult(found, failed=dict(found.refused))
    target.require_writable()
    with (
        _kept(source, observer) as beat_there,
        target.lock(SHARED) as lock,
        compression_pool() as pool,
        Catalog(target, options.cache) as catalog,
    ):
        # first: nobody who lost his lock can finish anything behind what is looked at now
        remove_leftovers(target, lock, observer.note)
        if not target.points.ids():
            # before the first archive: points/ missing beside archives then means that it was lost
            target.complete()
        found = survey(source, target, options.choice, datetime.now())
        work = _Work(source, target, lock, beat_there, catalog, pool, found, observer)
        result = CopyResult(found, failed=dict(found.refused))
        try:
            work.tidy(same_tags=options.same_tags)
            for point in found.wanted:
                try:
                    result.copied.append(work.copy(point))
                except (SourceError, LimitExceeded) as error:
                    result.failed[point.id] = f"{point.id}: {error}"
        except IbtfsError as error:
            result.error = error
    return result


@contextmanager
def _kept(source: Repository, observer: Observer) -> Iterator[Callable[[], None]]:
    """Keep others from removing anything from *source*, where that can be: it may be read-only.

    Gives what keeps the lock fresh.  Raises RepositoryLocked.
    """
    lock: Lock | None = None
    try:
        source.require_writable()
        lock = source.lock(SHARED)
    except RepositoryLocked:
        raise
    except IbtfsError as error:
        observer.note(f"No lock there, so nobody should prune it meanwhile: {error}")
    if lock is None:
        yield lambda: None
        return
    with lock:
        yield lock.refresh


class _Work:
    """One copy at work; one thread."""

    def __init__(
        self, source: Repository, target: Repository, lock: Lock, beat_there: Callable[[], None],
        catalog: Catalog, pool: concurrent.futures.Executor, found: Survey, observer: Observer,
    ) -> None:  # fmt: skip
        self._source, self._target, self._lock = source, target, lock
        self._beat_there, self._catalog, self._pool = beat_there, catalog, pool
        self._found, self._observer = found, observer
        self._by_digest = same_digests(source, target)
        self._known = Known()
        self._notes = CopiedPoints(target)
        self._twins = found.twins()
        self._losses: dict[str, Losses] = {}
        self._noted = target.damage.contents()

    def _beat(self) -> None:
        self._lock.refresh()
        self._beat_there()

    def tidy(self, *, same_tags: bool) -> None:
        """See to what earlier copies may have left undone, and to *same_tags*."""
        for point_id in self._target.points.hidden():
            if is_incomplete(point_id):
                self._target.points.remove(point_id)
        for point in self._found.already:
            self._beat()
            if point.id not in self._found.came:
                self._notes.note(self._source.id, point.id)
            if same_tags:
                self._tag(point.id, point.id, only_these=True)
        forget_notes(self._source, self._target)

    def copy(self, point: Point) -> Copied:
        """Copy one point.  Raises SourceError if nothing of it can be read, IbtfsError."""
        began, tally = time.monotonic(), Tally(self._observer)
        twins = self._twin_of(point)
        if twins is None:
            here = self._stored(point, None, tally)
        else:
            try:
                here = self._stored(point, twins, tally)
            except IntegrityError as error:
                # what is here of the point copied last is damaged: all is looked up by itself
                self._observer.note(f"Not built upon what is there, for it is damaged: {error}")
                self._known.forget()
                tally = Tally(self._observer)
                here = self._stored(point, None, tally)
        return Copied(point, here, tally, time.monotonic() - began)

    def _twin_of(self, point: Point) -> Twins | None:
        """The point that is in both and nearest to *point*, of its source; an earlier one first."""
        mine = [
            twins
            for twins in self._twins
            if twins.theirs.source.identity == point.source.identity
            and twins.ours.epoch >= point.epoch
        ]
        before = [twins for twins in mine if twins.theirs.order < point.order]
        if before:
            return max(before, key=lambda twins: twins.theirs.order)
        return min(mine, key=lambda twins: twins.theirs.order, default=None)

    def _stored(self, point: Point, twins: Twins | None, tally: Tally) -> Point | None:
        """Store *point*, beside *twins*; its copy, None if a better one is there already."""
        losses = self._losses_of(twins.ours.state.archive if twins else None)
        with RunWriter(
            self._target, new_id(point.source.host, time.time_ns()), epoch=point.epoch,
            catalog=self._catalog, codec=Codec(self._target.config.level), pool=self._pool,
            damaged=losses, beat=self._beat,
        ) as writer:  # fmt: skip
            contents = ContentCopier(
                self._source, writer, self._known, tally, by_digest=self._by_digest
            )
            tree = TreeCopy(self._source, writer, contents, tally, losses)
            twin = twins and Twin(_state(twins.theirs), _state(twins.ours))
            state = tree.copy(root_entry(point), twin)
            if self._by_digest and not tree.unread and state.digest != point.digest:
                tally.problem(b"", "its manifest has the digest of another tree")
            made = self._made(point, state, tally)
            if self._is_no_better(made, tally):
                writer.abort()
                self._known.forget()
                return None
            return self._commit(writer, point, made, tally)

    def _losses_of(self, first: str | None) -> Losses:
        """What of the tree in archive *first* is lost here; looked up once for each."""
        if first is None:
            return Losses(self._noted)
        if first not in self._losses:
            found = find_losses(self._target, self._catalog, first, self._noted)
            for lost in found.told:
                self._observer.note(lost)
            self._losses[first] = found
        return self._losses[first]

    def _made(self, point: Point, state: StateRef, tally: Tally) -> Point:
        """The manifest of the copy of *point*."""
        copies = self._found.incomplete.get(point.id, [])
        made = replace(
            point, sequence=sequence_here(point, self._found), state=state.ref, digest=state.digest,
            display=display_here(point, self._found.here.points),
            replaces=tuple(one.id for one in copies),
        )  # fmt: skip
        unread = tally.counts["problems"]
        if not unread:
            return made
        told = f"[incomplete copy: {unread:,} could not be read]"
        counts = {**point.statistics, "problems": point.statistics.get("problems", 0) + unread}
        return replace(
            made, id=incomplete_id(point.id, os.urandom(4).hex()), statistics=counts,
            comment=f"{point.comment} {told}".strip(),
        )  # fmt: skip

    def _is_no_better(self, made: Point, tally: Tally) -> bool:
        """Whether an incomplete copy has what another one has that is here."""
        last = self._found.here.points if tally.problems else []
        return any(one.id in made.replaces and one.digest == made.digest for one in last)

    def _commit(self, writer: RunWriter, point: Point, made: Point, tally: Tally) -> Point | None:
        """Make the copy visible; None if somebody else did just now.

        Raises LockLost, ObjectMissing, StorageFull, StorageFailed.
        """
        points = self._target.points
        writer.close_archive()
        self._tag(point.id, made.id)
        if writer.stored_bytes:
            points.expect_none(writer.run_id)  # the point has another id than its archives
        writer.settle()
        tally.counts["bytes_stored"] += writer.stored_bytes + points.manifest_size(made)
        self._lock.verify()
        try:
            made = self._visible(made)
        except ObjectExists:
            self._observer.note(f"{made.id}: was copied by somebody else meanwhile")
            return None
        self._notes.note(self._source.id, made.id)
        if point.id in self._found.forgotten:
            points.withdraw_note(point.id)
        for other in made.replaces:
            points.remove(other)
        self._protect(writer.run_id)
        self._remember(point, made)
        return made

    def _visible(self, made: Point) -> Point:
        points = self._target.points
        if not made.replaces:
            return points.commit(made)
        earlier = points.get(made.replaces[-1])  # whose name it keeps
        made = replace(made, suffix=earlier.suffix, display=earlier.display)
        points.put(made)
        return made

    def _remember(self, point: Point, made: Point) -> None:
        """Have the next points be copied beside this one."""
        self._found.here.points.append(made)
        self._found.here.points.sort(key=lambda one: one.order)
        if made.id == point.id:
            self._found.incomplete.pop(point.id, None)
            self._twins.append(Twins(point, made))
        else:
            self._found.incomplete[point.id] = [made]

    def _tag(self, point_id: str, here: str, *, only_these: bool = False) -> None:
        points = self._target.points
        wanted, present = self._source.points.tags(point_id), points.tags(here)
        for tag in set(wanted).difference(present):
            with suppress(ObjectExists):
                points.add_tag(here, tag)
        for tag in set(present).difference(wanted) if only_these else ():
            points.remove_tag(here, tag)

    def _protect(self, run_id: str) -> None:
        """Write parity for what was written, if that is wanted: the point is there already."""
        try:
            failed = protect_run(self._target, run_id, self._beat)
        except IbtfsError as error:
            failed = [str(error)]
        for message in failed:
            self._observer.note(f"Copied, but not protected by parity: {message}")


def _state(point: Point) -> StateRef:
    return StateRef(point.state, point.digest)
