"""The lists of points of a sealed repository, as they lie in ``lists/``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import NamedTuple

from ibtfs.errors import IbtfsError, IntegrityError, PointNotFound, StorageFailed
from ibtfs.format.compression import Codec
from ibtfs.format.point_list import PointList, decode_list, encode_list, mark_of
from ibtfs.store import layout
from ibtfs.store.points import Points
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import whole

LIST_LIMIT = 64 << 20
NONE = PointList(0, frozenset(), frozenset())


class Listed(NamedTuple):
    """The newest list, the mark of its object, and what is wrong with others, a line each."""

    found: PointList
    mark: bytes
    damaged: tuple[str, ...]


def newest_list(repository: Repository) -> Listed:
    """The list with the highest number that can be read; number 0 if there is none.

    Raises StorageFailed.
    """
    names = repository.storage.list(layout.LISTS)
    damaged: list[str] = []
    for name in sorted(names, key=lambda name: (-layout.parse_numbered(name), name)):
        number, where = layout.parse_numbered(name), f"{layout.LISTS}/{name}"
        if not number:
            continue
        try:
            data = whole(repository.storage, where, LIST_LIMIT)
            found = decode_list(data, where, number, repository.keys)
            return Listed(found, mark_of(repository.keys, data), tuple(damaged))
        except IbtfsError as error:
            damaged.append(str(error))
    return Listed(NONE, b"", tuple(damaged))


def verified(points: Points, ids: Iterable[str]) -> frozenset[str]:
    """Those of *ids* whose manifests are what they should be: others may be anybody's junk."""
    found = set()
    for point_id in ids:
        with contextlib.suppress(IntegrityError, PointNotFound, StorageFailed):
            found.add(points.get(point_id).id)
    return frozenset(found)


def write_list(repository: Repository) -> PointList:
    """Write down which points there are, if that has changed; earlier lists go.  The newest list.

    For who frees space, alone in that, while it is told which points were removed on purpose.  One
    that is missing, and was not, stays on the list.  Raises StorageFull, StorageFailed,
    LimitExceeded.
    """
    listed, keys = newest_list(repository), repository.keys
    before, storage = listed.found, repository.storage
    forgotten = frozenset(repository.points.forgotten())
    there = verified(repository.points, repository.points.ids())

    def marks(ids: Iterable[str]) -> set[bytes]:
        return {mark_of(keys, point_id.encode()) for point_id in ids}

    gone = (before.gone | marks(forgotten - there)) - marks(there)
    lost = before.points - there
    points = there | {one for one in lost if mark_of(keys, one.encode()) not in gone}
    if points == before.points and gone == before.gone:
        return before
    earlier = (*before.earlier, listed.mark) if listed.mark else before.earlier
    found = PointList(before.number + 1, points, frozenset(gone), earlier)
    name = layout.point_list(found.number, os.urandom(8).hex())
    storage.put_new(name, encode_list(found, name, keys, Codec(repository.config.level)))
    for other in storage.list(layout.LISTS):
        number, where = layout.parse_numbered(other), f"{layout.LISTS}/{other}"
        if 0 < number <= before.number and _is_earlier(repository, where, number):
            storage.delete(where)
    return found


def _is_earlier(repository: Repository, name: str, number: int) -> bool:
    """Whether a list of this repository lies there: what else does is left alone."""
    try:
        decode_list(whole(repository.storage, name, LIST_LIMIT), name, number, repository.keys)
    except IbtfsError:
        return False
    return True
