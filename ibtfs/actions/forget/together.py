"""Removing points while others do: together they leave each source a point, too.

Whoever removes notes first all that is to go, and looks at what others noted afterwards.  So of two
who would take the last points of a source together at least one sees it, and takes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ibtfs.errors import RepositoryLocked
from ibtfs.store.lock import Lock
from ibtfs.store.naming import by_source
from ibtfs.store.repository import Repository


def announce(repository: Repository, lock: Lock, gone: Sequence[str], *, allow_none: bool) -> None:
    """Note that the points *gone* are about to go, and see that others leave some.

    With *allow_none* none need be left.  *lock* is the caller's.  Raises RepositoryLocked if others
    are taking the rest, LockLost, StorageFailed; nothing is noted then.
    """
    points = repository.points
    before = set(points.forgotten())
    try:
        unnoted = [point_id for point_id in gone if not points.note_forgotten(point_id)]
        if repository.unlocked.lists is not None:
            repository.unlocked.lists.look()  # notes that were there may have been taken back
            for point_id in set(gone).difference(points.forgotten(), unnoted):
                points.note_forgotten(point_id)
        if not allow_none:
            _look_again(repository, lock, gone, unnoted)
    except BaseException:
        for point_id in set(gone) - before:
            if points.has(point_id):
                points.withdraw_note(point_id)
        raise


def _look_again(
    repository: Repository, lock: Lock, gone: Sequence[str], unnoted: Sequence[str]
) -> None:
    """Raise RepositoryLocked if a source would have no point without what others note and remove.

    The disk had no room to note those *unnoted*.
    """
    going = set(gone)
    # a note of somebody who was cut off counts for nothing: what he left stays
    if lock.others_at_work():
        going.update(repository.points.forgotten())
        if unnoted:
            raise RepositoryLocked(
                "There is no room to tell others, who are at work, that points are being removed: "
                "nothing was removed; wait until they have finished"
            )
    for name, mine in by_source(repository.points.all().points).items():
        ids = {point.id for point in mine}
        if ids <= going and not ids.isdisjoint(gone):
            raise RepositoryLocked(
                f"Others are removing backup points of {name!r} at this moment, and none would be "
                "left: nothing was removed; wait until they have finished"
            )
