"""What there is to be copied: the points of one repository held against those of another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from ibtfs.actions.copy.ids import Doubles, Ids, is_same_point
from ibtfs.actions.forget.run import sole_point
from ibtfs.errors import (
    IbtfsError,
    PointNotFound,
    PointRefused,
    RepositoryError,
    UsageError,
)
from ibtfs.format.point import Point
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.naming import of_source
from ibtfs.store.points import PointList, replaced_ids
from ibtfs.store.repository import Repository

ID_LIMIT = 96
_INCOMPLETE = re.compile(r"(.+)-incomplete-[0-9a-f]{8}\Z")


@dataclass(frozen=True)
class Choice:
    """Which points are meant: those that *words* name; else all, of *sources* and with *tags*."""

    words: Sequence[str] = ()
    sources: Sequence[str] = ()
    tags: Sequence[str] = ()

    @property
    def is_all(self) -> bool:
        """Whether nothing was said, so that all are meant."""
        return not (self.words or self.sources or self.tags)


def short_id(point_id: str) -> str:
    """What ids of incomplete copies of a point begin with."""
    return point_id[:ID_LIMIT]


def incomplete_id(point_id: str, digits: str) -> str:
    """The id of a copy of a point of which something could not be read; *digits* are 8, random."""
    return f"{short_id(point_id)}-incomplete-{digits}"


def is_incomplete(point_id: str) -> bool:
    """Whether *point_id* is that of an incomplete copy."""
    return _INCOMPLETE.match(point_id) is not None


def _whole(point_id: str) -> str:
    """The short id of the point of which *point_id* is an incomplete copy, or itself."""
    found = _INCOMPLETE.match(point_id)
    return found[1] if found else point_id


class Twins(NamedTuple):
    """A point that is in both repositories: as it is there, and here.

    *doubtful* are the paths at which it may be another here; None if that is not known.
    """

    theirs: Point
    ours: Point
    doubtful: frozenset[bytes] | None = frozenset()


@dataclass
class Survey:
    """What is *there*, in the repository that is copied from, and what is *here*.

    *wanted* are the points to be copied, oldest first; *already* those that are here, *declined*
    those that were removed here on purpose; *refused* says why others cannot be copied, by id.
    *incomplete* are copies here that lack something, by the short id of the point; *named* ids were
    asked for by name.  Points of *there* are called as their copies are, by *ids*.
    """

    there: PointList
    here: PointList
    came: frozenset[str]
    forgotten: frozenset[str]
    ids: Ids
    wanted: list[Point] = field(default_factory=list)
    already: list[Point] = field(default_factory=list)
    declined: list[Point] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    incomplete: dict[str, list[Point]] = field(default_factory=dict)
    named: frozenset[str] = frozenset()

    def twins(self) -> dict[str, Twins]:
        """The points that are in both repositories, by id; also those that are incomplete here."""
        mine = {point.id: point for point in self.here.points}
        found: dict[str, Twins] = {}
        for one in self.there.points:
            here, copies = mine.get(one.id), self.incomplete.get(short_id(one.id))
            if here is not None and is_same_point(one, here):
                found[one.id] = Twins(one, here)
            elif here is None and copies:
                found[one.id] = Twins(one, copies[-1], None)
        return found


def survey(source: Repository, target: Repository | None, choice: Choice, now: datetime) -> Survey:
    """What of *source* is to be copied to *target*; None is one that is not made yet.

    *now* is as of select_point.  Raises PointNotFound, UsageError, PointDamaged, StorageFailed.
    """
    listed = source.points.all()
    here_all = target.points.all() if target is not None else PointList([], {})
    ids, doubles = Ids(source, target, listed, here_all), Doubles(source, listed.points)
    there = [ids.renamed(point) for point in doubles.left(listed).points]
    found = Survey(PointList(there, listed.damaged), here_all, ids.came.there, ids.forgotten, ids)
    for point in found.here.points:
        # those that came from others are these others'
        if is_incomplete(point.id) and point.id not in ids.came.elsewhere - ids.came.there:
            found.incomplete.setdefault(_whole(point.id), []).append(point)
    chosen = _chosen(source, listed, choice, now)
    if choice.words:
        found.named = frozenset(ids.here(point.id) for point in chosen)
    found.refused = {one.id: doubles.unlike[one.id] for one in chosen if one.id in doubles.unlike}
    meant = {ids.here(one.id) for one in chosen if one.id not in doubles.unlike}
    _sort_out(source, target, found, meant)
    return found


def _sort_out(
    source: Repository, target: Repository | None, found: Survey, meant: Set[str]
) -> None:
    """Find what is to become of the points of which copies have the ids that are *meant*."""
    mine, ids = {point.id: point for point in found.here.points}, found.ids
    hidden = _hidden(found)
    removed = _removed(found) | hidden
    for point in sorted(found.there.points, key=lambda point: point.order):
        if point.id not in meant:
            continue
        raw = ids.renamed(source.points.get(ids.there(point.id)))  # its source as it calls itself
        here, all_here = mine.get(point.id), set(ids.all_here(point.id))
        aliases = set(map(short_id, all_here))
        if here is not None and is_same_point(point, here):
            found.already.append(raw)
        elif here is not None or point.id in found.here.damaged:
            found.refused[point.id] = _refusal(point, found)
        elif aliases.isdisjoint(hidden if point.id in found.named else removed) and not (
            point.id not in found.named and _is_listed_gone(target, found, point.id, all_here)
        ):
            found.wanted.append(raw)
        elif point.id not in found.named:
            found.declined.append(raw)
        else:
            found.refused[point.id] = (
                f"{point.id}: was purged there, and what that left stands in its place; forget "
                "that one first"
            )


def _is_listed_gone(
    target: Repository | None, found: Survey, point_id: str, all_here: Iterable[str]
) -> bool:
    """Whether the list of a sealed repository has it that the point was removed: it tells for good.

    Not if a copy is here that lacks something.
    """
    lists = target.unlocked.lists if target is not None else None
    if lists is None or short_id(point_id) in found.incomplete:
        return False
    return any(map(lists.is_gone, all_here))


def _removed(found: Survey) -> set[str]:
    """The points that were removed here on purpose."""
    present = {point.id for point in found.here.points}
    gone = {_whole(point_id) for point_id in found.forgotten - present}
    return set(map(short_id, gone)).difference(found.incomplete)


def _hidden(found: Survey) -> set[str]:
    """The points that have another in their place here: a purge did."""
    return set(map(short_id, replaced_ids(found.here.points))).difference(found.incomplete)


def _refusal(point: Point, found: Survey) -> str:
    """Why *point*, whose id is here already, cannot be copied."""
    error = found.here.damaged.get(point.id)
    if error is None:
        return f"{point.id}: is there, and is another point"
    return (
        f"{point.id}: is there, but its manifest is damaged ({error}); forget it there by this id, "
        "then copy it by name"
    )


def _chosen(source: Repository, there: PointList, choice: Choice, now: datetime) -> list[Point]:
    if choice.words:
        found = [sole_point(source, there, one, now) for one in choice.words]
        return list({point.id: point for point in found}.values())
    points = list(there.points)
    if choice.sources:
        names = dict.fromkeys(choice.sources)
        points = [point for name in names for point in of_source(points, name)]
    if choice.tags:
        ids = frozenset[str]().union(*map(source.points.tagged, choice.tags))
        points = [point for point in points if point.id in ids]
        if not points:
            raise PointNotFound(f"No backup point has the tag {' or '.join(choice.tags)}")
    return points


# ---- where a copy stands among the points that are here ------------------------------------------


def sequence_here(point: Point, found: Survey) -> int:
    """The sequence number of a copy of *point*: its own, if all of its source came from there.

    Else it stands behind those that it followed there, and behind others that are older.
    """
    identity = point.source.identity
    mine = [one for one in found.here.points if one.source.identity == identity]
    known = {one.id for one in found.there.points}
    earlier = {one.id for one in found.there.points if one.order < point.order}
    before = [one for one in mine if one.id in earlier]
    before += [one for name in earlier for one in found.incomplete.get(short_id(name), ())]
    others = [
        one for one in mine
        if one.id not in known and one.id not in found.came and not is_incomplete(one.id)
    ]  # fmt: skip
    if not others:
        least = max((one.order for one in before), default=(0, ""))
        if (point.sequence, point.id) > least:
            return point.sequence
        return least[0] + (point.id <= least[1])
    before += [one for one in others if one.time_ns < point.time_ns]
    if not before:
        return min(one.sequence for one in others)
    sequence, last = max(one.order for one in before)
    return sequence + (point.id <= last)


def display_here(point: Point, here: Iterable[Point]) -> str:
    """What the source of *point* is called here."""
    mine = [one for one in here if one.source.identity == point.source.identity]
    return mine[-1].display if mine else point.display


# ---- what goes, so that both have the same points ------------------------------------------------


def gone_there(source: Repository, target: Repository) -> list[Point]:
    """The points of *target* that came from *source* alone, which has them no more.

    Raises UsageError if *source* has no points at all, RepositoryError if not all manifests can be
    read, or either is not as it was seen before: what is there would be held to be gone.
    """
    for repository in (source, target):
        _require_as_seen(repository)
    listed, mine = source.points.all(), target.points.all()
    _require_all_seen(source, listed)
    _require_all(source, listed.damaged)
    ids = Ids(source, target, listed, mine)
    there, came = set(ids.all()), ids.came
    # what is no copy, and called as those of a machine that only writes, may be anybody's
    _require_all(target, {
        name: error for name, error in mine.damaged.items()
        if name in came.there or not isinstance(error, PointRefused)
    })  # fmt: skip
    if not there:
        raise UsageError(
            f"{source.path_shown!r} has no backup points: nothing is removed to be like that"
        )

    kept = there.union(map(short_id, there))

    def is_gone(point: Point) -> bool:
        mine = {point.id, *point.replaces}
        if came.there.isdisjoint(mine) or not came.elsewhere.isdisjoint(mine):
            return False
        return kept.isdisjoint(map(_whole, mine))

    return list(filter(is_gone, mine.points))


def _require_all_seen(source: Repository, listed: PointList) -> None:
    """Raise RepositoryError if a point was there a moment ago, is not, and nobody removed it."""
    lists, known = source.unlocked.lists, {point.id for point in listed.points}
    left = source.points.seen.difference(known, listed.damaged, replaced_ids(listed.points))
    left = left.difference(source.points.forgotten()) if left else left
    vanished = [one for one in left if lists is None or not lists.is_gone(one)]
    if vanished:
        raise RepositoryError(
            f"Nothing is removed from TO: {min(vanished)} was in {source.path_shown!r} a moment "
            "ago, and is not there, and nobody removed it"
        )


def _require_as_seen(repository: Repository) -> None:
    """Raise RepositoryError if its storage shows less than it did, so that nothing is written."""
    reason = repository.unlocked.refusal
    if reason:
        raise RepositoryError(
            f"Nothing is removed from TO, for {repository.path_shown!r} is not as it must be: "
            f"{reason}"
        )


def _require_all(repository: Repository, damaged: Mapping[str, IbtfsError]) -> None:
    for point_id, error in damaged.items():
        raise RepositoryError(
            f"Nothing is removed from TO: the manifest of {point_id} in "
            f"{repository.path_shown!r} cannot be read, so it cannot be told what is gone: {error}"
        ) from error


def forget_notes(source: Repository, target: Repository, found: Survey, *, is_mirror: bool) -> None:
    """Remember no more that points came from *source* which are gone, there and here.

    In a mirror also if they are here, and came from elsewhere, too: so they stay for those alone.
    Nothing is done if that cannot be told.  Raises StorageFailed.
    """
    if found.there.damaged or source.unlocked.refusal:
        return
    notes, came = CopiedPoints(target), found.ids.came
    here = replaced_ids(found.here.points).union(target.points.ids())
    there = {name for point_id in found.ids.all() for name in found.ids.all_here(point_id)}
    kept = there.union(map(short_id, there))
    for point_id in came.there:
        is_held = point_id in here and not (is_mirror and point_id in came.elsewhere)
        if not is_held and _whole(point_id) not in kept:
            notes.drop(source.id, point_id)
