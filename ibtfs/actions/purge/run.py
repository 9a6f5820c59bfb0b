"""Purging: a path leaves all points, and every byte of it leaves the repository.

Nobody else may be at work while points are written anew.  First all new manifests come, each of
which hides the one that it replaces, then the old ones go; then goes what no point needs, all of
it.  It can be cut off at any moment: every point is there once, with the path or without it, and
doing it again ends it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ibtfs.actions.alone import WAIT_SECONDS
from ibtfs.actions.observer import Observer
from ibtfs.actions.prune.run import PruneOptions, Pruner, PruneResult
from ibtfs.actions.purge.manifests import Manifests, Traces
from ibtfs.actions.purge.shells import ShellWriter
from ibtfs.actions.purge.states import StateWriter
from ibtfs.actions.purge.survey import Conflict, Survey
from ibtfs.actions.purge.words import Matcher, Words
from ibtfs.errors import IntegrityError, LimitExceeded, RepositoryError, UsageError
from ibtfs.format.compression import Codec
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.index_cache import discard_indexes
from ibtfs.store.leftovers import remove_leftovers
from ibtfs.store.lock import PRUNE, Lock
from ibtfs.store.manifest_copies import discard_copies
from ibtfs.store.removal.copied import copy_what_stays
from ibtfs.store.removal.known_marks import discard_marks
from ibtfs.store.removal.plan import Plan
from ibtfs.store.repository import Repository
from ibtfs.store.trees.directory import Entry, StateRef
from ibtfs.store.writing.catalog import Catalog, discard_catalog
from ibtfs.store.writing.run import RunWriter

SHOWN_CONFLICTS = 20
_Writer = Callable[[int, int], RunWriter]
"""Begins to write archives: the number of the writer, and the epoch."""
_RANDOM_END = re.compile(r"_[0-9a-f]{10,40}\Z")


@dataclass(frozen=True)
class PurgeOptions:
    """How paths are purged: *cache* is the folder of local caches, empty if there is none.

    *wait* is for how many seconds backups that are at work are waited for.
    """

    cache: bytes = b""
    wait: float = WAIT_SECONDS


@dataclass
class Purged:
    """A path that goes: from which *points*, how many *versions* it has, *size* of all of them."""

    path: bytes
    points: list[str] = field(default_factory=list)
    contents: dict[Reference, int] = field(default_factory=dict)
    is_folder: bool = False

    @property
    def size(self) -> int:
        """Bytes of all versions."""
        return sum(self.contents.values())


class Found(NamedTuple):
    """What is meant: *paths* by source and path; *points* to be written anew; those that *go*.

    Points go of which nothing would be left: their source was one file, that is meant.  *traces*
    are in manifests of points, also of such as have none of the paths.
    """

    paths: dict[tuple[str, bytes], Purged]
    points: list[Point]
    go: list[Point]
    all: list[Point]
    contents: frozenset[Reference]
    traces: Traces


@dataclass
class PurgeResult:
    """What a purge did: what it *found*, ids of points by those that they replace, what was freed.

    *untagged* are tags that spoke of what went, *uncommented* points whose comments did.  *left*
    says what could not be removed.
    """

    found: Found
    replaced: dict[str, str] = field(default_factory=dict)
    untagged: list[str] = field(default_factory=list)
    uncommented: list[str] = field(default_factory=list)
    prune: PruneResult = field(default_factory=PruneResult)
    left: list[str] = field(default_factory=list)


def look(repository: Repository, words: Sequence[bytes]) -> Found:
    """What a purge of *words* would take away; nothing is done.

    Raises UsageError, RepositoryError if it cannot be told, or if paths that stay have the bytes of
    those that go.
    """
    return _Purge(repository, words, PurgeOptions(), Observer()).look()


def purge(
    repository: Repository, words: Sequence[bytes], options: PurgeOptions, observer: Observer
) -> PurgeResult:
    """Take what *words* mean out of all points, and of the repository.

    Raises as :func:`look`; RepositoryLocked, LockLost, StorageFull, StorageFailed.
    """
    repository.require_writable()
    with repository.lock(PRUNE) as lock, compression_pool() as pool:
        return _Purge(repository, words, options, observer).run(lock, pool)


class _Purge:
    """One purge."""

    def __init__(
        self, repository: Repository, words: Sequence[bytes], options: PurgeOptions,
        observer: Observer,
    ) -> None:  # fmt: skip
        self._repository, self._words = repository, words
        self._options, self._observer = options, observer

    def look(self) -> Found:
        """Find what is meant."""
        points, damaged = self._repository.points.all()
        if damaged:
            raise RepositoryError(
                f"The manifest of {next(iter(damaged))} cannot be read, so nothing can be purged: "
                "give it back from a copy of the repository, or forget it by this id"
            )
        self._survey = Survey(self._repository, Words(self._words, points))
        self._manifests = Manifests(self._repository, self._survey)
        try:
            found = self._found(points)
            conflicts = self._survey.conflicts(points, found.contents)
        except IntegrityError as error:
            raise RepositoryError(
                f"Nothing was purged, for what cannot be read may hold the path: {error}"
            ) from error
        if conflicts:
            raise UsageError(_refusal(conflicts))
        return found

    def _found(self, points: list[Point]) -> Found:
        paths: dict[tuple[str, bytes], Purged] = {}
        holders: list[Point] = []
        go: list[Point] = []
        contents: set[Reference] = set()
        traces = Traces()
        for point in points:
            rows = self._gone(point)
            for path, entry in rows:
                mine = paths.setdefault((point.display, path), Purged(path))
                mine.points.append(point.id)
                mine.is_folder = entry.state is not None
                if entry.content is not None:
                    contents.add(entry.content)
                    mine.contents[entry.content] = entry.size
            if rows:
                new = self._manifests.traces(rows)
                traces.names |= new.names
                traces.users |= new.users
                traces.groups |= new.groups
                (go if point.single else holders).append(point)
        return Found(paths, holders, go, points, frozenset(contents), traces)

    def _gone(self, point: Point) -> list[tuple[bytes, Entry]]:
        """What goes from *point*.  Raises RepositoryError if that cannot be told."""
        try:
            return list(self._survey.gone(point))
        except (IntegrityError, LimitExceeded) as error:
            raise RepositoryError(
                f"Nothing was purged, for what cannot be read of the backup point {point.id} may "
                f"hold the path: mend it (ibtfs check --repair), or forget it by this id: {error}"
            ) from error

    def run(self, lock: Lock, pool: Executor) -> PurgeResult:
        """Do it; *lock* is a prune lock."""
        repository, codec = self._repository, Codec(self._repository.config.level)
        run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}_purge_{os.urandom(5).hex()}"

        def writer(number: int, epoch: int) -> RunWriter:
            name = f"{run_id}-{number}"
            repository.points.expect_none(name)
            return RunWriter(
                repository, name, epoch=epoch, catalog=Catalog(repository, b""), codec=codec,
                pool=pool, beat=lock.refresh,
            )  # fmt: skip

        def change(plan: Plan) -> None:
            with writer(0, self._highest_epoch()) as copies:
                copy_what_stays(repository, plan, ShellWriter(copies))

        options = PruneOptions(wait=self._options.wait, all_of_it=True, allow_none=True)
        pruner = Pruner(repository, lock, options, self._observer, change)
        done: list[PurgeResult] = []

        def prepare(exclusive: Lock) -> None:
            remove_leftovers(repository, exclusive)
            for point_id in repository.points.hidden():
                repository.points.remove(point_id)
            result = PurgeResult(self.look())
            done.append(result)
            self._write(result, writer)
            self._take_over(result)

        pruner.run_after(prepare, self._discard_caches)
        result = done[0]
        # a mount may have put back what it still read meanwhile
        left = self._discard_caches()
        result.prune, result.left = pruner.result, pruner.left() + left
        return result

    def _highest_epoch(self) -> int:
        """An archive of this epoch may be referred to by all others."""
        epochs = [0]
        for name in self._repository.archive_ids():
            with suppress(IntegrityError):  # what is damaged stays as it is
                epochs.append(self._repository.archive(name).header.epoch)
        return max(epochs)

    def _write(self, result: PurgeResult, writer: _Writer) -> None:
        """Write the states and the manifests of all points that change; none goes yet."""
        found = result.found
        ids = {point.id: renewed_id(point.id) for point in found.points}
        states = self._states(found.points, writer)
        going = {point.id for point in found.go}
        for point in found.all:
            if point.id in going:
                continue
            state, new = states.get(point.id), self._manifests.without(point, found.traces)
            tags, dropped = self._tags(point.id, found.traces)
            if state is None and new == point and not dropped:
                continue
            new_point_id = ids.setdefault(point.id, renewed_id(point.id))
            state = state or StateRef(point.state, point.digest)
            new = replace(
                new, id=new_point_id, state=state.ref, digest=state.digest,
                parent=ids.get(point.parent, "" if point.parent in going else point.parent),
                replaces=(point.id, *point.replaces), origin=None,
            )  # fmt: skip
            for tag in tags:
                self._repository.points.add_tag(new.id, tag)
            # copies of it may be elsewhere: it is not to come back, whatever becomes of this one
            CopiedPoints(self._repository).note_removed(point.id)
            self._repository.points.put(new)
            result.replaced[point.id] = new.id
            result.untagged += dropped
            if new.comment != point.comment:
                result.uncommented.append(new.id)

    def _tags(self, point_id: str, traces: Traces) -> tuple[list[str], list[str]]:
        """The tags that a point keeps, and those that speak of what goes."""
        tags = self._repository.points.tags(point_id)
        return [t for t in tags if not traces.speaks(t)], [t for t in tags if traces.speaks(t)]

    def _states(self, points: Iterable[Point], writer: _Writer) -> dict[str, StateRef]:
        """The new states of points, durable.

        An archive refers only to such of its own epoch or a later one, and so each epoch has its
        own.
        """
        states: dict[str, StateRef] = {}
        epochs: dict[int, dict[Matcher, list[Point]]] = {}
        for point in points:
            roots = epochs.setdefault(point.epoch, {})
            roots.setdefault(self._survey.matcher(point), []).append(point)
        for number, (epoch, roots) in enumerate(sorted(epochs.items()), 1):
            with writer(number, epoch) as run:
                for mine in roots.values():
                    states_of = StateWriter(run, self._survey.cuts(mine[0]))
                    for point in mine:
                        self._survey.cuts(point)
                        root = StateRef(point.state, point.digest)
                        states[point.id] = states_of.without(root)
                run.close_archive()
        return states

    def _take_over(self, result: PurgeResult) -> None:
        """Remove the points that others stand in the place of now, and those that go."""
        for point in result.found.go:
            CopiedPoints(self._repository).note_removed(point.id)
        for point_id in [*result.replaced, *(point.id for point in result.found.go)]:
            self._repository.points.remove(point_id)

    def _discard_caches(self) -> list[str]:
        """Remove what this machine's cache knows of the repository: names, digests.

        What cannot be removed is told; it keeps nothing else from going.
        """
        folder, failed = self._options.cache, []
        if folder and os.path.isdir(folder):
            for discard in (discard_catalog, discard_copies, discard_indexes, discard_marks):
                try:
                    discard(folder, self._repository.id)
                except OSError as error:
                    failed.append(f"the local cache: {error}")
        return failed


def renewed_id(point_id: str) -> str:
    """An id for the point that stands in the place of *point_id*: other random digits."""
    return f"{_RANDOM_END.sub('', point_id)[:100]}_{os.urandom(5).hex()}"


def _refusal(conflicts: Sequence[Conflict]) -> str:
    shown = [
        f"{conflict.source}: {os.fsdecode(conflict.path)!r}"
        for conflict in conflicts[:SHOWN_CONFLICTS]
    ]
    more = len(conflicts) - len(shown)
    if more:
        shown.append(f"{more} more")
    return (
        "Other paths have the very same bytes, so that they would stay; nothing was purged: name "
        f"these, too, or what else they are called: {'; '.join(shown)}"
    )
