"""Points that were removed from a sealed repository, and are put there again on purpose.

A list says so before the point is there, so that it alarms nobody: from then on it is awaited.
When it is there, the next list has it as any other.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from ibtfs.errors import IbtfsError
from ibtfs.format.point_list import PointList
from ibtfs.store.point_lists import with_returned, write
from ibtfs.store.repository import Repository
from ibtfs.store.taking import drop_put_back


def admit(repository: Repository, point_id: str) -> bool:
    """Have a point be awaited that was removed, or is noted to be, and is not there.

    Whether it was.  All that was said of it means nothing any more, so tags are given afterwards.
    Nothing is done where nothing is sealed.  Raises as write_list does.
    """
    lists, points = repository.unlocked.lists, repository.points
    if lists is None:
        return False

    def was_removed(found: PointList) -> bool:
        is_gone = found.is_gone(point_id, lists.mark(point_id)) or point_id in points.forgotten()
        return is_gone and not points.has(point_id)

    def change(before: PointList) -> PointList:
        if not was_removed(before):
            return before
        return with_returned(lists, before, point_id, "", is_there=False)

    if not was_removed(lists.look().found):
        return False
    write(repository, change)
    return True


def list_admitted(repository: Repository, point_id: str) -> None:
    """Write down that a point that was awaited is there, and remove what was said of it before.

    Raises as write_list does.
    """
    lists = repository.unlocked.lists
    if lists is None:
        return

    def change(before: PointList) -> PointList:
        is_gone = before.is_gone(point_id, lists.mark(point_id))
        if is_gone or not repository.points.has(point_id):
            return before  # somebody has removed it meanwhile
        return replace(before, points=before.points | {point_id})

    write(repository, change)
    with suppress(IbtfsError):  # the next prune does it
        drop_put_back(repository, point_id)
