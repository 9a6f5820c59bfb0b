"""Where a point that cannot be read may lie among the others."""

from __future__ import annotations

from collections.abc import Iterable

from ibtfs.format.point import Point, made_seconds


def damaged_between(older: Point | None, newer: Point, damaged: Iterable[str]) -> str:
    """The id of one of the *damaged* points that may lie between two of a source; else empty.

    *older* None is the beginning.  A point says which one its run compared with; where that one is
    gone, times in ids tell.
    """
    if older is not None and newer.parent == older.id:
        return ""
    ids = sorted(damaged)
    if newer.parent in ids:
        return newer.parent
    if older is None and not newer.parent:
        return ""  # the first of its source
    first = made_seconds(older.id) if older is not None else None
    last = made_seconds(newer.id)
    for point_id in ids:
        made = made_seconds(point_id)
        is_before = made is not None and first is not None and made < first
        is_behind = made is not None and last is not None and made > last
        if not is_before and not is_behind:
            return point_id
    return ""
