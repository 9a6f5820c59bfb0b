"""Which backup points stay, and why: rules and points in, reasons out; no disk and no clock.

Rules go through the points from the newest to the oldest, by sequence.  The newest of an hour, a
day and so on stands for it, by the point's own local time.  As in restic, the oldest point of all
stays as well where a rule is not used up: it will stand for its day when others have gone.

Recorded times may be wrong.  A point that is dated more than a day after now stays, and takes
nobody's place; of a time that comes again after others, each point is of the hour that it says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from ibtfs.format.moment import age_before
from ibtfs.format.point import Point

SECOND_NS = 1_000_000_000
AHEAD_NS = 86_400 * SECOND_NS
"""How far after now a point may be dated by clocks that differ a little."""


@dataclass(frozen=True)
class Policy:
    """How many points stay, by rule; *within* is an age such as ``2w``, *tags* keep whom they mark.

    *within* goes back from the newest point that is not dated after now.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: str = ""
    tags: frozenset[str] = frozenset()

    @property
    def keeps_nothing(self) -> bool:
        """Whether no point would stay by it."""
        return not (self.within or self.tags or any(getattr(self, rule) for rule in _RULES))


class Judged(NamedTuple):
    """A point, its tags, and the *reasons* why it stays; it goes if there are none."""

    point: Point
    tags: Sequence[str]
    reasons: tuple[str, ...]


_RULES: Mapping[str, Callable[[datetime, str], object]] = {
    "last": lambda _, point_id: point_id,
    "hourly": lambda time, _: (time.date(), time.hour),
    "daily": lambda time, _: time.date(),
    "weekly": lambda time, _: time.isocalendar()[:2],
    "monthly": lambda time, _: (time.year, time.month),
    "yearly": lambda time, _: time.year,
}
"""What a rule counts, by its name: points whose values are equal share one place."""


def judge(
    points: Iterable[Point], tags: Mapping[str, Collection[str]], policy: Policy, now_ns: int
) -> list[Judged]:
    """What *policy* says of *points*, which belong together; oldest first.

    *tags* are those of each point by its id, *now_ns* is in ns since 1970.  Raises UsageError if
    *within* is no age.
    """
    ordered = sorted(points, key=lambda point: point.order)
    ahead = {point.id for point in ordered if point.time_ns > now_ns + AHEAD_NS}
    dated = [point for point in ordered if point.id not in ahead]
    reasons: dict[str, list[str]] = {point.id: [] for point in ordered}
    for rule in _RULES:
        for point_id, reason in _kept(rule, getattr(policy, rule), dated):
            reasons[point_id].append(reason)
    if policy.within and dated:
        since = _since(max(dated, key=lambda point: point.time_ns), policy.within)
        for point in dated:
            if point.time_ns >= since:
                reasons[point.id].append(f"within {policy.within}")
    for point in ordered:
        mine = sorted(policy.tags.intersection(tags.get(point.id, ())))
        reasons[point.id] += [f"tag {tag}" for tag in mine]
        if point.id in ahead:
            reasons[point.id].append("dated in the future")
    return [
        Judged(point, sorted(tags.get(point.id, ())), tuple(reasons[point.id])) for point in ordered
    ]


def local_time(point: Point) -> datetime:
    """When a point was made, by the clock on its wall."""
    zone = timezone(timedelta(seconds=_bounded(point.utc_offset)))
    return datetime.fromtimestamp(point.time_ns // SECOND_NS, zone)


def _bounded(seconds: int) -> int:
    """An offset as a time zone may have it: less than a day."""
    return max(min(seconds, 86_399), -86_399)


def _kept(rule: str, count: int, points: Sequence[Point]) -> Iterable[tuple[str, str]]:
    """The points that a rule keeps, by id, and what to say of each."""
    seen: set[object] = set()
    for point in reversed(points):
        if len(seen) >= count:
            return
        value = _RULES[rule](local_time(point), point.id)
        if value not in seen:
            seen.add(value)
            yield point.id, rule
        elif point is points[0]:
            yield point.id, f"oldest {rule}"


def _since(newest: Point, age: str) -> int:
    return age_before(age, local_time(newest))
