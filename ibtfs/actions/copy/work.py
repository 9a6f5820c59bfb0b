"""One copy at work: each point stored as a run that backs up would store it."""

from __future__ import annotations

import concurrent.futures
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from ibtfs.actions.backup.plan import new_id
from ibtfs.actions.copy.contents import ContentCopier, Known, same_digests
from ibtfs.actions.copy.folder import Twin
from ibtfs.actions.copy.survey import (
    Survey,
    Twins,
    display_here,
    forget_notes,
    incomplete_id,
    is_incomplete,
    sequence_here,
    short_id,
)
from ibtfs.actions.copy.tree import TreeCopy
from ibtfs.actions.observer import Observer, Tally
from ibtfs.errors import IbtfsError, IntegrityError, ObjectExists, UsageError
from ibtfs.format.compression import Codec
from ibtfs.format.point import Point
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.lock import Lock
from ibtfs.store.protection.keeping import protect_run
from ibtfs.store.repository import Repository
from ibtfs.store.returning import admit, list_admitted
from ibtfs.store.taking import take_tags, withdraw_notes
from ibtfs.store.trees.directory import StateRef
from ibtfs.store.trees.paths import root_entry
from ibtfs.store.writing.catalog import Catalog
from ibtfs.store.writing.losses import Losses, find_losses
from ibtfs.store.writing.run import RunWriter


class Copied(NamedTuple):
    """A point that was copied: as it was *there*, its copy *here* (None: it was there already, or
    an incomplete copy that could not be bettered), what was counted, and the problems."""

    there: Point
    here: Point | None
    tally: Tally
    seconds: float


class Work:
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
        came = self._found.ids.came
        for point in self._found.already:
            self._beat()
            if not self._is_own(point) and point.id not in came.there:
                self._notes.note(self._source.id, point.id)
            if same_tags and point.id in came.sole:
                self._tag(point.id, point.id, only_these=True)
        is_listed = self._target.config.is_sealed  # what was removed; else this is remembered here
        for point in self._found.declined if not is_listed else ():
            self._beat()
            if point.id not in came.there | came.own:
                self._notes.note_removed(point.id)
            if point.id not in self._found.forgotten:
                self._target.points.note_forgotten(point.id)
        forget_notes(self._source, self._target, self._found, is_mirror=same_tags)

    def _is_own(self, point: Point) -> bool:
        """Whether it was made here, and came back: it does not go when it is gone there."""
        return self._found.ids.origin(point.id).repository == self._target.id

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
            for twins in self._twins.values()
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
        run_id = new_id(self._target, point.source.host, time.time_ns())
        with RunWriter(
            self._target, run_id, epoch=point.epoch,
            catalog=self._catalog, codec=Codec(self._target.config.level), pool=self._pool,
            damaged=losses, beat=self._beat,
        ) as writer:  # fmt: skip
            contents = ContentCopier(
                self._source, writer, self._known, tally, by_digest=self._by_digest
            )
            doubtful = twins.doubtful or frozenset() if twins else frozenset[bytes]()
            tree = TreeCopy(self._source, writer, contents, tally, losses, doubtful)
            state = tree.copy(root_entry(point), _twin(twins))
            if self._by_digest and not tree.unread and state.digest != point.digest:
                tally.problem(b"", "its manifest has the digest of another tree")
            made = self._made(point, state, tally)
            same = self._same_here(made) if tally.problems else self._seen_here(point, made)
            if same is not None:
                writer.abort()
                self._known.forget()
                self._twins[point.id] = Twins(point, same, frozenset(tree.unread))
                return None
            here = self._commit(writer, point, made, tally)
            if here is not None:
                self._remember(Twins(point, here, frozenset(tree.unread)))
            return here

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
        copies = self._found.incomplete.get(short_id(point.id), [])
        made = replace(
            point, sequence=sequence_here(point, self._found), state=state.ref, digest=state.digest,
            display=display_here(point, self._found.here.points),
            replaces=tuple(one.id for one in copies), origin=self._found.ids.origin(point.id),
        )  # fmt: skip
        unread = tally.counts["problems"]
        if not unread:
            return self._with_origin(made)
        told = f"[incomplete copy: {unread:,} could not be read]"
        counts = {**point.statistics, "problems": point.statistics.get("problems", 0) + unread}
        digits, origin = os.urandom(4).hex(), self._found.ids.origin(point.id)
        made = replace(
            made, id=incomplete_id(point.id, digits), statistics=counts,
            comment=f"{point.comment} {told}".strip(),
            origin=origin._replace(id=incomplete_id(origin.id, digits)),
        )  # fmt: skip
        return self._with_origin(made)

    def _with_origin(self, made: Point) -> Point:
        """*made*, which says of which point it is a copy, unless that is itself."""
        is_own = made.origin == (self._target.id, made.id)
        return replace(made, origin=None) if is_own else made

    def _same_here(self, made: Point) -> Point | None:
        """The incomplete copy that is here already, if *made* has nothing more than that."""
        copies = (one for one in self._found.here.points if one.id in made.replaces)
        return next((one for one in copies if one.digest == made.digest), None)

    def _seen_here(self, point: Point, made: Point) -> Point | None:
        """The point that came here from elsewhere, if it is *made*, a copy of *point*, as all of
        this was read now.

        Raises StorageFull, StorageFailed.
        """
        others = self._found.ids.unsure.get(point.id, [])
        same = next((one for one in others if one.digest == made.digest), None)
        if same is not None:
            self._notes.note(self._source.id, same.id)
            for lesser in made.replaces:
                self._target.points.remove(lesser)
        for other in others if same is None else ():
            self._observer.note(
                f"{made.id}: says that it is the same point as {other.id}, which came from "
                "elsewhere, and is not: both are there now"
            )
        return same

    def _commit(self, writer: RunWriter, point: Point, made: Point, tally: Tally) -> Point | None:
        """Make the copy visible; None if somebody else did just now.

        Raises LockLost, ObjectMissing, StorageFull, StorageFailed.
        """
        points = self._target.points
        writer.close_archive()
        is_awaited = admit(self._target, made.id)
        self._tag(point.id, made.id)
        for other in made.replaces:
            self._add_tags(made.id, points.tags(other))
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
        if made.id in self._found.ids.came.elsewhere:
            self._notes.note_alone(self._source.id, made.id)
        else:
            self._notes.note(self._source.id, made.id)
        if is_awaited:
            list_admitted(self._target, made.id)
        elif point.id in self._found.forgotten:
            points.withdraw_note(point.id)
            withdraw_notes(self._target)
        for other in made.replaces:
            points.remove(other)
        self._protect(writer.run_id)
        return made

    def _visible(self, made: Point) -> Point:
        points = self._target.points
        if not made.replaces:
            return points.commit(made)
        earlier = points.get(made.replaces[-1])  # whose name it keeps
        made = replace(made, suffix=earlier.suffix, display=earlier.display)
        points.put(made)
        return made

    def _remember(self, twins: Twins) -> None:
        """Have the next points be copied beside this one."""
        point, made, _ = twins
        self._twins[point.id] = twins
        self._found.here.points.append(made)
        self._found.here.points.sort(key=lambda one: one.order)
        self._found.incomplete.pop(short_id(point.id), None)
        if made.id != point.id:
            self._found.incomplete[short_id(point.id)] = [made]

    def _tag(self, point_id: str, here: str, *, only_these: bool = False) -> None:
        points = self._target.points
        wanted = self._source.points.tags(self._found.ids.there(point_id))
        present = points.tags(here)
        self._add_tags(here, set(wanted).difference(present))
        gone = set(present).difference(wanted) if only_these else set()
        take_tags(self._target, [(here, tag) for tag in gone])

    def _add_tags(self, point_id: str, tags: Iterable[str]) -> None:
        for tag in tags:
            with suppress(ObjectExists, UsageError):  # the latter: no file name of a tag
                self._target.points.add_tag(point_id, tag)

    def _protect(self, run_id: str) -> None:
        """Write parity for what was written, if that is wanted: the point is there already."""
        try:
            failed = protect_run(self._target, run_id, self._beat)
        except IbtfsError as error:
            failed = [str(error)]
        for message in failed:
            self._observer.note(f"Copied, but not protected by parity: {message}")


def _twin(twins: Twins | None) -> Twin | None:
    """The roots of *twins*; what may be another there, or here, is no measure."""
    if twins is None:
        return None
    theirs, ours, doubtful = twins
    state = StateRef(theirs.state, theirs.digest) if doubtful is not None else None
    return Twin(state, StateRef(ours.state, ours.digest))
