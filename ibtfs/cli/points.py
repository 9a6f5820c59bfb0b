"""Finding the backup point that the words of a command mean, and describing points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ibtfs.cli.output import complain

if TYPE_CHECKING:
    from ibtfs.errors import IbtfsError
    from ibtfs.format.point import Point
    from ibtfs.store.repository import Repository

POINT_HELP = """\
POINT is an id, a name as `ibtfs list` shows it, the first 4 or more characters of one, latest,
latest~2, a moment (2026-11-20, 2026-11-20T10:15, yesterday, 3d, '3 days ago': the newest point
at or before it; @yesterday, as in a mount, is as good), or a tag (the newest point that has it).
Where a repository has several sources, SOURCE/POINT says which one."""

PATH_HELP = "PATH is relative to the source, or the absolute path that it had."


def chosen_point(repository: Repository, words: str) -> Point:
    """The point that *words* mean now; damaged ones are told.

    Raises PointNotFound, UsageError, and PointDamaged if one of those may have been meant.
    """
    from ibtfs.store.naming import require_certain, select_point

    (points, damaged), now = repository.points.all(), datetime.now()
    tell_damaged(damaged)
    tagged = repository.points.tagged
    point = select_point(points, words, now, tagged)
    require_certain(point, words, points, damaged, now, tagged)
    return point


def tell_damaged(damaged: Mapping[str, IbtfsError]) -> None:
    """Tell of manifests that cannot be read."""
    for error in damaged.values():
        complain(f"Damaged backup point left out: {error}")


def json_point(repository: Repository, point: Point) -> dict[str, Any]:
    """What identifies a point, in every result that speaks of one."""
    return json_points(repository, [point])[point.id]


def json_points(repository: Repository, points: Iterable[Point]) -> dict[str, dict[str, Any]]:
    """The same of several points, by id."""
    from ibtfs.store.naming import displayed_names

    names = displayed_names(repository.points.all().points)
    return {
        point.id: {"id": point.id, "name": names.get(point.id, ""), "source": point.display}
        for point in points
    }
