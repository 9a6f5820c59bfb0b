"""Where a point that cannot be read may lie among the others."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

from ibtfs.format.point import Point


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
    first = _made(older.id) if older is not None else None
    last = _made(newer.id)
    for point_id in ids:
        made = _made(point_id)
        is_before = made is not None and first is not None and made < first
        is_behind = made is not None and last is not None and made > last
        if not is_before and not is_behind:
            return point_id
    return ""


def _made(point_id: str) -> float | None:
    """When a point was made, in seconds since 1970, if its id tells."""
    try:
        made = datetime.strptime(point_id.partition("_")[0], "%Y%m%dT%H%M%SZ")
    except ValueError:
        return None
    return made.replace(tzinfo=timezone.utc).timestamp()
