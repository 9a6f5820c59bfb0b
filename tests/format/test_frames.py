"""Frames of which only some runs of bytes survive, and what of frames is believed."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged, LimitExceeded, UnsupportedFormat
from ibtfs.format.compression import Codec
from ibtfs.format.frames import (
    HEAD_SIZE,
    LITERALS,
    STATES,
    Address,
    Runs,
    decode_frame,
    decode_runs,
    encode_frame,
    encode_runs,
    object_key,
    raw_limit,
)

RAW = bytes(range(64))
KEY = object_key(b"i" * 16, "archives/x/index")
ADDRESS = Address(STATES, 3, 5)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=5))
def test_the_bytes_of_runs_come_back_and_no_others(steps: list[tuple[int, int]]) -> None:
    runs, end = [], 0
    for gap, length in steps:
        runs.append((end + gap, length))
        end += gap + length
    left = {place for start, length in runs for place in range(start, start + length)}
    found = Runs(encode_runs(runs, RAW), 64, "here")
    assert len(found.runs) == sum(1 for place in left if place - 1 not in left)
    for start in range(65):
        for stop in range(start + 1, 65):
            expected = RAW[start:stop] if left.issuperset(range(start, stop)) else None
            cut = found.cut(start, stop)
            assert (None if cut is None else bytes(cut)) == expected


def listed(runs: Sequence[tuple[int, int]], held: int) -> bytes:
    heads = b"".join(struct.pack("<II", *run) for run in runs)
    return struct.pack("<I", len(runs)) + heads + bytes(held)


def test_a_run_may_be_the_whole_frame_or_nothing_is_left() -> None:
    assert decode_runs(listed([(0, 9)], 9), 9, "here") == [(0, 9, 12)]
    assert decode_runs(listed([(0, 1), (2, 7)], 8), 9, "here") == [(0, 1, 20), (2, 7, 21)]
    assert decode_runs(listed([], 0), 9, "here") == []


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\0\0\0", listed([(0, 9)], 9)[:11], struct.pack("<I", 1 << 31),
        listed([(0, 10)], 10), listed([(9, 1)], 1), listed([(1, 9)], 9), listed([(0, 0)], 0),
        listed([(0, 2), (1, 2)], 4), listed([(0, 2), (2, 2)], 4), listed([(4, 2), (0, 2)], 4),
        listed([(0, 9)], 8), listed([(0, 9)], 10),
    ],
)  # fmt: skip
def test_runs_that_cannot_be_are_damage(raw: bytes) -> None:
    with pytest.raises(FormatDamaged, match="here"):
        decode_runs(raw, 9, "here")


def test_a_frame_is_believed_at_its_own_place_only() -> None:
    data = encode_frame(KEY, ADDRESS, RAW, Codec(1))
    assert decode_frame(KEY, ADDRESS, data, "here").raw == RAW
    other = object_key(b"i" * 16, "archives/y/index")
    for key, address in (
        (other, ADDRESS),
        (KEY, ADDRESS._replace(start=4)),
        (KEY, ADDRESS._replace(length=6)),
        (KEY, ADDRESS._replace(stream=LITERALS)),
    ):
        with pytest.raises(FormatDamaged, match="here: the checksum"):
            decode_frame(key, address, data, "here")


def test_any_byte_of_a_frame_that_changed_is_noticed() -> None:
    data = encode_frame(KEY, ADDRESS, RAW, Codec(1))
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(FormatDamaged, match="here"):
            decode_frame(KEY, ADDRESS, bytes(changed), "here")
    for size in range(len(data)):
        with pytest.raises(FormatDamaged, match="here"):
            decode_frame(KEY, ADDRESS, data[:size], "here")


def test_a_frame_holds_no_more_than_it_may() -> None:
    largest = bytes(raw_limit(STATES))
    data = encode_frame(KEY, ADDRESS, largest, Codec(1))
    assert decode_frame(KEY, ADDRESS, data, "here").raw == largest
    with pytest.raises(LimitExceeded, match=f"states would be {len(largest) + 1} bytes"):
        encode_frame(KEY, ADDRESS, largest + b"0", Codec(1))


def sealed(
    raw: bytes,
    *,
    flags: int = 0,
    size: int | None = None,
    codec: int = 0,
    address: Address = ADDRESS,
) -> bytes:
    """A frame whose checksum is right, whatever its head says."""
    size = len(raw) if size is None else size
    head = struct.pack("<BBHI", address.stream, codec, flags, size)
    sealed = head + struct.pack("<QI", address.start, address.length)
    checksum = blake3(sealed + raw, key=KEY).digest()[:16]
    return checksum + head + raw


def test_a_frame_is_what_the_format_says() -> None:
    noise = bytes(blake3(b"x").digest())
    assert encode_frame(KEY, ADDRESS, noise, Codec(1)) == sealed(noise)
    assert encode_frame(KEY, ADDRESS, noise, Codec(1), flags=1) == sealed(noise, flags=1)
    assert decode_frame(KEY, ADDRESS, sealed(noise, flags=1), "here") == (noise, 1)
    for flags in (2, 3, 1 << 15):
        with pytest.raises(UnsupportedFormat, match=f"here: flags {flags} are not known"):
            decode_frame(KEY, ADDRESS, sealed(noise, flags=flags), "here")


def test_a_frame_of_no_bytes() -> None:
    data = encode_frame(KEY, ADDRESS, b"", Codec(1))
    assert len(data) == HEAD_SIZE
    assert decode_frame(KEY, ADDRESS, data, "here") == (b"", 0)
    with pytest.raises(FormatDamaged, match="here: cut short"):
        decode_frame(KEY, ADDRESS, data[:-1], "here")


def test_what_a_frame_says_of_its_size_is_bounded() -> None:
    limit = 4 << 20
    assert [raw_limit(stream) for stream in (0, 1, 2, 3, STATES, 48, 49)] == [limit] * 7
    with pytest.raises(FormatDamaged, match="here: beyond the limits"):
        decode_frame(KEY, ADDRESS, sealed(b"", size=limit + 1), "here")
    with pytest.raises(FormatDamaged, match=f"here: 0 bytes where {limit} were expected"):
        decode_frame(KEY, ADDRESS, sealed(b"", size=limit), "here")
    table = Address(0, 3, 1)
    with pytest.raises(LimitExceeded, match="A frame of the table would be"):
        encode_frame(KEY, table, bytes(limit + 1), Codec(1))


@pytest.mark.parametrize(
    ("stream", "least"), [(1, 0), (2, 3), (3, 3), (16, 0), (17, 6), (18, 6), (19, 6), (32, 0)]
)
def test_records_and_large_data_are_compressed_better(stream: int, least: int) -> None:
    text = b"".join(b"line %d of a text\n" % (n * n) for n in range(5000))
    address = Address(stream, 0, 1)
    for level in (1, 4, 9):
        made = encode_frame(KEY, address, text, Codec(level))
        assert made[HEAD_SIZE:] == Codec(max(level, least)).compress(text)[1]


def test_keys_are_of_a_repository_and_a_name() -> None:
    expected = blake3(b"i" * 16 + b"x/y", derive_key_context="ibtfs 2026 object key").digest()
    assert object_key(b"i" * 16, "x/y") == expected
