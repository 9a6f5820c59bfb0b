"""What words mean which of a source's points: in a fixed order, and with a message each."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ibtfs.errors import IbtfsError, PointDamaged, PointNotFound, UsageError
from ibtfs.format.index import Reference
from ibtfs.format.point import Point, Source
from ibtfs.store.naming import (
    by_source,
    displayed_names,
    of_source,
    require_certain,
    require_sole,
    select_among,
    select_point,
)
from ibtfs.store.repository import Repository
from tests.support.repositories import back_up
from tests.support.trees import make_tree

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)
POINT = Point(
    id="", sequence=0, epoch=0, time_ns=0, utc_offset=0, source=Source("host", b"/x"),
    display="x", root=(b"", 0o40755, 0, 0, 4096, 1, 1, 1, 2), state=Reference("aaaaaaaa.0", 3),
    digest=bytes(32),
)  # fmt: skip


def made(sequence: int, point_id: str, moment: str) -> Point:
    """A point made at *moment*, UTC."""
    seconds = datetime.fromisoformat(f"{moment}+00:00").timestamp()
    return replace(POINT, sequence=sequence, id=point_id, time_ns=int(seconds) * 10**9)


POINTS = [
    made(1, "20261120T101500Z_host_aaaaaaaaaa", "2026-11-20 10:15:00"),
    replace(made(2, "20261120T101500Z_host_bbbbbbbbbb", "2026-11-20 10:15:00"), suffix="bbbbbb"),
    made(3, "20261121T080000Z_host_cc", "2026-11-21 08:00:00"),
    made(4, "20261122T080000Z_host_dd", "2026-11-22 08:00:00"),
]


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("20261120T101500Z_host_aaaaaaaaaa", 0),
        ("20261120T101500Z_host_bbbbbbbbbb", 1),
        ("2026-11-20_101500", 0),  # its name, and a moment that fits the second one, too
        ("2026-11-20_101500-bbbbbb", 1),
        ("2026-11-20_101500-bb", 1),
        ("20261121", 2),
        ("2026-11-21_", 2),
        ("2026-11-20", 1),  # the beginning of two names, and a moment
        ("2026-11-21", 2),
        ("latest", 3),
        ("latest~1", 2),
        ("latest~3", 0),
        ("3d", 1),
        ("yesterday", 3),
        ("2 days ago", 2),
    ],
)
def test_words_name_a_point(words: str, place: int) -> None:
    assert select_among(POINTS, words, NOW) is POINTS[place]
    names = displayed_names(POINTS, NOW.tzinfo)
    assert select_among(POINTS, words, NOW, names) is POINTS[place]


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ("20261120T1", UsageError, "'20261120T1' is the beginning of 2 points: "
         "2026-11-20_101500, 2026-11-20_101500-bbbbbb"),
        ("2026-11-20_101500-cccccc", PointNotFound, "No point '2026-11-20_101500-cccccc': give an "
         "id, a name as listed, 'latest', or a moment such as 'yesterday', '3d', '2026-11-20'"),
        ("latest~4", PointNotFound, "No point 'latest~4': the source has 4"),
        ("2026-11-19", PointNotFound, "No point at or before '2026-11-19'"),
        ("5d", PointNotFound, "No point at or before '5d'"),
        ("202", PointNotFound, "No point '202': give an id, a name as listed, 'latest', or a "
         "moment such as 'yesterday', '3d', '2026-11-20'"),
        ("", PointNotFound, "No point '': give an id, a name as listed, 'latest', or a "
         "moment such as 'yesterday', '3d', '2026-11-20'"),
    ],
)  # fmt: skip
def test_words_that_name_none_are_refused(words: str, kind: type[IbtfsError], message: str) -> None:
    with pytest.raises(kind) as caught:
        select_among(POINTS, words, NOW)
    assert str(caught.value) == message


def test_a_name_counts_before_the_beginning_of_others() -> None:
    names = {point.id: name for point, name in zip(POINTS, ("daily", "daily-2", "late", "x"))}
    assert select_among(POINTS, "daily", NOW, names) is POINTS[0]
    assert select_among(POINTS, "late", NOW, names) is POINTS[2]


def test_a_source_that_is_not_there_is_told_with_those_that_are() -> None:
    other = replace(POINTS[3], source=Source("host", b"/y"), display="y")
    assert of_source([*POINTS[:3], other], "y") == [other]
    with pytest.raises(PointNotFound, match=r"^No source 'z' in the repository; there are: x, y$"):
        of_source([*POINTS[:3], other], "z")
    with pytest.raises(PointNotFound, match=r"there are: none$"):
        of_source([], "z")


def test_two_sources_that_chose_one_name(tmp_path: Path, repository: Repository) -> None:
    make_tree(tmp_path / "a/docs", {"one": b"1"})
    make_tree(tmp_path / "b/docs", {"two": b"2"})
    first = back_up(repository, tmp_path / "a/docs").point
    second = back_up(repository, tmp_path / "b/docs").point
    assert first
    assert second
    points = [p if p.id == first.id else type(p)(**{**vars(p), "display": "docs"})
              for p in (first, second)]  # fmt: skip
    shown = by_source(points)
    assert [[p.id for p in mine] for mine in shown.values()] == [[first.id], [second.id]]
    assert len(set(shown)) == 2


def test_many_sources_that_chose_one_name_are_told_apart_in_a_few_tries_each() -> None:
    tries = 0

    class Counted(str):
        __slots__ = ()

        def __format__(self, spec: str) -> str:
            nonlocal tries
            tries += 1
            return super().__format__(spec)

    points = [
        replace(
            POINT, sequence=n, id=f"{n:08}", display=Counted("x"), source=Source("h", b"/%d" % n)
        )
        for n in range(500)
    ]
    shown = by_source(points)
    assert list(shown.values()) == [[point] for point in points]
    assert all(re.fullmatch("x-[0-9a-f]{6,}", name) for name in shown)
    assert tries <= 3 * len(points)


# ---- tags --------------------------------------------------------------------------------------


def tagged(tag: str) -> set[str]:
    """`good` and `latest` are tags of the first and the third point, `3d` of the first."""
    ids = [POINTS[0].id, POINTS[2].id]
    return {"good": set(ids), "latest": set(ids), "3d": set(ids[:1])}.get(tag, set())


def test_a_tag_means_the_newest_point_that_has_it_if_it_means_nothing_else() -> None:
    assert select_among(POINTS, "good", NOW, tagged=tagged) is POINTS[2]
    assert select_point(POINTS, "x/@good", NOW, tagged) is POINTS[2]
    assert select_among(POINTS, "latest", NOW, tagged=tagged) is POINTS[3]
    assert select_among(POINTS, "3d", NOW, tagged=tagged) is POINTS[1]
    with pytest.raises(PointNotFound):
        select_among(POINTS, "goods", NOW, tagged=tagged)


def test_a_tag_that_a_newer_damaged_point_has_is_not_certain() -> None:
    damaged = "20261125T080000Z_host_ee"
    require_certain(POINTS[2], "good", POINTS, [damaged], NOW, tagged)
    with pytest.raises(PointDamaged, match=f"{damaged} is damaged, and may be what 'good' means"):
        require_certain(POINTS[2], "good", POINTS, [damaged], NOW, lambda _: {damaged})
    older = "20261101T080000Z_host_ee"
    require_certain(POINTS[2], "good", POINTS, [older], NOW, lambda _: {older})


def test_a_tag_of_several_points_is_that_of_none_alone() -> None:
    with pytest.raises(UsageError, match=r"^'good' is the tag of 2 points: 2026-11-20"):
        require_sole(POINTS[2], "x/good", POINTS, tagged)
    for words in (POINTS[2].id, "latest", "3d", "2026-11-21"):
        require_sole(POINTS[2], words, POINTS, tagged)
    other = replace(POINTS[2], source=Source("host", b"/y"), display="y")
    require_sole(other, "y/good", [POINTS[0], other], tagged)
