"""What a moment means, and how a point's time is shown.

A moment is what a person writes for "the newest point at or before": ``2026-11-20``, ``3d``,
``yesterday``, ``last monday``.  It is resolved to the last nanosecond of what the words name, so
that a date includes its whole day and a point's displayed name includes its own second.  The
clock is passed in; dates are reckoned in its zone, by the calendar, so a day that daylight saving
makes longer or shorter ends when the calendar says.

Times are nanoseconds since 1970, UTC.  A *zone* of None is the system's (and a naive *now* is in
it); one with a fixed offset, such as ``datetime.now().astimezone()`` has, knows no daylight
saving: pass the naive time or a ``zoneinfo`` zone.  Pure functions, safe from any thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo

from ibtfs.errors import UsageError

FORMS = (
    "2026-11-20, 2026-11, '2026-11-20 10:15[:30]', 2026-11-20T10:15[:30], 2026-11-20_101530 "
    "(all but the month also with Z or +02:00), now, today, yesterday, last-monday, "
    "or an age: 90s, 15min, 2h, 3d, '3 days ago', 2w, 6mo, 1y"
)
"""The accepted forms, for messages and help."""

LATEST = "latest"
"""What the newest point of a source is called besides its own name."""

SAMBA_TEMPLATE = "@GMT-%Y.%m.%d-%H.%M.%S"
"""What Samba calls a point if it is not told otherwise; in UTC."""

_SECOND_NS = 1_000_000_000
_SAMPLES_NS = (0, 1_795_169_702 * _SECOND_NS)  # a midnight, and no midnight
_LONGEST_NAME = 200  # room is left for what tells equal names apart
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAYS_AGO = {"today": 0, "yesterday": 1}
_UNIT_OF = {
    word: unit
    for unit, words in {
        "second": "s sec secs second seconds",
        "minute": "min mins minute minutes",
        "hour": "h hour hours",
        "day": "d day days",
        "week": "w week weeks",
        "month": "mo month months",
        "year": "y year years",
    }.items()
    for word in words.split()
}
_SECONDS = {"second": 1, "minute": 60, "hour": 3600}
_DAYS = {"day": 1, "week": 7}
_MONTHS = {"month": 1, "year": 12}

_DATE = r"(\d{4})-(\d\d)-(\d\d)"
_ZONE = r"(z|[+-]\d\d:?\d\d)?"
_SUFFIX = r"(-(?:[1-9]\d{0,2}|[0-9a-f]{6,40}))?"  # of a point among those of one second
_MONTH_FORM = r"(\d{4})-(\d\d)"
_DAY_FORM = _DATE + _ZONE
_CLOCK_FORM = _DATE + r"[t ](\d\d):(\d\d)(?::(\d\d))?" + _ZONE
_POINT_FORM = _DATE + r"_(\d\d)(\d\d)(\d\d)" + _ZONE + _SUFFIX
_SAMBA_FORM = r"gmt-(\d{4})\.(\d\d)\.(\d\d)-(\d\d)\.(\d\d)\.(\d\d)"
_SAMBA_NAME = re.compile("@" + _SAMBA_FORM.replace("gmt", "GMT") + r"(-[0-9a-f]+)?\Z", re.ASCII)
_AGE_FORM = r"(\d{1,9}) ?([a-z]+)(?: ago)?"
_LAST_FORM = r"last[- ]([a-z]+)"


def parse_moment(words: str, now: datetime) -> int:
    """Return the last nanosecond of what *words* name, seen from *now*.

    Days, weeks, months and years of an age go back by the calendar (the same time of day), smaller
    units by the clock.  A time that daylight saving makes ambiguous means the later one.
    Raises UsageError, which says the accepted forms, if *words* are no moment.
    """
    text = " ".join(words.lower().split())
    try:
        for form, meaning in _FORMS:
            match = re.fullmatch(form, text, re.ASCII)
            if match:
                return meaning(match, now)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{words!r} is on no calendar or clock: {error}") from error
    raise UsageError(f"{words!r} is no moment; write {FORMS}")


def is_moment(words: str) -> bool:
    """Return whether ``parse_moment`` understands *words*."""
    try:
        parse_moment(words, _EPOCH.replace(year=3000))
    except UsageError:
        return False
    return True


def age_before(words: str, now: datetime) -> int:
    """Return when it was *words* before *now*, in ns; they are an age: ``3d``, ``2w``, ``6mo``.

    Raises UsageError if they are none.
    """
    text = " ".join(words.lower().split())
    if re.fullmatch(_AGE_FORM, text, re.ASCII) is None or text.endswith("ago"):
        raise UsageError(f"{words!r} is no length of time; write 90min, 12h, 3d, 2w, 6mo or 1y")
    return parse_moment(text, now) // _SECOND_NS * _SECOND_NS


def is_one_of_a_second(words: str) -> bool:
    """Return whether *words* have the form of one point's name among those of one second."""
    match = re.fullmatch(_POINT_FORM, words.lower(), re.ASCII)
    return match is not None and match[8] is not None


def point_name(time_ns: int, zone: tzinfo | None) -> str:
    """Return the displayed name of a point made at *time_ns*: ``2026-11-20_101502``.

    A local time made ambiguous by daylight saving has its UTC offset appended, both times.
    Raises ValueError or OverflowError for a time beyond the year 9999.
    """
    local = datetime.fromtimestamp(time_ns // _SECOND_NS, zone)
    name = (
        f"{local.year:04}-{local.month:02}-{local.day:02}"
        f"_{local.hour:02}{local.minute:02}{local.second:02}"
    )
    if local.timestamp() != local.replace(fold=1 - local.fold).timestamp():
        name += f"{local.astimezone(zone):%z}"
    return name


def check_template(template: str) -> None:
    """Raise UsageError unless *template* makes names that a point can be shown under."""
    for time_ns in _SAMPLES_NS:
        try:
            name = _formatted(time_ns, timezone.utc, template)
        except (ValueError, UnicodeError) as error:
            raise UsageError(f"{template!r} is no format for the names of points") from error
        if not _is_showable(name):
            raise UsageError(
                f"{template!r} would make {name!r}: the name of a point holds no '/' or line break,"
                f" does not begin with '.' or '@' (but for {SAMBA_TEMPLATE!r}), and is neither"
                f" empty nor {LATEST!r}"
            )


def formatted_name(time_ns: int, zone: tzinfo | None, template: str = "") -> str:
    """Return the displayed name of a point by *template*, as of strftime.

    Where it makes none that can be shown, and without one, it is that of :func:`point_name`.
    """
    name = _formatted(time_ns, zone, template) if template else ""
    return name if _is_showable(name) else point_name(time_ns, zone)


def _formatted(time_ns: int, zone: tzinfo | None, template: str) -> str:
    return datetime.fromtimestamp(time_ns // _SECOND_NS, zone).strftime(template)


def _is_showable(name: str) -> bool:
    # what begins with '.' or '@' is no point: these names are for other views
    special = name.startswith((".", "@")) and not _SAMBA_NAME.match(name)
    plain = name.isprintable() and "/" not in name and not special
    return plain and name not in ("", LATEST) and len(name.encode()) <= _LONGEST_NAME


def format_local(time_ns: int, zone: tzinfo | None) -> str:
    """Return *time_ns* for people, to the second: ``2026-11-20 10:15:02``."""
    local = datetime.fromtimestamp(time_ns // _SECOND_NS, zone)
    return local.replace(tzinfo=None).isoformat(" ")


def _instant(time: datetime) -> int:
    """Return the nanosecond that *time* is; a naive one is in the system's zone."""
    since = time.astimezone(timezone.utc) - _EPOCH
    return (since.days * 86400 + since.seconds) * _SECOND_NS + since.microseconds * 1000


def _date_end(next_start: datetime) -> int:
    """Return the last nanosecond before the day that begins at *next_start*.

    With fold 0 a midnight that comes twice means the first, and one that is skipped the instant
    of skipping.
    """
    return _instant(next_start.replace(fold=0)) - 1


def _clock_end(start: datetime, seconds: int) -> int:
    """Return the last nanosecond of the *seconds* from *start* on, the later of two such."""
    later = max(_instant(start.replace(fold=fold)) for fold in (0, 1))
    return later + seconds * _SECOND_NS - 1


def _zone(words: str | None, now: datetime) -> tzinfo | None:
    if words is None:
        return now.tzinfo
    if words == "z":
        return timezone.utc
    hours, minutes = int(words[1:3]), int(words[-2:])
    if minutes > 59:
        raise ValueError("minutes of an offset must be in 0..59")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if words[0] == "-" else offset)


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _month(match: re.Match[str], now: datetime) -> int:
    year, month = int(match[1]), int(match[2])
    return _date_end(_next_month(datetime(year, month, 1, tzinfo=now.tzinfo)))


def _day(match: re.Match[str], now: datetime) -> int:
    year, month, day = (int(match[group]) for group in (1, 2, 3))
    zone = _zone(match[4], now)
    return _date_end(datetime(year, month, day, tzinfo=zone) + timedelta(days=1))


def _clock(match: re.Match[str], now: datetime) -> int:
    year, month, day, hour, minute = (int(match[group]) for group in range(1, 6))
    second, zone = int(match[6] or 0), _zone(match[7], now)
    start = datetime(year, month, day, hour, minute, second, tzinfo=zone)
    return _clock_end(start, 1 if match[6] else 60)


def _samba(match: re.Match[str], _: datetime) -> int:
    year, month, day, hour, minute, second = (int(group) for group in match.groups())
    return _clock_end(datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc), 1)


def _now(_: re.Match[str], now: datetime) -> int:
    return _instant(now) + 999  # a clock of microseconds


def _named_day(match: re.Match[str], now: datetime) -> int:
    return _date_end(_midnight(now) + timedelta(days=1 - _DAYS_AGO[match[0]]))


def _last(match: re.Match[str], now: datetime) -> int:
    if match[1] not in _WEEKDAYS:
        raise UsageError(f"{match[0]!r} is no moment: 'last' goes with a day of the week")
    days = (now.weekday() - _WEEKDAYS.index(match[1]) - 1) % 7 + 1
    return _date_end(_midnight(now) + timedelta(days=1 - days))


def _age(match: re.Match[str], now: datetime) -> int:
    count, word = int(match[1]), match[2]
    if word == "m":
        raise UsageError(f"{match[0]!r} may be minutes or months; write {count}min or {count}mo")
    unit = _UNIT_OF.get(word)
    if unit is None:
        raise UsageError(f"{match[0]!r} is no moment: {word!r} is no unit; write {FORMS}")
    if unit in _SECONDS:
        return _now(match, now) - count * _SECONDS[unit] * _SECOND_NS
    if unit in _DAYS:
        then = now - timedelta(days=count * _DAYS[unit])
        return _now(match, then.replace(fold=now.fold))
    return _now(match, _months_before(now, count * _MONTHS[unit]))


def _months_before(time: datetime, count: int) -> datetime:
    """Return *time* that many months earlier, on the last of the month if it has no such day."""
    year, month = divmod(time.year * 12 + time.month - 1 - count, 12)
    first = time.replace(year=year, month=month + 1, day=1)
    days = (_next_month(first) - first).days
    return first.replace(day=min(time.day, days))


def _next_month(first: datetime) -> datetime:
    return (first + timedelta(days=31)).replace(day=1)


_FORMS: tuple[tuple[str, Callable[[re.Match[str], datetime], int]], ...] = (
    ("now", _now),
    ("today|yesterday", _named_day),
    (_MONTH_FORM, _month),
    (_DAY_FORM, _day),
    (_CLOCK_FORM, _clock),
    (_POINT_FORM, _clock),
    (_AGE_FORM, _age),
    (_LAST_FORM, _last),
    (_SAMBA_FORM, _samba),
)
