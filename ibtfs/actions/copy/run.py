"""Copying points: which, in which order, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from ibtfs.actions.copy.survey import Choice, Survey, survey
from ibtfs.actions.copy.work import Copied, Work
from ibtfs.actions.observer import Observer
from ibtfs.errors import IbtfsError, LimitExceeded, RepositoryLocked, SourceError, UsageError
from ibtfs.store.archives.writer import compression_pool
from ibtfs.store.leftovers import remove_leftovers
from ibtfs.store.lock import SHARED, Lock
from ibtfs.store.repository import Repository
from ibtfs.store.writing.catalog import Catalog


@dataclass(frozen=True)
class CopyOptions:
    """What is copied, and how: *cache* is the folder of the local catalog (empty: none is kept).

    With *same_tags* points that are there already get the tags that they have here, and no others.
    """

    choice: Choice = field(default_factory=Choice)
    same_tags: bool = False
    cache: bytes = b""


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
    _require_two(source, target)
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
        work = Work(source, target, lock, beat_there, catalog, pool, found, observer)
        result = CopyResult(found, failed=dict(found.refused))
        try:
            # where FROM is not as it was seen, its tags may be those of long ago
            work.tidy(same_tags=options.same_tags and not source.unlocked.refusal)
            for point in found.wanted:
                try:
                    one = work.copy(point)
                except (SourceError, LimitExceeded) as error:
                    result.failed[point.id] = f"{point.id}: {error}"
                    continue
                if one.here is None and not one.tally.problems:
                    found.already.append(point)  # as was seen by reading it
                else:
                    result.copied.append(one)
        except IbtfsError as error:
            result.error = error
    return result


def foresee(source: Repository, target: Repository | None, choice: Choice) -> CopyResult:
    """What a copy would do; *target* None is one that is not made yet.  Raises as :func:`copy`."""
    if target is not None:
        _require_two(source, target)
    found = survey(source, target, choice, datetime.now())
    return CopyResult(found, failed=dict(found.refused))


def _require_two(source: Repository, target: Repository) -> None:
    """Raise UsageError if both are one."""
    if source.id == target.id:
        raise UsageError(
            "Both are the same repository, or one is a copy of the other's files: those are kept "
            "alike by rsync, and mended by ibtfs repair --from"
        )


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
