"""Which points of a machine that only writes go on counting when it may make none any more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from ibtfs.errors import IntegrityError, PointNotFound, RepositoryError, StorageFailed
from ibtfs.format.objects import signed_part
from ibtfs.format.point import Point
from ibtfs.format.point_list import mark_of
from ibtfs.store import layout
from ibtfs.store.point_lists import newest_list
from ibtfs.store.points import MANIFEST_LIMIT
from ibtfs.store.repository import Repository
from ibtfs.store.storage.base import whole


def accepted_marks(
    repository: Repository, tag: str, accepts: Callable[[Point], bool]
) -> dict[str, bytes]:
    """The marks, by id, of the points with this *tag* that are there and that the owner *accepts*.

    Raises RepositoryError if one of them was listed and cannot be read: it would count no more.
    """
    found, lost = {}, set(_listed(repository, tag))
    own = list(_own(repository, tag))
    repository.points.fetch(own)
    for point_id in own:
        name = layout.point(point_id)
        with contextlib.suppress(IntegrityError, PointNotFound, StorageFailed):
            point = repository.points.get(point_id)
            lost.discard(point_id)
            if accepts(point):
                signed = signed_part(whole(repository.storage, name, MANIFEST_LIMIT), name)
                found[point_id] = mark_of(repository.keys, point_id.encode() + b"\0" + signed)
    if lost:
        raise RepositoryError(
            f"The backup point {min(lost)} cannot be read, and would never count again: give it "
            "back, or forget it, or say until when points are to count (--until)"
        )
    return found


def came_since(repository: Repository, point_ids: Iterable[str], moment_ns: int) -> list[str]:
    """Those of the points that the storage says it was given at a moment, or later.

    A machine says itself of when its points are.
    """
    made = repository.storage.made
    return [one for one in point_ids if made(layout.point(one)) * 1_000_000_000 >= moment_ns]


def _own(repository: Repository, tag: str) -> Iterator[str]:
    return (one for one in repository.points.ids() if _is_of(repository, one, tag))


def _listed(repository: Repository, tag: str) -> Iterator[str]:
    """The points that the owner has listed, and that nobody removed since."""
    listed = newest_list(repository).found.points.difference(repository.points.forgotten())
    return (one for one in listed if _is_of(repository, one, tag))


def _is_of(repository: Repository, point_id: str, tag: str) -> bool:
    author = repository.keys.author_of(layout.point(point_id))
    return author is not None and author.tag == tag
