"""The lists of points of a sealed repository, as they lie in ``lists/``."""

from __future__ import annotations

import os
from typing import NamedTuple

from ibtfs.errors import IbtfsError
from ibtfs.format.compression import Codec
from ibtfs.format.point_list import PointList, decode_list, encode_list, mark_of
from ibtfs.store import layout
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


def write_list(repository: Repository) -> None:
    """Write down which points there are, if that has changed; older lists go.

    For who frees space, alone in that, while it is told which points were removed on purpose.
    Raises StorageFull, StorageFailed.
    """
    listed, keys = newest_list(repository), repository.keys
    before, storage = listed.found, repository.storage
    points = frozenset(repository.points.ids())
    removed = {*before.points, *repository.points.forgotten()} - points
    gone = before.gone | {mark_of(keys, point_id.encode()) for point_id in removed}
    if points == before.points and gone == before.gone:
        return
    earlier = (*before.earlier, listed.mark) if listed.mark else before.earlier
    number = 1 + max(map(layout.parse_numbered, storage.list(layout.LISTS)), default=0)
    name = layout.point_list(number, os.urandom(8).hex())
    data = encode_list(
        PointList(number, points, gone, earlier), name, keys, Codec(repository.config.level)
    )
    storage.put_new(name, data)
    for other in storage.list(layout.LISTS):
        if 0 < layout.parse_numbered(other) < number:
            storage.delete(f"{layout.LISTS}/{other}")
