"""Taking tags, and notes that they were removed, from points of a sealed repository, for good.

A storage can put back what was taken away.  So it is written down first that it was, in a list;
what lies there says nothing from then on, whoever puts it back, or is cut off before it is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ibtfs.errors import ObjectExists, ObjectMissing, StorageFailed
from ibtfs.format.point_list import PointList
from ibtfs.store import layout
from ibtfs.store.listed import Lists
from ibtfs.store.point_lists import write
from ibtfs.store.repository import Repository
from ibtfs.store.storage.renamed import Names

ROUNDS = 5
"""So often a tag is given again if others take it away at the same time."""


class _Said(NamedTuple):
    """What is said of a point: by the object *stored*, as the *name* in this *turn*."""

    point_id: str
    name: str
    turn: int
    is_used_up: bool
    stored: str


def give_tag(repository: Repository, point_id: str, tag: str) -> bool:
    """Tag a point; whether it had not got that tag.

    Raises UsageError, StorageFull, StorageFailed.
    """
    points, lists = repository.points, repository.unlocked.lists
    is_new = False
    for _ in range(ROUNDS):
        # whoever takes it away at this moment has listed that before: it means nothing then
        if lists is not None and lists.look() and tag in points.tags(point_id):
            return is_new
        try:
            points.add_tag(point_id, tag)
            is_new = True
        except ObjectExists:
            pass
        except ObjectMissing:
            continue  # its folder, whose last tag somebody has just taken
        if lists is None:
            return is_new
    raise StorageFailed(f"{layout.tags(point_id)}/: others take tags from this point all the time")


def take_tags(repository: Repository, pairs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Take tags from points: of *pairs* of an id and a tag those that there were.

    Raises RepositoryError, StorageFull, StorageFailed, LimitExceeded; of the last two only one that
    comes when something is removed leaves a tag that was taken.
    """
    points, wanted = repository.points, set(pairs)
    sealed = _sealed(repository)
    if sealed is None:
        found = {(one, tag) for one, tag in wanted if tag in points.tags(one)}
        for point_id, tag in found:
            points.remove_tag(point_id, tag)
        return found
    sealed[0].look()
    names = {layout.tag(*pair): pair for pair in wanted}
    folders = {layout.tags(one): one for one, _ in wanted}
    said = [one for one in _said(*sealed, folders) if one.name in names]
    _take(repository, sealed[0], said)
    return {names[one.name] for one in said if not one.is_used_up}


def withdraw_notes(repository: Repository) -> None:
    """Take back that points, which stay, are removed on purpose: all that was noted so.

    Nothing is done where nothing is sealed: there they are gone already.  Raises as take_tags.
    """
    points, ids = repository.points, set(repository.points.taken_back)
    points.taken_back = []
    sealed = _sealed(repository)
    if sealed is None or not ids:
        return
    sealed[0].look()
    said = [one for one in _said(*sealed, {layout.FORGOTTEN: ""}) if one.point_id in ids]
    _take(repository, sealed[0], said)
    for point_id in ids:
        if not points.has(point_id):  # whoever removes it at this moment may have seen the note
            points.note_forgotten(point_id)


def put_back(repository: Repository, only: str = "") -> list[str]:
    """What was taken from points, and is there again, as it is stored: it says nothing.

    Of the point *only*, if one is given.  Raises StorageFailed.
    """
    sealed = _sealed(repository)
    if sealed is None or not sealed[0].newest.found.withdrawn:
        return []
    ids = [only] if only else sealed[0].newest.found.withdrawn
    folders = {layout.FORGOTTEN: "", **{layout.tags(one): one for one in ids}}
    found = (one for one in _said(*sealed, folders) if one.is_used_up)
    return [one.stored for one in found if only in ("", one.point_id)]


def drop_put_back(repository: Repository, only: str = "") -> None:
    """Remove it.  Raises StorageFailed."""
    if repository.unlocked.lists is not None:
        repository.unlocked.lists.look()
        for stored in put_back(repository, only):
            repository.unlocked.lists.drop(stored)


def _sealed(repository: Repository) -> tuple[Lists, Names] | None:
    lists, names = repository.unlocked.lists, repository.unlocked.names
    return None if lists is None or names is None else (lists, names)


def _said(lists: Lists, names: Names, folders: Mapping[str, str]) -> Iterator[_Said]:
    """All that is said in *folders* of the points that these are of; of any, where that is none."""
    for folder, point_id in folders.items():
        for stored in lists.stored(folder):
            told = names.told(folder, stored)
            if told is not None:
                yield _Said(
                    point_id or told.base, f"{folder}/{told.base}", told.turn, told.is_used_up,
                    f"{folder}/{stored}",
                )  # fmt: skip


def _take(repository: Repository, lists: Lists, said: Sequence[_Said]) -> None:
    """Write down that all of this was taken away, and take it away."""

    def change(before: PointList) -> PointList:
        withdrawn = {one: dict(turns) for one, turns in before.withdrawn.items()}
        for one in said:
            turns, mark = withdrawn.setdefault(one.point_id, {}), lists.mark(one.name)
            turns[mark] = max(turns.get(mark, 0), one.turn + 1)
        return replace(before, withdrawn=withdrawn)

    if said:
        write(repository, change)
    for one in said:
        lists.drop(one.stored)
