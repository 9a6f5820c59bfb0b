"""Chains at their bound, and archives that are due: by numbers that are told here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ibtfs.errors import BaseDamaged, FormatDamaged
from ibtfs.format.extents import BASE, DONOR, HOLE, OWN, ZEROS, Range
from ibtfs.format.frames import LITERALS
from ibtfs.format.index import ContentRecord, Reference
from ibtfs.format.keys import PlainKeys
from ibtfs.store.contents.fold import CHAIN_LIMIT, require_short
from ibtfs.store.contents.reader import Segment
from ibtfs.store.writing.flatten import (
    Resolved,
    are_too_many,
    at_bound,
    chain_ranges,
    kept_donors,
    may_be_deeper,
    may_keep_holes,
    resolve,
)
from ibtfs.store.writing.run import RunWriter

MIB = 1 << 20


def ref(number: int) -> Reference:
    return Reference("archive", number)


def record(depth: int) -> ContentRecord:
    return ContentRecord(bytes(32), 9, LITERALS, 0, 9, depth=depth)


@pytest.mark.parametrize(
    ("depth", "ranges", "bound"),
    [(0, 0, False), (31, 599_999, False), (32, 0, True), (33, 0, True), (0, 600_000, True)],
)
def test_a_chain_is_so_deep_and_has_so_many_ranges(depth: int, ranges: int, bound: bool) -> None:
    assert at_bound(record(depth), ranges) is bound
    assert at_bound(record(depth)) is (depth > 31)


def test_the_format_bears_with_64() -> None:
    assert may_be_deeper(record(62))
    assert not may_be_deeper(record(63))
    require_short(ref(1), CHAIN_LIMIT)
    with pytest.raises(FormatDamaged, match="archives/archive: content 1: its chain has more rang"):
        require_short(ref(1), 4_000_001)
    assert CHAIN_LIMIT == 4_000_000


class Below:
    """Contents of which the segments, and how many ranges they have, are as a test says."""

    def __init__(self, ranges: int = 0, *segments: Segment) -> None:
        self._ranges, self._segments = ranges, segments
        self.asked: list[tuple[Reference, int, int]] = []

    def chain_ranges(self, base: Reference) -> int:
        if self._ranges < 0:
            raise FormatDamaged(f"{base} is damaged")
        return self._ranges

    def segments(self, base: Reference, start: int, end: int) -> list[Segment]:
        self.asked.append((base, start, end))
        if self._ranges < 0:
            raise FormatDamaged(f"{base} is damaged")
        return list(self._segments)


RANGES = [
    Range(BASE, 0, 5), Range(OWN, 0, 3), Range(BASE, 8, 2), Range(BASE, 9, 4), Range(HOLE, 0, 8),
    Range(DONOR + 1, 4, 1),
]  # fmt: skip


def test_copies_in_place_are_no_ranges_of_a_chain() -> None:
    assert chain_ranges(cast(Any, Below(7)), ref(1), RANGES) == 7 + 6 - 2
    assert chain_ranges(cast(Any, Below(7)), ref(1), []) == 7
    assert chain_ranges(cast(Any, Below(-1)), ref(1), RANGES) == 0


def test_copies_are_followed_to_payloads() -> None:
    below = Below(0, Segment(ref(5), 70, 3), Segment(None, ZEROS, 1), Segment(None, HOLE, 1))
    found = resolve(cast(Any, below), ref(1), [*RANGES[:2], *RANGES[4:]], [ref(8), ref(9)])
    assert found == [
        (ref(5), (DONOR, 70, 3)), (None, (ZEROS, 0, 1)), (None, (HOLE, 0, 1)), (None, RANGES[1]),
        (None, RANGES[4]), (ref(9), RANGES[5]),
    ]  # fmt: skip
    assert below.asked == [(ref(1), 0, 5)]
    with pytest.raises(BaseDamaged, match="is damaged"):
        resolve(cast(Any, Below(-1)), ref(1), RANGES, [ref(8), ref(9)])


def of(*sizes: int) -> list[Resolved]:
    """Ranges of payloads, the first of which is the first's, and so on."""
    return [(ref(number), Range(DONOR, 0, size)) for number, size in enumerate(sizes)]


def test_those_that_give_most_are_kept() -> None:
    assert kept_donors([]) == []
    assert kept_donors([*of(5, 9, 7), (None, Range(OWN, 0, 100)), *of(5)]) == [
        ref(0),
        ref(1),
        ref(2),
    ]
    assert kept_donors(of(*range(1, 18))) == [ref(n) for n in range(16, 0, -1)]
    # payloads that give 64 MiB are kept as well, up to forty of them
    many = of(*[64 * MIB] * 20, *[64 * MIB - 1] * 5)
    assert sorted(kept_donors(many)) == [ref(n) for n in range(20)]
    assert len(kept_donors(of(*[64 * MIB] * 50))) == 40
    assert len(kept_donors(of(*[64 * MIB] * 40))) == 40
    assert len(kept_donors(of(*[64 * MIB - 1] * 50))) == 16


def test_a_map_has_no_more_ranges_than_the_format_allows() -> None:
    assert not are_too_many(cast(Any, range(1_000_000)))
    assert are_too_many(cast(Any, range(1_000_001)))
    holes: list[Resolved] = [(None, Range(HOLE, 0, 1)), (None, Range(ZEROS, 0, 1))]
    others: list[Resolved] = [(None, Range(OWN, 0, 1)), *of(1)]
    assert may_keep_holes(holes * 124_999 + others * 10)
    assert may_keep_holes([*holes * 124_999, holes[0], *others])
    assert not may_keep_holes(holes * 125_000)
    assert may_keep_holes(others * 125_000)


@pytest.mark.parametrize(
    ("data", "age", "contents", "due"),
    [(0, 0.0, 0, False), ((1 << 30) - 1, 599.9, 249_999, False), (1 << 30, 0.0, 0, True),
     (0, 600.0, 0, True), (0, 0.0, 250_000, True)],
)  # fmt: skip
def test_an_archive_is_closed_by_size_age_or_contents(
    data: int, age: float, contents: int, due: bool
) -> None:
    repository = cast(Any, SimpleNamespace(has_archives=lambda: False, keys=PlainKeys(bytes(16))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ibtfs.store.writing.run.Contents", lambda _: None)
        nothing = cast(Any, None)
        writer = RunWriter(repository, "x", epoch=0, catalog=nothing, codec=nothing, pool=nothing)
    assert not writer.is_due
    patch_current = cast(Any, SimpleNamespace(data_bytes=data, age=age, id="x.0"))
    writer._current, writer._digests = patch_current, cast(Any, range(contents))
    assert writer.is_due is due
    assert writer.is_open(Reference("x.0", 1))
    assert not writer.is_open(Reference("x.1", 1))
