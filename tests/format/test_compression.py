"""Compression of frames: what is stored comes back, and what does not fit its size is damage."""

from __future__ import annotations

import random

import pytest
import zstandard

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.compression import RAW, SMALL_FRAME, ZSTD, Codec, decompress

NOISE = random.Random(1).randbytes(5000)
TEXT = b"".join(b"line %d of a text\n" % (n * n) for n in range(5000))


@pytest.mark.parametrize("size", [1, 100, SMALL_FRAME, SMALL_FRAME + 1, 1 << 20])
def test_what_is_compressed_comes_back(size: int) -> None:
    raw = bytes(size // 2) + TEXT[: size - size // 2]
    raw += bytes(size - len(raw))
    for level in (1, 7):
        used, stored = Codec(level).compress(memoryview(raw))
        assert used == (ZSTD if size > 1 else RAW)
        assert decompress(used, memoryview(stored), size, "here") == raw


def test_what_compression_does_not_make_smaller_stays_as_it_is() -> None:
    for raw in (NOISE, b"", b"a"):
        assert Codec().compress(raw) == (RAW, raw)
    # exactly as long as before is no gain either
    sizes = {}
    for size in range(1, 40):
        raw = NOISE[:20] + bytes(size)
        sizes[len(zstandard.ZstdCompressor(1, write_content_size=False).compress(raw))] = raw
    same = [raw for size, raw in sizes.items() if size == len(raw)]
    assert [Codec().compress(raw)[0] for raw in same] == [RAW] * len(same)


def test_the_higher_of_two_levels_is_taken() -> None:
    def stored(level: int, least: int) -> bytes:
        return bytes(Codec(level).compress(TEXT, least)[1])

    plain = {
        level: zstandard.ZstdCompressor(level, write_content_size=False).compress(TEXT)
        for level in (1, 6, 15)
    }
    assert len(set(plain.values())) == 3
    assert stored(1, 0) == bytes(Codec().compress(TEXT)[1]) == plain[1]
    assert stored(1, 6) == stored(6, 1) == plain[6]
    assert stored(15, 6) == plain[15]
    codec = Codec(1)
    for least in (0, 6, 15, 6, 0):
        assert codec.compress(TEXT, least)[1] == plain[max(least, 1)]


def with_size(raw: bytes) -> memoryview:
    """*raw* as zstd stores it that says the size inside."""
    return memoryview(zstandard.ZstdCompressor().compress(raw))


def test_a_size_inside_has_to_be_that_outside() -> None:
    assert decompress(ZSTD, with_size(TEXT), len(TEXT), "here") == TEXT
    for size in (len(TEXT) - 1, len(TEXT) + 1):
        with pytest.raises(FormatDamaged, match=f"here: would be {len(TEXT)} bytes, not {size}"):
            decompress(ZSTD, with_size(TEXT), size, "here")


@pytest.mark.parametrize("size", [99, 101, 0, 1 << 20])
def test_another_size_is_damage(size: int) -> None:
    raw = bytes(100)
    for used, stored in ((RAW, raw), Codec().compress(raw)):
        with pytest.raises(FormatDamaged, match="here: "):
            decompress(used, memoryview(stored), size, "here")


def test_what_does_not_decompress_is_damage() -> None:
    for size in (5000, SMALL_FRAME + 1):
        with pytest.raises(FormatDamaged, match="here: does not decompress"):
            decompress(ZSTD, memoryview(NOISE), size, "here")
    for codec in (-1, 2, 255):
        with pytest.raises(UnsupportedFormat, match=f"here: codec {codec} is not known"):
            decompress(codec, memoryview(NOISE), 5000, "here")
