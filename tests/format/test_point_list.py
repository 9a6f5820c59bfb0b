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
from ibtfs.format.point_list import MARK_SIZE, PointList, decode_list, encode_list, mark_of

KEYS = PlainKeys(bytes(range(16)))
WHERE = "lists/3.0123456789abcdef"
MARKS = st.binary(min_size=MARK_SIZE, max_size=MARK_SIZE)
IDS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z_-]{7,20}", fullmatch=True)
GOOD = {"number": 3, "points": ("point-000",), "gone": bytes(16), "earlier": b""}


@given(points=st.frozensets(IDS), gone=st.frozensets(MARKS), earlier=st.lists(MARKS))
def test_a_list_comes_back(
    points: frozenset[str], gone: frozenset[bytes], earlier: list[bytes]
) -> None:
    made = PointList(3, points, gone, tuple(earlier))
    data = encode_list(made, WHERE, KEYS, Codec())
    assert decode_list(data, WHERE, 3, KEYS) == made
    for name, number in ((WHERE, 4), ("lists/4.0123456789abcdef", 3)):
        with pytest.raises(FormatDamaged):
            decode_list(data, name, number, KEYS)


def test_equal_lists_are_equal_bytes() -> None:
    ids = [f"point-{n:03}" for n in range(50)]
    one, other = (
        encode_list(PointList(3, frozenset(order), frozenset()), WHERE, KEYS, Codec())
        for order in (ids, ids[::-1])
    )
    assert one == other


@pytest.mark.parametrize("wrong", [
    {"number": 4}, {"number": "3"}, {"points": None}, {"points": ("short",)}, {"points": (1,)},
    {"points": ("a/../../b",)}, {"gone": bytes(15)}, {"gone": None}, {"earlier": bytes(17)},
    {"earlier": ()},
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
