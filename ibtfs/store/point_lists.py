"""The lists of points of a sealed repository, written one after the other."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from ibtfs.errors import IbtfsError, IntegrityError, PointNotFound, StorageFailed
from ibtfs.format.compression import Codec
from ibtfs.format.point_list import (
    EARLIER_LIMIT,
    PointList,
    bounded,
    decode_list,
    encode_list,
    mark_of,
    year_of,
)
from ibtfs.store import layout
from ibtfs.store.archives.newest import open_newest
from ibtfs.store.listed import LIST_LIMIT, Listed, Lists
from ibtfs.store.points import Points
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import whole

ROUNDS = 5
"""So often it is tried again if others write lists at the same time."""
Marks = dict[int, frozenset[bytes]]


def newest_list(repository: Repository) -> Listed:
    """The newest list, looked for now.  Raises StorageFailed."""
    return _lists_of(repository).look()


def _lists_of(repository: Repository) -> Lists:
    lists = repository.unlocked.lists
    return Lists(repository.storage, repository.keys) if lists is None else lists


def verified(points: Points, ids: Collection[str]) -> frozenset[str]:
    """Those of *ids* whose manifests are what they should be: others may be anybody's junk."""
    found = set()
    points.fetch(ids)
    for point_id in ids:
        with contextlib.suppress(IntegrityError, PointNotFound, StorageFailed):
            found.add(points.get(point_id).id)
    return frozenset(found)


def write_list(repository: Repository) -> PointList:
    """Write down what there is, if that has changed; earlier lists go.  The newest list.

    For who frees space, while it is told which points were removed on purpose.  One that is
    missing, and was not, stays on the list.  Raises StorageFull, StorageFailed, LimitExceeded.
    """

    def change(before: PointList) -> PointList:
        forgotten = frozenset(repository.points.forgotten())
        there = verified(repository.points, repository.points.ids())
        gone = dict(before.gone)
        for point_id in forgotten - there:
            _mark(repository, gone, point_id)
        for point_id in there:
            _mark(repository, gone, point_id, is_gone=False)
        gone, since = bounded(gone, before.since, time.gmtime().tm_year)
        found = replace(before, gone={year: gone[year] for year in gone if gone[year]}, since=since)
        lost = before.points - there
        points = there | {one for one in lost if not _is_gone(repository, found, one)}
        withdrawn = {one: marks for one, marks in before.withdrawn.items() if one in points}
        return replace(
            found, points=points, withdrawn=withdrawn, generations=_generations(repository, before)
        )

    return _write(repository, change)


def look_for_list(repository: Repository) -> None:
    """See what others have taken from points, where anything is sealed.  Raises StorageFailed."""
    if repository.unlocked.lists is not None:
        repository.unlocked.lists.look()


def withdraw_tags(repository: Repository, tags: Iterable[tuple[str, str]]) -> None:
    """Write down that *tags*, each with the id of its point, were taken from these points.

    For who has just removed them: what a storage puts back says nothing then.  Nothing is done
    where nothing is sealed.  Raises StorageFull, StorageFailed, LimitExceeded.
    """
    _withdraw(repository, [(point_id, layout.tag(point_id, tag)) for point_id, tag in tags])


def withdraw_notes(repository: Repository) -> None:
    """The same for notes of points as forgotten that were taken back.  Raises as it does."""
    ids = repository.points.taken_back
    repository.points.taken_back = []
    _withdraw(repository, [(point_id, layout.forgotten(point_id)) for point_id in ids])


def put_back(repository: Repository) -> list[str]:
    """What was taken from points, and is there again, as it is stored: it says nothing.

    Raises StorageFailed.
    """
    lists, names = repository.unlocked.lists, repository.unlocked.names
    if lists is None or names is None or not lists.newest.found.withdrawn:
        return []
    points = lists.newest.found.withdrawn
    folders = [layout.FORGOTTEN, *map(layout.tags, points)]
    return [
        f"{folder}/{stored}"
        for folder in folders
        for stored in lists.stored(folder)
        if names.is_used_up(folder, stored)
    ]


def drop_put_back(repository: Repository) -> None:
    """Remove it.  Raises StorageFailed."""
    for name in put_back(repository):
        if repository.unlocked.lists is not None:
            repository.unlocked.lists.drop(name)


def _withdraw(repository: Repository, pairs: Sequence[tuple[str, str]]) -> None:
    lists, stored = repository.unlocked.lists, repository.unlocked.names
    if lists is None or stored is None or not pairs:
        return
    lists.look()
    marks = [(point_id, lists.mark(stored.way(name))) for point_id, name in pairs]

    def change(before: PointList) -> PointList:
        withdrawn = dict(before.withdrawn)
        for point_id, mark in marks:
            withdrawn[point_id] = withdrawn.get(point_id, frozenset()) | {mark}
        return replace(before, withdrawn=withdrawn)

    _write(repository, change)


def _write(repository: Repository, change: Callable[[PointList], PointList]) -> PointList:
    """Write a list that is as *change* makes it of the newest; earlier ones go.  The newest."""
    storage = repository.storage
    for _ in range(ROUNDS):
        listed = newest_list(repository)
        before = listed.found
        made = change(before)
        if made == before:
            return before
        earlier = (*before.earlier, *listed.marks)[-EARLIER_LIMIT:]
        made = replace(made, number=before.number + 1, earlier=earlier)
        name = layout.point_list(made.number, os.urandom(8).hex())
        data = encode_list(made, name, repository.keys, Codec(repository.config.level))
        storage.put_new(name, data)
        # somebody else may have gone on without it
        if newest_list(repository).found.number == made.number:
            break
    for other in storage.list(layout.LISTS):
        number, where = layout.parse_numbered(other), f"{layout.LISTS}/{other}"
        if 0 < number <= before.number and _is_earlier(repository, where, number):
            storage.delete(where)
    return made


def _is_earlier(repository: Repository, name: str, number: int) -> bool:
    """Whether a list of this repository lies there: what else does is left alone."""
    try:
        decode_list(whole(repository.storage, name, LIST_LIMIT), name, number, repository.keys)
    except IbtfsError:
        return False
    return True


def _mark(repository: Repository, gone: Marks, point_id: str, *, is_gone: bool = True) -> None:
    """Put the mark of a point among those that are *gone*, or take it from there."""
    year, mark = year_of(point_id), mark_of(repository.keys, point_id.encode())
    marks = gone.get(year, frozenset())
    gone[year] = marks | {mark} if is_gone else marks - {mark}


def _is_gone(repository: Repository, found: PointList, point_id: str) -> bool:
    return found.is_gone(point_id, mark_of(repository.keys, point_id.encode()))


def _generations(repository: Repository, before: PointList) -> dict[str, int]:
    """The files of archives that are not of the first generation; none is less than it was."""
    lists, found = repository.unlocked.lists, dict[str, int]()
    is_known = lists is not None and not lists.is_waived
    for archive_id, files in repository.archive_files().items():
        for kind, number in files.items():
            name = layout.archive_object(archive_id, kind)
            most = before.generations.get(name, 1) if is_known else 1
            if number > most:
                most = max(most, _authentic(repository, archive_id, kind))
            if most > 1:
                found[name] = most
    return found


def _authentic(repository: Repository, archive_id: str, kind: str) -> int:
    """The generation of a file that somebody with a key has written; 0 if it is not that."""
    try:
        opened = open_newest(repository.storage, repository.keys, archive_id, kind).opened
    except IbtfsError:
        return 0
    opened.close()
    return opened.generation
