"""Checking a repository, beside others who may remove what is being looked at."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from ibtfs.actions.checking.look import Look
from ibtfs.actions.checking.suspects import damages_of, points_now
from ibtfs.actions.damages import Damage, Damages
from ibtfs.actions.observer import Observer
from ibtfs.errors import (
    IbtfsError,
    RepositoryError,
    RepositoryLocked,
)
from ibtfs.format.index import Reference
from ibtfs.format.point import Point
from ibtfs.store import layout
from ibtfs.store.absent_points import missing_points, unneeded_archives
from ibtfs.store.damage_notes import Noted
from ibtfs.store.lock import SHARED
from ibtfs.store.point_lists import newest_list
from ibtfs.store.points import PointList
from ibtfs.store.protection.healing import damaged_sidecars, is_mark_missing, missing_manifests
from ibtfs.store.repository import Repository
from ibtfs.store.taking import put_back

LOOKS = 3
"""At what seems damaged, beside the first one: others may be removing all the time."""


class CheckResult(NamedTuple):
    """What check found; *counts* of points, archives, states, contents, bytes.

    *missing* tells of points that were there once, a line each: removed, or lost.  *contents* are
    those that are damaged, *indexes* the archives of whose index something is.
    """

    damages: list[Damage]
    counts: Counter[str]
    missing: tuple[str, ...] = ()
    contents: frozenset[Reference] = frozenset()
    indexes: frozenset[str] = frozenset()


def check(repository: Repository, *, read_data: bool, observer: Observer) -> CheckResult:
    """Check the whole repository; with *read_data* every content is read and its digest compared.

    Damaged contents are noted in the repository, if it can be written, so that the next backup
    stores them anew.  Where it can, nothing that a point needs is removed meanwhile; elsewhere what
    was removed is no damage either, for all that seems damaged is looked at once more.  Raises
    RepositoryLocked while a prune is at the moment that decides.
    """
    with _locked(repository) as refusal:
        work = Look(repository, observer, read_data=read_data)
        found = work.points()
        points = found or PointList([], {})
        for point_id, error in points.damaged.items():
            work.suspects.add(layout.point(point_id), str(error), point=point_id)
        for point in points.points:
            work.point(point)
        archives = repository.archive_ids()
        for archive_id in archives:
            work.archive(repository.archive(archive_id))
        incomplete = repository.incomplete_archives()
        work.contents()
        work = _confirmed(repository, work)
        damages = damages_of(repository, work.suspects, observer)
        _tell_bundles(repository, damages, points.points)
        if read_data:
            _protection(repository, damages)
            _keys(repository, damages, observer)
        work.tell_slabs()
        _note(repository, damages, observer, refusal)
        counts, missing, now = work.counts, list[str](), points_now(repository)
        if now.points:
            counts["unneeded_archives"] = len(unneeded_archives(repository, now))
        if found:
            missing = missing_points(repository, now)
    counts["points"], counts["archives"] = len(points.points), len(archives)
    if incomplete:
        counts["incomplete_archives"] = len(incomplete)
    return CheckResult(
        damages.all(), counts, tuple(missing), frozenset(damages.contents),
        frozenset(damages.indexes),
    )  # fmt: skip


def _tell_bundles(repository: Repository, damages: Damages, points: Iterable[Point]) -> None:
    """What tells what lies in bundles; the files in them are looked at as all are.

    One of which it cannot be told hits all points that need archives that are nowhere.
    """
    unreadable = repository.unreadable_bundles()
    hit: list[str] = []
    if unreadable:
        hit += [point.id for point in points if not repository.is_whole(point.state.archive)]
        hit += damages.points_of(lambda ref: not repository.is_whole(ref.archive))
    for name, messages in repository.damaged_bundles().items():
        for message in messages:
            damages.add(name, message)
            for point_id in hit if name in unreadable else ():
                damages.add(name, message, point=point_id)


@contextmanager
def _locked(repository: Repository) -> Iterator[str]:
    """Keep others from removing anything; without that where it cannot be: then why, else nothing.

    Raises RepositoryLocked.
    """
    with ExitStack() as stack:
        refusal = ""
        try:
            repository.require_writable()
            stack.enter_context(repository.lock(SHARED))
        except RepositoryLocked:
            raise
        except IbtfsError as error:
            refusal = str(error)
        yield refusal


def _confirmed(repository: Repository, work: Look) -> Look:
    """The check with those suspects that are so when they are looked at once more.

    Again only if points went, or indexes were replaced, since that second look began.
    """
    seen: object = None
    for _ in range(LOOKS):
        repository.forget_read()
        there = {point.id for point in points_now(repository).points}
        now = there, repository.index_generations()
        if not work.suspects.found or now == seen:
            break
        work, seen = work.again(), now
    return work


def _keys(repository: Repository, damages: Damages, observer: Observer) -> None:
    """What of the keys, and of the lists of points, of a sealed repository cannot be read.

    What was taken away, and is there again, is noted: somebody may have been cut off.
    """
    for name, message in repository.unlocked.damaged.items():
        damages.add(name, message)
    if repository.config.is_sealed:
        for name, message in newest_list(repository).damaged.items():
            damages.add(f"{layout.LISTS}/{name}", message)
        for name in put_back(repository):
            message = f"{name}: was taken away, and is there, or is there again: it means nothing"
            observer.note(f"{message} (ibtfs prune removes it)")


def _protection(repository: Repository, damages: Damages) -> None:
    """What parity tells of: manifests that are gone, and its own files."""
    for name in missing_manifests(repository):
        message = f"{name}: is gone, and nobody removed the point (ibtfs check --repair)"
        damages.add(name, message)
    if is_mark_missing(repository):
        name = f"{layout.PROTECTION}/"
        message = f"{name}: nothing says how much parity is to be kept up (ibtfs protect says so)"
        damages.add(name, message)
    for name in damaged_sidecars(repository):
        message = f"{name}: this parity is damaged (ibtfs check --repair makes it anew)"
        damages.add(name, message)


def _note(repository: Repository, damages: Damages, observer: Observer, refusal: str) -> None:
    """Note what is damaged in the repository, where it can be written."""
    try:
        noted = repository.damage.all() if damages.contents or damages.indexes else Noted()
        contents, indexes = (
            damages.contents.keys() - noted.contents,
            damages.indexes - noted.indexes,
        )
        if (contents or indexes) and refusal:
            raise RepositoryError(refusal)
        if contents or indexes:
            repository.damage.add(os.urandom(8).hex(), contents, indexes)
    except (IbtfsError, OSError) as error:
        observer.note(f"The damage could not be noted in the repository: {error}")
