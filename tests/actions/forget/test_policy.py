"""Rules: which points stay by them, and why; against a plain model, and by cases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.actions.forget.choice import Choice, grouped
from ibtfs.actions.forget.policy import AHEAD_NS, Policy, judge
from ibtfs.errors import PointNotFound, UsageError
from ibtfs.format.index import Reference
from ibtfs.format.point import Point, Source

SECOND = 10**9
NOW = 1_795_169_702 * SECOND
POINT = Point(
    id="", sequence=0, epoch=0, time_ns=0, utc_offset=0, source=Source("host", b"/x"),
    display="x", root=(b"", 0o40755, 0, 0, 4096, 1, 1, 1, 2), state=Reference("aaaaaaaa.0", 3),
    digest=bytes(32),
)  # fmt: skip
RULES = {"last": "", "hourly": "%Y%m%d%H", "daily": "%Y%m%d", "weekly": "%G%V", "monthly": "%Y%m",
         "yearly": "%Y"}  # fmt: skip


def history(*times: str | int, offset: int = 0) -> list[Point]:
    """Points in this order: made at local times, or seconds."""
    points = []
    for number, when in enumerate(times, 1):
        if isinstance(when, str):
            seconds = int(datetime.fromisoformat(f"{when}+00:00").timestamp()) - offset
        else:
            seconds = when
        points.append(
            replace(
                POINT,
                id=f"point-{number:05}",
                sequence=number,
                time_ns=seconds * SECOND,
                utc_offset=offset,
            )
        )
    return points


def reasons(
    points: Sequence[Point], policy: Policy, now_ns: int = NOW, **tags: list[str]
) -> list[str]:
    """Why each point stays; empty: it goes."""
    mine = {point.id: tags.get(f"p{point.sequence}", []) for point in points}
    return [", ".join(one.reasons) for one in judge(points, mine, policy, now_ns)]


counts = st.integers(0, 4)
policies = st.builds(Policy, counts, counts, counts, counts, counts, counts)
seconds = st.one_of(
    st.integers(NOW // SECOND - 40 * 86_400, NOW // SECOND),
    st.integers(NOW // SECOND - 10 * 365 * 86_400, NOW // SECOND + 10 * 365 * 86_400),
    st.integers(-(10**9), 10**9),
)
offsets = st.sampled_from([0, 3600, -34_200, 50_400, 86_400, -86_400])


def expected_by_counting(points: Sequence[Point], policy: Policy) -> set[int]:
    """Who stays, told from each point: how many places were taken by newer ones."""
    dated = [p for p in points if p.time_ns <= NOW + AHEAD_NS]
    stay = {p.sequence for p in points} - {p.sequence for p in dated}
    for rule, form in RULES.items():

        def place(point: Point, form: str = form) -> str:
            offset = max(min(point.utc_offset, 86_399), -86_399)
            local = time.gmtime(point.time_ns // SECOND + offset)
            return time.strftime(form, local) if form else str(point.sequence)

        for point in dated:
            newer = {place(p) for p in dated if p.sequence > point.sequence}
            is_oldest = point is dated[0]
            if len(newer) < getattr(policy, rule) and (place(point) not in newer or is_oldest):
                stay.add(point.sequence)
    return stay


@given(st.lists(st.tuples(seconds, offsets), max_size=25), policies)
def test_who_stays_is_who_a_plain_model_lets_stay(
    times: list[tuple[int, int]], policy: Policy
) -> None:
    points = [
        replace(point, utc_offset=offset)
        for point, (_, offset) in zip(history(*(when for when, _ in times)), times)
    ]
    judged = judge(list(reversed(points)), {}, policy, NOW)
    assert [one.point for one in judged] == points
    stay = {one.point.sequence for one in judged if one.reasons}
    assert stay == expected_by_counting(points, policy)
    if points and not policy.keeps_nothing:
        assert stay


@given(st.lists(st.integers(NOW // SECOND - 90 * 86_400, NOW // SECOND), max_size=25), policies)
def test_what_has_gone_changes_nothing_for_the_rest(times: list[int], policy: Policy) -> None:
    points = history(*sorted(times))
    kept = [one.point for one in judge(points, {}, policy, NOW) if one.reasons]
    assert [one.point for one in judge(kept, {}, policy, NOW) if one.reasons] == kept


def test_the_last_of_each_day_stays_newest_days_first() -> None:
    points = history("2026-11-01 10:00", "2026-11-17 10:00", "2026-11-18 09:00", "2026-11-18 23:59",
                     "2026-11-19 00:00", "2026-11-20 10:00", "2026-11-20 11:00")  # fmt: skip
    assert reasons(points, Policy(daily=3)) == ["", "", "", "daily", "daily", "", "daily"]
    assert reasons(points, Policy(last=2, daily=1)) == ["", "", "", "", "", "last", "last, daily"]
    assert reasons(points, Policy(monthly=3, last=1)) == [
        "oldest monthly", "", "", "", "", "", "last, monthly"
    ]  # fmt: skip


def test_a_day_is_that_of_the_wall_where_the_point_was_made() -> None:
    east = history("2026-11-19 23:30", "2026-11-20 00:30", offset=50_400)
    assert reasons(east, Policy(daily=2)) == ["daily", "daily"]
    assert reasons([replace(p, utc_offset=0) for p in east], Policy(daily=1)) == ["", "daily"]


def test_a_week_begins_on_monday_and_belongs_to_a_year_of_weeks() -> None:
    points = history("2025-12-28 12:00", "2025-12-29 12:00", "2026-01-04 12:00", "2026-01-05 12:00")
    assert reasons(points, Policy(weekly=3)) == ["weekly", "", "weekly", "weekly"]


def test_within_goes_back_from_the_newest_that_is_not_in_the_future() -> None:
    points = history("2026-10-01 10:00", "2026-11-01 10:00", "2026-11-03 09:59", "2026-11-03 10:00",
                     "2026-11-10 10:00")  # fmt: skip
    assert reasons(points, Policy(within="7d")) == ["", "", "", "within 7d", "within 7d"]
    ahead = [*points, *history("2090-01-01 00:00")]
    ahead[-1] = replace(ahead[-1], sequence=6, id="point-00006")
    assert reasons(ahead, Policy(within="7d")) == [
        "", "", "", "within 7d", "within 7d", "dated in the future"
    ]  # fmt: skip


def test_points_of_a_clock_that_jumped_take_nobodys_place() -> None:
    points = history("2026-11-17 10:00", "2026-11-18 10:00", "2090-01-01 00:00", "2090-01-02 00:00",
                     "1970-01-01 00:10", "2026-11-19 10:00", "2026-11-20 10:00")  # fmt: skip
    assert reasons(points, Policy(daily=3)) == [
        "", "", "dated in the future", "dated in the future", "daily", "daily", "daily"
    ]  # fmt: skip
    assert reasons(points, Policy(last=1))[-1] == "last"


def test_a_clock_without_a_battery_lets_everything_stay() -> None:
    points = history("2026-11-17 10:00", "2026-11-18 10:00", "2026-11-19 10:00")
    assert set(reasons(points, Policy(last=1), now_ns=0)) == {"dated in the future"}


def test_a_clock_a_little_ahead_is_no_future() -> None:
    points = history(NOW // SECOND - 86_400, NOW // SECOND + 3600)
    assert reasons(points, Policy(last=1)) == ["", "last"]


def test_a_day_that_comes_again_has_one_place() -> None:
    points = history("2026-11-18 10:00", "2026-11-19 10:00", "2026-11-18 11:00", "2026-11-19 11:00")
    assert reasons(points, Policy(daily=2)) == ["", "", "daily", "daily"]


def test_tags_keep_whom_they_mark() -> None:
    points = history(1, 2, 3)
    policy = Policy(last=1, tags=frozenset({"a", "b"}))
    assert reasons(points, policy, p1=["b", "a"], p2=["c"], p3=["a"]) == [
        "tag a, tag b", "", "last, tag a"
    ]  # fmt: skip


def test_what_keeps_nothing() -> None:
    assert Policy().keeps_nothing
    for kept in ({"last": 1}, {"yearly": 1}, {"within": "3d"}, {"tags": frozenset({"a"})}):
        assert not Policy(**kept).keeps_nothing  # type: ignore[arg-type]
    for wrong in ("yesterday", "3", "3 days ago", "2026-11-20", "3m", ""):
        with pytest.raises(UsageError):
            judge(history(1), {}, Policy(within=wrong or "x"), NOW)


# ---- which points, in which groups -------------------------------------------------------------

SOURCES = [
    replace(POINT, id=f"point-{n:05}", sequence=n, source=Source(host, path, name), display=shown)
    for n, (host, path, name, shown) in enumerate(
        [("a", b"/x", "", "x"), ("b", b"/x", "", "x@b"), ("a", b"/y", "same", "same"),
         ("a", b"/z", "same", "same")], 1
    )
]  # fmt: skip
TAGS = {"point-00001": ["one"], "point-00002": ["two", "one"], "point-00003": []}


@pytest.mark.parametrize(
    ("words", "groups"),
    [
        (("source",), [[3, 4], [1], [2]]),
        (("host",), [[1, 3, 4], [2]]),
        (("path",), [[1, 2], [3], [4]]),
        (("name",), [[1, 2], [3, 4]]),
        (("tags",), [[3, 4], [1], [2]]),
        (("host", "path"), [[1], [3], [4], [2]]),
        ((), [[1, 2, 3, 4]]),
    ],
)
def test_groups(words: tuple[str, ...], groups: list[list[int]]) -> None:
    found = grouped(SOURCES, TAGS, words)
    assert [[point.sequence for point in mine] for mine in found.values()] == groups


def test_what_is_nothing_to_group_by() -> None:
    with pytest.raises(UsageError, match=r"^'paths' is nothing to group by; there are: source, "):
        grouped(SOURCES, TAGS, ("host", "paths"))


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [
        (Choice(), [1, 2, 3, 4]),
        (Choice(hosts=["b", "c"]), [2]),
        (Choice(sources=["x", "same"]), [1, 3, 4]),
        (Choice(tags=["one", "none"]), [1, 2]),
        (Choice(hosts=["a"], tags=["one"]), [1]),
    ],
)
def test_whom_a_choice_means(choice: Choice, numbers: list[int]) -> None:
    assert [point.sequence for point in choice.of(SOURCES, TAGS)] == numbers


def test_a_source_that_is_not_there_is_told() -> None:
    with pytest.raises(PointNotFound, match=r"No source 'y' in the repository"):
        Choice(sources=["y"]).of(SOURCES, TAGS)
