"""Sealed frames: they come back, at their own place alone, and nothing of them can be changed."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged, LimitExceeded
from ibtfs.format.compression import Codec
from ibtfs.format.frames import CONTENTS, FLAG_RUNS, FRAME_LIMIT, LARGE, SMALL, Address
from ibtfs.sealing.frames import LEAST_SIZE, NONCE_SIZE, OVERHEAD, SealedFrames, padded_size
from ibtfs.sealing.primitives import Suite

KEY, PUBLIC, ENVELOPE = bytes(range(32)), bytes(32), b"\1\1" + bytes(8)
HERE = Address(SMALL, 5, 100)


def frames(suite: Suite = Suite.AES_256_GCM, key: bytes = KEY) -> SealedFrames:
    return SealedFrames(suite, key, PUBLIC, ENVELOPE)


@pytest.mark.parametrize("suite", Suite)
@given(raw=st.binary(max_size=5000), start=st.integers(0, 1 << 62), count=st.integers(1, 1 << 22),
       flags=st.sampled_from([0, FLAG_RUNS]))  # fmt: skip
def test_a_frame_comes_back(suite: Suite, raw: bytes, start: int, count: int, flags: int) -> None:
    address = Address(LARGE, start, count)
    data = frames(suite).encode(address, raw, Codec(1), flags=flags)
    assert frames(suite).decode(address, data, "here") == (raw, flags)
    assert raw not in data or len(raw) < 6
    assert len(data) <= len(raw) + OVERHEAD


def test_the_same_bytes_are_never_stored_alike() -> None:
    one, other = (frames().encode(HERE, b"secret", Codec(1)) for _ in range(2))
    assert one[:NONCE_SIZE] != other[:NONCE_SIZE]
    assert one[NONCE_SIZE:] != other[NONCE_SIZE:]


@pytest.mark.parametrize("suite", Suite)
def test_a_frame_is_as_it_was_decided(suite: Suite) -> None:
    """Frozen: what is stored today is to be read for ever."""
    data = frames(suite).encode_by(bytes(24), HERE, b"ibtfs", Codec(1), flags=0)
    assert data.hex() == FROZEN[suite]
    assert frames(suite).decode(HERE, data, "here").raw == b"ibtfs"


FROZEN = {
    Suite.AES_256_GCM: "00" * 24 + "08524e947482f27b39b1f653eb9ffd5f8004d69b96b3fa3b3b4d36fdf0",
    Suite.CHACHA20_POLY1305: "00" * 24
    + "cf6fdb8ca1424fb45758a2243384994a15f930a26a6db1e25c0cba45d6",
}


@pytest.mark.parametrize("place", [
    Address(LARGE, 5, 100), Address(SMALL, 6, 100), Address(SMALL, 5, 101),
    Address(CONTENTS, 5, 100),
])  # fmt: skip
def test_at_another_place_it_is_nothing(place: Address) -> None:
    data = frames().encode(HERE, b"secret" * 9, Codec(1))
    with pytest.raises(FormatDamaged, match=r"^here: is not what was sealed there$"):
        frames().decode(place, data, "here")


def test_with_another_key_or_suite_it_is_nothing() -> None:
    data = frames().encode(HERE, b"secret" * 9, Codec(1))
    for other in (frames(key=os.urandom(32)), frames(Suite.CHACHA20_POLY1305)):
        with pytest.raises(FormatDamaged, match="is not what was sealed there"):
            other.decode(HERE, data, "here")


def test_no_byte_of_it_can_be_changed_and_none_be_missing() -> None:
    data = frames().encode(HERE, b"secret" * 9, Codec(1))
    for place in range(len(data)):
        wrong = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        for each in (wrong, data[:place]):
            with pytest.raises(FormatDamaged, match=r"^here: (cut short|is not what was sealed)"):
                frames().decode(HERE, each, "here")
    with pytest.raises(FormatDamaged):
        frames().decode(HERE, data + b"x", "here")


def test_a_frame_has_a_limit() -> None:
    with pytest.raises(LimitExceeded, match="would be 4194305 bytes"):
        frames().encode(HERE, bytes(FRAME_LIMIT + 1), Codec(1))


# Padding


@given(size=st.integers(0, 1 << 62))
def test_padding_hides_a_size_and_costs_little(size: int) -> None:
    padded = padded_size(size)
    assert padded >= max(size, LEAST_SIZE)
    assert padded_size(padded) == padded
    if size >= LEAST_SIZE:
        assert padded - size < max(16, size / 16)
        if size >= 64 << 20:
            assert padded - size < size / 32
    assert padded_size(size + 1) >= padded


def test_there_are_few_padded_sizes() -> None:
    """Of all sizes from 1 to 2 MiB 32 are left, and of the least ones just one."""
    assert {padded_size(size) for size in range(LEAST_SIZE + 1)} == {LEAST_SIZE}
    assert len({padded_size(size) for size in range((1 << 20) + 1, 2 << 20, 1 << 10)}) == 32
    data = frames().padding(1000)
    assert len(data) + 1000 == padded_size(1000) == frames().padded(1000) == 1024
    assert frames().padding(1000) != data
