"""Small objects: what is stored comes back, and any damage is noticed, and told as damage."""

from __future__ import annotations

import struct

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from ibtfs.errors import FormatDamaged, LimitExceeded, UnsupportedFormat
from ibtfs.format.compression import Codec
from ibtfs.format.frames import FRAME_LIMIT, MANIFEST, NOTE, Address, encode_frame, object_key
from ibtfs.format.keys import PlainFrames, PlainKeys
from ibtfs.format.objects import (
    HEAD_SIZE,
    MAGIC,
    Parts,
    decode_object,
    encode_object,
    split_object,
)

REPOSITORY, NAME = b"i" * 16, "points/x"
KEYS, KEY = PlainKeys(REPOSITORY), object_key(REPOSITORY, NAME)
CODEC = Codec(1)
RAW = b"what is stored, " * 9


class EnvelopedFrames(PlainFrames):
    """Frames of an object with an envelope, filled up to whole hundreds of bytes."""

    envelope = b"envelope"

    def padded(self, size: int) -> int:
        return size + -size % 100

    def padding(self, size: int) -> bytes:
        return bytes(-size % 100)


class EnvelopedKeys(PlainKeys):
    """Keys of a repository in which all is in envelopes."""

    def new_frames(self, name: str) -> PlainFrames:
        return EnvelopedFrames(object_key(self.repository, name))

    def frames(self, name: str, envelope: bytes) -> PlainFrames:
        assert envelope == EnvelopedFrames.envelope
        return self.new_frames(name)


def made_of(
    envelope: bytes, frame: bytes, signature: bytes, behind: bytes = b"", *,
    version: int = 1, flags: int | None = None,
) -> bytes:  # fmt: skip
    """An object whose checksum is right, whatever its head says."""
    flags = bool(envelope) if flags is None else flags
    sizes = (len(envelope), len(signature), len(frame))
    head = struct.pack("<8sHHHHI", MAGIC, version, flags, *sizes)
    return head + blake3(head).digest()[:4] + envelope + frame + signature + behind


@given(st.binary(max_size=300), st.sampled_from([MANIFEST, NOTE]), st.text("ab/-", min_size=1))
def test_what_was_stored_comes_back(raw: bytes, stream: int, name: str) -> None:
    for keys in (KEYS, EnvelopedKeys(REPOSITORY)):
        data = encode_object(keys, name, stream, raw, CODEC)
        assert decode_object(keys, name, stream, data, "here") == raw


def test_an_object_is_what_the_format_says() -> None:
    frame = encode_frame(KEY, Address(NOTE, 0, 1), RAW, CODEC)
    data = encode_object(KEYS, NAME, NOTE, RAW, CODEC)
    assert data == made_of(b"", frame, b"")
    assert split_object(data, "here") == (b"", frame, b"")
    data = encode_object(EnvelopedKeys(REPOSITORY), NAME, NOTE, RAW, CODEC)
    assert len(data) % 100 == 0
    whole = made_of(b"envelope", frame, b"")
    assert data == whole + bytes(len(data) - len(whole))
    assert split_object(data, "here") == (b"envelope", frame, b"")


@given(st.binary(max_size=70), st.binary(max_size=70), st.binary(max_size=70), st.binary())
def test_the_parts_are_told_apart(
    envelope: bytes, frame: bytes, signature: bytes, behind: bytes
) -> None:
    data = made_of(envelope, frame, signature, behind)
    assert split_object(data, "here") == Parts(envelope, frame, signature)
    for size in {0, HEAD_SIZE - 1, HEAD_SIZE, len(data) - len(behind) - 1}:
        if size < len(data) - len(behind):
            with pytest.raises(FormatDamaged, match="here: is not"):
                split_object(data[:size], "here")


def test_any_byte_that_changed_is_noticed_and_told_as_damage() -> None:
    data = encode_object(KEYS, NAME, NOTE, RAW, CODEC)
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with pytest.raises(FormatDamaged, match="here"):
                decode_object(KEYS, NAME, NOTE, bytes(changed), "here")
    for size in range(len(data)):
        with pytest.raises(FormatDamaged, match="here"):
            decode_object(KEYS, NAME, NOTE, data[:size], "here")
    with pytest.raises(FormatDamaged, match="here: is not as long as it was written"):
        decode_object(KEYS, NAME, NOTE, data + b"\0", "here")


def test_an_object_is_believed_under_its_own_name_only() -> None:
    data = encode_object(KEYS, NAME, NOTE, RAW, CODEC)
    for keys, name, stream in (
        (PlainKeys(b"j" * 16), NAME, NOTE),
        (KEYS, "points/y", NOTE),
        (KEYS, NAME, MANIFEST),
    ):
        with pytest.raises(FormatDamaged, match="here: the checksum does not match"):
            decode_object(keys, name, stream, data, "here")


def test_what_a_later_version_wrote_is_told_as_that() -> None:
    frame = encode_frame(KEY, Address(NOTE, 0, 1), RAW, CODEC)
    for version, flags in ((0, 0), (2, 0), (1, 2), (1, 1 << 15), (2, 1)):
        with pytest.raises(UnsupportedFormat, match=f"here: format {version}, flags {flags}"):
            split_object(made_of(b"", frame, b"", version=version, flags=flags), "here")


def test_an_envelope_is_there_just_where_the_object_is_sealed() -> None:
    for envelope, flags in ((b"e", 0), (b"", 1)):
        with pytest.raises(FormatDamaged, match="here: is not as long as it says"):
            split_object(made_of(envelope, bytes(30), b"", flags=flags), "here")
    data = encode_object(EnvelopedKeys(REPOSITORY), NAME, NOTE, RAW, CODEC)
    with pytest.raises(FormatDamaged, match=f"{NAME}: is sealed, and the repository is not"):
        decode_object(KEYS, NAME, NOTE, data, "here")


def test_sizes_are_bounded() -> None:
    most = 2 * FRAME_LIMIT
    assert len(split_object(made_of(b"", bytes(most), b""), "here").frame) == most
    with pytest.raises(FormatDamaged, match="here: is not as long as it says"):
        split_object(made_of(b"", bytes(most + 1), b""), "here")
    with pytest.raises(LimitExceeded):
        encode_object(KEYS, NAME, NOTE, bytes(FRAME_LIMIT + 1), CODEC)
