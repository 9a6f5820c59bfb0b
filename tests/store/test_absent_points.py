"""What the points that are there tell of others that are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import FormatDamaged, IbtfsError
from ibtfs.format.index import Reference
from ibtfs.format.point import Point, Source
from ibtfs.store.absent_points import absent_points, may_have_been, unneeded_archives
from ibtfs.store.points import PointList
from ibtfs.store.repository import Repository
from tests.support.repositories import Backup, on_disk, reopened, the_point

A, B, C, D = (f"2026112{day}T101112Z_host_0a" for day in (0, 2, 4, 6))


def found(*made: tuple[str, int, str], damaged: tuple[str, ...] = ()) -> PointList:
    """Points by id, number and parent."""
    points = [
        Point(
            id=point_id, sequence=sequence, epoch=0, time_ns=1, utc_offset=0,
            source=Source("host", b"/x"), display="x", digest=bytes(32),
            root=(b"", 0o40755, 0, 0, 4096, 1, 1, 1, 2), state=Reference(f"{point_id}.0", 3),
            parent=parent,
        )
        for point_id, sequence, parent in made
    ]  # fmt: skip
    errors: dict[str, IbtfsError] = {name: FormatDamaged("damaged") for name in damaged}
    return PointList(points, errors)


@pytest.mark.parametrize(
    ("points", "forgotten", "runs", "parents", "others"),
    [
        (found(), set(), set(), {}, 0),
        (found((A, 1, ""), (B, 2, A)), set(), {A, B}, {}, 0),
        # a parent that is not there; forgotten, damaged, or with its space freed it is no loss
        (found((B, 2, A)), set(), {A, B}, {A: B}, 0),
        (found((B, 2, A)), {A}, {A, B}, {}, 0),
        (found((B, 2, A), damaged=(A,)), set(), {A, B}, {}, 0),
        (found((B, 2, A)), set(), {B}, {}, 0),
        # numbers tell of others: of as many as left archives, at most
        (found((C, 3, "")), set(), {A, B, C}, {}, 2),
        (found((C, 3, "")), set(), {B, C}, {}, 1),
        (found((C, 3, "")), {A}, {A, B, C}, {}, 1),
        (found((C, 3, ""), damaged=(A, B)), set(), {A, B, C}, {}, 0),
        (found((C, 3, B)), set(), {A, B, C}, {B: C}, 1),
        (found((C, 1, "")), set(), {A, B, C}, {}, 0),
        # two sources may have given a number twice
        (found((A, 1, ""), (B, 1, ""), (D, 3, "")), set(), {A, B, C, D}, {}, 1),
    ],
)
def test_what_is_not_there(
    points: PointList, forgotten: set[str], runs: set[str], parents: dict[str, str], others: int
) -> None:
    assert absent_points(points, forgotten, runs) == (parents, others)


@pytest.mark.parametrize(
    ("points", "tagged", "whole", "expected"),
    [
        # no point at all: all of them, if anything else is left
        (found(), {A, B}, {f"{C}.0"}, {A, B}),
        (found(), {A, B}, set(), set()),
        # what others were built upon
        (found((B, 2, A)), {A, C}, {f"{B}.0"}, {A}),
        # runs whose archives are left although a later run cleaned up
        (found((C, 3, "")), {A, B}, {f"{A}.0", f"{C}.0"}, {A}),
        (found((A, 1, "")), {B}, {f"{B}.0", f"{C}.0"}, {B}),
        # the last one may have been cut off
        (found((A, 1, "")), {C}, {f"{A}.0", f"{C}.0"}, set()),
        (found((A, 1, "")), {"elsewhere"}, {f"{A}.0"}, set()),
    ],
)
def test_tags_of_points_that_may_have_been_stay(
    points: PointList, tagged: set[str], whole: set[str], expected: set[str]
) -> None:
    assert may_have_been(points, tagged, whole) == expected


@pytest.mark.damaged
def test_archives_are_unneeded_only_where_all_can_be_read(
    tmp_path: Path, repository: Repository, backup_of: Backup
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    points = []
    for name in "ab":
        (source / name).write_bytes(os.urandom(1000))
        points.append(the_point(backup_of(source)))
    only_first = PointList(points[:1], {})
    assert unneeded_archives(repository, PointList(points, {})) == []
    assert unneeded_archives(repository, only_first) == [points[1].state.archive]
    assert unneeded_archives(repository, PointList([], {"x": FormatDamaged("x")})) == []
    index = on_disk(repository.storage, f"archives/{points[0].state.archive}/index.1")
    with open(index, "r+b") as file:
        file.truncate(100)
    assert unneeded_archives(reopened(repository), only_first) == []
