"""Lists of points come back, under their own name and number alone."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged, LimitExceeded
from ibtfs.format.compression import Codec
from ibtfs.format.frames import LIST, NOTE
from ibtfs.format.keys import PlainKeys
from ibtfs.format.marks import MARK_SIZE, Marks
from ibtfs.format.objects import encode_object, read_frames
from ibtfs.format.packing import pack, unpack_map
from ibtfs.format.point_list import (
    ANY,
    EARLIER_LIMIT,
    GONE_LIMIT,
    LAST_GENERATION,
    LIST_LIMIT,
    TURNS,
    PointList,
    bounded,
    decode_list,
    encode_list,
    mark_of,
    without,
    year_of,
)

KEYS = PlainKeys(bytes(range(16)))
WHERE = "lists/3.0123456789abcdef"
MARKS = st.binary(min_size=MARK_SIZE, max_size=MARK_SIZE)
IDS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z_-]{7,20}", fullmatch=True)
TURN = bytes(16) + (7).to_bytes(4, "little")
GOOD = {"number": 3, "points": ("point-000",), "gone": {2026: bytes(16)}, "earlier": b"",
        "withdrawn": {"point-000": TURN},
        "generations": {"archives/run-00000.0/index": 2}}  # fmt: skip
SETS = st.frozensets(MARKS).map(Marks.of)
LISTS = st.builds(
    PointList, st.just(3), st.frozensets(IDS), st.dictionaries(st.integers(0, 9999), SETS),
    st.lists(MARKS).map(tuple),
    st.dictionaries(IDS, st.dictionaries(MARKS, st.integers(1, TURNS))),
    st.dictionaries(
        st.from_regex(r"archives/[0-9A-Z]{8,9}\.0/[a-z]{1,9}", fullmatch=True),
        st.integers(2, LAST_GENERATION),
    ),
)  # fmt: skip


@settings(max_examples=50)
@given(LISTS, st.integers(256, 4096))
def test_a_list_comes_back(made: PointList, size: int) -> None:
    """Also one that takes several frames."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ibtfs.format.point_list.FRAME_LIMIT", size)
        patch.setattr("ibtfs.format.point_list.MORE_LIMIT", 1 << 10)
        data = encode_list(made, WHERE, KEYS, Codec())
        assert decode_list(data, WHERE, 3, KEYS) == made
        for name, number in ((WHERE, 4), ("lists/4.0123456789abcdef", 3)):
            with pytest.raises(FormatDamaged):
                decode_list(data, name, number, KEYS)


def many(points: int, gone: int) -> PointList:
    ids = frozenset(f"20261129T{n:06}Z_{n:020x}" for n in range(points))
    return PointList(3, ids, {2026: Marks.of(n.to_bytes(16, "big") for n in range(gone))})


def test_a_list_of_many_points_takes_several_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame has 4 MiB at most: 100,000 points and what was removed do not fit into one."""
    made = many(100_000, 120_000)
    data = encode_list(made, WHERE, KEYS, Codec())
    frames = read_frames(KEYS, WHERE, LIST, data)
    assert set(unpack_map(frames.first, WHERE)) == {"number", "more"}
    assert decode_list(data, WHERE, 3, KEYS) == made
    for wrong in (data[:-1], data + b"x", data[: len(data) // 2]):
        with pytest.raises(FormatDamaged):
            decode_list(wrong, WHERE, 3, KEYS)
    for limit, least in (
        ("LISTED_LIMIT", 99_999),
        ("LIST_LIMIT", len(data) - 1),
        ("MORE_LIMIT", 1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"ibtfs.format.point_list.{limit}", least)
            with pytest.raises(LimitExceeded):
                encode_list(made, WHERE, KEYS, Codec())
            if limit != "LIST_LIMIT":  # which is asked before it is read
                with pytest.raises(FormatDamaged):
                    decode_list(data, WHERE, 3, KEYS)


def test_two_million_points_that_were_removed_have_room() -> None:
    left = os.urandom(12 * GONE_LIMIT)
    joined = b"".join(n.to_bytes(4, "big") + left[12 * n : 12 * n + 12] for n in range(GONE_LIMIT))
    made = PointList(3, frozenset(), {2026: Marks(joined)})
    assert bounded(made.gone) == made.gone
    data = encode_list(made, WHERE, KEYS, Codec())
    assert len(data) < LIST_LIMIT // 2
    assert decode_list(data, WHERE, 3, KEYS) == made


def test_a_list_of_the_first_layout_is_read() -> None:
    old = {"number": 3, "points": ("point-000",), "gone": bytes(16), "earlier": bytes(32)}
    data = encode_object(KEYS, WHERE, LIST, pack(old), Codec())
    found = decode_list(data, WHERE, 3, KEYS)
    assert found == PointList(3, frozenset({"point-000"}), {0: Marks(bytes(16))}, (bytes(16),) * 2)
    assert found.is_gone("20261129T072334Z_b06aa9bae47e14fa1c94", bytes(16))


def test_equal_lists_are_equal_bytes() -> None:
    ids = [f"point-{n:03}" for n in range(50)]
    one, other = (
        encode_list(PointList(3, frozenset(order)), WHERE, KEYS, Codec())
        for order in (ids, ids[::-1])
    )
    assert one == other


@pytest.mark.parametrize("wrong", [
    {"number": 4}, {"number": "3"}, {"points": None}, {"points": ("short",)}, {"points": (1,)},
    {"points": ("a/../../b",)}, {"gone": {2026: bytes(15)}}, {"gone": None}, {"gone": bytes(15)},
    {"gone": {"2026": bytes(16)}}, {"earlier": bytes(17)}, {"earlier": ()},
    {"withdrawn": {"point-000": TURN[:-1]}}, {"withdrawn": {"x": TURN}}, {"withdrawn": None},
    {"withdrawn": {"point-000": bytes(20)}}, {"withdrawn": {"point-000": b"\xff" * 20}},
    {"points": ("point-001", "point-000")}, {"points": ("point-000",) * 2},
    {"gone": {2026: b"2" * 16 + b"1" * 16}}, {"gone": {2026: b"1" * 32}},
    {"gone": {-1: bytes(16)}}, {"gone": {1 << 60: bytes(16)}}, {"gone": {True: bytes(16)}},
    {"earlier": bytes(16 * (EARLIER_LIMIT + 1))}, {"withdrawn": {"point-000": TURN * 2}},
    {"generations": {"archives/run-00000.0/index": 1}},
    {"generations": {"archives/run-00000.0/index": -4}},
    {"generations": {"archives/run-00000.0/index": 1 << 62}}, {"generations": {"points/../x": 3}},
    {"generations": {"archives/run-00000.0/index": True}},
    {"generations": {"x": "2"}}, {"generations": ()}, {"more": (1,)}, {"more": 1}, {"more": ("1",)},
    {"more": (0,)}, {"more": (-24, 24)}, {"more": (1 << 62,)}, {"more": (1,) * 40},
])  # fmt: skip
def test_what_is_no_list_is_refused(wrong: dict[str, object]) -> None:
    data = encode_object(KEYS, WHERE, LIST, pack(GOOD | wrong), Codec())
    with pytest.raises(FormatDamaged, match=r"is not the list that its name says|is not as long"):
        decode_list(data, WHERE, 3, KEYS)


def test_marks_are_in_order_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are compared some at once: also the last of some with the first of the next."""
    monkeypatch.setattr("ibtfs.format.point_list._AT_ONCE", 3)
    marks = [n.to_bytes(MARK_SIZE, "big") for n in range(8)]
    assert encode_list(many(0, 8), WHERE, KEYS, Codec())
    for place in range(7):
        wrong = marks[:place] + marks[place : place + 2][::-1] + marks[place + 2 :]
        with pytest.raises(LimitExceeded):
            encode_list(
                PointList(3, frozenset(), {2026: Marks(b"".join(wrong))}), WHERE, KEYS, Codec()
            )


def test_true_is_no_number() -> None:
    name = "lists/1.0123456789abcdef"
    with pytest.raises(FormatDamaged):
        decode_list(
            encode_object(KEYS, name, LIST, pack(GOOD | {"number": True}), Codec()), name, 1, KEYS
        )


def test_other_objects_are_no_lists() -> None:
    assert decode_list(encode_object(KEYS, WHERE, LIST, pack(GOOD), Codec()), WHERE, 3, KEYS)
    with pytest.raises(FormatDamaged):
        decode_list(encode_object(KEYS, WHERE, NOTE, pack(GOOD), Codec()), WHERE, 3, KEYS)


def test_marks_tell_ids() -> None:
    assert len(mark_of(KEYS, b"point-000")) == MARK_SIZE
    assert mark_of(KEYS, b"point-000") != mark_of(KEYS, b"point-001")


def test_there_is_no_room_for_all_that_were_ever_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """So those of the earliest years go; ids that tell none come last."""
    monkeypatch.setattr("ibtfs.format.point_list.GONE_LIMIT", 40)
    marks = Marks.of(n.to_bytes(MARK_SIZE, "big") for n in range(10))
    assert sorted(bounded(dict.fromkeys((0, *range(2018, 2028)), marks))) == [0, 2025, 2026, 2027]
    assert bounded({2026: marks, 2027: Marks()}) == {2026: marks}
    monkeypatch.setattr("ibtfs.format.point_list.GONE_LIMIT", 9)
    assert {year: len(left) for year, left in bounded({2025: marks, 2026: marks}).items()} == {
        2026: 9
    }
    assert len(bounded({2026: marks})[2026]) == 9
    made = PointList(3, frozenset(), {2026: marks})
    with pytest.raises(LimitExceeded):
        encode_list(made, WHERE, KEYS, Codec())
    found = PointList(9, frozenset(), {2026: marks})
    assert found.is_gone("20261129T072334Z_b06aa9bae47e14fa1c94", bytes(16))
    assert not found.is_gone("20251129T072334Z_b06aa9bae47e14fa1c94", bytes(16))
    assert not found.is_gone("20261129T072334Z_b06aa9bae47e14fa1c94", b"y" * 16)


@pytest.mark.parametrize(("point_id", "year"), [
    ("20261129T072334Z_b06aa9bae47e14fa1c94", 2026), ("20261329T0", 2026), ("20262129T0", 0),
    ("2026", 0), ("point-2026", 0), ("host_20261129T072334Z", 0), ("00001129T072334Z", 0),
])  # fmt: skip
def test_years_of_ids(point_id: str, year: int) -> None:
    assert year_of(point_id) == year


def test_what_stands_for_any_name_counts_for_each() -> None:
    one, marks = "20261129T072334Z_b06aa9bae47e14fa1c94", (b"a" * 16, b"b" * 16)
    found = PointList(9, frozenset(), withdrawn={one: {marks[0]: 2, ANY: 5}})
    assert [found.turn(one, mark) for mark in marks] == [5, 5]
    assert found.turn("point-000", marks[0]) == 0
    assert found.is_awaited(one)
    assert not found.is_awaited("point-000")
    assert not PointList(9, frozenset({one}), withdrawn=found.withdrawn).is_awaited(one)
    assert without({2026: Marks(marks[0] + marks[1]), 2025: Marks(marks[0])}, one, marks[0]) == {
        2026: Marks(marks[1]),
        2025: Marks(marks[0]),
    }


def test_of_one_year_with_too_many_marks_only_some_go() -> None:
    many = Marks(bytes((GONE_LIMIT + 5) * MARK_SIZE))
    few = Marks(bytes(3 * MARK_SIZE))
    kept = bounded({0: few, 2025: few, 2026: many})
    assert {year: len(marks) for year, marks in kept.items()} == {0: 3, 2026: GONE_LIMIT - 3}
    assert bounded({2025: few, 2026: few}) == {2025: few, 2026: few}
