"""Removing backup points: those that were named, those that rules let go, the last of a source.

What only they referred to stays in the archives: prune frees it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ibtfs.actions.forget.choice import DEFAULT_GROUP, Choice, Key, grouped
from ibtfs.actions.forget.policy import Judged, Policy, judge
from ibtfs.actions.forget.together import announce
from ibtfs.errors import IbtfsError, IntegrityError, PointNotFound, PointRefused, UsageError
from ibtfs.format.moment import LATEST
from ibtfs.format.point import POINT_ID, Point
from ibtfs.store.lock import SHARED, Lock
from ibtfs.store.naming import (
    by_source,
    of_source,
    require_certain,
    require_sole,
    select_point,
)
from ibtfs.store.point_lists import list_removed, newest_list
from ibtfs.store.points import PointList, replaced_ids
from ibtfs.store.protection.keeping import Protection
from ibtfs.store.repository import Repository
from ibtfs.store.taking import withdraw_notes


@dataclass(frozen=True)
class Way:
    """How points are removed: *allow_none* lets a source lose its last, *dry_run* removes none."""

    allow_none: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Rules:
    """A *policy*, the points that it concerns, and by which words they are put in groups."""

    policy: Policy
    choice: Choice = field(default_factory=Choice)
    group_by: Sequence[str] = DEFAULT_GROUP


class Forgotten(NamedTuple):
    """What there was and what became of it.

    *points* are all that there were, *gone* the ids that were to go, in order; *refused* are those
    of them that could not be removed, with the reason.  *groups* is what rules said; None where
    points were named.
    """

    points: PointList
    gone: list[str]
    refused: dict[str, IbtfsError]
    groups: Mapping[Key, Sequence[Judged]] | None


def forget_named(
    repository: Repository, words: Sequence[str], now: datetime, way: Way
) -> Forgotten:
    """Remove the points that *words* mean, all at the same moment; damaged ones by their full ids.

    So does the full id of one that was removed already: a run that was cut off can be run again.
    *now* is as of select_point.  Raises PointNotFound, UsageError, PointDamaged, RepositoryLocked.
    """

    def decide(found: PointList) -> _Decision:
        by_id = _by_id_alone(repository, found, words)
        ids = [w if w in by_id else sole_point(repository, found, w, now).id for w in words]
        return list(dict.fromkeys(ids)), None

    return _forget(repository, decide, way)


def forget_by_rules(repository: Repository, rules: Rules, now_ns: int, way: Way) -> Forgotten:
    """Remove the points for which *rules* find no reason to stay; *now_ns* is in ns since 1970.

    Damaged points stay.  Raises UsageError if no rule keeps anything, PointNotFound,
    RepositoryLocked.
    """
    if rules.policy.keeps_nothing:
        raise UsageError("No rule keeps any point: say which stay (--keep-daily 7), or which go")

    def decide(found: PointList) -> _Decision:
        tags = {point.id: repository.points.tags(point.id) for point in found.points}
        groups = grouped(rules.choice.of(found.points, tags), tags, rules.group_by)
        judged = {key: judge(mine, tags, rules.policy, now_ns) for key, mine in groups.items()}
        return [j.point.id for mine in judged.values() for j in mine if not j.reasons], judged

    return _forget(repository, decide, way)


def forget_refused(repository: Repository, way: Way) -> Forgotten:
    """Remove what lies under ids of machines that only write, and is none of their points that
    count: of one that was revoked, or junk.  Raises RepositoryLocked.

    What was a point once, as the list of points says, and is damaged, stays: it may be mended.
    """
    kept: dict[str, IbtfsError] = {}

    def decide(found: PointList) -> _Decision:
        listed, gone = newest_list(repository).found.points, []
        for name, error in found.damaged.items():
            if not isinstance(error, PointRefused):
                continue
            if error.is_certain or name not in listed:
                gone.append(name)
            else:
                kept[name] = IntegrityError(
                    f"{error}; it was a point once, and was not removed: mend it (ibtfs check "
                    "--repair, ibtfs repair --from), or forget it by its id"
                )
        return gone, None

    forgotten = _forget(repository, decide, way)
    return forgotten._replace(refused={**kept, **forgotten.refused})


def undo(repository: Repository, source: str, now: datetime, way: Way) -> Forgotten:
    """Remove the last point of the source that is shown as *source*; empty: of the only one.

    Raises PointNotFound, UsageError if there are several sources, PointDamaged, RepositoryLocked.
    """
    return _forget(repository, lambda found: ([_last(found, source, now).id], None), way)


def sole_point(repository: Repository, found: PointList, words: str, now: datetime) -> Point:
    """The one point of *found* that *words* mean, and surely so: a tag must be that of no other.

    Raises PointNotFound, UsageError, PointDamaged.
    """
    (points, damaged), tagged = found, repository.points.tagged
    point = select_point(points, words, now, tagged)
    require_certain(point, words, points, damaged, now, tagged)
    require_sole(point, words, points, tagged)
    return point


_Decision = tuple[list[str], Mapping[Key, Sequence[Judged]] | None]


def _forget(
    repository: Repository, decide: Callable[[PointList], _Decision], way: Way
) -> Forgotten:
    if not way.dry_run:
        repository.require_writable()
    with nullcontext() if way.dry_run else repository.lock(SHARED) as lock:
        if lock is not None:
            # what is not found any more is to stay away, also if whoever removed it was killed
            repository.points.settle()
        found = repository.points.all()
        gone, groups = decide(found)
        if not way.allow_none:
            _require_some_left(found.points, gone)
        refused: dict[str, IbtfsError] = {}
        if lock is not None:
            try:
                announce(repository, lock, gone, allow_none=way.allow_none)
                refused = _remove(repository, gone, lock)
            finally:
                # if not, the next one, or a prune, does it
                with suppress(IbtfsError):
                    withdraw_notes(repository)
                with suppress(IbtfsError):
                    list_removed(repository)
            # if not, the next run does it: until then a note tells that they were removed
            with suppress(IbtfsError):
                Protection(repository, lock.refresh).complete(())
    return Forgotten(found, gone, refused, groups)


def _remove(repository: Repository, point_ids: Sequence[str], lock: Lock) -> dict[str, IbtfsError]:
    """Remove points; those that could not be.  Raises LockLost."""
    refused: dict[str, IbtfsError] = {}
    for point_id in point_ids:
        lock.refresh()
        try:
            repository.points.remove(point_id)
        except IbtfsError as error:
            refused[point_id] = error
    return refused


def _by_id_alone(repository: Repository, found: PointList, words: Sequence[str]) -> set[str]:
    """The *words* that are ids of points that are damaged, or were removed already.

    An id in whose place another point stands now is not among them.
    """
    gone: set[str] = set()
    if any(POINT_ID.match(word) for word in words):
        gone.update(repository.points.forgotten())
        gone.difference_update(point.id for point in found.points)
        gone.difference_update(replaced_ids(found.points))
    return gone.union(found.damaged).intersection(words)


def _require_some_left(points: Sequence[Point], gone: Collection[str]) -> None:
    """Raise UsageError if a source of *points* would have none without those that are *gone*."""
    ids = set(gone)
    for name, mine in by_source(points).items():
        if ids.issuperset(point.id for point in mine):
            raise UsageError(
                f"No backup point of {name!r} would be left, so nothing was removed; if that is "
                "what you want, add --allow-none"
            )


def _last(found: PointList, source: str, now: datetime) -> Point:
    """Raises PointNotFound, UsageError, PointDamaged if an unreadable one may be the last."""
    sources = by_source(found.points)
    if not sources:
        raise PointNotFound("The repository holds no backup points that can be read")
    if not source and len(sources) > 1:
        raise UsageError(f"Several sources, say which with --source: {', '.join(sorted(sources))}")
    last = (of_source(found.points, source) if source else next(iter(sources.values())))[-1]
    require_certain(last, LATEST, found.points, found.damaged, now)
    return last
