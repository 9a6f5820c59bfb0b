"""Lists of points come back, under their own name and number alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged
from ibtfs.format.compression import Codec
from ibtfs.format.frames import LIST, NOTE
from ibtfs.format.keys import PlainKeys
from ibtfs.format.objects import encode_object
from ibtfs.format.packing import pack
from ibtfs.format.point_list import (
    GONE_LIMIT,
    MARK_SIZE,
    PointList,
    bounded,
    decode_list,
    encode_list,
    mark_of,
    year_of,
)

KEYS = PlainKeys(bytes(range(16)))
WHERE = "lists/3.0123456789abcdef"
MARKS = st.binary(min_size=MARK_SIZE, max_size=MARK_SIZE)
IDS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z_-]{7,20}", fullmatch=True)
GOOD = {"number": 3, "points": ("point-000",), "gone": {2026: bytes(16)}, "earlier": b"",
        "since": 0, "withdrawn": {"point-000": bytes(16)},
        "generations": {"archives/run-00000.0/index": 2}}  # fmt: skip
SETS = st.frozensets(MARKS)


@given(
    points=st.frozensets(IDS), gone=st.dictionaries(st.integers(0, 9999), SETS),
    earlier=st.lists(MARKS), since=st.integers(0, 9999), withdrawn=st.dictionaries(IDS, SETS),
    generations=st.dictionaries(st.text(), st.integers(2, 1 << 40)),
)  # fmt: skip
def test_a_list_comes_back(
    points: frozenset[str], gone: dict[int, frozenset[bytes]], earlier: list[bytes], since: int,
    withdrawn: dict[str, frozenset[bytes]], generations: dict[str, int],
) -> None:  # fmt: skip
    made = PointList(3, points, gone, tuple(earlier), since, withdrawn, generations)
    data = encode_list(made, WHERE, KEYS, Codec())
    assert decode_list(data, WHERE, 3, KEYS) == made
    for name, number in ((WHERE, 4), ("lists/4.0123456789abcdef", 3)):
        with pytest.raises(FormatDamaged):
            decode_list(data, name, number, KEYS)


def test_equal_lists_are_equal_bytes() -> None:
    ids = [f"point-{n:03}" for n in range(50)]
    one, other = (
        encode_list(PointList(3, frozenset(order)), WHERE, KEYS, Codec())
        for order in (ids, ids[::-1])
    )
    assert one == other


@pytest.mark.parametrize("wrong", [
    {"number": 4}, {"number": "3"}, {"points": None}, {"points": ("short",)}, {"points": (1,)},
    {"points": ("a/../../b",)}, {"gone": {2026: bytes(15)}}, {"gone": None}, {"gone": bytes(16)},
    {"gone": {"2026": bytes(16)}}, {"earlier": bytes(17)}, {"earlier": ()}, {"since": "2026"},
    {"since": None}, {"withdrawn": {"point-000": bytes(15)}}, {"withdrawn": {"x": bytes(16)}},
    {"withdrawn": None}, {"generations": {"x": "2"}}, {"generations": ()},
])  # fmt: skip
def test_what_is_no_list_is_refused(wrong: dict[str, object]) -> None:
    data = encode_object(KEYS, WHERE, LIST, pack(GOOD | wrong), Codec())
    with pytest.raises(FormatDamaged, match="is not the list that its name says"):
        decode_list(data, WHERE, 3, KEYS)


def test_other_objects_are_no_lists() -> None:
    assert decode_list(encode_object(KEYS, WHERE, LIST, pack(GOOD), Codec()), WHERE, 3, KEYS)
    with pytest.raises(FormatDamaged):
        decode_list(encode_object(KEYS, WHERE, NOTE, pack(GOOD), Codec()), WHERE, 3, KEYS)


def test_marks_tell_ids() -> None:
    assert len(mark_of(KEYS, b"point-000")) == MARK_SIZE
    assert mark_of(KEYS, b"point-000") != mark_of(KEYS, b"point-001")


def test_points_that_were_removed_long_ago_are_told_by_their_ids() -> None:
    """So a list does not grow for ever."""
    marks = frozenset(n.to_bytes(MARK_SIZE, "big") for n in range(GONE_LIMIT // 4))
    many = dict.fromkeys(range(2018, 2028), marks)
    left, since = bounded(many, 0, 2027)
    assert (sorted(left), since) == ([2024, 2025, 2026, 2027], 2024)
    assert bounded(left, since, 2027) == (left, since)
    both = {2026: marks, 2027: frozenset(n.to_bytes(MARK_SIZE, "big") for n in range(GONE_LIMIT))}
    assert bounded(both, 0, 2027) == (both, 0)
    old = "20231129T072334Z_00000000000000000000"
    found = PointList(9, frozenset({old}), left, since=since)
    assert not found.is_gone(old, b"y" * 16)
    assert found.is_gone("20231129T072334Z_b06aa9bae47e14fa1c94", b"y" * 16)
    assert not found.is_gone("20241129T072334Z_b06aa9bae47e14fa1c94", b"y" * 16)
    assert found.is_gone("20241129T072334Z_b06aa9bae47e14fa1c94", min(left[2024]))
    assert not found.is_gone("point-000", min(left[2024]))


@pytest.mark.parametrize(("point_id", "year"), [
    ("20261129T072334Z_b06aa9bae47e14fa1c94", 2026), ("20261329T0", 2026), ("20262129T0", 0),
    ("2026", 0), ("point-2026", 0), ("host_20261129T072334Z", 0), ("00001129T072334Z", 0),
])  # fmt: skip
def test_years_of_ids(point_id: str, year: int) -> None:
    assert year_of(point_id) == year
