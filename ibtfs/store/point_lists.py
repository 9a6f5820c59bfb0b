"""The lists of points of a sealed repository, written one after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection
from dataclasses import replace

from ibtfs.errors import (
    IbtfsError,
    IntegrityError,
    PointNotFound,
    RepositoryError,
    StorageFailed,
    StorageFull,
)
from ibtfs.format.compression import Codec
from ibtfs.format.marks import Marks
from ibtfs.format.point_list import EARLIER_LIMIT, PointList, bounded, encode_list, year_of
from ibtfs.store import layout
from ibtfs.store.archives.newest import open_newest
from ibtfs.store.listed import NONE, Listed, Lists
from ibtfs.store.points import Points
from ibtfs.store.repository import Repository

ROUNDS = 5
"""So often it is tried again if others write lists at the same time."""


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
    missing, and was not, stays on the list; one that was removed, and is there, stays removed.
    An empty one where nothing is sealed.  Raises RepositoryError, StorageFull, StorageFailed,
    LimitExceeded.
    """
    if not repository.config.is_sealed:
        return NONE
    lists = _lists_of(repository)

    def change(before: PointList) -> PointList:
        forgotten = frozenset(repository.points.forgotten())
        there = frozenset(repository.points.ids())
        gone = dict(before.gone)
        for year, marks in _marks_by_year(lists, forgotten - there).items():
            gone[year] = gone.get(year, Marks()) | marks
        found = replace(before, gone=bounded(gone))
        new = verified(repository.points, there - before.points)
        new = frozenset(one for one in new if not found.is_gone(one, lists.mark(one)))
        return replace(
            found,
            points=(before.points - (forgotten - there)) | new,
            withdrawn={
                one: turns
                for one, turns in before.withdrawn.items()
                # as long as anything says something of it
                if one in there or one in forgotten
            },
            generations=_generations(repository, before),
        )

    return write(repository, change)


def list_first(repository: Repository) -> None:
    """Write down which points were removed before what they needed goes: if not, nothing is to go.

    But on a full disk, for what goes makes room.  Raises as write_list does.
    """
    with contextlib.suppress(StorageFull):
        write_list(repository)


def _marks_by_year(lists: Lists, ids: Collection[str]) -> dict[int, Marks]:
    found: dict[int, list[bytes]] = {}
    for point_id in ids:
        found.setdefault(year_of(point_id), []).append(lists.mark(point_id))
    return {year: Marks.of(marks) for year, marks in found.items()}


def admit(repository: Repository, point_id: str) -> None:
    """Have a point be there though it was removed, for who is about to put it there again.

    Nothing is done where nothing is sealed.  Raises as write_list does.
    """
    lists = repository.unlocked.lists
    if lists is None or not lists.look().found.is_gone(point_id, lists.mark(point_id)):
        return
    write(repository, lambda before: _with_returned(lists, before, [point_id]))


def _with_returned(lists: Lists, found: PointList, ids: Collection[str]) -> PointList:
    gone = dict(found.gone)
    for point_id in ids:
        for year in {year_of(point_id), 0} & gone.keys():
            gone[year] = gone[year].without(lists.mark(point_id))
    return replace(found, gone=bounded(gone))


def write(repository: Repository, change: Callable[[PointList], PointList]) -> PointList:
    """Write a list that is as *change* makes it of the newest; earlier ones go.  The newest.

    It says what was accepted by who watches over the repository.  Raises RepositoryError if a later
    list cannot be read, StorageFull, StorageFailed, LimitExceeded; nothing is written then.
    """
    lists = _lists_of(repository)
    for _ in range(ROUNDS):
        listed = lists.look()
        _require_read(lists, listed)
        before = listed.found
        made = change(_as_accepted(repository, lists, before))
        if made != before:
            earlier = (*before.earlier, *listed.marks)[-EARLIER_LIMIT:]
            made = replace(made, number=before.number + 1, earlier=earlier)
            name = layout.point_list(made.number, os.urandom(8).hex())
            data = encode_list(made, name, repository.keys, Codec(repository.config.level))
            lists.put_new(name, made, data)
            # somebody else may have gone on without it
            if lists.look().found != made:
                continue
        _drop_earlier(lists, made)
        return made
    raise StorageFailed(f"{layout.LISTS}/: others write lists of points all the time")


def _require_read(lists: Lists, listed: Listed) -> None:
    """Raise RepositoryError if there are lists that cannot be read: what they say would be lost."""
    for name, message in listed.damaged.items():
        if name not in lists.accepted.damaged:
            raise RepositoryError(
                f"{message}: nothing is written until `ibtfs key accept` takes the repository as "
                "it is without that list"
            )


def _as_accepted(repository: Repository, lists: Lists, found: PointList) -> PointList:
    """A list with what was accepted."""
    accepted = lists.accepted
    if any(found.is_gone(one, lists.mark(one)) for one in accepted.returned):
        found = _with_returned(lists, found, accepted.returned)
    generations = {
        name: least
        for name, listed in found.generations.items()
        if (least := accepted.least(name, listed)) > 1
    }
    return found if generations == found.generations else replace(found, generations=generations)


def _drop_earlier(lists: Lists, newest: PointList) -> None:
    """Remove lists of this repository that it follows: what else lies there is left alone."""
    for name in lists.names:
        number = layout.parse_numbered(name)
        if 0 < number < newest.number:
            with contextlib.suppress(IbtfsError):
                if lists.read(name, number)[1] in newest.earlier:
                    lists.drop(f"{layout.LISTS}/{name}")


def _generations(repository: Repository, before: PointList) -> dict[str, int]:
    """The files of archives that are not of the first generation; none is less than it was."""
    found = dict[str, int]()
    for archive_id, files in repository.archive_files().items():
        for kind, number in files.items():
            name = layout.archive_object(archive_id, kind)
            most = before.generations.get(name, 1)
            if number > most:
                most = max(most, authentic(repository, archive_id, kind))
            if most > 1:
                found[name] = most
    return found


def authentic(repository: Repository, archive_id: str, kind: str) -> int:
    """The generation of a file that somebody with a key has written; 0 if it is not that."""
    try:
        opened = open_newest(repository.storage, repository.keys, archive_id, kind).opened
    except IbtfsError:
        return 0
    opened.close()
    return opened.generation
