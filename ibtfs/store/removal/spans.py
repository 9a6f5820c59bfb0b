"""Which points need a record, told by the first and the last of them: the arithmetic of removal.

Points stand in one order, or in several at a time.  Removing all from place i to place j of an
order frees just those records that no point before i and none behind j needs.  So of the points
that need a record nothing counts but the first and the last, in each order: its *span*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ibtfs.store.removal.marking import NEVER

Span = tuple[int, ...]
"""The first and the last place in the first order, the first and the last in the second, …"""


class Spans:
    """Spans, each once, known by a number; *orders* have the place of each point, counted from 0.

    There are few of them: of millions of records most have one that others have, too.
    """

    def __init__(self, orders: Sequence[Sequence[int]]) -> None:
        self._numbers: dict[Span, int] = {}
        self.all: list[Span] = []
        self.points = [
            self._number(tuple(place for place in places for _ in range(2)))
            for places in zip(*orders)
        ]
        """The span of each point: what it alone needs."""

    def _number(self, span: Span) -> int:
        number = self._numbers.setdefault(span, len(self.all))
        if number == len(self.all):
            self.all.append(span)
        return number

    def joined(self, one: int, other: int) -> int:
        """The span of what the points of two spans need; each may be NEVER."""
        if other in (one, NEVER):
            return one
        if one == NEVER:
            return other
        first, last, *others = self.all[one]
        other_first, other_last, *those = self.all[other]
        first = min(first, other_first)
        last = max(last, other_last)
        if not others:
            return self._number((first, last))
        rest = [
            max(pair) if place % 2 else min(pair) for place, pair in enumerate(zip(others, those))
        ]
        return self._number((first, last, *rest))


class Weighed(NamedTuple):
    """Bytes that are needed from one place of an order to another, both included."""

    first: int
    last: int
    weight: float


def weighed(spans: Spans, weights: Sequence[float], order: int) -> list[Weighed]:
    """What each span weighs, as it lies in the order *order*; *weights* are by number of span."""
    at = 2 * order
    return [
        Weighed(span[at], span[at + 1], weight)
        for span, weight in zip(spans.all, weights)
        if weight
    ]


def ranges(spans: Iterable[Weighed], start: int, end: int) -> Iterator[tuple[int, list[float]]]:
    """What removing each range of places within *start* to *end* would free, *end* excluded.

    Comes row by row, the last first: for place i, what removing i..i, i..i+1, …, i..end-1 frees.
    Costs a step for each span and each range, and no more memory than two rows.
    """
    firsts: dict[int, list[Weighed]] = {}
    for span in spans:
        if start <= span.first and span.last < end:
            firsts.setdefault(span.first, []).append(span)
    ending = [0.0] * (end - start)
    for first in reversed(range(start, end)):
        for span in firsts.get(first, ()):
            ending[span.last - start] += span.weight
        total, row = 0.0, []
        for weight in ending[first - start :]:
            total += weight
            row.append(total)
        yield first, row


class Removal(NamedTuple):
    """What removing a point would free, in bytes: *alone*, and with all before it in its order."""

    alone: float
    with_earlier: float


def removals(spans: Iterable[Weighed], start: int, end: int) -> list[Removal]:
    """What each place within *start* to *end* would free; costs a step for each span and place."""
    alone, ending = [0.0] * (end - start), [0.0] * (end - start)
    for span in spans:
        if start <= span.first and span.last < end:
            ending[span.last - start] += span.weight
            if span.first == span.last:
                alone[span.last - start] += span.weight
    total, found = 0.0, []
    for one, weight in zip(alone, ending):
        total += weight
        found.append(Removal(one, total))
    return found
