"""Backup points that were there once and are not: what is left tells of them.

Of a point that was forgotten there is a note, until its archives are gone, too.  A manifest that is
gone without one leaves no word of why: this tells that there was one, not that it was lost, for
somebody may have removed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ibtfs.errors import IntegrityError
from ibtfs.store import layout
from ibtfs.store.copied_points import CopiedPoints
from ibtfs.store.points import PointList, replaced_ids
from ibtfs.store.repository import Repository


class Absent(NamedTuple):
    """Points that are not there.

    *parents* are ids that others name, each with one that was built upon it; *others* is how many
    more there were, at least.
    """

    parents: Mapping[str, str]
    others: int


def absent_points(found: PointList, forgotten: set[str], runs: set[str]) -> Absent:
    """What the points that were *found* tell of others, beyond those *forgotten* on purpose.

    *runs* are those that left an archive: of a point that was forgotten, and its space freed, there
    is none.  A run takes the number that follows the highest there is, so that each number below
    had a point when its follower began.  A manifest that cannot be read may have any number.
    """
    points, damaged = found
    unknown = runs - {point.id for point in points}.union(damaged, forgotten)
    parents = {point.parent: point.id for point in points if point.parent in unknown}
    numbers = {point.sequence for point in points}
    gaps = max(numbers, default=0) - len(numbers) - len(damaged) - len(forgotten)
    return Absent(parents, max(min(gaps, len(unknown)) - len(parents), 0))


def unneeded_archives(repository: Repository, found: PointList) -> list[str]:
    """The whole archives that no point leads to; none where that cannot be told.

    Costs reading the header of each index that is needed.
    """
    if found.damaged:
        return []
    needed: set[str] = set()
    waiting = {point.state.archive for point in found.points}
    while waiting:
        name = waiting.pop()
        needed.add(name)
        try:
            header = repository.archive(name).header
        except IntegrityError:
            return []
        waiting.update(other for other in header.archives if other and other not in needed)
    return [name for name in repository.archive_ids() if name not in needed]


def may_have_been(found: PointList, tagged: set[str], whole: set[str]) -> set[str]:
    """Of *tagged* ids, none forgotten, those that may be of points whose manifests were lost.

    All where there are archives (*whole* ones) and no point at all; what others were built upon;
    and runs that left an archive, and tags that a later run, which begins by removing what runs
    that were cut off left, has not removed.
    """
    if not found.points and whole:
        return tagged
    runs = {layout.run_of(archive) for archive in whole}
    newest = max(
        (_began(run) for run in runs.union(point.id for point in found.points)), default=""
    )
    survived = {run for run in tagged & runs if _began(run) < newest}
    return survived | tagged & {point.parent for point in found.points}


def _began(run: str) -> str:
    """When a run began, in text that sorts."""
    return run.partition("_")[0]


def _lost(repository: Repository, found: PointList, copied: frozenset[str]) -> set[str]:
    """Of the points that were *copied* here those that nobody removed on purpose, and are gone."""
    known = {point.id for point in found.points}.union(found.damaged, replaced_ids(found.points))
    gone = {name for name in copied - known if not repository.points.has(name)}
    return gone.difference(repository.points.forgotten()) if gone else gone


def missing_points(repository: Repository, found: PointList) -> list[str]:
    """A line for each trace of a point that is not there."""
    # those that are there are only about to be removed, or were when somebody was cut off
    forgotten = set(repository.points.forgotten()).difference(
        {point.id for point in found.points}, found.damaged
    )
    runs = {layout.run_of(archive) for archive in repository.archive_ids()}
    absent = absent_points(found, forgotten, runs)
    told = [
        f"{layout.point(parent)}: is not there, though {layout.point(child)} was built upon it: "
        "it was removed by hand, or is lost"
        for parent, child in absent.parents.items()
    ]
    copied = CopiedPoints(repository).from_others()
    told += [
        f"{layout.point(point_id)}: was copied here and is not there: it was removed by hand, or "
        "is lost; ibtfs copy copies it again"
        for point_id in sorted(_lost(repository, found, copied))
    ]
    if absent.others and not copied:  # those that were copied bring numbers of their own
        points = "a point that is" if absent.others == 1 else f"{absent.others:,} points that are"
        told.append(
            f"{layout.POINTS}/: the numbers of the others tell of {points} not there: removed by "
            "hand, or lost"
        )
    if runs - forgotten and not found.points and not found.damaged:
        told.append(
            f"{layout.POINTS}/: holds no backup point although there are archives: no backup has "
            "come to its end yet, or all points were removed by hand, or are lost"
        )
    return told
