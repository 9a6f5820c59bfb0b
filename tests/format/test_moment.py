"""What a moment means, around midnights, months and daylight saving; the names of points."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import UsageError
from ibtfs.format.moment import (
    age_before,
    check_template,
    format_local,
    formatted_name,
    is_moment,
    is_one_of_a_second,
    parse_moment,
    point_name,
)

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
SECOND = 1_000_000_000
NOW = datetime(2026, 11, 20, 10, 15, 30, 123456, tzinfo=BERLIN)  # a Friday, UTC+1

zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
    + ["America/Havana", "Africa/Cairo", "Atlantic/Azores", "Pacific/Apia", "Pacific/Chatham"]
).map(ZoneInfo)
times = st.integers(0, 4_000_000_000 * SECOND)


def ns(text: str) -> int:
    """UTC time, ISO format, as nanoseconds."""
    time = datetime.fromisoformat(text).replace(tzinfo=timezone.utc)
    return int(time.timestamp()) * SECOND


@pytest.fixture
def system_in_berlin() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("system_in_berlin")  # UTC is not what it takes for granted
@pytest.mark.parametrize(
    ("words", "next_start"),
    [
        ("2026-11-20", "2026-11-20 23:00"),
        ("2026-08-01", "2026-08-01 22:00"),
        ("2026-10-25", "2026-10-25 23:00"),
        ("2026-03-29", "2026-03-29 22:00"),
        ("2026-11-20Z", "2026-11-21 00:00"),
        ("2026-11-20+02:00", "2026-11-20 22:00"),
        ("2026-11-20-0530", "2026-11-21 05:30"),
        ("2026-11-20+00:59", "2026-11-20 23:01"),
        ("2026-11", "2026-11-30 23:00"),
        ("2026-12", "2026-12-31 23:00"),
        ("2024-02", "2024-02-29 23:00"),
        ("2026-11-20T10:15", "2026-11-20 09:16"),
        ("2026-11-20t10:15z", "2026-11-20 10:16"),
        ("2026-11-20 10:15", "2026-11-20 09:16"),
        ("2026-11-20  10:15:30", "2026-11-20 09:15:31"),
        ("2026-11-20 10:15:30Z", "2026-11-20 10:15:31"),
        ("2026-11-20T10:15:30+02:00", "2026-11-20 08:15:31"),
        ("2026-11-20_101502", "2026-11-20 09:15:03"),
        ("2026-11-20_101502-2", "2026-11-20 09:15:03"),
        ("2026-11-20_101502-12", "2026-11-20 09:15:03"),
        ("2026-11-20_101502-0500", "2026-11-20 15:15:03"),
        ("2026-10-25_023000+0200", "2026-10-25 00:30:01"),
        ("2026-10-25_023000+0100", "2026-10-25 01:30:01"),
        ("2026-10-25_023000+0100-2", "2026-10-25 01:30:01"),
        ("2026-10-25_023000", "2026-10-25 01:30:01"),
        ("2026-10-25 02:30", "2026-10-25 01:31"),
        ("today", "2026-11-20 23:00"),
        ("Yesterday", "2026-11-19 23:00"),
        (" yesterday ", "2026-11-19 23:00"),
        ("last-monday", "2026-11-16 23:00"),
        ("last thursday", "2026-11-19 23:00"),
        ("last Friday", "2026-11-13 23:00"),
        ("last-saturday", "2026-11-14 23:00"),
        ("GMT-2026.08.01-10.00.00", "2026-08-01 10:00:01"),
    ],
)
def test_ends(words: str, next_start: str) -> None:
    assert parse_moment(words, NOW) == ns(next_start) - 1


@pytest.mark.parametrize(
    ("words", "then"),
    [
        ("now", "2026-11-20 09:15:30"),
        ("90s", "2026-11-20 09:14:00"),
        ("1 second ago", "2026-11-20 09:15:29"),
        ("15min", "2026-11-20 09:00:30"),
        ("2h", "2026-11-20 07:15:30"),
        ("26 hours ago", "2026-11-19 07:15:30"),
        ("0d", "2026-11-20 09:15:30"),
        ("3d", "2026-11-17 09:15:30"),
        ("3 days ago", "2026-11-17 09:15:30"),
        ("3 days", "2026-11-17 09:15:30"),
        ("1 DAY AGO", "2026-11-19 09:15:30"),
        ("2w", "2026-11-06 09:15:30"),
        ("30d", "2026-10-21 08:15:30"),
        ("1mo", "2026-10-20 08:15:30"),
        ("6 months ago", "2026-05-20 08:15:30"),
        ("11mo", "2025-12-20 09:15:30"),
        ("1y", "2025-11-20 09:15:30"),
    ],
)
def test_ages_keep_the_time_of_day(words: str, then: str) -> None:
    assert parse_moment(words, NOW) == ns(then) + 123_456_999


def test_months_without_such_a_day() -> None:
    leap = datetime(2024, 2, 29, 12, tzinfo=timezone.utc)
    assert parse_moment("1y", leap) == ns("2023-02-28 12:00") + 999
    assert parse_moment("4y", leap) == ns("2020-02-29 12:00") + 999
    march = datetime(2026, 3, 31, 12, tzinfo=timezone.utc)
    assert parse_moment("1mo", march) == ns("2026-02-28 12:00") + 999
    assert parse_moment("4mo", march) == ns("2025-11-30 12:00") + 999


def test_small_ages_are_by_the_clock_across_daylight_saving() -> None:
    after = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1)
    assert parse_moment("now", after) == ns("2026-10-25 01:30") + 999
    assert parse_moment("1h", after) == ns("2026-10-25 00:30") + 999
    assert parse_moment("0d", after) == ns("2026-10-25 01:30") + 999
    assert parse_moment("1d", after) == ns("2026-10-24 00:30") + 999


@pytest.mark.parametrize(
    ("zone", "words", "next_start"),
    [
        ("America/Havana", "2026-10-31", "2026-11-01 04:00"),  # midnight comes twice
        ("America/Havana", "2026-03-07", "2026-03-08 05:00"),  # midnight is skipped
        ("Africa/Cairo", "2026-04-23", "2026-04-23 22:00"),
        ("Atlantic/Azores", "2026-10-24", "2026-10-25 00:00"),
        ("Pacific/Apia", "2011-12-29", "2011-12-30 10:00"),  # the 30th is skipped
    ],
)
def test_midnights_of_daylight_saving(zone: str, words: str, next_start: str) -> None:
    assert parse_moment(words, NOW.astimezone(ZoneInfo(zone))) == ns(next_start) - 1


@pytest.mark.parametrize(
    "words",
    ["", "2026", "20261120", "2026-1-2", "2026-13", "2026-02-30", "2026-11-20T24:00"]
    + ["2026-11-20T10", "2026-11-20_1015", "2026-11-20_101561", "2026-11-2000", "2026-11Z"]
    + ["2026-11-20+25:00", "2026-11-20+01:60", "2026-11-20_101502-10000", "tomorrow"]
    + ["m", "d", "3", "-3d", "3x", "3.5d", "3 d ays", "9999999999d", "999999999d", "9999y"]
    + ["last", "last-week", "last-mon day", "latest", "documents", "GMT-2026.08.01", "@3d"]
    + ["\u0663d", "2026-11-20\n2", "0000-01-01", "9999-12-31", "3d\udcff"],
)
def test_no_moment(words: str) -> None:
    assert not is_moment(words)
    with pytest.raises(UsageError):
        parse_moment(words, NOW)


def test_messages_help() -> None:
    with pytest.raises(UsageError, match="'last' goes with a day of the week"):
        parse_moment("last-week", NOW)
    with pytest.raises(UsageError, match="15min or 15mo"):
        parse_moment("15m", NOW)
    with pytest.raises(UsageError, match=r"'whenever' is no moment; write 2026-11-20, .*3d"):
        parse_moment("whenever", NOW)
    with pytest.raises(UsageError, match=r"2026-02-30.*calendar"):
        parse_moment("2026-02-30", NOW)


def test_is_moment() -> None:
    assert is_moment("3d")
    assert is_moment("2026-11-20_101502")
    assert is_moment("last-monday")


@pytest.mark.usefixtures("system_in_berlin")
def test_the_zone_of_the_system() -> None:
    naive = NOW.replace(tzinfo=None)
    for words in ("now", "3d", "30d", "2026-08-01", "2026-10-25 02:30", "yesterday", "2026-11"):
        assert parse_moment(words, naive) == parse_moment(words, NOW)
    for at in (ns("2026-10-25 00:30"), ns("2026-10-25 01:30"), ns("2026-08-01 10:00")):
        assert point_name(at, None) == point_name(at, BERLIN)
        assert format_local(at, None) == format_local(at, BERLIN)


@pytest.mark.parametrize(
    ("time", "name"),
    [
        ("2026-11-20 09:15:02", "2026-11-20_101502"),
        ("2026-08-01 09:15:02", "2026-08-01_111502"),
        ("2026-10-24 23:59:59", "2026-10-25_015959"),
        ("2026-10-25 00:00:00", "2026-10-25_020000+0200"),
        ("2026-10-25 00:30:00", "2026-10-25_023000+0200"),
        ("2026-10-25 01:30:00", "2026-10-25_023000+0100"),
        ("2026-10-25 02:00:00", "2026-10-25_030000"),
        ("2026-03-29 01:00:00", "2026-03-29_030000"),
    ],
)
def test_names(time: str, name: str) -> None:
    assert point_name(ns(time) + 999_999_999, BERLIN) == name


def test_a_name_with_digits_of_an_id_is_that_of_one_point() -> None:
    for name in (
        "2026-11-20_101502-3fa9c0",
        "2026-10-25_023000+0200-123456",
        "2026-11-20_101502-2",
    ):
        assert is_one_of_a_second(name)
        assert is_moment(name)
    for name in ("2026-11-20_101502", "2026-11-20_101502-0500", "2026-10-25_023000+0200", "3d"):
        assert not is_one_of_a_second(name)


def test_format_local() -> None:
    assert format_local(ns("2026-11-20 09:15:02") + 7, BERLIN) == "2026-11-20 10:15:02"
    assert format_local(ns("2026-11-20 09:15:00"), timezone.utc) == "2026-11-20 09:15:00"


@given(st.lists(times, min_size=1, max_size=5), zones)
def test_a_name_given_back_means_its_own_second(times_ns: list[int], zone: ZoneInfo) -> None:
    for time_ns in times_ns:
        plain = point_name(time_ns, zone)
        for name in (plain, f"{plain}-3fa9c0"):
            assert ":" not in name
            end = parse_moment(name, datetime.now(zone))
            assert end == time_ns // SECOND * SECOND + SECOND - 1


@given(times, zones)
def test_near_changes_of_the_clock(time_ns: int, zone: ZoneInfo) -> None:
    local = datetime.fromtimestamp(time_ns // SECOND, zone)
    end = parse_moment(local.date().isoformat(), datetime.now(zone))
    last = datetime.fromtimestamp(end // SECOND, zone)
    following = datetime.fromtimestamp(end // SECOND + 1, zone)
    assert time_ns <= end
    assert last.date() == local.date()
    assert following.date() > local.date()


@given(st.integers(0, 24 * 60), st.sampled_from(["2026-10-25", "2026-11-01", "2026-03-29"]), zones)
def test_names_through_a_night_of_change(minute: int, date: str, zone: ZoneInfo) -> None:
    at = ns(date) + minute * 60 * SECOND
    assert parse_moment(point_name(at, zone), datetime.now(zone)) == at + SECOND - 1


@given(st.text(max_size=30))
def test_any_words_are_a_moment_or_refused(words: str) -> None:
    assert is_moment(words) in (True, False)


def test_ages_never_lie_ahead() -> None:
    for hours in range(24 * 366):
        now = NOW + timedelta(hours=hours)
        assert parse_moment("1h", now) < parse_moment("now", now)


def test_where_a_template_makes_no_name_the_usual_one_is_taken() -> None:
    usual = "1970-01-01_000000"
    for template in ("", ".%Y", "@%Y", "latest", "%Y/%m", "x" * 201):
        assert formatted_name(0, timezone.utc, template) == usual
    assert formatted_name(0, None, "%Z") == point_name(0, None)  # a naive time has no zone's name
    assert formatted_name(0, timezone.utc, "%Z") == "UTC"


@pytest.mark.parametrize("template", ["x" * 200, "%d", "p%Y", "é" * 100, "@GMT-%Y.%m.%d-%H.%M.%S",
                                      "a.b", "latest%Y"])  # fmt: skip
def test_templates_that_make_names(template: str) -> None:
    check_template(template)
    expected = datetime(2026, 11, 20, 9, 15, 2).strftime(template)
    assert formatted_name(ns("2026-11-20 09:15:02") + 7, timezone.utc, template) == expected


@pytest.mark.parametrize(
    "template",
    ["", "x" * 201, "é" * 101, "latest", ".x", "@x", "a/b", "a\nb", "a\tb", "%H:%M\x7f",
     "@GMT-%Y", "/", "\u2028"],
)  # fmt: skip
def test_templates_that_make_none_are_refused(template: str) -> None:
    with pytest.raises(UsageError, match="would make"):
        check_template(template)
    assert formatted_name(0, timezone.utc, template) == "1970-01-01_000000"


def test_a_template_has_to_be_text() -> None:
    with pytest.raises(UsageError, match="is no format"):
        check_template("x\udcff")


@pytest.mark.parametrize(
    ("words", "then"),
    [
        ("90s", "2026-11-20 09:14:00"), ("90min", "2026-11-20 07:45:30"),
        ("12h", "2026-11-19 21:15:30"), ("3 DAYS", "2026-11-17 09:15:30"),
        ("2w", "2026-11-06 09:15:30"), (" 6mo", "2026-05-20 08:15:30"),
        ("1y", "2025-11-20 09:15:30"),
    ],
)  # fmt: skip
def test_ages_are_before_now_to_the_second(words: str, then: str) -> None:
    assert age_before(words, NOW) == ns(then)


@pytest.mark.parametrize(
    "words", ["3 days ago", "today", "2026-11-20", "3", "d", "", "last-monday"]
)
def test_what_is_no_age_is_refused(words: str) -> None:
    with pytest.raises(UsageError, match="no length of time"):
        age_before(words, NOW)


def test_months_go_over_the_ends_of_years() -> None:
    for month in range(1, 13):
        now = datetime(2026, month, 15, 12, tzinfo=timezone.utc)
        for count in range(40):
            years, before = divmod(month - 1 - count, 12)
            then = f"{2026 + years}-{before + 1:02}-15 12:00"
            assert parse_moment(f"{count}mo", now) == ns(then) + 999


def test_every_unit_has_its_words() -> None:
    units = {
        "s sec secs second seconds": 1, "min mins minute minutes": 60, "h hour hours": 3600,
        "d day days": 86400, "w week weeks": 7 * 86400,
    }  # fmt: skip
    now = datetime(2026, 7, 20, 12, tzinfo=timezone.utc)
    for words, seconds in units.items():
        for word in words.split():
            assert age_before(f"2 {word}", now) == ns("2026-07-20 12:00") - 2 * seconds * SECOND
    for word in ("mo", "month", "months"):
        assert age_before(f"2{word}", now) == ns("2026-05-20 12:00")
    for word in ("y", "year", "years"):
        assert age_before(f"2{word}", now) == ns("2024-07-20 12:00")
