"""What words mean which of a source's points: in a fixed order, and with a message each."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ibtfs.errors import (
    AmbiguousSource,
    EntryNotFound,
    FormatDamaged,
    IbtfsError,
    PointDamaged,
    PointNotFound,
    UsageError,
)
from ibtfs.format.index import Reference
from ibtfs.format.point import Point, Source, id_digits
from ibtfs.store.naming import (
    at_moment,
    by_source,
    displayed_names,
    is_tag,
    of_source,
    relative_path,
    require_certain,
    require_sole,
    select_among,
    select_point,
    told_apart,
)
from ibtfs.store.repository import Repository
from tests.support.repositories import back_up
from tests.support.trees import make_tree

ERROR = FormatDamaged("x")
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
    require_certain(POINTS[2], "good", POINTS, {damaged: ERROR}, NOW, tagged)
    with pytest.raises(PointDamaged, match=f"{damaged} is damaged, and may be what 'good' means"):
        require_certain(POINTS[2], "good", POINTS, {damaged: ERROR}, NOW, lambda _: {damaged})
    older = "20261101T080000Z_host_ee"
    require_certain(POINTS[2], "good", POINTS, {older: ERROR}, NOW, lambda _: {older})


def test_a_tag_of_several_points_is_that_of_none_alone() -> None:
    with pytest.raises(UsageError, match=r"^'good' is the tag of 2 points: 2026-11-20"):
        require_sole(POINTS[2], "x/good", POINTS, tagged)
    for words in (POINTS[2].id, "latest", "3d", "2026-11-21"):
        require_sole(POINTS[2], words, POINTS, tagged)
    other = replace(POINTS[2], source=Source("host", b"/y"), display="y")
    require_sole(other, "y/good", [POINTS[0], other], tagged)


# ---- paths, and what several words may mean ----------------------------------------------------


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", b""), (b".", b""), (b"a/b", b"a/b"), (b"./a//b/", b"a/b"), (b"a/./b", b"a/b"),
        (b"/x/y", b""), (b"/x/y/", b""), (b"//x/y", b""), (b"/x/./y/a", b"a"),
        (b"/x/y/a/b/", b"a/b"),
        (b"/x/z/../y/a", b"a"), (b"...", b"..."), (b"a/..b", b"a/..b"),
    ],
)  # fmt: skip
def test_paths_are_within_the_source_or_as_they_were(path: bytes, expected: bytes) -> None:
    point = replace(POINT, source=Source("host", b"/x/y"))
    assert relative_path(point, path) == expected
    root = replace(POINT, source=Source("host", b"/"))
    assert relative_path(root, b"/x/./y/a") == b"x/y/a"
    assert relative_path(root, b"/") == b""
    single = replace(point, single=True)
    assert relative_path(single, b"/x/y") == b"y"
    assert relative_path(single, b"/x") == b""


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        (b"/x", EntryNotFound, "'/x' is not inside the source '/x/y'"),
        (b"/x/yy", EntryNotFound, "'/x/yy' is not inside"),
        (b"/x/y/..", EntryNotFound, "is not inside"), (b"/", EntryNotFound, "is not inside"),
        (b"..", UsageError, "'..' has no meaning"), (b"a/../b", UsageError, "has no meaning"),
    ],
)  # fmt: skip
def test_other_paths_are_refused(path: bytes, kind: type[IbtfsError], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        relative_path(replace(POINT, source=Source("host", b"/x/y")), path)


def test_one_of_several_sources_has_to_be_said() -> None:
    other = replace(POINTS[3], source=Source("host", b"/y"), display="y")
    both = [*POINTS[:3], other]
    assert select_point(both, "y/latest", NOW) is other
    assert select_point(both, POINTS[0].id, NOW) is POINTS[0]
    assert select_point(both, f"@{other.id}", NOW) is other
    with pytest.raises(AmbiguousSource, match=r"say which one: x/latest, y/latest$"):
        select_point(both, "latest", NOW)
    with pytest.raises(PointNotFound, match="no backup points yet"):
        select_point([], "latest", NOW)
    assert select_point(POINTS, "@latest~1", NOW) is POINTS[2]


def test_the_newest_at_a_moment_goes_by_time_then_order() -> None:
    late = replace(POINTS[0], sequence=9, time_ns=POINTS[2].time_ns)
    points = [*POINTS[1:], late]
    assert at_moment(points, POINTS[2].time_ns, "then") is late
    assert at_moment(points, POINTS[2].time_ns - 1, "then") is POINTS[1]
    with pytest.raises(PointNotFound, match="No point at or before 'then'"):
        at_moment(points, POINTS[1].time_ns - 1, "then")


def test_only_what_is_neither_place_nor_moment_is_a_tag() -> None:
    assert is_tag("good")
    assert is_tag("x/@good")
    assert is_tag("latest~1234567")
    for words in ("latest", "latest~2", "x/latest~123456", "@3d", "2026-11-20", "yesterday"):
        assert not is_tag(words)


@pytest.mark.parametrize(
    ("words", "damaged", "told"),
    [
        ("latest", "20261123T080000Z_host_ee", True), ("latest", "20261120T080000Z_host_ee", False),
        ("latest", "20261122T080000Z_host_ee", True), ("latest", "no time", True),
        ("3d", "20261120T115959Z_host_ee", False), ("yesterday", "20261122T090000Z_host_ee", True),
        ("yesterday", "20261123T000000Z_host_ee", False),
        ("yesterday", "20261122T235959Z_host_ee", True), ("20261122T", "no time", False),
        ("2026-11-22_080000", "no time", False),
    ],
)  # fmt: skip
def test_words_that_a_damaged_point_may_be_meant_by(words: str, damaged: str, told: bool) -> None:
    def ask() -> None:
        require_certain(POINTS[3], f"x/@{words}", POINTS, {damaged: ERROR}, NOW, tagged)

    if told:
        with pytest.raises(PointDamaged, match=f"{damaged} is damaged, and may be what"):
            ask()
    else:
        ask()


def test_a_new_point_has_digits_if_there_is_one_of_its_second() -> None:
    point = replace(POINTS[1], suffix="", id="20261120T101500Z_host_bbbbbbbbbb")
    assert told_apart(point, [], []).suffix == ""
    assert told_apart(point, POINTS[2:], ["20261120T101501Z_host_aaaaaaaaaa"]).suffix == ""
    for others, damaged in ((POINTS[:1], []), ([], ["20261120T101500Z_host_aaaaaaaaaa"])):
        assert told_apart(point, others, damaged).suffix == "bbbbbb"
    named = replace(point, parent="20261120T101500Z_host_aaaaaaaaaa")
    assert told_apart(named, [], []).suffix == "bbbbbb"
    close = replace(POINTS[0], id="20261120T101500Z_host_bbbbbbbb00")
    assert told_apart(point, [close], []).suffix == "bbbbbbbbb"
    same = replace(POINTS[0], id="20261120T101500Z_other_bbbbbbbbbb")
    assert told_apart(point, [same], []).suffix == "bbbbbbbbbb"
    elsewhere = replace(POINTS[0], source=Source("host", b"/y"))
    made_there = told_apart(point, [elsewhere], [])
    assert (made_there.suffix, made_there.display) == ("", "x-bbbbbb")
    assert told_apart(point, [replace(elsewhere, display="y")], []).display == "x"
    assert told_apart(point, [elsewhere, POINTS[2]], []).display == "x"


def test_names_by_a_template_are_given_once() -> None:
    names = displayed_names(POINTS, NOW.tzinfo, "%Y-%m")
    assert list(names.values()) == ["2026-11", "2026-11-bbbbbb", *(
        f"2026-11-{id_digits(point.id)[:6]}" for point in POINTS[2:]
    )]  # fmt: skip
    same = [replace(POINTS[n], id=f"20261120T101500Z_h{n}_aaaaaaaaaa", suffix="") for n in range(4)]
    names = displayed_names(same, NOW.tzinfo, "x")
    assert len(set(names.values())) == 4
    assert list(names.values())[:3] == ["x", "x-aaaaaa", "x-aaaaaaaaaa"]
